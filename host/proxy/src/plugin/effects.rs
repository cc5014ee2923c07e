//! What a VM asks of the data plane: answers to streams, calls to clusters, ticks, queues.

use std::rc::{Rc, Weak};
use std::time::Duration;

use tidegate_wasm::{ContextId, Effect, Failure, RootId, Vm};

use super::cell::VmCell;
use super::slot::Event;
use crate::callout;

/// Status 12 of gRPC.
const GRPC_UNIMPLEMENTED: u32 = 12;

impl VmCell {
    pub(super) fn dispatch(self: &Rc<Self>, effect: Effect) {
        match effect {
            Effect::LocalReply { context, reply } => self.tell(context, Event::Reply(reply)),
            Effect::Resume { context, direction } => self.tell(context, Event::Resume(direction)),
            Effect::CloseStream { context, .. } => self.tell(context, Event::Close),
            Effect::SetTickPeriod { root, period } => self.tick(root, period),
            Effect::HttpCall {
                root,
                token,
                cluster,
                head,
                body,
                trailers,
                timeout,
            } => {
                let call = callout::Call {
                    cluster,
                    head: *head,
                    body,
                    trailers,
                    timeout,
                };
                self.call_out(root, token, call);
            }
            Effect::GrpcCall { target, .. } | Effect::GrpcStream { target } => {
                let (root, token) = (target.root, target.token);
                self.later(root, move |vm| {
                    vm.on_grpc_close(
                        token,
                        GRPC_UNIMPLEMENTED,
                        "this host makes no gRPC calls yet".to_owned(),
                    )
                });
            }
            Effect::QueueReady { token, vm, root } => {
                let worker = self.worker.upgrade();
                let consumer = worker.and_then(|worker| worker.filters.vm_by_id(self, vm));
                if let Some(consumer) = consumer {
                    consumer.later(root, move |vm| vm.on_queue_ready(root, token));
                }
            }
            // What belongs to a call that was answered above is over; routes are chosen once; a root that is done is gone.
            Effect::GrpcSend { .. }
            | Effect::GrpcCancel { .. }
            | Effect::GrpcClose { .. }
            | Effect::ClearRouteCache { .. }
            | Effect::RootDone { .. } => {}
        }
    }

    pub(super) fn tell(&self, context: ContextId, event: Event) {
        if let Some(slot) = self.slots.borrow().get(&context) {
            slot.push(event);
        }
    }

    /// Enters a root context after the call that is running now has returned.
    pub(super) fn later(
        self: &Rc<Self>,
        root: RootId,
        call: impl FnOnce(&mut Vm) -> Result<(), Failure> + 'static,
    ) {
        let cell = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            let Some(cell) = cell.upgrade().filter(|cell| !cell.is_dead()) else {
                return;
            };
            let filter = cell
                .roots
                .borrow()
                .get(&root)
                .and_then(|(filter, _)| filter.upgrade());
            if let Some(plugin) = filter.as_ref().and_then(|filter| filter.plugin().cloned()) {
                // A failure has been told to all streams of the VM.
                let _ = cell.enter(&plugin, call);
            }
        });
    }

    pub(super) fn call_out(self: &Rc<Self>, root: RootId, token: u32, call: callout::Call) {
        let filter = self
            .roots
            .borrow()
            .get(&root)
            .and_then(|(filter, _)| filter.upgrade());
        let (Some(filter), Some(worker)) = (filter, self.worker.upgrade()) else {
            return;
        };
        let Some(plugin) = filter.plugin().cloned() else {
            return;
        };
        let cell = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            let response = callout::perform(&worker, &plugin.spec, call).await;
            if let Some(cell) = cell.upgrade()
                && !cell.is_dead()
            {
                // A failure here has been told to all streams of the VM.
                let _ = cell.enter(&plugin, |vm| vm.on_http_call_response(token, response));
            }
            drop(filter);
        });
    }

    pub(super) fn tick(self: &Rc<Self>, root: RootId, period: Option<Duration>) {
        let mut roots = self.roots.borrow_mut();
        let (_, running) = roots.entry(root).or_insert((Weak::new(), None));
        if let Some(running) = running.take() {
            running.abort();
        }
        let Some(period) = period else { return };
        let cell = Rc::downgrade(self);
        let task = tokio::task::spawn_local(async move {
            loop {
                // As in Envoy the next tick is armed after this one has run.
                tokio::time::sleep(period).await;
                let Some(cell) = cell.upgrade().filter(|cell| !cell.is_dead()) else {
                    return;
                };
                let filter = cell
                    .roots
                    .borrow()
                    .get(&root)
                    .and_then(|(filter, _)| filter.upgrade());
                let Some(plugin) = filter.as_ref().and_then(|filter| filter.plugin().cloned())
                else {
                    return;
                };
                let _ = cell.enter(&plugin, |vm| vm.on_tick(root));
            }
        });
        *running = Some(task.abort_handle());
    }
}
