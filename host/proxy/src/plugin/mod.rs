//! Filters as a worker runs them: which VM a filter lives in, and what its VM asks of the data plane.
//!
//! ```text
//!   Plugin (compiled, shared by all workers) ── WorkerFilter (root context) ── VmCell (VM) ── Slot (stream context)
//! ```

mod cell;
mod effects;
mod filters;
mod slot;

use std::sync::Arc;

use tidegate_model::{FailureCause, FilterId, FilterSpec, Isolation};
use tidegate_wasm::{Cause, Failure, Module, PluginConfig, Shared, VmConfig};

pub(crate) use cell::VmCell;
pub(crate) use filters::{Filters, StreamContext, WorkerFilter};
pub(crate) use slot::{Event, Signal};

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
