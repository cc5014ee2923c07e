//! The generic cell rate algorithm: a token bucket (or, seen from the other side, a leaky one) whose whole state is one time.
//!
//! The theoretical arrival time (TAT) says until when the requests so far are paid for. A request moves it on by one interval,
//! and passes if that does not bring it further ahead of the clock than the bucket is deep.

/// Nanoseconds of a second.
pub(super) const SECOND: u64 = 1_000_000_000;

/// The longest that a bucket may take to refill: what is deeper is a mistake, and the bound keeps sums of times far from overflow.
const MAX_DEPTH: u64 = 366 * 24 * 3600 * SECOND;

/// A rate and a depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    /// Nanoseconds for each request, at least 1.
    interval: u64,
    /// Requests that pass at once after a long pause, at least 1.
    capacity: u64,
}

/// What became of a request. Times are nanoseconds from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Allowed {
        /// The state to store.
        tat: u64,
        /// Requests that would pass at once after this one.
        remaining: u64,
        /// Until the bucket is as good as new.
        reset: u64,
    },
    /// The state stays as it is, unless it was impossible.
    Refused {
        /// Until a request would pass.
        retry: u64,
        /// Until the bucket is as good as new.
        reset: u64,
        /// The state to store instead of one that no request can have left.
        corrected: Option<u64>,
    },
}

// === impl Quota ===

impl Quota {
    /// `requests` for each `period` (nanoseconds), `capacity` of them at once. `None` when the bucket would take more than a year
    /// to refill, or when a number is zero.
    pub(super) fn new(requests: u64, period: u64, capacity: u64) -> Option<Self> {
        let interval = period.checked_div(requests)?;
        let quota = Self { interval, capacity };
        let depth = interval.checked_mul(capacity)?;
        (1..=MAX_DEPTH).contains(&depth).then_some(quota)
    }

    /// Nanoseconds for each request.
    pub(super) fn interval(&self) -> u64 {
        self.interval
    }

    /// Requests at once.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Nanoseconds that an empty bucket takes to refill.
    pub(super) fn depth(&self) -> u64 {
        self.interval * self.capacity
    }

