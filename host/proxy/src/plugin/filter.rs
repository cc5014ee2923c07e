//! A filter on its worker: where its streams find a VM.
//!
//! ```text
//!   ordinary     the VM of its key, started at once on the worker (by compiled code: less than a millisecond)
//!   slow start   a VM of its own, started and configured on a birth thread, while streams wait
//!   aside        VMs of its own, up to one for each side thread, born likewise; a stream stays with the one it began in
//!   Request      an instance for each stream; where the filter has ticks, a VM beside them
//! ```

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tidegate_model::{FilterSpec, Isolation};
use tidegate_wasm::{ContextId, Failure, RootId, Vm};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Plugin;
use super::cell::{Kind, VmCell};
use super::filters::start;
use super::place::Place;
use super::slot::{Signal, Slot};
use crate::publish::FilterState;
use crate::side::Work;
use crate::worker::Worker;

/// Pause before a VM that could not be started on this worker is tried again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A filter on a worker. Streams hold it to their end, so an old version lives as long as it is needed.
pub(crate) struct WorkerFilter {
    worker: Weak<Worker>,
    pub(crate) spec: Arc<FilterSpec>,
    pub(crate) state: FilterState,
    places: RefCell<Vec<Rc<Place>>>,
    /// Of the version before, until this one has one.
    previous: RefCell<Vec<Rc<Place>>>,
    /// It took longer to start than its trial run let expect.
    slow: Cell<bool>,
    building: Cell<bool>,
    born: Notify,
    trouble: RefCell<Option<Trouble>>,
    idle_seconds: Cell<u32>,
}

/// Why there is no VM at the moment.
struct Trouble {
    failure: Failure,
    until: Instant,
    pause: Duration,
}

/// A stream context in its VM.
pub(crate) struct StreamContext {
    pub(crate) id: ContextId,
    pub(crate) slot: Slot,
    /// What the context lives under.
    place: Rc<Place>,
    _filter: Rc<WorkerFilter>,
}

// === impl WorkerFilter ===

impl WorkerFilter {
    pub(super) fn new(
        worker: &Rc<Worker>,
        spec: &Arc<FilterSpec>,
        state: &FilterState,
        before: Option<&Self>,
    ) -> Rc<Self> {
        let previous = before.map(|before| {
            let places = before.places.borrow();
            if places.is_empty() {
                before.previous.borrow().clone()
            } else {
                places.clone()
            }
        });
        Rc::new(Self {
            worker: Rc::downgrade(worker),
            spec: spec.clone(),
            state: state.clone(),
            places: RefCell::default(),
            previous: RefCell::new(previous.unwrap_or_default()),
            slow: Cell::new(false),
            building: Cell::new(false),
            born: Notify::new(),
            trouble: RefCell::default(),
            idle_seconds: Cell::new(0),
        })
    }

    /// Whether this is the filter of that state. One that cannot run is nothing but its policy.
    pub(super) fn is(&self, spec: &FilterSpec, state: &FilterState) -> bool {
        match (&self.state, state) {
            (FilterState::Ready(a), FilterState::Ready(b)) => Arc::ptr_eq(a, b),
            (
                FilterState::Unavailable { message: a, .. },
                FilterState::Unavailable { message: b, .. },
            ) => a == b && self.spec.failure_policy == spec.failure_policy,
            _ => false,
        }
    }

    pub(crate) fn plugin(&self) -> Option<&Arc<Plugin>> {
        match &self.state {
            FilterState::Ready(plugin) => Some(plugin),
            FilterState::Unavailable { .. } => None,
        }
    }

    /// Starts what runs without requests, and what takes long to start.
    pub(super) fn settle_in(self: &Rc<Self>) {
        let Some(plugin) = self.plugin().cloned() else {
            return;
        };
        let instances = plugin.spec.vm.isolation == Isolation::Request;
        let aside = plugin.is_aside();
        if !plugin.resident && (instances || !aside) {
            return;
        }
        // The version before ends when this one has a VM: what fails here is tried again when a request comes.
        let here = if aside {
            self.beside(&plugin).map(Ok)
        } else {
            self.here(&plugin)
        };
        if here.is_none() {
            self.build(&plugin, aside);
        }
    }

