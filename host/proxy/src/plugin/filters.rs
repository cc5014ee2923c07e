//! The filters of a worker, and which VM each lives in.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tidegate_model::{FilterId, FilterSpec};
use tidegate_wasm::{ContextId, Failure, RootId, Vm, VmId};

use super::cell::VmCell;
use super::slot::{Signal, Slot};
use super::{Plugin, VmKey};
use crate::publish::FilterState;
use crate::worker::{State, Worker};

/// All filters of a worker.
#[derive(Default)]
pub(crate) struct Filters {
    filters: RefCell<HashMap<FilterId, Weak<WorkerFilter>>>,
    vms: RefCell<HashMap<VmKey, Weak<VmCell>>>,
}

/// A filter on a worker. Streams hold it to their end, so an old version lives as long as it is needed.
pub(crate) struct WorkerFilter {
    worker: Weak<Worker>,
    pub(crate) spec: Arc<FilterSpec>,
    pub(crate) state: FilterState,
    place: RefCell<Option<(Rc<VmCell>, RootId)>>,
    /// Bytes and CPU nanoseconds of its VM when they were last noted.
    measured: Cell<(u64, u64)>,
}
/// A stream context in its VM.
pub(crate) struct StreamContext {
    pub(crate) filter: Rc<WorkerFilter>,
    pub(crate) cell: Rc<VmCell>,
    pub(crate) id: ContextId,
    pub(crate) slot: Rc<Slot>,
}

// === impl Filters ===

impl Filters {
    /// The filter as it stands in a state: an unchanged one keeps its root context and its VM.
    pub(crate) fn get(
        &self,
        worker: &Rc<Worker>,
        spec: &Arc<FilterSpec>,
        state: &FilterState,
    ) -> Rc<WorkerFilter> {
        let mut filters = self.filters.borrow_mut();
        if let Some(known) = filters.get(&spec.id).and_then(Weak::upgrade)
            && known.is(state)
        {
            return known;
        }
        let filter = Rc::new(WorkerFilter {
            worker: Rc::downgrade(worker),
            spec: spec.clone(),
            state: state.clone(),
            place: RefCell::default(),
            measured: Cell::new((0, 0)),
        });
        filters.insert(spec.id.clone(), Rc::downgrade(&filter));
        filter
    }

    /// Brings the filters of a new state in: those that stay are held by it from now on, so that letting go of the old
    /// state does not end them; those with ticks start before a request asks for them.
    pub(crate) fn adopt(&self, worker: &Rc<Worker>, state: &State) {
        for spec in &state.published.snapshot.filters {
            let known = self
                .filters
                .borrow()
                .get(&spec.id)
                .and_then(Weak::upgrade)
                .is_some();
            if known {
                state.filter(worker, spec);
            }
        }
        self.filters
            .borrow_mut()
            .retain(|_, filter| filter.strong_count() > 0);
        self.vms.borrow_mut().retain(|_, vm| vm.strong_count() > 0);
    }

    /// Notes what the VMs of this worker hold and have used.
    pub(crate) fn measure(&self) {
        use std::sync::atomic::Ordering::Relaxed;
        for filter in self.filters.borrow().values().filter_map(Weak::upgrade) {
            let (Some(plugin), Some((cell, _))) = (filter.plugin(), filter.place.borrow().clone())
            else {
                continue;
            };
            let Ok(vm) = cell.vm.try_borrow() else {
                continue;
            };
            let (bytes, cpu) = (
                vm.memory_bytes() as u64,
                u64::try_from(vm.cpu().as_nanos()).unwrap_or(u64::MAX),
            );
            let stats = &plugin.stats;
            let (bytes_before, cpu_before) = filter.measured.replace((bytes, cpu));
            stats
                .memory_bytes
                .fetch_add(bytes.wrapping_sub(bytes_before), Relaxed);
            // A VM that was replaced counts from zero again.
            stats
                .cpu_nanoseconds
                .fetch_add(cpu.saturating_sub(cpu_before), Relaxed);
        }
    }

    /// The VM of this worker with that id; `caller` is the one that asks, and is in use.
    pub(super) fn vm_by_id(&self, caller: &Rc<VmCell>, id: VmId) -> Option<Rc<VmCell>> {
        let vms = self.vms.borrow();
        let cells = vms.values().filter_map(Weak::upgrade);
        cells.chain([caller.clone()]).find(|cell| cell.id == id)
    }

