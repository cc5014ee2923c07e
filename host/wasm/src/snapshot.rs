//! `isolation: Request`: a filter started and configured once, and a VM in that state for each request.
//!
//! ```text
//!   take:         boot VM ─ start, configure ─► memory and globals ─► written into the module ─► compiled again
//!   instantiate:  idle instance, else a new one            (a root context, configured; no stream yet)
//!   recycle:      memory, globals and the host's side back to the snapshot ─► idle
//! ```
//!
//! A core module's instance has no state but memory, mutable globals, tables and dropped segments. [`Snapshot::take`] refuses
//! modules whose code changes tables or segments, so that the first two are all there is; both are restored in full, whatever
//! the guest did (see [`pages`](crate::pages)). An instance that trapped, whose memory grew, or with calls under way is not used again.
//!
//! What the filter does in `proxy_on_configure` happens once, so random numbers drawn then, a hash map's seed for example, are
//! the same in each request. Ticks and queues belong to a VM beside the snapshot: instances have neither.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::code::{CodeSlot, digest_of};
use crate::config::{PluginConfig, VmConfig};
use crate::effect::RootId;
use crate::failure::{Failure, LoadError};
use crate::host::Template;
use crate::module::Module;
use crate::module::rewrite::{self, Number, State};
use crate::pages::Restore;
use crate::shared::{Shared, locked};
use crate::vm::Vm;

/// Requests from which the pages that they touch are learnt.
const LESSONS: usize = 8;

/// A configured filter that can be had any number of times. Cheap to clone; instances of one may be on any number of threads.
#[derive(Clone)]
pub struct Snapshot {
    inner: Arc<Inner>,
}

/// How many instances of a snapshot there may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pool {
    /// In use at the same time.
    pub in_flight: usize,
    /// Kept for the next request.
    pub idle: usize,
}

/// No snapshot can be taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The filter runs, but its state cannot be copied: boot a VM for each request instead.
    #[error("a snapshot of this filter cannot be taken: {0}; each request boots a VM of its own")]
    Unsuitable(String),
    /// The filter does not start, or refuses its configuration.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The module with the snapshot in it does not compile.
    #[error("the filter's snapshot cannot be compiled: {0}")]
    Compile(LoadError),
}

struct Inner {
    module: Module,
    template: Template,
    globals: Vec<(u32, Number)>,
    pool: Pool,
    in_flight: AtomicUsize,
    idle: Mutex<Vec<Vm>>,
    /// Whether this system restores memory as it should: tried out once.
    recycles: AtomicBool,
    /// Restores without knowing which pages are hot.
    plain: Restore,
    /// Restores knowing it.
    learnt: OnceLock<Restore>,
    lessons: Mutex<Lessons>,
}

/// Pages that the first requests touched.
#[derive(Default)]
struct Lessons {
    count: usize,
    /// How many touched each.
    pages: BTreeMap<usize, usize>,
}

/// A place among the instances in flight, given back when it is dropped.
pub(crate) struct Permit(Arc<Inner>);

// === impl Pool ===

