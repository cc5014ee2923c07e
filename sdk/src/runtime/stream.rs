//! One exchange: the tasks of its two directions and what the host is told about them.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::{Begun, Left, Plugin, Task};
use crate::filter::Part;
use crate::hostcalls::{self, Action, Direction, Pairs};
use crate::request::{BodyError, Chunk};
use crate::{Reply, log};

/// Details of a response that came from the upstream, in Envoy's words.
const VIA_UPSTREAM: &[u8] = b"via_upstream";

/// Sees the pieces of a body.
pub(crate) type Watcher = Box<dyn FnMut(&mut Chunk) -> Result<(), Reply>>;

/// A stream context.
pub(crate) struct Stream {
    context: u32,
    plugin: Rc<dyn Plugin>,
    waker: Waker,
    request: Side,
    response: Side,
    /// What the request's part has left for the response's.
    memo: RefCell<Option<Box<dyn Any>>>,
    /// Whether this filter has answered: the response that comes then is its own.
    replied: Cell<bool>,
    /// Whether an early response waits for the request's part.
    response_held: Cell<bool>,
}

/// A direction.
#[derive(Default)]
pub(crate) struct Side {
    task: RefCell<Option<Task>>,
    /// Whether the host waits to be told to go on.
    paused: Cell<bool>,
    /// Whether the head has gone on.
    head_gone: Cell<bool>,
    ended: Cell<bool>,
    wanted: Cell<Option<Wanted>>,
    body: RefCell<Option<Result<Vec<u8>, BodyError>>>,
    watcher: RefCell<Option<Watcher>>,
}

/// A task waits for the whole body.
#[derive(Clone, Copy)]
struct Wanted {
    max: usize,
    hold_head: bool,
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(context: u32, plugin: Rc<dyn Plugin>, waker: Waker) -> Self {
        Self {
            context,
            plugin,
            waker,
            request: Side::default(),
            response: Side::default(),
            memo: RefCell::new(None),
            replied: Cell::new(false),
            response_held: Cell::new(false),
        }
    }

    /// A direction whose body somebody wants to see.
    pub(crate) fn with_body(&self, direction: Direction) -> &Side {
        if self.plugin.part() == Part::Heads {
            super::more_than_heads();
        }
        self.side(direction)
    }

    pub(crate) fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    pub(crate) fn context(&self) -> u32 {
        self.context
    }

    /// Drops what is under way. The tasks own the stream, so it would never go away without this.
    pub(super) fn end(&self) {
        for side in [&self.request, &self.response] {
            let task = side.task.take();
            drop(task);
            let watcher = side.watcher.take();
            drop(watcher);
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.request.is_waiting() || self.response.is_waiting()
    }

    pub(super) fn on_headers(self: &Rc<Self>, direction: Direction, ended: bool) -> Action {
        let side = self.side(direction);
        side.ended.set(ended);
        match direction {
            Direction::Request => {
                let begun = Rc::clone(&self.plugin).request(Rc::clone(self));
                self.begin(direction, begun)
            }
            Direction::Response => self.on_response(),
        }
    }

    fn on_response(self: &Rc<Self>) -> Action {
        if self.replied.get() {
            return Action::Continue;
        }
        if self.request.is_waiting() {
            let details = hostcalls::property("response\0code_details").unwrap_or_default();
            if details == VIA_UPSTREAM {
                // The upstream answers before it has the body that this filter has not judged yet.
                self.response_held.set(true);
                self.response.paused.set(true);
                return Action::Pause;
            }
            // The host has given the request up, for a body that is too long or a time that has passed.
            self.end();
        }
        match self.start_response() {
            Some(begun) => self.begin(Direction::Response, begun),
            None => Action::Continue,
        }
    }

    /// What there is to do: nothing without a request that went on.
    fn start_response(self: &Rc<Self>) -> Option<Begun> {
        let memo = self.memo.take()?;
        Some(Rc::clone(&self.plugin).response(Rc::clone(self), memo))
    }

    /// A direction's work inside its own callback.
    fn begin(self: &Rc<Self>, direction: Direction, begun: Begun) -> Action {
        match begun {
            Begun::Task(task) => {
                self.side(direction).task.replace(Some(task));
                self.run(direction)
            }
            Begun::Done(left) => match self.settle(direction, left) {
                true => Action::Continue,
                false => Action::Pause,
            },
        }
    }

    pub(super) fn on_body(self: &Rc<Self>, direction: Direction, ended: bool) -> Action {
        let side = self.side(direction);
        if self.replied.get() {
            // What is left of a request that is answered goes nowhere; a reply of this filter's own passes.
            return match direction {
                Direction::Request => Action::Pause,
                Direction::Response => Action::Continue,
            };
        }
        side.head_gone.set(true);
        let action = if side.is_waiting() {
            self.body_for_task(direction, ended)
        } else {
            Action::Continue
        };
        match action {
            Action::Continue => self.watch(direction, ended),
            Action::Pause => Action::Pause,
        }
    }

    pub(super) fn on_trailers(self: &Rc<Self>, direction: Direction) -> Action {
        self.on_body(direction, true)
    }

    fn body_for_task(self: &Rc<Self>, direction: Direction, ended: bool) -> Action {
        let side = self.side(direction);
        side.ended.set(side.ended.get() || ended);
        if let Some(wanted) = side.wanted.get() {
            let bytes = hostcalls::buffer(direction.buffer());
            let whole = match bytes.len() {
                size if size > wanted.max => Err(BodyError::TooLarge { max: wanted.max }),
                _ if ended => Ok(bytes),
                _ => {
                    side.paused.set(true);
                    return Action::Pause;
                }
            };
            side.wanted.set(None);
            side.body.replace(Some(whole));
            return self.run(direction);
        }
        side.paused.set(true);
        Action::Pause
    }

    fn watch(&self, direction: Direction, ended: bool) -> Action {
        let side = self.side(direction);
        let Some(mut watcher) = side.watcher.take() else {
            return Action::Continue;
        };
        let mut chunk = Chunk::new(direction, ended);
        match watcher(&mut chunk) {
            Ok(()) => {
                side.watcher.replace(Some(watcher));
                Action::Continue
            }
            Err(reply) => {
                self.reply(&reply);
                Action::Pause
            }
        }
    }

    /// Polls a direction's task inside its own callback.
    fn run(self: &Rc<Self>, direction: Direction) -> Action {
        let side = self.side(direction);
        side.paused.set(false);
        match self.poll(direction) {
            Poll::Ready(true) => Action::Continue,
            Poll::Ready(false) => Action::Pause,
            Poll::Pending if side.lets_head_go() => {
                side.head_gone.set(true);
                Action::Continue
            }
            Poll::Pending => {
                side.paused.set(true);
                Action::Pause
            }
        }
    }

    /// Polls both directions outside their callbacks: something that they waited for has come.
    pub(super) fn wake(self: &Rc<Self>) {
        for direction in [Direction::Request, Direction::Response] {
            let side = self.side(direction);
            if !side.is_waiting() {
                continue;
            }
            match self.poll(direction) {
                Poll::Ready(true) => self.resume(direction),
                Poll::Ready(false) => {}
                Poll::Pending if side.lets_head_go() => {
                    side.head_gone.set(true);
                    self.resume(direction);
                }
                Poll::Pending => {}
            }
        }
    }

    fn resume(&self, direction: Direction) {
        if self.side(direction).paused.take()
            && let Err(status) = hostcalls::resume(direction)
        {
            log::refused("to go on with a stream", status);
        }
    }

    /// Whether the exchange goes on, once the task is done.
    fn poll(self: &Rc<Self>, direction: Direction) -> Poll<bool> {
        let side = self.side(direction);
        let Some(mut task) = side.task.take() else {
            return Poll::Ready(true);
        };
        match task.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => {
                side.task.replace(Some(task));
                Poll::Pending
            }
            Poll::Ready(left) => Poll::Ready(self.settle(direction, left)),
        }
    }

