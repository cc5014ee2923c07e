//! Wakes the consumers of shared queues, on whichever worker they live.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_wasm::{RootId, VmId};
use tokio::sync::Notify;

use crate::plugin::VmCell;
use crate::worker::Worker;

/// Calls of `proxy_on_queue_ready` that one consumer may have waiting: as many as a queue has items.
const MOST: u32 = 100_000;

/// Where every VM lives, and what is waiting there. One for all workers.
#[derive(Default)]
pub(crate) struct Post {
    residents: Mutex<HashMap<VmId, Arc<Mailbox>>>,
}

/// What is waiting for the VMs of one worker.
#[derive(Default)]
pub(crate) struct Mailbox {
    waiting: Mutex<HashMap<Wake, u32>>,
    arrived: Notify,
}

/// A VM is known here while this lives.
pub(crate) struct Residence {
    post: Arc<Post>,
    vm: VmId,
}

/// Whom to call about what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wake {
    pub(crate) vm: VmId,
    pub(crate) root: RootId,
    /// The queue.
    pub(crate) token: u32,
}

// === impl Post ===

impl Post {
    /// Makes a VM known as living where this mailbox is read.
    pub(crate) fn settle(self: &Arc<Self>, vm: VmId, mailbox: &Arc<Mailbox>) -> Residence {
        locked(&self.residents).insert(vm, mailbox.clone());
        Residence {
            post: self.clone(),
            vm,
        }
    }

    /// Tells a consumer that something was enqueued. One that is gone hears nothing.
    pub(crate) fn wake(&self, wake: Wake) {
        let mailbox = locked(&self.residents).get(&wake.vm).cloned();
        if let Some(mailbox) = mailbox {
            mailbox.add(wake);
        }
    }
}

impl Drop for Residence {
    fn drop(&mut self) {
        locked(&self.post.residents).remove(&self.vm);
    }
}

// === impl Mailbox ===

impl Mailbox {
    /// As in Envoy there is a call for each item: guests take one at a time. Only their number is kept.
    fn add(&self, wake: Wake) {
        let mut waiting = locked(&self.waiting);
        let count = waiting.entry(wake).or_default();
        *count = (*count + 1).min(MOST);
        drop(waiting);
        self.arrived.notify_one();
    }

    async fn next(&self) -> HashMap<Wake, u32> {
        loop {
            let waiting = std::mem::take(&mut *locked(&self.waiting));
            if !waiting.is_empty() {
                return waiting;
            }
            self.arrived.notified().await;
        }
    }
}

/// Delivers what comes for the VMs of a worker, until the worker ends. A consumer that takes its time holds up no other.
pub(crate) async fn deliver(worker: Weak<Worker>, mailbox: Arc<Mailbox>) {
    let running: Rc<RefCell<HashMap<Wake, u32>>> = Rc::default();
    loop {
        let waiting = mailbox.next().await;
        let Some(worker) = worker.upgrade() else {
            return;
        };
        for (wake, count) in waiting {
            if let Some(left) = running.borrow_mut().get_mut(&wake) {
                *left = left.saturating_add(count).min(MOST);
                continue;
            }
            if let Some(consumer) = worker.filters.vm_by_id(wake.vm) {
                running.borrow_mut().insert(wake, count);
                let consumer = Rc::downgrade(&consumer);
                tokio::task::spawn_local(call(consumer, wake, running.clone()));
            }
        }
    }
}

/// Calls a consumer as often as it is due.
async fn call(consumer: Weak<VmCell>, wake: Wake, running: Rc<RefCell<HashMap<Wake, u32>>>) {
    let Wake { root, token, .. } = wake;
    loop {
        let is_due =
            running
                .borrow_mut()
                .get_mut(&wake)
                .is_some_and(|left| match left.checked_sub(1) {
                    Some(fewer) => {
                        *left = fewer;
                        true
                    }
                    None => false,
                });
        let alive = is_due
            && VmCell::answer(&consumer, root, move |vm| vm.on_queue_ready(root, token)).await;
        if !alive {
            running.borrow_mut().remove(&wake);
            return;
        }
        // Requests of the worker come in between.
        tokio::task::yield_now().await;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
