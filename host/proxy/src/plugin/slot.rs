//! How a stream hears from its VMs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use tidegate_model::FailureCause;
use tidegate_wasm::{Direction, Failure, LocalReply};

/// Where a stream context hears from its VM.
pub(crate) struct Slot {
    pub(super) events: RefCell<VecDeque<Event>>,
    pub(super) signal: Rc<Signal>,
}

/// Wakes whatever part of an exchange waits: its service future, its request body, its response body.
#[derive(Default)]
pub(crate) struct Signal {
    /// How often it was raised.
    raised: Cell<u32>,
    service: Waiting,
    bodies: [Waiting; 2],
}

/// A part of an exchange is one task at a time, which waits for one thing.
#[derive(Default)]
struct Waiting(RefCell<Option<Waker>>);

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
    /// It fell through a call of this stream. Whichever half of the exchange hears of it first judges it.
    Failed(Failure),
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
        self.raised.set(self.raised.get().wrapping_add(1));
        self.service.wake();
        self.bodies.iter().for_each(Waiting::wake);
    }

    /// The service future waits for the next [`Signal::raise`]. Everything is on one thread, so nothing is missed between a look and
    /// the wait.
    pub(crate) fn wait(&self) -> impl Future<Output = ()> {
        let before = self.raised.get();
        poll_fn(move |cx| {
            if self.raised.get() != before {
                return Poll::Ready(());
            }
            self.service.register(cx.waker());
            Poll::Pending
        })
    }

    /// Wakes a body at the next [`Signal::raise`].
    pub(crate) fn register(&self, direction: Direction, waker: &Waker) {
        let side = usize::from(direction == Direction::Response);
        self.bodies[side].register(waker);
    }
}

// === impl Waiting ===

impl Waiting {
    fn register(&self, waker: &Waker) {
        let mut waiting = self.0.borrow_mut();
        match &mut *waiting {
            Some(waiting) => waiting.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    fn wake(&self) {
        // Waking may drop the last of a task, so nothing is borrowed meanwhile.
        let waiting = self.0.take();
        waiting.into_iter().for_each(Waker::wake);
    }
}
