//! What a VM asks of the data plane: answers to streams, calls to clusters, ticks, queues.

use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tidegate_wasm::{Effect, Failure, RootId, Vm};

use super::Plugin;
use super::cell::VmCell;
use super::filter::WorkerFilter;
use super::slot::Event;
use crate::callout;
use crate::grpc;
use crate::wake::Wake;
use crate::worker::Worker;

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
            Effect::GrpcCall { .. }
            | Effect::GrpcStream { .. }
            | Effect::GrpcSend { .. }
            | Effect::GrpcCancel { .. }
            | Effect::GrpcClose { .. } => grpc::perform(self, effect),
            Effect::QueueReady { token, vm, root } => {
                if let Some(worker) = self.worker.upgrade() {
                    worker.post.wake(Wake { vm, root, token });
                }
            }
            Effect::RootDone { root } => self.grpc.end_root(root),
            // Routes are chosen once.
            Effect::ClearRouteCache { .. } => {}
        }
    }

    /// Enters a root context with an answer that it waits for; false when nobody is there any more to hear it.
    pub(crate) async fn answer(
        cell: &Weak<Self>,
        root: RootId,
        call: impl FnOnce(&mut Vm) -> Result<(), Failure> + Send + 'static,
    ) -> bool {
        let Some(cell) = cell.upgrade().filter(|cell| !cell.is_dead()) else {
            return false;
        };
        let Some((_filter, plugin, _)) = cell.home(root) else {
            return false;
        };
        // A failure has been told to all streams of the VM.
        cell.call(&plugin, call).await.is_ok()
    }

    /// What a root context belongs to, while it is alive.
    pub(crate) fn home(&self, root: RootId) -> Option<(Rc<WorkerFilter>, Arc<Plugin>, Rc<Worker>)> {
        let filter = self.roots.borrow().get(&root)?.0.upgrade()?;
        let plugin = filter.plugin()?.clone();
        Some((filter, plugin, self.worker.upgrade()?))
    }

    fn call_out(self: &Rc<Self>, root: RootId, token: u32, call: callout::Call) {
        let Some((filter, plugin, worker)) = self.home(root) else {
            return;
        };
        let (cell, mut held) = (Rc::downgrade(self), self.budget.hold());
        tokio::task::spawn_local(async move {
            let answer = callout::perform(&worker, &plugin.spec, &mut held, call).await;
            Self::answer(&cell, root, move |vm| match answer {
                Ok(response) => vm.on_http_call_response(token, response),
                Err(callout::Broken) => vm.on_http_call_failed(token),
            })
            .await;
            drop((filter, held));
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
                let _ = cell.call(&plugin, move |vm| vm.on_tick(root)).await;
            }
        });
        *running = Some(task.abort_handle());
    }
}
