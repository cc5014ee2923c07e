//! Metrics that the host exposes beside its own.

use crate::hostcalls::{self, Status};
use crate::log;

/// A number that only grows.
#[derive(Clone, Copy, Debug)]
pub struct Counter(Option<u32>);

/// A number that goes up and down.
#[derive(Clone, Copy, Debug)]
pub struct Gauge(Option<u32>);

/// A distribution.
#[derive(Clone, Copy, Debug)]
pub struct Histogram(Option<u32>);

/// A metric that the host does not take (not granted, too many of them) is one that counts nothing: a filter works without.
fn define(kind: u32, name: &str) -> Option<u32> {
    hostcalls::define_metric(kind, name)
        .inspect_err(|status| log::refused(&format!("the metric {name}"), *status))
        .ok()
}

fn note(result: Result<(), Status>) {
    if let Err(status) = result {
        log::refused("to count", status);
    }
}

impl Counter {
    /// Defines it; the same name is the same counter.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(define(0, name))
    }

    /// Adds to it.
    pub fn add(self, by: u32) {
        if let (Some(id), 1..) = (self.0, by) {
            note(hostcalls::increment_metric(id, by.into()));
        }
    }
}

impl Gauge {
    /// Defines it; the same name is the same gauge.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(define(1, name))
    }

    /// Sets it.
    pub fn set(self, value: u64) {
        if let Some(id) = self.0 {
            note(hostcalls::record_metric(id, value));
        }
    }

    /// Adds to it, or takes from it.
    pub fn add(self, by: i64) {
        if let Some(id) = self.0 {
            note(hostcalls::increment_metric(id, by));
        }
    }
}

impl Histogram {
    /// Defines it; the same name is the same histogram.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(define(2, name))
    }

    /// Takes a value in.
    pub fn record(self, value: u64) {
        if let Some(id) = self.0 {
            note(hostcalls::record_metric(id, value));
        }
    }
}