impl Default for Pool {
    fn default() -> Self {
        Self {
            in_flight: 1024,
            idle: 64,
        }
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// Starts and configures the filter in a VM that is thrown away, and keeps what became of it. `wasm` are the bytes that
    /// `module` came from. Compiles: for a thread that may take its time.
    pub fn take(
        module: &Module,
        wasm: &[u8],
        vm: Arc<VmConfig>,
        plugin: Arc<PluginConfig>,
        shared: Arc<Shared>,
        pool: Pool,
    ) -> Result<Self, SnapshotError> {
        Self::take_keeping(module, wasm, vm, plugin, shared, pool, None)
    }

    /// As [`take`](Self::take). What is compiled is kept in `slot`, and not compiled where that has it already: where the filter
    /// came to the same state as the last time. Random numbers or times in that state make it another one.
    pub fn take_keeping(
        module: &Module,
        wasm: &[u8],
        vm: Arc<VmConfig>,
        plugin: Arc<PluginConfig>,
        shared: Arc<Shared>,
        pool: Pool,
        slot: Option<&dyn CodeSlot>,
    ) -> Result<Self, SnapshotError> {
        let unsuitable = |reason: String| SnapshotError::Unsuitable(reason);
        if module.is_component() {
            return Err(unsuitable("it is a component".into()));
        }
        if digest_of(wasm) != *module.digest() {
            return Err(unsuitable("the bytes are those of another module".into()));
        }
        let survey = rewrite::survey(wasm).map_err(unsuitable)?;
        let mut boot = Vm::start_passing(module, vm, shared)?;
        let root = boot.add_root(plugin)?;
        let globals = boot
            .globals(&survey.globals)
            .map_err(|index| unsuitable(format!("its global {index} cannot be read")))?;
        let template = boot
            .template(root)
            .ok_or_else(|| unsuitable("it left while it was configured".into()))?;
        let state = State {
            memory: boot.memory(),
            globals: &globals,
        };
        let code = rewrite::starting_with(&rewrite::with_state_exported(wasm), &state)
            .map_err(unsuitable)?;
        let snapshot = Self {
            inner: Arc::new(Inner {
                module: module
                    .variant(&code, slot)
                    .map_err(SnapshotError::Compile)?,
                template,
                globals,
                pool,
                in_flight: AtomicUsize::new(0),
                idle: Mutex::default(),
                recycles: AtomicBool::new(false),
                plain: Restore::new(boot.memory(), &[]),
                learnt: OnceLock::new(),
                lessons: Mutex::default(),
            }),
        };
        snapshot
            .inner
            .try_out(boot.memory())
            .map_err(|failure| match failure {
                Some(failure) => SnapshotError::Failed(failure),
                None => {
                    unsuitable("an instance of it differs from the VM that was configured".into())
                }
            })?;
        Ok(snapshot)
    }

    /// A VM whose [root](Self::root) is configured. It may be moved to another thread. Give it to [`recycle`](Self::recycle)
    /// when its stream has been deleted; dropping it is correct too, only slower.
    pub fn instantiate(&self) -> Result<Vm, Failure> {
        let permit = self.permit()?;
        let idle = locked(&self.inner.idle).pop();
        let mut vm = match idle {
            Some(vm) => vm,
            None => self.inner.fresh()?,
        };
        vm.set_permit(Some(permit));
        Ok(vm)
    }

    /// The root context of each instance.
    pub fn root(&self) -> RootId {
        RootId(self.inner.template.root_id)
    }

    /// Takes an instance back: puts it into the snapshot's state for the next request, or drops it. Some microseconds; after
    /// the response rather than before.
    pub fn recycle(&self, mut vm: Vm) {
        let own = vm
            .permit()
            .is_some_and(|permit| Arc::ptr_eq(&permit.0, &self.inner));
        if !own || vm.is_dead() || vm.pending_calls() > 0 {
            return;
        }
        let inner = &self.inner;
        if !inner.recycles.load(Ordering::Relaxed) || !inner.restore(&mut vm) {
            return;
        }
        vm.hand_out();
        vm.set_permit(None);
        let mut idle = locked(&inner.idle);
        if idle.len() < inner.pool.idle {
            idle.push(vm);
        }
    }

    /// The module of the instances: the filter's, with the snapshot in it.
    pub fn module(&self) -> &Module {
        &self.inner.module
    }

    /// The plugin that it is a snapshot of.
    pub fn plugin(&self) -> &Arc<PluginConfig> {
        &self.inner.template.root.plugin
    }

    /// Instances that have not been recycled or dropped.
    pub fn in_flight(&self) -> usize {
        self.inner.in_flight.load(Ordering::Relaxed)
    }

    /// Instances that wait for a request.
    pub fn idle(&self) -> usize {
        locked(&self.inner.idle).len()
    }

    fn permit(&self) -> Result<Permit, Failure> {
        let limit = self.inner.pool.in_flight;
        let more = |used: usize| (used < limit).then_some(used + 1);
        self.inner
            .in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_| Failure::Instances { limit })?;
        Ok(Permit(Arc::clone(&self.inner)))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("root", &self.root())
            .field("in_flight", &self.in_flight())
            .field("idle", &self.idle())
            .finish()
    }
}

// === impl Inner ===

impl Inner {
    fn fresh(&self) -> Result<Vm, Failure> {
        Vm::of_snapshot(&self.module, &self.template, &self.globals)
    }

    fn restore(&self, vm: &mut Vm) -> bool {
        if let Some(learnt) = self.learnt.get() {
            return vm.restore(&self.template, learnt);
        }
        let touched = vm.touched_pages();
        if !vm.restore(&self.template, &self.plain) {
            return false;
        }
        let mut lessons = locked(&self.lessons);
        for page in touched {
            *lessons.pages.entry(page).or_default() += 1;
        }
        lessons.count += 1;
        if lessons.count >= LESSONS {
            let often = |(page, count): (&usize, &usize)| (count * 2 >= LESSONS).then_some(*page);
            let pages: Vec<usize> = lessons.pages.iter().filter_map(often).collect();
            // Just restored, so it is the snapshot.
            let _ = self.learnt.set(Restore::new(vm.memory(), &pages));
        }
        true
    }

    /// Compares an instance with the original, and finds out whether the system restores memory: by spoiling all of it.
    fn try_out(&self, original: &[u8]) -> Result<(), Option<Failure>> {
        let mut vm = self.fresh().map_err(Some)?;
        let indices: Vec<u32> = self.globals.iter().map(|(index, _)| *index).collect();
        let same = |vm: &mut Vm| {
            vm.memory() == original && vm.globals(&indices).as_ref() == Ok(&self.globals)
        };
        if !same(&mut vm) {
            return Err(None);
        }
        vm.memory_mut().fill(0xa5);
        // Once more at the end, since looking at a page touches it.
        if vm.restore(&self.template, &self.plain)
            && same(&mut vm)
            && vm.restore(&self.template, &self.plain)
        {
            self.recycles.store(true, Ordering::Relaxed);
            vm.hand_out();
            locked(&self.idle).push(vm);
        } else {
            tracing::warn!(
                "this system does not restore memory with MADV_DONTNEED: filters with isolation Request are slower"
            );
        }
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
