//! What VMs share: data, queues and metrics, process-wide and never across namespaces.
//!
//! ```text
//!   Shared ── Namespace (64 MiB, 10,000 series, 1 GiB of linear memory) ── Scope (a vm.id, or a Filter's name) ── data, metrics, names of queues
//!      └───── queues by token
//! ```
//!
//! Scopes outlive VMs, so that a rate limiter's counters survive a new version of it. [`Shared::retain`] drops those that no
//! filter uses any more. What is only tried out gets a [copy to throw away](Shared::to_throw_away).

mod data;
mod metrics;
mod queue;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

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
    /// Of a copy to throw away: what it shows where nothing was written since.
    original: Option<Arc<Self>>,
    /// What guests read as `xds.node.id`.
    node: OnceLock<Box<str>>,
    /// The wall clock that guests see, in nanoseconds since 1970; 0 where it is the system's.
    clock: AtomicU64,
}

/// The scopes of one namespace.
#[derive(Default)]
struct Namespace {
    usage: Arc<Usage>,
    /// Linear memory of its VMs. Theirs that are tried out counts, too.
    memory: Arc<AtomicUsize>,
    scopes: HashMap<ScopeKey, Arc<Scope>>,
}

/// What a namespace, or a scope, uses of the caps.
#[derive(Default)]
struct Usage {
    bytes: AtomicUsize,
    series: AtomicUsize,
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
    memory: Arc<AtomicUsize>,
    own: Usage,
    key: ScopeKey,
    /// In a copy to throw away: the real one.
    original: Option<Arc<Self>>,
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

    /// What VMs get that are only tried out: they find what is here, and what they write goes with them. Linear memory is
    /// real, and counts for the namespace.
    pub fn to_throw_away(self: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self {
            limits: self.limits,
            original: Some(Arc::clone(self)),
            ..Self::default()
        })
    }

    /// Says what this replica is called: `xds.node.id`. The first word counts; `tidegate` where none was said.
    pub fn name_node(&self, name: &str) {
        self.node.get_or_init(|| name.into());
    }

    pub(crate) fn node(&self) -> &str {
        match (&self.original, self.node.get()) {
            (_, Some(name)) => name,
            (Some(original), None) => original.node(),
            (None, None) => "tidegate",
        }
    }

    /// Stops the wall clock that guests see at this time since 1970, or gives them the system's again. For runs of a filter's
    /// cases, which say what time it is.
    pub fn rule_clock(&self, time: Option<Duration>) {
        let nanoseconds = time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.clock.store(nanoseconds, Ordering::Relaxed);
    }

    /// Nanoseconds since 1970, as guests see them.
    pub(crate) fn now(&self) -> u64 {
        // What is tried out sees the same time.
        let original = self.original.as_deref().unwrap_or(self);
        let ruled = original.clock.load(Ordering::Relaxed);
        if ruled != 0 {
            return ruled;
        }
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Bytes of linear memory that the VMs of a namespace have.
    pub fn memory(&self, namespace: &str) -> usize {
        let namespaces = locked(&self.namespaces);
        namespaces
            .get(namespace)
            .map_or(0, |namespace| namespace.memory.load(Ordering::Relaxed))
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
        self.made(&vm.namespace, ScopeKey::of(vm))
    }

    /// The scope of another `vm.id` in that namespace.
    pub(crate) fn scope_of(&self, namespace: &Arc<str>, vm_id: &str) -> Option<Arc<Scope>> {
        let key = ScopeKey::VmId(vm_id.into());
        if let Some(scope) = self.known(namespace, &key) {
            return Some(scope);
        }
        self.original.as_ref()?.known(namespace, &key)?;
        Some(self.made(namespace, key))
    }

    /// The queue of that name, if somebody has registered it.
    pub(crate) fn resolve_queue(&self, scope: &Arc<Scope>, name: &[u8]) -> Option<u32> {
        let token = locked(&scope.queue_names).get(name).copied();
        if token.is_some() {
            return token;
        }
        let original = scope.original.as_ref()?;
        let is_there = locked(&original.queue_names).contains_key(name);
        // In a copy to throw away it is another one, empty and without a consumer.
        is_there
            .then(|| self.queues.register(scope, name, None).ok())
            .flatten()
    }

    fn known(&self, namespace: &str, key: &ScopeKey) -> Option<Arc<Scope>> {
        let namespaces = locked(&self.namespaces);
        namespaces.get(namespace)?.scopes.get(key).cloned()
    }

    fn made(&self, name: &Arc<str>, key: ScopeKey) -> Arc<Scope> {
        let original = self.original.as_ref();
        let (memory, beneath) = match original {
            Some(original) => (Some(original.memory_of(name)), original.known(name, &key)),
            None => (None, None),
        };
        let mut namespaces = locked(&self.namespaces);
        let namespace = namespaces.entry(Arc::clone(name)).or_default();
        if let Some(memory) = memory {
            namespace.memory = memory;
        }
        let scope = namespace.scopes.entry(key).or_insert_with_key(|key| {
            Arc::new(Scope {
                limits: self.limits,
                namespace: Arc::clone(&namespace.usage),
                memory: Arc::clone(&namespace.memory),
                own: Usage::default(),
                key: key.clone(),
                original: beneath,
                data: Data::default(),
                metrics: Metrics::default(),
                queue_names: Mutex::default(),
            })
        });
        Arc::clone(scope)
    }

    /// Where the linear memory of a namespace is counted.
    fn memory_of(&self, namespace: &Arc<str>) -> Arc<AtomicUsize> {
        let mut namespaces = locked(&self.namespaces);
        let namespace = namespaces.entry(Arc::clone(namespace)).or_default();
        Arc::clone(&namespace.memory)
    }
}

// === impl Scope ===

impl Scope {
    /// `get_shared_data`
    pub(crate) fn get_data(&self, key: &[u8]) -> Option<(bytes::Bytes, u32)> {
        let original = || self.original.as_ref()?.get_data(key);
        self.data.get(key).or_else(original)
    }

    /// `set_shared_data`; a `cas` of 0 always matches.
    pub(crate) fn set_data(&self, key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        let resize = |old, new| self.resize(old, new);
        if let Some(original) = &self.original
            && let Some((value, cas)) = original.get_data(key)
        {
            self.data.adopt(key, value, cas, resize)?;
        }
        self.data.set(key, value, cas, resize)
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
        take(&self.memory, bytes, self.limits.memory).is_ok()
    }

    /// Gives back what was taken.
    pub(crate) fn give_memory(&self, bytes: usize) {
        self.memory.fetch_sub(bytes, Ordering::Relaxed);
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
