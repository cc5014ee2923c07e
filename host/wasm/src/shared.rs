//! What VMs share: data, queues and metrics, process-wide and never across namespaces.
//!
//! ```text
//!   Shared ── Namespace (64 MiB, 10,000 series, 1 GiB of linear memory) ── Scope (a vm.id, or a Filter's name) ── data, metrics, names of queues
//!      └───── queues by token
//! ```
//!
//! Scopes outlive VMs, so that a rate limiter's counters survive a new version of it. [`Shared::retain`] drops those that no
//! filter uses any more.

mod data;
mod metrics;
mod queue;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data::Data;
use metrics::Metrics;
pub use metrics::{Histogram, MetricSample, MetricValue};
pub(crate) use metrics::{Metric, MetricKind};
use queue::Queues;

use crate::config::VmConfig;
use crate::effect::VmId;
use crate::status::Status;

/// What the filters of one namespace may have together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SharedLimits {
    /// Bytes of shared data and queues.
    pub bytes: usize,
    /// Metric series.
    pub series: usize,
    /// Bytes of linear memory of all VMs.
    pub memory: usize,
}

/// Process-wide state of all filters: give one `Arc` of it to every VM.
#[derive(Default)]
pub struct Shared {
    limits: SharedLimits,
    namespaces: Mutex<HashMap<Arc<str>, Namespace>>,
    pub(crate) queues: Queues,
    next_vm: AtomicU64,
}

/// The scopes of one namespace.
#[derive(Default)]
struct Namespace {
    usage: Arc<Usage>,
    scopes: HashMap<ScopeKey, Arc<Scope>>,
}

/// What a namespace, or a scope, uses of the caps.
#[derive(Default)]
struct Usage {
    bytes: AtomicUsize,
    series: AtomicUsize,
    /// Of namespaces only.
    memory: AtomicUsize,
}

/// Who shares data with whom in a namespace.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum ScopeKey {
    /// All filters with this `vm.id`.
    VmId(Box<str>),
    /// One Filter, its `vm.id` being empty.
    Filter(Arc<str>),
}

/// Data, metrics and queue names of one key.
pub(crate) struct Scope {
    limits: SharedLimits,
    namespace: Arc<Usage>,
    own: Usage,
    key: ScopeKey,
    data: Data,
    metrics: Metrics,
    pub(crate) queue_names: Mutex<HashMap<Box<[u8]>, u32>>,
}

// === impl SharedLimits ===

