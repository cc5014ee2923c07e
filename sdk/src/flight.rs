//! One call for all who need its result.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::task::{Poll, Waker};

/// Lets one stream do what several wait for. When that stream ends before it is done, the next takes over.
pub struct Flight<T> {
    flying: Cell<bool>,
    /// Counts results, so that who waits for one does not take an earlier one.
    landed: Cell<u64>,
    result: RefCell<Option<T>>,
    waiting: RefCell<Vec<Waker>>,
}

/// Makes room for the next when the first is gone, whether it was done or not.
struct Seat<'a, T>(&'a Flight<T>);

impl<T: Clone> Flight<T> {
    /// Nobody is under way.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            flying: Cell::new(false),
            landed: Cell::new(0),
            result: RefCell::new(None),
            waiting: RefCell::new(Vec::new()),
        }
    }

    /// The result of `work`, or of the work that is under way.
    pub async fn run<W: Future<Output = T>>(&self, work: impl Fn() -> W) -> T {
        let seen = self.landed.get();
        while self.flying.get() {
            self.wait(seen).await;
            if self.landed.get() != seen
                && let Some(result) = self.result.borrow().clone()
            {
                return result;
            }
        }
        self.flying.set(true);
        let seat = Seat(self);
        let result = work().await;
        self.result.replace(Some(result.clone()));
        self.landed.set(self.landed.get() + 1);
        drop(seat);
        result
    }

    async fn wait(&self, seen: u64) {
        poll_fn(|context| {
            if !self.flying.get() || self.landed.get() != seen {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl<T> Drop for Seat<'_, T> {
    fn drop(&mut self) {
        self.0.flying.set(false);
        let waiting = self.0.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl<T: Clone> Default for Flight<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Flight<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight")
            .field("flying", &self.flying)
            .finish_non_exhaustive()
    }
}
