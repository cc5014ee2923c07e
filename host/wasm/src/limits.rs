//! Bounds that wasmtime enforces on a guest: CPU time through the epoch, memory and tables through the limiter.

use std::time::Duration;

use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::cpu;

/// Elements that one table may have. Large Go filters have some ten thousand functions in theirs.
const TABLE_ELEMENTS: usize = 100_000;
/// Tables that one module may have.
const TABLES: usize = 8;

/// The CPU time of the call in progress.
///
/// The clock is read at ticks only, so that a call that ends before its first tick costs nothing. What a call used before its
/// first tick, one tick at most, is not held against it.
#[derive(Default)]
pub(crate) struct Deadline {
    limit: Duration,
    first_tick: Option<Duration>,
    /// CPU time of past calls between their first and last tick.
    long_calls: Duration,
}

/// Counts what a guest asks for, and remembers a refusal until the next entry.
pub(crate) struct Limiter {
    memory: usize,
    pub(crate) refused: bool,
}

// === impl Deadline ===

impl Deadline {
    /// A call begins that may take so long.
    #[inline]
    pub(crate) fn arm(&mut self, limit: Duration) {
        self.limit = limit;
        self.first_tick = None;
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// The thread's clock at the first tick, if the call has seen one.
    #[inline]
    pub(crate) fn first_tick(&self) -> Option<Duration> {
        self.first_tick
    }

    /// The epoch moved on while the guest ran.
    pub(crate) fn tick(&mut self) -> UpdateDeadline {
        let now = cpu::thread_time();
        let first = *self.first_tick.get_or_insert(now);
        if now.saturating_sub(first) >= self.limit {
            UpdateDeadline::Interrupt
        } else {
            UpdateDeadline::Continue(1)
        }
    }

    /// The call ended after at least one tick.
    pub(crate) fn finish_long(&mut self) {
        if let Some(first) = self.first_tick {
            self.long_calls += cpu::thread_time().saturating_sub(first);
        }
    }

    pub(crate) fn long_calls(&self) -> Duration {
        self.long_calls
    }
}

// === impl Limiter ===

impl Limiter {
    pub(crate) fn new(memory: usize) -> Self {
        Self {
            memory,
            refused: false,
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let fits = desired <= self.memory;
        self.refused |= !fits;
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let fits = desired <= TABLE_ELEMENTS;
        self.refused |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limiter_remembers_what_it_refused() {
        let mut limiter = Limiter::new(1000);
        assert!(limiter.memory_growing(0, 1000, None).unwrap());
        assert!(limiter.table_growing(0, TABLE_ELEMENTS, None).unwrap());
        assert!(!limiter.refused);
        assert!(!limiter.memory_growing(0, 1001, None).unwrap());
        assert!(limiter.refused);
        limiter.refused = false;
        assert!(!limiter.table_growing(0, TABLE_ELEMENTS + 1, None).unwrap());
        assert!(limiter.refused);
    }

    #[test]
    fn a_deadline_counts_from_its_first_tick() {
        let mut deadline = Deadline::default();
        deadline.arm(Duration::from_secs(3600));
        assert_eq!(deadline.first_tick(), None);
        assert!(matches!(deadline.tick(), UpdateDeadline::Continue(1)));
        assert!(deadline.first_tick().is_some());
        deadline.arm(Duration::ZERO);
        assert!(matches!(deadline.tick(), UpdateDeadline::Interrupt));
    }
}
