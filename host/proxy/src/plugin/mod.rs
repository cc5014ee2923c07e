//! Filters as a worker runs them: which VM a filter lives in, and what its VM asks of the data plane.
//!
//! ```text
//!   Plugin (compiled, shared by all workers) ── WorkerFilter (root context) ── VmCell (VM) ── Slot (stream context)
//! ```

mod breaker;
mod cell;
mod effects;
mod filter;
mod filters;
mod instances;
mod place;
mod slot;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_model::{FailureCause, FilterId, FilterMode, FilterSpec, Isolation};
use tidegate_wasm::{Cause, Failure, Module, PluginConfig, Shared, Snapshot, VmConfig};
use tokio::time::Instant;

pub use breaker::Breaker;
pub(crate) use cell::{Fallen, VmCell};
pub(crate) use filter::{StreamContext, WorkerFilter};
pub(crate) use filters::Filters;
pub use instances::Instances;
pub(crate) use slot::{Event, Signal, Slot};

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
    /// CPU time that its start and configuration took when it was loaded.
    pub start_cpu: Duration,
    /// Whether it runs before the first request: it has a tick, a queue or a call.
    pub resident: bool,
    /// With `isolation: Request`, what the VM of each request begins from, if there can be one.
    pub snapshot: Option<Snapshot>,
    /// How many requests may have a VM of their own without one.
    pub instances: Instances,
    /// Whether this version has to run beside the workers for what it has done; see [`PluginStats::new_version`].
    pub breaker: Arc<Breaker>,
}

/// Calls that may take longer than this do not run on workers.
const LONG_CALL: Duration = Duration::from_millis(20);

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
    /// Exchanges that it has followed in shadow mode, by what it would have done: see [`SHADOW_KINDS`](crate::SHADOW_KINDS).
    pub shadow: [std::sync::atomic::AtomicU64; 5],
    /// The last failure.
    pub last_error: Mutex<Option<String>>,
    /// Of the version that was published last.
    breaker: Mutex<Arc<Breaker>>,
}

impl PluginStats {
    /// What a new version of the filter is judged by: it begins with a clean record.
    pub fn new_version(&self) -> Arc<Breaker> {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        *breaker = Arc::default();
        breaker.clone()
    }

    /// Whether its calls run beside the workers because of repeated deadlines or traps.
    pub fn is_quarantined(&self) -> bool {
        self.breaker().is_open()
    }

    /// Lets it back on the workers if it has been clean for long enough at that time. `true` if it has just come back. The
    /// workers ask once a second.
    pub fn look(&self, now: Instant) -> bool {
        self.breaker().look(now)
    }

    fn breaker(&self) -> Arc<Breaker> {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        breaker.clone()
    }
}

/// Which VM: see "Key" in the life of a VM.
#[derive(Clone, PartialEq, Eq, Hash)]
struct VmKey {
    namespace: Arc<str>,
    digest: Arc<str>,
    vm: tidegate_model::VmSpec,
    limits: tidegate_model::FilterLimits,
    dedicated: Option<FilterId>,
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

    /// Whether its calls run on side threads: they may be long, or it is quarantined. A shadow never holds a worker up.
    fn is_aside(&self) -> bool {
        self.spec.limits.call_timeout > LONG_CALL
            || self.spec.mode == FilterMode::Shadow
            || self.breaker.is_open()
    }

    /// Whether its start and configuration would hold a worker up for longer than a call may.
    fn is_slow_to_start(&self) -> bool {
        self.start_cpu > self.spec.limits.call_timeout / 2
    }

    fn failed(&self, failure: &Failure) {
        use std::sync::atomic::Ordering::Relaxed;
        match failure.cause() {
            Cause::Trap => self.stats.traps.fetch_add(1, Relaxed),
            Cause::Deadline => self.stats.deadlines.fetch_add(1, Relaxed),
            _ => 0,
        };
        if self.breaker.failed(cause(failure), Instant::now()) {
            tracing::warn!(filter = %self.spec.id, "quarantined: it fails too often, and runs beside the workers until it was clean for ten minutes");
        }
        tracing::warn!(filter = %self.spec.id, cause = cause(failure).as_str(), error = %failure, "filter failed");
        let last = self.stats.last_error.lock();
        let mut last = last.unwrap_or_else(PoisonError::into_inner);
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
