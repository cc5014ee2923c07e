//! A VM on its worker, and the streams that wait for it.
//!
//! ```text
//!   ordinary    enter: a plain call on the worker
//!   aside       turn ─► run: the VM moves to a side thread and comes back; who needs it meanwhile waits for its turn
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tidegate_model::FailureCause;
use tidegate_wasm::{ContextId, Effect, Failure, RootId, Snapshot, Vm};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::filter::{StreamContext, WorkerFilter};
use super::instances::Permit;
use super::slot::Event;
use super::{Plugin, cause};
use crate::budget::Budget;
use crate::grpc;
use crate::side::{SideThreads, Work};
use crate::wake::Residence;
use crate::worker::Worker;

/// A VM and the streams that wait for it.
pub(crate) struct VmCell {
    pub(super) worker: Weak<Worker>,
    /// `None` while a side thread has it.
    vm: RefCell<Option<Box<Vm>>>,
    /// Where its calls run, if that is not the worker.
    aside: Option<Aside>,
    /// Ordered by age, which costs less than a hash for the few dozens that there are.
    streams: RefCell<BTreeMap<ContextId, Weak<StreamContext>>>,
    pub(super) roots: RefCell<HashMap<RootId, Root>>,
    dead: Cell<Option<FailureCause>>,
    pub(crate) grpc: grpc::Calls,
    /// For what calls hold on this side.
    pub(crate) budget: Rc<Budget>,
    kind: Kind,
}

/// How long a VM is there.
pub(super) enum Kind {
    /// For as long as a filter needs it; others may call it.
    Resident { _residence: Residence },
    /// For one stream; then the snapshot that it came from has it back.
    Instance(Snapshot),
    /// For one stream, and started for it.
    Booted { _permit: Permit },
}

/// What it takes to call a VM on a side thread.
struct Aside {
    threads: Arc<SideThreads>,
    turn: Arc<Semaphore>,
    waiting: Cell<usize>,
    /// How many may wait.
    most: usize,
}

/// The VM is on its worker, and nobody else calls it while this is held.
pub(crate) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

/// The VM fell before the caller's turn came.
pub(crate) struct Fallen;

/// Whose root context it is, and its tick.
pub(super) type Root = (Weak<WorkerFilter>, Option<AbortHandle>);

/// What a call has left behind.
struct After {
    effects: Vec<Effect>,
    dead: bool,
    used: Used,
}

/// What a VM has used.
#[derive(Clone, Copy, Default)]
struct Used {
    calls: u64,
    cpu: Duration,
}

// === impl VmCell ===

impl VmCell {
    pub(super) fn new(
        worker: &Rc<Worker>,
        vm: impl Into<Box<Vm>>,
        aside: bool,
        kind: Kind,
    ) -> Rc<Self> {
        let vm = vm.into();
        Rc::new(Self {
            worker: Rc::downgrade(worker),
            vm: RefCell::new(Some(vm)),
            aside: aside.then(|| Aside {
                threads: worker.side.clone(),
                turn: Arc::new(Semaphore::new(1)),
                waiting: Cell::new(0),
                most: worker.config.limits.waiting_calls,
            }),
            streams: RefCell::default(),
            roots: RefCell::default(),
            dead: Cell::new(None),
            grpc: grpc::Calls::default(),
            budget: Rc::default(),
            kind,
        })
    }

    /// Calls into an ordinary VM, then carries out what it asked for. A failure takes the VM and all its streams along.
    pub(crate) fn enter<T>(
        self: &Rc<Self>,
        plugin: &Arc<Plugin>,
        call: impl FnOnce(&mut Vm) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.enter_then(plugin, call, |_| ())
    }

    /// As [`enter`](Self::enter); `then` comes before anything that the call asked for.
    pub(super) fn enter_then<T>(
        self: &Rc<Self>,
        plugin: &Arc<Plugin>,
        call: impl FnOnce(&mut Vm) -> Result<T, Failure>,
        then: impl FnOnce(&T),
    ) -> Result<T, Failure> {
        let (result, after) = match self.vm.borrow_mut().as_deref_mut() {
            Some(vm) => through(vm, call),
            None => return Err(lost()),
        };
        if let Ok(value) = &result {
            then(value);
        }
        self.settle(plugin, after, None, result.as_ref().err());
        result
    }