impl Default for SharedLimits {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            series: 10_000,
            memory: 1 << 30,
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Empty, with the usual limits.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Empty.
    pub fn with_limits(limits: SharedLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            ..Self::default()
        })
    }

    /// Bytes of linear memory that the VMs of a namespace have.
    pub fn memory(&self, namespace: &str) -> usize {
        let namespaces = locked(&self.namespaces);
        namespaces.get(namespace).map_or(0, |namespace| {
            namespace.usage.memory.load(Ordering::Relaxed)
        })
    }

    pub(crate) fn limits(&self) -> &SharedLimits {
        &self.limits
    }

    /// All metrics that filters defined, ordered by namespace, scope and name.
    pub fn metrics(&self) -> Vec<MetricSample> {
        let mut scopes: Vec<(Arc<str>, Arc<Scope>)> = Vec::new();
        for (name, namespace) in locked(&self.namespaces).iter() {
            scopes.extend(
                namespace
                    .scopes
                    .values()
                    .map(|scope| (Arc::clone(name), Arc::clone(scope))),
            );
        }
        let mut samples = Vec::new();
        for (namespace, scope) in scopes {
            scope
                .metrics
                .sample(&namespace, scope.key.as_str(), &mut samples);
        }
        samples.sort_by(|a, b| {
            (&a.namespace, &a.scope, &a.name).cmp(&(&b.namespace, &b.scope, &b.name))
        });
        samples
    }

    /// Drops the scopes for which `keep` says no; it gets the namespace and the `vm.id` or Filter's name. VMs that still run
    /// keep theirs to themselves until they end.
    pub fn retain(&self, mut keep: impl FnMut(&str, &str) -> bool) {
        let mut dropped = Vec::new();
        locked(&self.namespaces).retain(|name, namespace| {
            namespace.scopes.retain(|key, scope| {
                let kept = keep(name, key.as_str());
                if !kept {
                    dropped.push(Arc::clone(scope));
                }
                kept
            });
            !namespace.scopes.is_empty()
        });
        for scope in &dropped {
            self.queues
                .remove_all(locked(&scope.queue_names).values().copied());
        }
    }

    /// Bytes of shared data and queues that a namespace holds.
    pub fn bytes(&self, namespace: &str) -> usize {
        let namespaces = locked(&self.namespaces);
        namespaces
            .get(namespace)
            .map_or(0, |namespace| namespace.usage.bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn next_vm(&self) -> VmId {
        VmId(self.next_vm.fetch_add(1, Ordering::Relaxed))
    }

    /// The scope of a VM, made when it is the first of its key.
    pub(crate) fn scope(&self, vm: &VmConfig) -> Arc<Scope> {
        let mut namespaces = locked(&self.namespaces);
        let namespace = namespaces.entry(Arc::clone(&vm.namespace)).or_default();
        let key = ScopeKey::of(vm);
        let scope = namespace.scopes.entry(key).or_insert_with_key(|key| {
            Arc::new(Scope {
                limits: self.limits,
                namespace: Arc::clone(&namespace.usage),
                own: Usage::default(),
                key: key.clone(),
                data: Data::default(),
                metrics: Metrics::default(),
                queue_names: Mutex::default(),
            })
        });
        Arc::clone(scope)
    }

    /// The scope of another `vm.id` in that namespace.
    pub(crate) fn scope_of(&self, namespace: &str, vm_id: &str) -> Option<Arc<Scope>> {
        locked(&self.namespaces)
            .get(namespace)?
            .scopes
            .get(&ScopeKey::VmId(vm_id.into()))
            .cloned()
    }
}

// === impl Scope ===

impl Scope {
    /// `get_shared_data`
    pub(crate) fn get_data(&self, key: &[u8]) -> Option<(bytes::Bytes, u32)> {
        self.data.get(key)
    }

    /// `set_shared_data`; a `cas` of 0 always matches.
    pub(crate) fn set_data(&self, key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        self.data
            .set(key, value, cas, |old, new| self.resize(old, new))
    }

    /// `define_metric`
    pub(crate) fn define_metric(
        &self,
        kind: MetricKind,
        name: &str,
    ) -> Result<Arc<Metric>, Status> {
        self.metrics.define(kind, name, || {
            take(&self.namespace.series, 1, self.limits.series)?;
            self.own.series.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Takes linear memory for a VM, if the namespace has so much left.
    pub(crate) fn take_memory(&self, bytes: usize) -> bool {
        take(&self.namespace.memory, bytes, self.limits.memory).is_ok()
    }

    /// Gives back what was taken.
    pub(crate) fn give_memory(&self, bytes: usize) {
        self.namespace.memory.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether both are of one namespace.
    pub(crate) fn is_near(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.namespace, &other.namespace)
    }

    /// Accounts for `old` bytes becoming `new` ones.
    pub(crate) fn resize(&self, old: usize, new: usize) -> Result<(), Status> {
        if new > old {
            take(&self.namespace.bytes, new - old, self.limits.bytes)?;
            self.own.bytes.fetch_add(new - old, Ordering::Relaxed);
        } else {
            self.namespace.bytes.fetch_sub(old - new, Ordering::Relaxed);
            self.own.bytes.fetch_sub(old - new, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.namespace
            .bytes
            .fetch_sub(*self.own.bytes.get_mut(), Ordering::Relaxed);
        self.namespace
            .series
            .fetch_sub(*self.own.series.get_mut(), Ordering::Relaxed);
    }
}

// === impl ScopeKey ===

impl ScopeKey {
    fn of(vm: &VmConfig) -> Self {
        if vm.vm_id.is_empty() {
            Self::Filter(Arc::clone(&vm.scope))
        } else {
            Self::VmId(vm.vm_id.as_str().into())
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::VmId(id) => id,
            Self::Filter(name) => name,
        }
    }
}

/// A lock whose holder panicked still guards consistent data: every change under it is a single step.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds to a counter unless that passes its cap.
fn take(used: &AtomicUsize, more: usize, cap: usize) -> Result<(), Status> {
    let fits = |used: usize| used.checked_add(more).filter(|sum| *sum <= cap);
    match used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
        Ok(_) => Ok(()),
        Err(_) => Err(Status::InternalFailure),
    }
}

#[cfg(test)]
mod tests;
