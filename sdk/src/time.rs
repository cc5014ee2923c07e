//! The host's clock.

use std::fmt;
use std::time::Duration;

use crate::hostcalls::{self, Status};
use crate::runtime::{self, Timer};

/// The host refuses timers: most often because the capability `timers` is not granted. Holds the ABI's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerRefused(pub(crate) u32);

/// Time since the Unix epoch by the host's clock, which may go backwards.
#[must_use]
pub fn now() -> Duration {
    Duration::from_nanos(hostcalls::now())
}

/// Waits. A stream is held meanwhile. The host's clock for this has a resolution of a millisecond, and needs the capability `timers`.
///
/// # Errors
///
/// The host refuses, and so no time has passed.
pub async fn sleep(duration: Duration) -> Result<(), TimerRefused> {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Timer::at(hostcalls::now().saturating_add(nanoseconds)).await
}

/// Asks whether [`sleep`] will work, for filters that refuse a configuration which needs it.
///
/// # Errors
///
/// The host refuses.
pub fn check_timers() -> Result<(), TimerRefused> {
    runtime::check_timers()
}

impl fmt::Display for TimerRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host refused a timer: {}", Status(self.0).name())
    }
}

impl std::error::Error for TimerRefused {}
