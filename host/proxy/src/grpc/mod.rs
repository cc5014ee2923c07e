//! gRPC calls and streams of filters, over HTTP/2 to the clusters they declare.
//!
//! ```text
//!   Effect ── perform ──► Calls (of a VM, by token) ── Exchange (a task) ── Pump ──► request body
//!                                                          └── Decoder ◄── response body ──► callbacks of the VM
//! ```
//!
//! A call has one request message and hears one answer: a message, or a status. A stream hears everything. What a guest sends
//! waits here while the upstream does not take it, and what the upstream sends is read when the guest has taken what came
//! before. Statuses and their texts are Envoy's.

mod exchange;
mod frame;
mod outgoing;
mod status;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_wasm::{Effect, GrpcTarget, RootId};
use tokio::task::AbortHandle;

use self::exchange::Exchange;
use self::outgoing::Outgoing;
use crate::plugin::VmCell;

/// The calls and streams of a VM that have not ended.
#[derive(Default)]
pub(crate) struct Calls(RefCell<HashMap<u32, Call>>);

struct Call {
    root: RootId,
    /// None for a call with one message.
    outgoing: Option<Rc<Outgoing>>,
    task: AbortHandle,
}

/// Carries out what a guest asked for.
pub(crate) fn perform(cell: &Rc<VmCell>, effect: Effect) {
    match effect {
        Effect::GrpcCall {
            target,
            message,
            timeout,
        } => begin(cell, *target, Some((message, timeout))),
        Effect::GrpcStream { target } => begin(cell, *target, None),
        Effect::GrpcSend {
            token,
            message,
            end_of_stream,
        } => cell.grpc.with(token, |outgoing| {
            outgoing.send(frame::framed(&message));
            if end_of_stream {
                outgoing.close();
            }
        }),
        Effect::GrpcCancel { token } => cell.grpc.end(token),
        Effect::GrpcClose { token } if is_call(token) => cell.grpc.end(token),
        Effect::GrpcClose { token } => cell.grpc.with(token, Outgoing::close),
        _ => {}
    }
}

fn begin(cell: &Rc<VmCell>, target: GrpcTarget, call: Option<(Bytes, Option<Duration>)>) {
    let (root, token) = (target.root, target.token);
    // Without a root nobody is left to hear of it.
    let Some((filter, plugin, worker)) = cell.home(root) else {
        return;
    };
    let exchange = Exchange {
        cell: Rc::downgrade(cell),
        worker,
        plugin,
        budget: cell.budget.clone(),
        root,
        token,
    };
    let (outgoing, task) = match call {
        Some((message, timeout)) => {
            // A call holds its filter to its end, as an HTTP call does; a stream may last for ever and ends with it.
            let task = async move {
                exchange
                    .call(target, frame::framed(&message), timeout)
                    .await;
                drop(filter);
            };
            (None, tokio::task::spawn_local(task))
        }
        None => {
            let outgoing = Rc::new(Outgoing::new(cell.budget.hold()));
            let task = exchange.stream(target, outgoing.clone());
            (Some(outgoing), tokio::task::spawn_local(task))
        }
    };
    let call = Call {
        root,
        outgoing,
        task: task.abort_handle(),
    };
    cell.grpc.0.borrow_mut().insert(token, call);
}

/// Tokens tell calls from streams.
fn is_call(token: u32) -> bool {
    token % 2 == 1
}

// === impl Calls ===

impl Calls {
    fn with(&self, token: u32, look: impl FnOnce(&Outgoing)) {
        if let Some(outgoing) = self
            .0
            .borrow()
            .get(&token)
            .and_then(|call| call.outgoing.as_ref())
        {
            look(outgoing);
        }
    }

    /// Resets it, if it has not ended.
    fn end(&self, token: u32) {
        let call = self.0.borrow_mut().remove(&token);
        drop(call);
    }

    /// Resets those of a root that is gone.
    pub(crate) fn end_root(&self, root: RootId) {
        let ended: Vec<Call> = self
            .0
            .borrow_mut()
            .extract_if(|_, call| call.root == root)
            .map(|(_, call)| call)
            .collect();
        drop(ended);
    }

    /// Resets all: the VM is dead.
    pub(crate) fn clear(&self) {
        let ended = std::mem::take(&mut *self.0.borrow_mut());
        drop(ended);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.task.abort();
    }
}
