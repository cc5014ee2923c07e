//! Contexts, and the futures of filters, polled by the host's callbacks.
//!
//! ```text
//!   callback ──► stream's task polled ──► done: continue or reply     pending: pause, or let the head go and hold the body
//!       └──► whatever it woke (the answer to a call, a timer, another stream's result): polled in that stream's context
//! ```
//!
//! A VM is one thread, so everything stands in one thread-local value. Every callback runs what became ready before it returns.

mod calls;
#[cfg(any(all(target_arch = "wasm32", not(target_env = "p2")), test))]
pub(crate) mod pairs;
mod stream;
mod streams;
mod timers;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::filter::Part;
use crate::hostcalls::{self, Action, Buffer, Direction};
use crate::{ConfigError, Filter, Reply, Request, Response, log};

pub(crate) use calls::{Outcome, Slot, on_grpc_close, on_grpc_message, on_http_call_response};
pub(crate) use stream::Stream;
use streams::Streams;
pub(crate) use timers::{Timer, check_timers};

/// What one direction's work has left, or the reply that ends the exchange.
pub(crate) type Left = Result<Box<dyn Any>, Reply>;

/// One direction's work.
pub(crate) type Task = Pin<Box<dyn Future<Output = Left>>>;

/// One direction's work, as far as it is when it has begun.
pub(crate) enum Begun {
    Done(Left),
    /// It is still to be polled.
    Task(Task),
}

/// A configured filter whose type is forgotten.
pub(crate) trait Plugin {
    fn request(self: Rc<Self>, stream: Rc<Stream>) -> Begun;
    fn response(self: Rc<Self>, stream: Rc<Stream>, memo: Box<dyn Any>) -> Begun;
    /// Which callbacks its module has.
    fn part(&self) -> Part;
}

type Configure = fn(&[u8]) -> Result<Rc<dyn Plugin>, ConfigError>;

struct Runtime {
    configure: Cell<Option<Configure>>,
    /// Plugins by root context; none before a good configuration.
    roots: RefCell<BTreeMap<u32, Option<Rc<dyn Plugin>>>>,
    streams: RefCell<Streams>,
    /// Calls under way by token.
    http_calls: RefCell<BTreeMap<u32, Rc<Slot>>>,
    grpc_calls: RefCell<BTreeMap<u32, Rc<Slot>>>,
    timers: timers::Timers,
    /// Streams to poll.
    ready: RefCell<VecDeque<u32>>,
}

thread_local! {
    static RUNTIME: Runtime = const {
        Runtime {
            configure: Cell::new(None),
            roots: RefCell::new(BTreeMap::new()),
            streams: RefCell::new(Streams::new()),
            http_calls: RefCell::new(BTreeMap::new()),
            grpc_calls: RefCell::new(BTreeMap::new()),
            timers: timers::Timers::new(),
            ready: RefCell::new(VecDeque::new()),
        }
    };
}

struct Typed<F>(F);

impl<F: Filter> Typed<F> {
    async fn decide(&self, stream: Rc<Stream>) -> Left {
        let memo = self.0.request(&Request::new(stream)).await?;
        Ok(Box::new(memo))
    }

    async fn change(&self, stream: Rc<Stream>, memo: Box<dyn Any>) -> Left {
        let memo = memo
            .downcast()
            .expect("the request's part of this filter left it");
        self.0.response(&Response::new(stream), *memo).await?;
        Ok(Box::new(()))
    }
}

impl<F: Filter> Plugin for Typed<F> {
    fn request(self: Rc<Self>, stream: Rc<Stream>) -> Begun {
        Begun::Task(Box::pin(async move { self.decide(stream).await }))
    }

    fn response(self: Rc<Self>, stream: Rc<Stream>, memo: Box<dyn Any>) -> Begun {
        Begun::Task(Box::pin(async move { self.change(stream, memo).await }))
    }

    fn part(&self) -> Part {
        Part::All
    }
}

/// One that decides by heads at once, so that its work need not be kept.
struct AtOnce<F>(Typed<F>);

impl<F: Filter> Plugin for AtOnce<F> {
    fn request(self: Rc<Self>, stream: Rc<Stream>) -> Begun {
        Begun::Done(at_once(self.0.decide(stream)))
    }

    fn response(self: Rc<Self>, stream: Rc<Stream>, memo: Box<dyn Any>) -> Begun {
        Begun::Done(at_once(self.0.change(stream, memo)))
    }

    fn part(&self) -> Part {
        Part::Heads
    }
}

/// The output of what does not wait.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => more_than_heads(),
    }
}

/// A filter waits, or wants to see a body, and nothing of that kind would ever reach it: were the exchange to go on, then without its
/// judgement.
fn more_than_heads() -> ! {
    panic!("this filter waits or sees bodies: take `heads` out of its filter!");
}