    /// A context for a new stream, if that needs no waiting.
    pub(crate) fn open(
        self: &Rc<Self>,
        plugin: &Arc<Plugin>,
        signal: &Rc<Signal>,
    ) -> Option<Result<Rc<StreamContext>, Failure>> {
        self.idle_seconds.set(0);
        if plugin.is_aside() {
            return None;
        }
        let place = if plugin.spec.vm.isolation == Isolation::Request {
            self.instance(plugin, false)
        } else {
            self.here(plugin)
        };
        Some(place?.and_then(|place| {
            if place.cell.is_aside() {
                // The version before, which has to do for now, is called elsewhere.
                return Err(Failure::Start {
                    message: "its VM is busy beside the worker".into(),
                });
            }
            let root = place.root;
            let id = place
                .cell
                .enter(&place.plugin, |vm| vm.create_stream(root))?;
            Ok(StreamContext::new(self, place, id, signal))
        }))
    }

    /// A context for a new stream, however long that takes. Whoever waits may stop waiting.
    pub(crate) async fn open_waiting(
        self: &Rc<Self>,
        plugin: &Arc<Plugin>,
        signal: &Rc<Signal>,
    ) -> Result<Rc<StreamContext>, Failure> {
        loop {
            let place = self.find(plugin).await?;
            if let Some(overrun) = place.cell.is_overrun() {
                return Err(overrun);
            }
            let Ok(turn) = place.cell.turn().await else {
                continue;
            };
            let (filter, signal) = (self.clone(), signal.clone());
            let (give, opened) = tokio::sync::oneshot::channel();
            tokio::task::spawn_local(async move {
                let (cell, plugin, root) = (place.cell.clone(), place.plugin.clone(), place.root);
                let created = cell
                    .run(turn, &plugin, move |vm| vm.create_stream(root))
                    .await;
                let context = created.map(|id| StreamContext::new(&filter, place, id, &signal));
                if let Err(Ok(unwanted)) = give.send(context) {
                    unwanted.delete().await;
                }
            });
            return opened.await.unwrap_or_else(|_| Err(ended()));
        }
    }

    /// A place for a stream, waited for.
    async fn find(self: &Rc<Self>, plugin: &Arc<Plugin>) -> Result<Rc<Place>, Failure> {
        let aside = plugin.is_aside();
        if plugin.spec.vm.isolation == Isolation::Request {
            if let Some(place) = self.instance(plugin, aside) {
                return place;
            }
            let (cell, root) = self.make(plugin, aside, true).await?;
            return Ok(Place::new(self, plugin, cell, root));
        }
        loop {
            if aside {
                if let Some(place) = self.beside(plugin) {
                    return Ok(place);
                }
            } else if let Some(place) = self.here(plugin) {
                return place;
            }
            if let Some(failure) = self.trouble() {
                return self.before().ok_or(failure);
            }
            let born = self.born.notified();
            self.build(plugin, aside);
            born.await;
        }
    }

    /// The ordinary VM, started if there is none. `None` if that would take too long for the worker.
    fn here(self: &Rc<Self>, plugin: &Arc<Plugin>) -> Option<Result<Rc<Place>, Failure>> {
        if let [place] = &**self.places.borrow()
            && place.is_alive()
            && !place.cell.is_aside()
        {
            return Some(Ok(place.clone()));
        }
        self.keep(false);
        if let Some(failure) = self.trouble() {
            return Some(self.before().ok_or(failure));
        }
        if plugin.is_slow_to_start() || self.slow.get() {
            return None;
        }
        let started = self.worker.upgrade().ok_or_else(ended).and_then(|worker| {
            let cell = worker.filters.shared(&worker, plugin)?;
            let root = cell.add_root(self, plugin)?;
            Ok(Place::new(self, plugin, cell, root))
        });
        match started {
            Ok(place) => {
                self.move_in(place.clone());
                Some(Ok(place))
            }
            Err(Failure::Deadline { .. }) => {
                self.slow.set(true);
                None
            }
            Err(failure) => {
                self.failed(plugin, &failure);
                Some(self.before().ok_or(failure))
            }
        }
    }