    /// Waits until the VM is on its worker and it is the caller's turn. Ordinary VMs always are.
    pub(crate) async fn turn(&self) -> Result<Turn, Fallen> {
        let permit = match &self.aside {
            None => None,
            Some(aside) => {
                let _waiting = Waiting::begin(&aside.waiting);
                // Never closed.
                aside.turn.clone().acquire_owned().await.ok()
            }
        };
        if self.is_dead() {
            return Err(Fallen);
        }
        Ok(Turn { _permit: permit })
    }

    /// Calls into the VM wherever its calls run. Whoever waits here may stop waiting: the VM comes back all the same.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Rc<Self>,
        turn: Turn,
        plugin: &Arc<Plugin>,
        call: impl FnOnce(&mut Vm) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.run_of(turn, plugin, None, call).await
    }

    /// As [`run`](Self::run), of a stream context: the VM's fall is that one's own, and not what another has done to it.
    pub(crate) async fn run_of<T: Send + 'static>(
        self: &Rc<Self>,
        turn: Turn,
        plugin: &Arc<Plugin>,
        caller: Option<ContextId>,
        call: impl FnOnce(&mut Vm) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let Some(aside) = &self.aside else {
            return self.enter(plugin, call);
        };
        let Some(mut vm) = self.vm.borrow_mut().take() else {
            return Err(lost());
        };
        let (give, back) = tokio::sync::oneshot::channel();
        let job = move || {
            let (result, after) = through(&mut vm, call);
            // Without the worker there is nobody to give it to.
            drop(give.send((vm, result, after)));
        };
        aside
            .threads
            .submit(Work::Call, &plugin.spec.id.namespace, job);
        let (cell, plugin) = (self.clone(), plugin.clone());
        let returned = tokio::task::spawn_local(async move {
            let result = match back.await {
                Ok((vm, result, after)) => {
                    cell.vm.replace(Some(vm));
                    cell.settle(&plugin, after, caller, result.as_ref().err());
                    result
                }
                Err(_) => {
                    plugin.failed(&lost());
                    cell.fall(caller, &lost());
                    Err(lost())
                }
            };
            drop(turn);
            result
        });
        returned.await.unwrap_or_else(|_| Err(lost()))
    }

    /// [`turn`](Self::turn) and [`run`](Self::run) in one.
    pub(crate) async fn call<T: Send + 'static>(
        self: &Rc<Self>,
        plugin: &Arc<Plugin>,
        call: impl FnOnce(&mut Vm) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        match self.turn().await {
            Ok(turn) => self.run(turn, plugin, call).await,
            Err(Fallen) => Err(lost()),
        }
    }

    /// Runs `look` on the VM without entering the guest; `None` while it is away.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Vm) -> T) -> Option<T> {
        self.vm.try_borrow_mut().ok()?.as_deref_mut().map(look)
    }

    /// Whether its calls run on side threads.
    #[inline]
    pub(crate) fn is_aside(&self) -> bool {
        self.aside.is_some()
    }

    /// Whether a side thread has it.
    #[inline]
    pub(crate) fn is_away(&self) -> bool {
        self.aside.is_some() && self.vm.borrow().is_none()
    }

    /// Calls that wait or run.
    pub(super) fn load(&self) -> usize {
        self.aside
            .as_ref()
            .map_or(0, |aside| aside.waiting.get() + usize::from(self.is_away()))
    }

    /// Whether too many wait for it.
    pub(crate) fn is_overrun(&self) -> Option<Failure> {
        let limit = self.aside.as_ref()?.most;
        (self.load() > limit).then_some(Failure::Contexts { limit })
    }

    pub(super) fn is_instance(&self) -> bool {
        matches!(self.kind, Kind::Instance(_) | Kind::Booted { .. })
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.get().is_some()
    }

    /// What it died of.
    pub(crate) fn fell_of(&self) -> Option<FailureCause> {
        self.dead.get()
    }

    /// Whether nothing but requests makes it do anything, and there are none.
    pub(super) fn is_idle(&self) -> bool {
        let quiet = self.streams.borrow().is_empty()
            && self.load() == 0
            && self.roots.borrow().values().all(|(_, tick)| tick.is_none());
        quiet && self.with(|vm| !vm.is_awaited()).unwrap_or(false)
    }

    /// Carries out what a VM that was born elsewhere asked for in its configuration.
    pub(super) fn arrive(
        self: &Rc<Self>,
        filter: &Rc<WorkerFilter>,
        plugin: &Arc<Plugin>,
        root: RootId,
    ) {
        self.settle_root(filter, root);
        let Some(after) = self.with(|vm| After::of(vm, Used::default())) else {
            return;
        };
        self.settle(plugin, after, None, None);
    }

    fn settle(
        self: &Rc<Self>,
        plugin: &Arc<Plugin>,
        after: After,
        caller: Option<ContextId>,
        failure: Option<&Failure>,
    ) {
        let stats = &plugin.stats;
        let Used { calls, cpu } = after.used;
        stats.calls.fetch_add(calls, Relaxed);
        if !cpu.is_zero() {
            let nanoseconds = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
            stats.cpu_nanoseconds.fetch_add(nanoseconds, Relaxed);
        }
        for effect in after.effects {
            self.dispatch(effect);
        }
        if let Some(failure) = failure
            && after.dead
            && !self.is_dead()
        {
            plugin.failed(failure);
            self.fall(caller, failure);
        }
    }

    fn fall(&self, caller: Option<ContextId>, failure: &Failure) {
        let cause = cause(failure);
        self.dead.set(Some(cause));
        for (_, tick) in self.roots.borrow_mut().drain().map(|(_, root)| root) {
            tick.inspect(AbortHandle::abort);
        }
        for (id, context) in self.streams.take() {
            if let Some(context) = context.upgrade() {
                context.slot.push(if caller == Some(id) {
                    Event::Failed(failure.clone())
                } else {
                    Event::Dead(cause)
                });
            }
        }
        self.grpc.clear();
    }

    /// A stream context that is told what the VM says about it.
    pub(super) fn remember(&self, context: &Rc<StreamContext>) {
        let known = Rc::downgrade(context);
        self.streams.borrow_mut().insert(context.id, known);
    }

    pub(super) fn tell(&self, context: ContextId, event: Event) {
        let known = self.streams.borrow().get(&context).and_then(Weak::upgrade);
        if let Some(context) = known {
            context.slot.push(event);
        }
    }

    /// Ends a stream context: on_log, on_done and on_delete were or are called by the stream.
    pub(crate) fn forget(&self, id: ContextId) {
        self.streams.borrow_mut().remove(&id);
    }
}

