//! Calls under way: the slot that a future waits on, and the host's callbacks that fill it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::{RUNTIME, Runtime, run_ready};
use crate::hostcalls::{self, Buffer, Map, Pairs};

/// What became of a call.
#[derive(Debug)]
pub(crate) enum Outcome {
    Http { headers: Pairs, body: Vec<u8> },
    Grpc(Vec<u8>),
    GrpcFailed { status: u32, message: Vec<u8> },
}

/// The place where an outcome arrives.
pub(crate) struct Slot {
    kind: Kind,
    token: u32,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Grpc,
}

impl Slot {
    pub(crate) fn http(token: u32) -> Pending {
        Self::register(Kind::Http, token)
    }

    pub(crate) fn grpc(token: u32) -> Pending {
        Self::register(Kind::Grpc, token)
    }

    fn register(kind: Kind, token: u32) -> Pending {
        let slot = Rc::new(Self {
            kind,
            token,
            state: RefCell::default(),
        });
        RUNTIME.with(|runtime| {
            kind.calls(runtime)
                .borrow_mut()
                .insert(token, Rc::clone(&slot))
        });
        Pending(slot)
    }
}

impl Kind {
    fn calls(self, runtime: &Runtime) -> &RefCell<std::collections::BTreeMap<u32, Rc<Slot>>> {
        match self {
            Self::Http => &runtime.http_calls,
            Self::Grpc => &runtime.grpc_calls,
        }
    }
}

/// The future of a call's outcome. Dropped, it forgets the call.
pub(crate) struct Pending(Rc<Slot>);

impl Future for Pending {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.0.state.borrow_mut();
        match state.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Slot { kind, token, .. } = *self.0;
        let open =
            RUNTIME.with(|runtime| kind.calls(runtime).borrow_mut().remove(&token).is_some());
        if open && kind == Kind::Grpc {
            hostcalls::cancel_grpc(token);
        }
    }
}

pub(crate) fn on_http_call_response(token: u32) {
    deliver(Kind::Http, token, || Outcome::Http {
        headers: hostcalls::headers(Map::CallHeaders),
        body: hostcalls::buffer(Buffer::Call),
    });
}

pub(crate) fn on_grpc_message(token: u32) {
    deliver(Kind::Grpc, token, || {
        Outcome::Grpc(hostcalls::buffer(Buffer::GrpcMessage))
    });
}

/// Comes instead of a message where there is none.
pub(crate) fn on_grpc_close(token: u32, status: u32) {
    deliver(Kind::Grpc, token, || Outcome::GrpcFailed {
        status,
        message: hostcalls::status_message(),
    });
}

/// Nobody waits for it any more if it is not there.
fn deliver(kind: Kind, token: u32, outcome: impl FnOnce() -> Outcome) {
    let slot = RUNTIME.with(|runtime| kind.calls(runtime).borrow_mut().remove(&token));
    if let Some(slot) = slot {
        let mut state = slot.state.borrow_mut();
        state.outcome = Some(outcome());
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
    run_ready(None);
}
