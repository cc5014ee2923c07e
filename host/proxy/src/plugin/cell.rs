//! A VM on its worker, and the streams that wait for it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tidegate_model::FailureCause;
use tidegate_wasm::{ContextId, Effect, Failure, RootId, Vm, VmId};
use tokio::task::AbortHandle;

use super::filters::WorkerFilter;
use super::slot::{Event, Slot};
use super::{Plugin, cause};
use crate::worker::Worker;

/// A VM and the streams that wait for it.
pub(crate) struct VmCell {
    pub(super) worker: Weak<Worker>,
    pub(super) id: VmId,
    pub(super) vm: RefCell<Vm>,
    pub(super) slots: RefCell<HashMap<ContextId, Rc<Slot>>>,
    pub(super) roots: RefCell<HashMap<RootId, Root>>,
    pub(super) dead: Cell<Option<FailureCause>>,
}

/// Whose root context it is, and its tick.
pub(super) type Root = (Weak<WorkerFilter>, Option<AbortHandle>);

// === impl VmCell ===

impl VmCell {
    /// Calls into the VM, then carries out what it asked for. A failure takes the VM and all its streams along.
    pub(crate) fn enter<T>(
        self: &Rc<Self>,
        plugin: &Arc<Plugin>,
        call: impl FnOnce(&mut Vm) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut vm = self.vm.borrow_mut();
        let result = call(&mut vm);
        plugin
            .stats
            .calls
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let effects: Vec<Effect> = vm.effects().collect();
        let dead = vm.is_dead();
        drop(vm);
        for effect in effects {
            self.dispatch(effect);
        }
        if let Err(failure) = &result
            && dead
            && self.dead.get().is_none()
        {
            plugin.failed(failure);
            self.fall(cause(failure));
        }
        result
    }

    /// Runs `look` on the VM without entering the guest.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Vm) -> T) -> T {
        look(&mut self.vm.borrow_mut())
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.get().is_some()
    }

    pub(super) fn fall(&self, cause: FailureCause) {
        self.dead.set(Some(cause));
        for (_, tick) in self.roots.borrow_mut().drain().map(|(_, root)| root) {
            tick.inspect(AbortHandle::abort);
        }
        for (_, slot) in self.slots.borrow_mut().drain() {
            slot.push(Event::Dead(cause));
        }
    }

    /// Ends a stream context: on_log, on_done and on_delete were or are called by the stream.
    pub(crate) fn forget(&self, id: ContextId) {
        self.slots.borrow_mut().remove(&id);
    }
}