    /// The work of a direction is done. Whether the exchange goes on.
    fn settle(self: &Rc<Self>, direction: Direction, left: Left) -> bool {
        match left {
            Err(reply) => {
                self.reply(&reply);
                false
            }
            Ok(memo) => {
                if direction == Direction::Request {
                    self.memo.replace(Some(memo));
                    self.release_response();
                }
                true
            }
        }
    }

    /// Goes on with a response that came before the request's part was done.
    fn release_response(self: &Rc<Self>) {
        if !self.response_held.take() {
            return;
        }
        let goes_on = match self.start_response() {
            None => true,
            Some(Begun::Done(left)) => self.settle(Direction::Response, left),
            Some(Begun::Task(task)) => {
                self.response.task.replace(Some(task));
                match self.poll(Direction::Response) {
                    Poll::Ready(goes_on) => goes_on,
                    Poll::Pending => self.response.lets_head_go(),
                }
            }
        };
        if goes_on {
            self.resume(Direction::Response);
        }
    }

    fn reply(&self, reply: &Reply) {
        self.replied.set(true);
        self.end();
        let headers = reply
            .headers
            .iter()
            .map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes()))
            .collect();
        // A body may be too long for the host, and headers may be what it does not take. The stream is held, so without any answer it
        // would stay so.
        let tries = [
            (reply.status, &headers, &reply.body[..]),
            (reply.status, &headers, &[]),
            (500, &Pairs::new(), &[]),
        ];
        for (code, headers, body) in tries {
            match hostcalls::send_reply(code, reply.details, headers, body) {
                Ok(()) => return,
                Err(status) => log::refused("a local reply", status),
            }
        }
        // The trap makes the host's failure policy answer.
        panic!("the host takes no reply to a request that must not go on");
    }
}

// === impl Side ===

impl Side {
    fn is_waiting(&self) -> bool {
        self.task.borrow().is_some()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    pub(crate) fn set_watcher(&self, watcher: Watcher) {
        self.watcher.replace(Some(watcher));
    }

    /// The whole body, once it is there.
    pub(crate) fn poll_body(
        &self,
        max: usize,
        hold_head: bool,
    ) -> Poll<Result<Vec<u8>, BodyError>> {
        if let Some(body) = self.body.take() {
            return Poll::Ready(body);
        }
        if self.ended.get() {
            return Poll::Ready(Ok(Vec::new()));
        }
        self.wanted.set(Some(Wanted { max, hold_head }));
        Poll::Pending
    }

    /// Whether the head is to go on although the task is not done: the host sends no body before.
    fn lets_head_go(&self) -> bool {
        !self.head_gone.get() && self.wanted.get().is_some_and(|wanted| !wanted.hold_head)
    }
}