    /// The least busy VM beside the worker; another one is made where all are busy.
    fn beside(self: &Rc<Self>, plugin: &Arc<Plugin>) -> Option<Rc<Place>> {
        self.keep(true);
        let (place, count) = {
            let places = self.places.borrow();
            let place = places.iter().min_by_key(|place| place.cell.load())?.clone();
            (place, places.len())
        };
        let width = self
            .worker
            .upgrade()
            .map_or(1, |worker| worker.side.width());
        if place.cell.load() > 0 && count < width && self.trouble().is_none() {
            self.build(plugin, true);
        }
        Some(place)
    }

    /// An instance for one stream. `None` if making one would take too long for the worker.
    fn instance(
        self: &Rc<Self>,
        plugin: &Arc<Plugin>,
        aside: bool,
    ) -> Option<Result<Rc<Place>, Failure>> {
        let Some(worker) = self.worker.upgrade() else {
            return Some(Err(ended()));
        };
        let made = match &plugin.snapshot {
            Some(snapshot) => snapshot.instantiate().map(|vm| {
                let kind = Kind::Instance(snapshot.clone());
                (VmCell::new(&worker, vm, aside, kind), snapshot.root())
            }),
            None if aside || plugin.is_slow_to_start() || self.slow.get() => return None,
            None => plugin.instances.take().and_then(|permit| {
                let kind = Kind::Booted { _permit: permit };
                let cell = VmCell::new(&worker, start(plugin)?, false, kind);
                let root = cell.add_root(self, plugin)?;
                Ok((cell, root))
            }),
        };
        match made {
            Ok((cell, root)) => Some(Ok(Place::new(self, plugin, cell, root))),
            Err(Failure::Deadline { .. }) if plugin.snapshot.is_none() => {
                self.slow.set(true);
                None
            }
            Err(failure) => Some(Err(failure)),
        }
    }

    /// Has a VM born beside the worker, unless that is under way. Whoever waits hears of its end.
    fn build(self: &Rc<Self>, plugin: &Arc<Plugin>, aside: bool) {
        if self.building.replace(true) {
            return;
        }
        let (filter, plugin) = (self.clone(), plugin.clone());
        tokio::task::spawn_local(async move {
            let made = filter.make(&plugin, aside, false).await;
            filter.building.set(false);
            match made {
                Ok((cell, root)) => {
                    let place = Place::new(&filter, &plugin, cell, root);
                    filter.move_in(place);
                }
                Err(failure) => filter.failed(&plugin, &failure),
            }
            filter.born.notify_waiters();
        });
    }

    /// Starts and configures a VM on a birth thread, and brings it here.
    async fn make(
        self: &Rc<Self>,
        plugin: &Arc<Plugin>,
        aside: bool,
        instance: bool,
    ) -> Result<(Rc<VmCell>, RootId), Failure> {
        let worker = self.worker.upgrade().ok_or_else(ended)?;
        let permit = instance.then(|| plugin.instances.take()).transpose()?;
        let (give, born) = tokio::sync::oneshot::channel();
        let its = plugin.clone();
        worker
            .side
            .submit(Work::Birth, &plugin.spec.id.namespace, move || {
                let vm = Vm::start(&its.module, its.vm.clone(), its.shared.clone());
                let born = vm.and_then(|mut vm| {
                    let root = vm.add_root(its.root.clone())?;
                    vm.begin_service();
                    Ok((Box::new(vm), root))
                });
                // Without the worker there is nobody to give it to.
                drop(give.send(born));
            });
        let (vm, root) = born.await.unwrap_or_else(|_| Err(ended()))?;
        let cell = match permit {
            Some(permit) => VmCell::new(&worker, vm, aside, Kind::Booted { _permit: permit }),
            None => worker.filters.resident(&worker, vm, aside),
        };
        cell.arrive(self, plugin, root);
        Ok((cell, root))
    }

