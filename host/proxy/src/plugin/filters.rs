//! All filters of a worker, and the VMs that they share.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tidegate_model::{FilterId, FilterSpec};
use tidegate_wasm::{Failure, Vm, VmConfig, VmId};
use tokio::time::Instant;

use super::cell::{Kind, VmCell};
use super::filter::WorkerFilter;
use super::{Plugin, VmKey};
use crate::publish::FilterState;
use crate::worker::{State, Worker};

/// All filters of a worker.
#[derive(Default)]
pub(crate) struct Filters {
    filters: RefCell<HashMap<FilterId, Weak<WorkerFilter>>>,
    /// VMs that filters with equal keys share.
    vms: RefCell<HashMap<VmKey, Weak<VmCell>>>,
    /// Those that others may call.
    residents: RefCell<HashMap<VmId, Weak<VmCell>>>,
}

impl Filters {
    /// The filter as it stands in a state: an unchanged one keeps its root context and its VM.
    pub(crate) fn get(
        &self,
        worker: &Rc<Worker>,
        spec: &Arc<FilterSpec>,
        state: &FilterState,
    ) -> Rc<WorkerFilter> {
        let mut filters = self.filters.borrow_mut();
        let known = filters.get(&spec.id).and_then(Weak::upgrade);
        if let Some(known) = &known
            && known.is(spec, state)
        {
            return known.clone();
        }
        let filter = WorkerFilter::new(worker, spec, state, known.as_deref());
        filters.insert(spec.id.clone(), Rc::downgrade(&filter));
        filter
    }

    /// Brings the filters of a new state in: those that stay are held by it from now on, so that letting go of the old
    /// state does not end them; those with ticks, queues or calls start before a request asks for them.
    pub(crate) fn adopt(&self, worker: &Rc<Worker>, state: &State) {
        for spec in &state.published.snapshot.filters {
            let known = self
                .filters
                .borrow()
                .get(&spec.id)
                .and_then(Weak::upgrade)
                .is_some();
            if known || state.is_resident(spec) {
                state.filter(worker, spec).settle_in();
            }
        }
        self.tidy();
    }

    fn tidy(&self) {
        let mut filters = self.filters.borrow_mut();
        filters.retain(|_, filter| filter.strong_count() > 0);
        drop(filters);
        self.vms.borrow_mut().retain(|_, vm| vm.strong_count() > 0);
        let mut residents = self.residents.borrow_mut();
        residents.retain(|_, vm| vm.strong_count() > 0);
    }

    /// Looks after the filters, once a second: notes what their VMs hold, lets those back that have been clean for long
    /// enough, and ends idle VMs, the longest idle ones first, where there are more than `most`.
    pub(crate) fn look(&self, most: usize) {
        let filters: Vec<_> = self.filters.borrow().values().cloned().collect();
        let filters: Vec<_> = filters.iter().filter_map(Weak::upgrade).collect();
        let now = Instant::now();
        for filter in &filters {
            filter.look(now);
        }
        self.tidy();
        let alive = self.residents.borrow().len();
        if alive > most {
            let mut idle: Vec<_> = filters.iter().filter(|filter| filter.is_idle()).collect();
            idle.sort_by_key(|filter| std::cmp::Reverse(filter.idle_for()));
            for filter in idle.into_iter().take(alive - most) {
                filter.move_out();
            }
            self.tidy();
        }
    }

    /// The VM of this worker with that id.
    pub(crate) fn vm_by_id(&self, id: VmId) -> Option<Rc<VmCell>> {
        self.residents.borrow().get(&id).and_then(Weak::upgrade)
    }

    /// A VM that is there for as long as its filter needs it.
    pub(super) fn resident(&self, worker: &Rc<Worker>, vm: Box<Vm>, aside: bool) -> Rc<VmCell> {
        let id = vm.id();
        let residence = worker.post.settle(id, &worker.mailbox);
        let kind = Kind::Resident {
            _residence: residence,
        };
        let cell = VmCell::new(worker, vm, aside, kind);
        self.residents.borrow_mut().insert(id, Rc::downgrade(&cell));
        cell
    }

    /// The VM that a plugin shares with others of its key, made here if there is none alive. The worker waits, so it may take
    /// no longer than a call.
    pub(super) fn shared(
        &self,
        worker: &Rc<Worker>,
        plugin: &Plugin,
    ) -> Result<Rc<VmCell>, Failure> {
        let key = plugin.key();
        let alive = self
            .vms
            .borrow()
            .get(&key)
            .and_then(Weak::upgrade)
            .filter(|cell| !cell.is_dead());
        if let Some(cell) = alive {
            return Ok(cell);
        }
        let cell = self.resident(worker, start(plugin)?, false);
        self.vms.borrow_mut().insert(key, Rc::downgrade(&cell));
        Ok(cell)
    }
}

/// Starts a VM on the worker, within the time of a call.
pub(super) fn start(plugin: &Plugin) -> Result<Box<Vm>, Failure> {
    let config: &VmConfig = &plugin.vm;
    let mut config = config.clone();
    config.limits.start_timeout = config.limits.start_timeout.min(config.limits.call_timeout);
    Vm::start(&plugin.module, Arc::new(config), plugin.shared.clone()).map(Box::new)
}