/// Puts a stream into the queue of those to poll.
struct StreamWaker {
    context: u32,
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        RUNTIME.with(|runtime| runtime.ready.borrow_mut().push_back(self.context));
    }
}

pub(crate) fn register<F: Filter>(part: Part) {
    let configure: Configure = match part {
        Part::Heads => |text| Ok(Rc::new(AtOnce(Typed(F::configure(text)?)))),
        Part::All => |text| Ok(Rc::new(Typed(F::configure(text)?))),
    };
    RUNTIME.with(|runtime| runtime.configure.set(Some(configure)));
}

/// Forgets everything: for the mock host, which runs many tests on one thread.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn reset() {
    RUNTIME.with(|runtime| {
        let streams = std::mem::take(&mut *runtime.streams.borrow_mut());
        streams.for_each(|stream| stream.end());
        runtime.roots.borrow_mut().clear();
        runtime.http_calls.borrow_mut().clear();
        runtime.grpc_calls.borrow_mut().clear();
        runtime.timers.clear();
        runtime.ready.borrow_mut().clear();
    });
}

pub(crate) fn on_context_create(context: u32, parent: u32) {
    RUNTIME.with(|runtime| {
        if parent == 0 {
            runtime.roots.borrow_mut().insert(context, None);
            return;
        }
        let plugin = runtime.roots.borrow().get(&parent).cloned().flatten();
        // Without a configuration no stream can be served; the trap makes the host's failure policy answer.
        let plugin = plugin.expect("the filter has no configuration");
        let waker = match plugin.part() {
            // Nothing will ever wake it.
            Part::Heads => Waker::noop().clone(),
            Part::All => Arc::new(StreamWaker { context }).into(),
        };
        let stream = Rc::new(Stream::new(context, plugin, waker));
        runtime.streams.borrow_mut().insert(stream);
    });
}

pub(crate) fn on_configure(root: u32) -> Result<(), ConfigError> {
    let text = hostcalls::buffer(Buffer::Configuration);
    let configure = RUNTIME.with(|runtime| runtime.configure.get());
    let configure = configure.expect("filter! registers a filter before the host calls");
    let plugin = configure(&text)?;
    RUNTIME.with(|runtime| runtime.roots.borrow_mut().insert(root, Some(plugin)));
    Ok(())
}

/// As [`on_configure`], for hosts that take yes or no and read the reason in the log.
#[cfg(any(not(target_arch = "wasm32"), not(target_env = "p2")))]
pub(crate) fn is_configured(root: u32) -> bool {
    match on_configure(root) {
        Ok(()) => true,
        Err(error) => {
            crate::error!("configuration refused: {error}");
            false
        }
    }
}

pub(crate) fn on_headers(direction: Direction, context: u32, end_of_stream: bool) -> Action {
    callback(context, |stream| {
        stream.on_headers(direction, end_of_stream)
    })
}

pub(crate) fn on_body(direction: Direction, context: u32, end_of_stream: bool) -> Action {
    callback(context, |stream| stream.on_body(direction, end_of_stream))
}

pub(crate) fn on_trailers(direction: Direction, context: u32) -> Action {
    callback(context, |stream| stream.on_trailers(direction))
}

pub(crate) fn on_tick() {
    RUNTIME.with(|runtime| runtime.timers.fire());
    run_ready(None);
}

pub(crate) fn on_delete(context: u32) {
    RUNTIME.with(|runtime| {
        let stream = runtime.streams.borrow_mut().remove(context);
        if let Some(stream) = stream {
            // What it was the first of several to wait for is taken up by the next.
            stream.end();
        }
        runtime.roots.borrow_mut().remove(&context);
    });
    run_ready(None);
}

fn callback(context: u32, run: impl FnOnce(&Rc<Stream>) -> Action) -> Action {
    let Some(stream) = stream(context) else {
        return Action::Continue;
    };
    let action = run(&stream);
    run_ready(Some(context));
    action
}

fn stream(context: u32) -> Option<Rc<Stream>> {
    RUNTIME.with(|runtime| runtime.streams.borrow().get(context).cloned())
}

/// Polls the streams that were woken, each in its own context; `entered` is the one that the host has called.
fn run_ready(entered: Option<u32>) {
    let mut current = entered;
    while let Some(context) = RUNTIME.with(|runtime| runtime.ready.borrow_mut().pop_front()) {
        let Some(stream) = stream(context).filter(|stream| stream.is_waiting()) else {
            continue;
        };
        if current != Some(context) {
            if let Err(status) = hostcalls::enter(context) {
                log::refused("to enter a stream that waits", status);
                continue;
            }
            current = Some(context);
        }
        stream.wake();
    }
    if let Some(entered) = entered.filter(|entered| current != Some(*entered)) {
        // The rest of the host's call belongs to the stream that it entered; the host does so itself if this fails.
        let _ = hostcalls::enter(entered);
    }
}
