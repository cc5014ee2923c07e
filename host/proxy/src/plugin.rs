//! Filters as a worker runs them: which VM a filter lives in, and what its VM asks of the data plane.
//!
//! ```text
//!   Plugin (compiled, shared by all workers) ── WorkerFilter (root context) ── VmCell (VM) ── Slot (stream context)
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tidegate_model::{FailureCause, FilterId, FilterSpec, Isolation};
use tidegate_wasm::{
    Cause, ContextId, Direction, Effect, Failure, LocalReply, Module, PluginConfig, RootId, Shared,
    Vm, VmConfig, VmId,
};
use tokio::task::AbortHandle;

use crate::callout;
use crate::publish::FilterState;
use crate::worker::{State, Worker};

/// A filter that was fetched, verified and compiled.
pub struct Plugin {
    /// What it is.
    pub spec: Arc<FilterSpec>,
    /// Its code.
    pub module: Module,
    /// `sha256:…` of the module.
    pub digest: Arc<str>,
    /// Its VM.
    pub vm: Arc<VmConfig>,
    /// Its root context.
    pub root: Arc<PluginConfig>,
    /// Shared data, queues and metrics of the process.
    pub shared: Arc<Shared>,
    /// What `/filters` says of it.
    pub stats: Arc<PluginStats>,
}

/// Counters of a filter over all workers.
#[derive(Debug, Default)]
pub struct PluginStats {
    /// Streams it has seen.
    pub streams: std::sync::atomic::AtomicU64,
    /// Callbacks of streams.
    pub calls: std::sync::atomic::AtomicU64,
    /// CPU time of its VMs' callbacks as far as it was measured, in nanoseconds.
    pub cpu_nanoseconds: std::sync::atomic::AtomicU64,
    /// Bytes of memory of the VMs that hold it; a shared VM counts for each filter in it.
    pub memory_bytes: std::sync::atomic::AtomicU64,
    /// Contexts alive.
    pub contexts: std::sync::atomic::AtomicI64,
    /// VMs alive that hold its root context.
    pub vms: std::sync::atomic::AtomicI64,
    /// Traps.
    pub traps: std::sync::atomic::AtomicU64,
    /// Deadlines passed.
    pub deadlines: std::sync::atomic::AtomicU64,
    /// Streams that fell with the VM of another stream.
    pub collateral: std::sync::atomic::AtomicU64,
    /// The last failure.
    pub last_error: std::sync::Mutex<Option<String>>,
}

/// Status 12 of gRPC.
const GRPC_UNIMPLEMENTED: u32 = 12;

/// Which VM: see "Key" in the life of a VM.
#[derive(Clone, PartialEq, Eq, Hash)]
struct VmKey {
    namespace: Arc<str>,
    digest: Arc<str>,
    vm: tidegate_model::VmSpec,
    limits: tidegate_model::FilterLimits,
    dedicated: Option<FilterId>,
}

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

/// A VM and the streams that wait for it.
pub(crate) struct VmCell {
    worker: Weak<Worker>,
    id: VmId,
    vm: RefCell<Vm>,
    slots: RefCell<HashMap<ContextId, Rc<Slot>>>,
    roots: RefCell<HashMap<RootId, Root>>,
    dead: Cell<Option<FailureCause>>,
}

/// Whose root context it is, and its tick.
type Root = (Weak<WorkerFilter>, Option<AbortHandle>);

/// Where a stream context hears from its VM.
pub(crate) struct Slot {
    events: RefCell<VecDeque<Event>>,
    signal: Rc<Signal>,
}

/// Wakes whatever part of an exchange waits: its service future, its request body, its response body.
#[derive(Default)]
pub(crate) struct Signal {
    notify: tokio::sync::Notify,
    wakers: [RefCell<Option<Waker>>; 2],
}

/// What a VM tells a stream.
pub(crate) enum Event {
    /// Answer with this.
    Reply(LocalReply),
    /// Go on.
    Resume(Direction),
    /// Reset the stream.
    Close,
    /// The VM fell through another stream's fault.
    Dead(FailureCause),
}

