//! Timers on the one clock that the ABI has, the tick of a root context.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::RUNTIME;
use crate::hostcalls;
use crate::time::TimerRefused;

const MILLISECOND: u64 = 1_000_000;

/// Wakers by time in nanoseconds and order of arrival.
pub(super) struct Timers {
    waiting: RefCell<BTreeMap<(u64, u64), Waker>>,
    arrived: Cell<u64>,
}

impl Timers {
    pub(super) const fn new() -> Self {
        Self {
            waiting: RefCell::new(BTreeMap::new()),
            arrived: Cell::new(0),
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn clear(&self) {
        self.waiting.borrow_mut().clear();
    }

    /// Wakes what is due and sets the tick for what is next.
    pub(super) fn fire(&self) {
        let now = hostcalls::now();
        let mut waiting = self.waiting.borrow_mut();
        while let Some(first) = waiting.first_entry().filter(|first| first.key().0 <= now) {
            first.remove().wake();
        }
        drop(waiting);
        if self.set_tick(now).is_err() {
            // No tick would come for the rest: each tries again for itself, and is told so.
            let rest = std::mem::take(&mut *self.waiting.borrow_mut());
            rest.into_values().for_each(Waker::wake);
        }
    }

    fn set_tick(&self, now: u64) -> Result<(), TimerRefused> {
        let next = self
            .waiting
            .borrow()
            .keys()
            .next()
            .map(|(time, _)| time.saturating_sub(now));
        let period = next.map_or(0, |rest| {
            u32::try_from(rest.div_ceil(MILLISECOND).max(1)).unwrap_or(u32::MAX)
        });
        hostcalls::set_tick_period(period).map_err(|status| TimerRefused(status.0))
    }
}

/// Sets the tick as it is.
pub(crate) fn check_timers() -> Result<(), TimerRefused> {
    RUNTIME.with(|runtime| runtime.timers.set_tick(hostcalls::now()))
}

/// A future that is done at a time, or at once where the host has no timers.
pub(crate) struct Timer {
    deadline: u64,
    key: Option<(u64, u64)>,
}

impl Timer {
    /// Done at `deadline`, nanoseconds since the epoch.
    pub(crate) fn at(deadline: u64) -> Self {
        Self {
            deadline,
            key: None,
        }
    }

    fn cancel(&mut self) {
        if let Some(key) = self.key.take() {
            RUNTIME.with(|runtime| runtime.timers.waiting.borrow_mut().remove(&key));
        }
    }
}

impl Future for Timer {
    type Output = Result<(), TimerRefused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.cancel();
        let now = hostcalls::now();
        if now >= self.deadline {
            return Poll::Ready(Ok(()));
        }
        let set = RUNTIME.with(|runtime| {
            let timers = &runtime.timers;
            let key = (self.deadline, timers.arrived.get());
            timers.arrived.set(key.1 + 1);
            timers
                .waiting
                .borrow_mut()
                .insert(key, context.waker().clone());
            self.key = Some(key);
            timers.set_tick(now)
        });
        match set {
            Ok(()) => Poll::Pending,
            Err(refused) => {
                self.cancel();
                Poll::Ready(Err(refused))
            }
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}
