//! Log lines of a filter. The host says which filter they come from, and hides those below its level.

use std::fmt;

use crate::hostcalls::{self, Status};

/// How much a line matters; numbers are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    /// Every step.
    Trace = 0,
    /// What helps whoever writes the filter.
    Debug = 1,
    /// What an operator may want to know.
    Info = 2,
    /// Something is wrong, and the filter goes on.
    Warn = 3,
    /// Something failed.
    Error = 4,
}

/// Writes a line. The macros [`info!`](crate::info!), [`warn!`](crate::warn!) and [`error!`](crate::error!) do it more briefly.
pub fn write(level: Level, line: fmt::Arguments<'_>) {
    match line.as_str() {
        Some(line) => hostcalls::log(level as u32, line),
        None => hostcalls::log(level as u32, &line.to_string()),
    }
}

/// Logs at level info.
#[macro_export]
macro_rules! info {
    ($($argument:tt)*) => { $crate::log::write($crate::log::Level::Info, format_args!($($argument)*)) };
}

/// Logs at level warn.
#[macro_export]
macro_rules! warn {
    ($($argument:tt)*) => { $crate::log::write($crate::log::Level::Warn, format_args!($($argument)*)) };
}

/// Logs at level error.
#[macro_export]
macro_rules! error {
    ($($argument:tt)*) => { $crate::log::write($crate::log::Level::Error, format_args!($($argument)*)) };
}

/// The host has refused something that the filter cannot do anything about.
pub(crate) fn refused(what: &str, status: Status) {
    crate::error!("the host refused {what}: {}", status.name());
}