    /// The VM for a plugin, made if there is none alive.
    fn vm(&self, worker: &Weak<Worker>, plugin: &Plugin) -> Result<Rc<VmCell>, Failure> {
        let key = plugin.key();
        let alive = self
            .vms
            .borrow()
            .get(&key)
            .and_then(Weak::upgrade)
            .filter(|cell| cell.dead.get().is_none());
        if let Some(cell) = alive {
            return Ok(cell);
        }
        let vm = Vm::start(&plugin.module, plugin.vm.clone(), plugin.shared.clone())?;
        let cell = Rc::new(VmCell {
            worker: worker.clone(),
            id: vm.id(),
            vm: RefCell::new(vm),
            slots: RefCell::default(),
            roots: RefCell::default(),
            dead: Cell::new(None),
        });
        self.vms.borrow_mut().insert(key, Rc::downgrade(&cell));
        Ok(cell)
    }
}

// === impl WorkerFilter ===

impl WorkerFilter {
    /// Whether this is the filter of that state.
    fn is(&self, state: &FilterState) -> bool {
        match (&self.state, state) {
            (FilterState::Ready(a), FilterState::Ready(b)) => Arc::ptr_eq(a, b),
            (
                FilterState::Unavailable { message: a, .. },
                FilterState::Unavailable { message: b, .. },
            ) => a == b,
            _ => false,
        }
    }

    /// A context for a new stream, in a living VM.
    pub(crate) fn open(
        self: &Rc<Self>,
        plugin: &Arc<Plugin>,
        signal: &Rc<Signal>,
    ) -> Result<StreamContext, Failure> {
        let (cell, root) = self.place(plugin)?;
        let id = cell.enter(plugin, |vm| vm.create_stream(root))?;
        let slot = Rc::new(Slot {
            events: RefCell::default(),
            signal: signal.clone(),
        });
        cell.slots.borrow_mut().insert(id, slot.clone());
        plugin
            .stats
            .streams
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        plugin
            .stats
            .contexts
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(StreamContext {
            filter: self.clone(),
            cell,
            id,
            slot,
        })
    }

    fn place(self: &Rc<Self>, plugin: &Arc<Plugin>) -> Result<(Rc<VmCell>, RootId), Failure> {
        let place = self
            .place
            .borrow()
            .clone()
            .filter(|(cell, _)| cell.dead.get().is_none());
        if let Some(place) = place {
            return Ok(place);
        }
        let worker = self.worker.upgrade();
        let Some(worker) = worker else {
            return Err(Failure::Start {
                message: "the worker has ended".into(),
            });
        };
        let started = worker.filters.vm(&self.worker, plugin).and_then(|cell| {
            let root = cell.enter(plugin, |vm| vm.add_root(plugin.root.clone()))?;
            Ok((cell, root))
        });
        let (cell, root) = started.inspect_err(|failure| plugin.failed(failure))?;
        cell.roots
            .borrow_mut()
            .entry(root)
            .or_insert((Weak::new(), None))
            .0 = Rc::downgrade(self);
        plugin
            .stats
            .vms
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let old = self.place.replace(Some((cell.clone(), root)));
        if old.is_some() {
            plugin
                .stats
                .vms
                .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        }
        Ok((cell, root))
    }

    pub(crate) fn plugin(&self) -> Option<&Arc<Plugin>> {
        match &self.state {
            FilterState::Ready(plugin) => Some(plugin),
            FilterState::Unavailable { .. } => None,
        }
    }
}

impl Drop for WorkerFilter {
    fn drop(&mut self) {
        let (Some((cell, root)), Some(plugin)) = (self.place.take(), self.plugin()) else {
            return;
        };
        plugin
            .stats
            .vms
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        if let Some((_, Some(tick))) = cell.roots.borrow_mut().remove(&root) {
            tick.abort();
        }
        // Within a call of this very VM the root cannot be removed; it goes with the VM then.
        if cell.dead.get().is_none()
            && let Ok(mut vm) = cell.vm.try_borrow_mut()
        {
            // A failure to say goodbye changes nothing: the root is gone.
            let _ = vm.remove_root(root);
        }
    }
}

impl Drop for StreamContext {
    fn drop(&mut self) {
        if let Some(plugin) = self.filter.plugin() {
            plugin
                .stats
                .contexts
                .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