    fn move_in(&self, place: Rc<Place>) {
        let mut places = self.places.borrow_mut();
        places.retain(|other| other.is_alive() && other.cell.is_aside() && place.cell.is_aside());
        places.push(place);
        drop(places);
        self.trouble.replace(None);
        self.previous.take();
    }

    /// Keeps the living places of one kind.
    fn keep(&self, aside: bool) {
        let fits = |place: &Rc<Place>| place.is_alive() && place.cell.is_aside() == aside;
        let gone: Vec<_> = {
            let mut places = self.places.borrow_mut();
            places.extract_if(.., |place| !fits(place)).collect()
        };
        // Their end may call into VMs, so nothing is borrowed meanwhile.
        drop(gone);
    }

    /// A place in the version before, where this one has none.
    fn before(&self) -> Option<Rc<Place>> {
        let previous = self.previous.borrow();
        previous.iter().find(|place| place.is_alive()).cloned()
    }

    fn trouble(&self) -> Option<Failure> {
        let trouble = self.trouble.borrow();
        let trouble = trouble.as_ref()?;
        (Instant::now() < trouble.until).then(|| trouble.failure.clone())
    }

    fn failed(&self, plugin: &Plugin, failure: &Failure) {
        plugin.failed(failure);
        let pause = self
            .trouble
            .borrow()
            .as_ref()
            .map_or(FIRST_PAUSE, |trouble| {
                (trouble.pause * 2).min(LONGEST_PAUSE)
            });
        self.trouble.replace(Some(Trouble {
            failure: failure.clone(),
            until: Instant::now() + pause,
            pause,
        }));
    }

    pub(super) fn look(&self, now: Instant) {
        let places = self.places.borrow();
        places.iter().for_each(|place| place.measure());
        drop(places);
        self.idle_seconds
            .set(self.idle_seconds.get().saturating_add(1));
        if let Some(plugin) = self.plugin()
            && plugin.breaker.look(now)
        {
            tracing::info!(filter = %self.spec.id, "back on the workers after ten clean minutes");
        }
    }

    /// Whether its VMs could end without anybody's notice.
    pub(super) fn is_idle(&self) -> bool {
        let places = self.places.borrow();
        !places.is_empty() && places.iter().all(|place| place.cell.is_idle())
    }

    pub(super) fn idle_for(&self) -> u32 {
        self.idle_seconds.get()
    }

    /// Ends its VMs; the next stream makes a new one.
    pub(super) fn move_out(&self) {
        drop(self.places.take());
    }
}

// === impl StreamContext ===

impl StreamContext {
    fn new(
        filter: &Rc<WorkerFilter>,
        place: Rc<Place>,
        id: ContextId,
        signal: &Rc<Signal>,
    ) -> Rc<Self> {
        let context = Rc::new(Self {
            id,
            slot: Slot::new(signal),
            place,
            _filter: filter.clone(),
        });
        let stats = &context.plugin().stats;
        stats.streams.fetch_add(1, Relaxed);
        stats.contexts.fetch_add(1, Relaxed);
        context.cell().remember(&context);
        context
    }

    /// Its VM.
    #[inline]
    pub(crate) fn cell(&self) -> &Rc<VmCell> {
        &self.place.cell
    }

    #[inline]
    pub(crate) fn plugin(&self) -> &Arc<Plugin> {
        &self.place.plugin
    }

    /// `on_done` and `on_delete`.
    pub(crate) async fn delete(&self) {
        let (id, cell) = (self.id, self.cell());
        if let Ok(turn) = cell.turn().await {
            let delete = move |vm: &mut Vm| vm.end_stream(id, false).map(drop);
            // A failure here has been told to all streams of the VM.
            let _ = cell.run(turn, self.plugin(), delete).await;
        }
    }
}

impl Drop for StreamContext {
    fn drop(&mut self) {
        self.cell().forget(self.id);
        self.plugin().stats.contexts.fetch_sub(1, Relaxed);
    }
}

fn ended() -> Failure {
    Failure::Start {
        message: "the worker has ended".into(),
    }
}