    /// What becomes of a request at `now` when the stored state is `tat`.
    pub(super) fn take(&self, tat: Option<u64>, now: u64) -> Outcome {
        let depth = self.depth();
        // A state further ahead than the bucket is deep comes from a clock that went backwards: the bucket is empty then, not
        // more than empty, and the state has to be corrected or nothing would pass until the clock is back where it was.
        let empty = now.saturating_add(depth);
        let corrected = tat.is_some_and(|tat| tat > empty).then_some(empty);
        let start = tat.unwrap_or(now).clamp(now, empty);
        let tat = start.saturating_add(self.interval);
        let ahead = tat - now;
        match depth.checked_sub(ahead) {
            Some(left) => Outcome::Allowed {
                tat,
                remaining: left / self.interval,
                reset: ahead,
            },
            None => Outcome::Refused {
                retry: ahead - depth,
                reset: start - now,
                corrected,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The textbook's bucket: a level that time fills and requests drain. Exact in units of one nanosecond's refill.
    struct Bucket {
        quota: Quota,
        level: u64,
        seen: u64,
    }

    impl Bucket {
        fn new(quota: Quota, now: u64) -> Self {
            Self {
                quota,
                level: quota.depth(),
                seen: now,
            }
        }

        fn take(&mut self, now: u64) -> bool {
            self.level = (self.level + (now - self.seen)).min(self.quota.depth());
            self.seen = now;
            let pays = self.level >= self.quota.interval;
            if pays {
                self.level -= self.quota.interval;
            }
            pays
        }
    }

    fn step(quota: &Quota, state: &mut Option<u64>, now: u64) -> Outcome {
        let outcome = quota.take(*state, now);
        match outcome {
            Outcome::Allowed { tat, .. } => *state = Some(tat),
            Outcome::Refused { corrected, .. } => *state = corrected.or(*state),
        }
        outcome
    }

    fn allowed(outcome: Outcome) -> bool {
        matches!(outcome, Outcome::Allowed { .. })
    }

    prop_compose! {
        fn quotas()(requests in 1_u64..2000, period in prop::sample::select(vec![SECOND, 60 * SECOND, 3600 * SECOND]), capacity in 1_u64..50)
            -> Quota { Quota::new(requests, period, capacity).unwrap() }
    }

    proptest! {
        #[test]
        fn it_is_the_textbooks_bucket(quota in quotas(), start in 0..u64::MAX / 2, gaps in prop::collection::vec(0_u64..4, 1..200), unit in 1_u64..SECOND) {
            let mut bucket = Bucket::new(quota, start);
            let mut state = None;
            let mut now = start;
            for gap in gaps {
                now += gap * unit;
                let outcome = step(&quota, &mut state, now);
                prop_assert_eq!(allowed(outcome), bucket.take(now));
                if let Outcome::Allowed { remaining, reset, .. } = outcome {
                    prop_assert_eq!(remaining, bucket.level / quota.interval);
                    prop_assert_eq!(reset, quota.depth() - bucket.level);
                }
            }
        }

        #[test]
        fn a_refused_request_passes_after_the_time_it_was_told_and_not_before(quota in quotas(), now in 0..u64::MAX / 2) {
            let mut state = None;
            for _ in 0..quota.capacity {
                prop_assert!(allowed(step(&quota, &mut state, now)));
            }
            let Outcome::Refused { retry, reset, corrected: None } = step(&quota, &mut state, now) else {
                panic!("more than the capacity passed at once");
            };
            prop_assert_eq!(reset, quota.depth());
            prop_assert!(!allowed(quota.take(state, now + retry - 1)));
            prop_assert!(allowed(quota.take(state, now + retry)));
        }

        #[test]
        fn no_state_and_no_clock_overflows(quota in quotas(), tat in any::<Option<u64>>(), now in any::<u64>()) {
            match quota.take(tat, now) {
                Outcome::Allowed { tat, remaining, reset } => {
                    prop_assert!(tat >= now && remaining < quota.capacity && reset <= quota.depth());
                }
                Outcome::Refused { retry, reset, .. } => {
                    prop_assert!((1..=quota.interval).contains(&retry) && reset <= quota.depth());
                }
            }
        }

        #[test]
        fn a_clock_that_jumps_neither_locks_out_nor_opens_the_gate(quota in quotas(), jumps in prop::collection::vec(0_u64..1 << 60, 1..50)) {
            let mut state = None;
            for now in jumps {
                let mut passed = 0;
                while allowed(step(&quota, &mut state, now)) {
                    passed += 1;
                    prop_assert!(passed <= quota.capacity);
                }
                // However far it jumped, one refill later the bucket is full again.
                let later = quota.take(state, now + quota.depth());
                let full = matches!(later, Outcome::Allowed { remaining, .. } if remaining == quota.capacity - 1);
                prop_assert!(full, "{:?}", later);
            }
        }
    }

    #[test]
    fn after_a_clock_went_back_the_bucket_counts_as_empty() {
        let quota = Quota::new(1, SECOND, 5).unwrap();
        let now = 10 * SECOND;
        let corrected = Some(15 * SECOND);
        let refused = Outcome::Refused {
            retry: SECOND,
            reset: 5 * SECOND,
            corrected,
        };
        assert_eq!(quota.take(Some(1_000_000 * SECOND), now), refused);
        assert!(allowed(quota.take(corrected, now + SECOND)));
    }

    #[test]
    fn quotas_that_make_no_sense() {
        assert_eq!(Quota::new(0, SECOND, 1), None);
        assert_eq!(Quota::new(1, SECOND, 0), None);
        assert_eq!(Quota::new(2, 1, 1), None);
        assert_eq!(Quota::new(1, 3600 * SECOND, u64::MAX), None);
        assert_eq!(Quota::new(1, 3600 * SECOND, 1_000_000), None);
        assert!(Quota::new(1_000_000, SECOND, 1_000_000).is_some());
    }
}
