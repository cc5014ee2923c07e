//! Growing pauses between tries.

use std::time::Duration;

/// Pauses that double up to a limit, each with a random part, so that many processes do not ask at the same time.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// From `least` to `most`.
    pub(super) fn new(least: Duration, most: Duration) -> Self {
        Self {
            least,
            most,
            next: least,
        }
    }

    /// What the API server is asked again with: 0.2 s to 5 s, so that its return is noticed soon.
    pub(super) fn of_watches() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(5))
    }

    /// The next pause: three quarters to all of the nominal one.
    pub(super) fn pause(&mut self) -> Duration {
        let nominal = self.next;
        self.next = (nominal * 2).min(self.most);
        nominal.mul_f64(0.75 + 0.25 * fastrand::f64())
    }

    /// After something went well.
    pub(super) fn reset(&mut self) {
        self.next = self.least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stop_growing() {
        let mut backoff = Backoff::of_watches();
        let pauses: Vec<_> = (0..10).map(|_| backoff.pause()).collect();
        assert!(pauses[0] <= Duration::from_millis(200) && pauses[0] >= Duration::from_millis(150));
        assert!(pauses[1] > Duration::from_millis(290));
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(5)));
        assert!(pauses[9] >= Duration::from_millis(3750));
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(200));
    }
}
