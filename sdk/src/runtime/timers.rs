//! Timers on the one clock that the ABI has, the tick of a root context.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::RUNTIME;
use crate::{hostcalls, log};

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
        self.set_tick(now);
    }

    fn set_tick(&self, now: u64) {
        let next = self
            .waiting
            .borrow()
            .keys()
            .next()
            .map(|(time, _)| time.saturating_sub(now));
        let period = next.map_or(0, |rest| {
            u32::try_from(rest.div_ceil(MILLISECOND).max(1)).unwrap_or(u32::MAX)
        });
        if let Err(status) = hostcalls::set_tick_period(period) {
            log::refused("a timer", status);
        }
    }
}

/// A future that is done at a time.
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
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.cancel();
        let now = hostcalls::now();
        if now >= self.deadline {
            return Poll::Ready(());
        }
        self.key = RUNTIME.with(|runtime| {
            let timers = &runtime.timers;
            let key = (self.deadline, timers.arrived.get());
            timers.arrived.set(key.1 + 1);
            timers
                .waiting
                .borrow_mut()
                .insert(key, context.waker().clone());
            timers.set_tick(now);
            Some(key)
        });
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}
