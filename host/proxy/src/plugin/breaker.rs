//! When a filter is moved to side threads for its conduct, and when it comes back.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_model::FailureCause;
use tokio::time::Instant;

/// So many deadlines within [`DEADLINES_IN`].
const DEADLINES: usize = 3;
const DEADLINES_IN: Duration = Duration::from_secs(60);
/// More than so many traps within [`TRAPS_IN`].
const TRAPS: usize = 10;
const TRAPS_IN: Duration = Duration::from_secs(10);
/// Without a failure for so long it may come back.
const CLEAN: Duration = Duration::from_secs(600);

/// What a version of a filter has done lately, over all workers.
#[derive(Debug, Default)]
pub struct Breaker {
    open: AtomicBool,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    deadlines: VecDeque<Instant>,
    traps: VecDeque<Instant>,
    last: Option<Instant>,
}

impl Breaker {
    /// Whether the filter is quarantined: its calls run beside the workers.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// A call failed. `true` if the filter is quarantined from now on.
    pub(crate) fn failed(&self, cause: FailureCause, now: Instant) -> bool {
        let mut record = self.record();
        record.last = Some(now);
        let too_many = match cause {
            FailureCause::Deadline => {
                within(&mut record.deadlines, now, DEADLINES_IN, DEADLINES) >= DEADLINES
            }
            _ => within(&mut record.traps, now, TRAPS_IN, TRAPS + 1) > TRAPS,
        };
        too_many && !self.open.swap(true, Ordering::Relaxed)
    }

    /// Lets a filter back that was clean for long enough. `true` if it has just come back.
    pub(crate) fn look(&self, now: Instant) -> bool {
        if !self.is_open() {
            return false;
        }
        let mut record = self.record();
        if record.last.is_some_and(|last| now - last < CLEAN) {
            return false;
        }
        *record = Record::default();
        self.open.swap(false, Ordering::Relaxed)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a moment, and counts those of the last `window`; `most` are remembered.
fn within(moments: &mut VecDeque<Instant>, now: Instant, window: Duration, most: usize) -> usize {
    moments.push_back(now);
    while moments.len() > most
        || moments
            .front()
            .is_some_and(|first| now.saturating_duration_since(*first) >= window)
    {
        moments.pop_front();
    }
    moments.len()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A breaker, and a clock that goes on when it is told to and never by itself.
    struct Bench {
        breaker: Breaker,
        now: Cell<Instant>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                breaker: Breaker::default(),
                now: Cell::new(Instant::now()),
            }
        }

        fn after(&self, seconds: u32) -> &Self {
            self.now.set(self.now.get() + SECOND * seconds);
            self
        }

        fn fails(&self, cause: FailureCause) -> bool {
            self.breaker.failed(cause, self.now.get())
        }

        fn comes_back(&self) -> bool {
            self.breaker.look(self.now.get())
        }
    }

    #[test]
    fn three_deadlines_within_a_minute_and_ten_clean_minutes() {
        let bench = Bench::new();
        let deadline = |bench: &Bench| bench.fails(FailureCause::Deadline);
        assert!(!deadline(&bench));
        assert!(!deadline(bench.after(31)));
        assert!(
            !deadline(bench.after(31)),
            "the first one is more than a minute ago"
        );
        assert!(deadline(bench.after(28)) && bench.breaker.is_open());
        assert!(
            !deadline(bench.after(300)) && bench.breaker.is_open(),
            "it was there already"
        );
        assert!(!bench.after(599).comes_back() && bench.breaker.is_open());
        assert!(bench.after(1).comes_back() && !bench.breaker.is_open());
        assert!(!deadline(&bench), "it begins anew");
    }

    #[test]
    fn more_than_ten_traps_in_ten_seconds() {
        let bench = Bench::new();
        let trap = |bench: &Bench| bench.fails(FailureCause::Trap);
        for _ in 0..30 {
            assert!(!trap(&bench), "one a second is rebuilt at once");
            bench.after(1);
        }
        bench.after(11);
        assert!((0..10).all(|_| !trap(&bench)));
        assert!(trap(&bench) && bench.breaker.is_open());
    }
}
