//! How a stream hears from its VMs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use tidegate_model::FailureCause;
use tidegate_wasm::{Direction, LocalReply};

/// Where a stream context hears from its VM.
pub(crate) struct Slot {
    pub(super) events: RefCell<VecDeque<Event>>,
    pub(super) signal: Rc<Signal>,
}

/// Wakes whatever part of an exchange waits: its service future, its request body, its response body.
#[derive(Default)]
pub(crate) struct Signal {
    notify: tokio::sync::Notify,
    wakers: [RefCell<Option<Waker>>; 2],
}

/// What a VM tells a stream.
pub(crate) enum Event {
    /// Answer with this.
    Reply(LocalReply),
    /// Go on.
    Resume(Direction),
    /// Reset the stream.
    Close,
    /// The VM fell through another stream's fault.
    Dead(FailureCause),
}

// === impl Slot ===

impl Slot {
    pub(super) fn new(signal: &Rc<Signal>) -> Self {
        Self {
            events: RefCell::default(),
            signal: signal.clone(),
        }
    }

    pub(super) fn push(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
        self.signal.raise();
    }

    /// Whether the VM has said anything.
    #[inline]
    pub(crate) fn is_told(&self) -> bool {
        !self.events.borrow().is_empty()
    }

    /// What the VM has said that concerns a stream in this direction, if anything.
    pub(crate) fn take(&self, direction: Direction) -> Option<Event> {
        let mut events = self.events.borrow_mut();
        let concerns =
            |event: &Event| !matches!(event, Event::Resume(other) if *other != direction);
        let at = events.iter().position(concerns)?;
        events.remove(at)
    }

    /// Whether [`take`](Self::take) would find something.
    pub(crate) fn has(&self, direction: Direction) -> bool {
        self.events
            .borrow()
            .iter()
            .any(|event| !matches!(event, Event::Resume(other) if *other != direction))
    }

    /// Whether something is said that concerns a stream even where it is not paused.
    pub(crate) fn is_urgent(&self) -> bool {
        self.events
            .borrow()
            .iter()
            .any(|event| !matches!(event, Event::Resume(_)))
    }

    /// Drops what was said to a stream that was not paused.
    pub(crate) fn forget_resumes(&self) {
        let mut events = self.events.borrow_mut();
        if !events.is_empty() {
            events.retain(|event| !matches!(event, Event::Resume(_)));
        }
    }
}

// === impl Signal ===

impl Signal {
    /// Wakes all that wait.
    pub(crate) fn raise(&self) {
        self.notify.notify_waiters();
        for waker in &self.wakers {
            if let Some(waker) = waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Waits for the next [`Signal::raise`]. Everything is on one thread, so nothing is missed between a look and the wait.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Wakes a body at the next [`Signal::raise`].
    pub(crate) fn register(&self, direction: Direction, waker: &Waker) {
        let side = usize::from(direction == Direction::Response);
        self.wakers[side].replace(Some(waker.clone()));
    }
}