/// A stream context in its VM.
pub(crate) struct StreamContext {
    pub(crate) filter: Rc<WorkerFilter>,
    pub(crate) cell: Rc<VmCell>,
    pub(crate) id: ContextId,
    pub(crate) slot: Rc<Slot>,
}

// === impl Plugin ===

impl Plugin {
    fn key(&self) -> VmKey {
        let spec = &self.spec;
        VmKey {
            namespace: spec.id.namespace.clone(),
            digest: self.digest.clone(),
            vm: spec.vm.clone(),
            limits: spec.limits.clone(),
            dedicated: (spec.vm.isolation != Isolation::Shared).then(|| spec.id.clone()),
        }
    }

    fn failed(&self, failure: &Failure) {
        use std::sync::atomic::Ordering::Relaxed;
        match failure.cause() {
            Cause::Trap => self.stats.traps.fetch_add(1, Relaxed),
            Cause::Deadline => self.stats.deadlines.fetch_add(1, Relaxed),
            _ => 0,
        };
        tracing::warn!(filter = %self.spec.id, cause = cause(failure).as_str(), error = %failure, "filter failed");
        let mut last = self
            .stats
            .last_error
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *last = Some(failure.to_string());
    }
}

/// The cause in the model's words.
pub(crate) fn cause(failure: &Failure) -> FailureCause {
    match failure.cause() {
        Cause::Load => FailureCause::Load,
        Cause::Configure => FailureCause::Configure,
        Cause::Trap => FailureCause::Trap,
        Cause::Deadline => FailureCause::Deadline,
        Cause::Memory => FailureCause::Memory,
    }
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
    fn vm_by_id(&self, caller: &Rc<VmCell>, id: VmId) -> Option<Rc<VmCell>> {
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

    fn fall(&self, cause: FailureCause) {
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

    fn dispatch(self: &Rc<Self>, effect: Effect) {
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

    fn tell(&self, context: ContextId, event: Event) {
        if let Some(slot) = self.slots.borrow().get(&context) {
            slot.push(event);
        }
    }

    /// Enters a root context after the call that is running now has returned.
    fn later(
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

    fn call_out(self: &Rc<Self>, root: RootId, token: u32, call: callout::Call) {
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

    fn tick(self: &Rc<Self>, root: RootId, period: Option<Duration>) {
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

// === impl Slot ===

impl Slot {
    fn push(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
        self.signal.raise();
    }

    /// What the VM has said that concerns a stream in this direction, if anything.
    pub(crate) fn take(&self, direction: Direction) -> Option<Event> {
        let mut events = self.events.borrow_mut();
        let concerns =
            |event: &Event| !matches!(event, Event::Resume(other) if *other != direction);
        let at = events.iter().position(concerns)?;
        events.remove(at)
    }

    /// Whether something is said that concerns a stream even where it is not paused.
    pub(crate) fn is_urgent(&self) -> bool {
        self.events
            .borrow()
            .iter()
            .any(|event| !matches!(event, Event::Resume(_)))
    }

    /// Drops what was said to a stream that was not paused.
    pub(crate) fn forget_resumes(&self) {
        let mut events = self.events.borrow_mut();
        if !events.is_empty() {
            events.retain(|event| !matches!(event, Event::Resume(_)));
        }
    }
}

// === impl Signal ===

impl Signal {
    /// Wakes all that wait.
    pub(crate) fn raise(&self) {
        self.notify.notify_waiters();
        for waker in &self.wakers {
            if let Some(waker) = waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Waits for the next [`Signal::raise`]. Everything is on one thread, so nothing is missed between a look and the wait.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Wakes a body at the next [`Signal::raise`].
    pub(crate) fn register(&self, direction: Direction, waker: &Waker) {
        let side = usize::from(direction == Direction::Response);
        self.wakers[side].replace(Some(waker.clone()));
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