impl Drop for VmCell {
    fn drop(&mut self) {
        if let Kind::Instance(snapshot) = &self.kind
            && let Some(vm) = self.vm.get_mut().take()
        {
            snapshot.recycle(*vm);
        }
    }
}

/// Counts a caller as long as it waits.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn begin(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn through<T>(
    vm: &mut Vm,
    call: impl FnOnce(&mut Vm) -> Result<T, Failure>,
) -> (Result<T, Failure>, After) {
    let before = Used::by(vm);
    let result = call(vm);
    (result, After::of(vm, before))
}

impl After {
    fn of(vm: &mut Vm, before: Used) -> Self {
        Self {
            // Most calls ask for nothing.
            effects: if vm.has_effects() {
                vm.effects().collect()
            } else {
                Vec::new()
            },
            dead: vm.is_dead(),
            used: Used::by(vm).since(before),
        }
    }
}

impl Used {
    #[inline]
    fn by(vm: &Vm) -> Self {
        Self {
            calls: vm.calls(),
            cpu: vm.cpu(),
        }
    }

    #[inline]
    fn since(self, before: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(before.calls),
            cpu: self.cpu.saturating_sub(before.cpu),
        }
    }
}

/// The VM is gone without a failure of its own: it fell with another stream, or with a side thread.
fn lost() -> Failure {
    Failure::Trap {
        message: "its VM fell with another request".into(),
    }
}
