//! A filter's root context in a VM.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tidegate_wasm::{Failure, RootId, Vm};

use super::Plugin;
use super::cell::VmCell;
use super::filter::WorkerFilter;

/// Held by its filter for new streams, and by streams to their end: the root context goes with the last one.
pub(crate) struct Place {
    pub(super) cell: Rc<VmCell>,
    pub(super) root: RootId,
    pub(super) plugin: Arc<Plugin>,
    /// Bytes of its VM when they were last noted.
    bytes: Cell<u64>,
}

impl Place {
    /// Makes a configured root context known, so that what it asks for finds its filter.
    pub(super) fn new(
        filter: &Rc<WorkerFilter>,
        plugin: &Arc<Plugin>,
        cell: Rc<VmCell>,
        root: RootId,
    ) -> Rc<Self> {
        cell.settle_root(filter, root);
        plugin.stats.vms.fetch_add(1, Relaxed);
        let place = Self {
            cell,
            root,
            plugin: plugin.clone(),
            bytes: Cell::new(0),
        };
        place.measure();
        Rc::new(place)
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.cell.is_dead()
    }

    /// Notes how much memory the VM has.
    pub(super) fn measure(&self) {
        if let Some(bytes) = self.cell.with(|vm| vm.memory_bytes() as u64) {
            self.note(bytes);
        }
    }

    fn note(&self, bytes: u64) {
        let before = self.bytes.replace(bytes);
        self.plugin
            .stats
            .memory_bytes
            .fetch_add(bytes.wrapping_sub(before), Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.note(0);
        self.plugin.stats.vms.fetch_sub(1, Relaxed);
        let (cell, root) = (&self.cell, self.root);
        if let Some((_, Some(tick))) = cell.roots.borrow_mut().remove(&root) {
            tick.abort();
        }
        cell.grpc.end_root(root);
        if cell.is_dead() || cell.is_instance() {
            return;
        }
        // A failure to say goodbye changes nothing: the root is gone.
        if cell.is_aside() {
            let (cell, plugin) = (cell.clone(), self.plugin.clone());
            tokio::task::spawn_local(async move {
                let _ = cell.call(&plugin, move |vm| vm.remove_root(root)).await;
            });
        } else {
            // Within a call of this very VM the root cannot be removed; it goes with the VM then.
            let _ = cell.with(|vm| vm.remove_root(root));
        }
    }
}

impl VmCell {
    pub(super) fn settle_root(&self, filter: &Rc<WorkerFilter>, root: RootId) {
        let mut roots = self.roots.borrow_mut();
        roots.entry(root).or_insert((Weak::new(), None)).0 = Rc::downgrade(filter);
    }

    /// A root context for a plugin in this VM, which is on the worker. What it asks for in its configuration finds its filter.
    pub(super) fn add_root(
        self: &Rc<Self>,
        filter: &Rc<WorkerFilter>,
        plugin: &Arc<Plugin>,
    ) -> Result<RootId, Failure> {
        let add = |vm: &mut Vm| vm.add_root(plugin.root.clone());
        self.enter_then(plugin, add, |root| self.settle_root(filter, *root))
    }
}
