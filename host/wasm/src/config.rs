//! What a VM and a plugin in it are configured with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::BitOr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_model::Secrets;

/// Bounds on one VM. Times are CPU time of the thread, checked every few milliseconds.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Limits {
    /// For one callback of a running VM.
    pub call_timeout: Duration,
    /// For instantiation and start, and for each callback until the VM has its first stream.
    pub start_timeout: Duration,
    /// Linear memory, in bytes.
    pub memory: usize,
    /// Contexts alive at the same time, roots included.
    pub contexts: usize,
    /// HTTP and gRPC calls pending at the same time.
    pub calls: usize,
}

/// What decides whether two filters may share a VM, apart from the module itself.
#[derive(Clone, Debug)]
pub struct VmConfig {
    /// Kubernetes namespace of the filter: nothing but compiled code crosses it.
    pub namespace: Arc<str>,
    /// `vm.id`, as the guest reads it in `plugin_vm_id`.
    pub vm_id: String,
    /// Key of shared data, queues and metrics when `vm_id` is empty: the Filter's name.
    pub scope: Arc<str>,
    /// `vm.config`, given to `proxy_on_vm_start`.
    pub vm_config: Bytes,
    /// What WASI's `environ_get` shows.
    pub env: BTreeMap<String, String>,
    /// Bounds.
    pub limits: Limits,
}

/// One filter's configuration: it gets a root context of its own in its VM.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// Kubernetes namespace of the filter.
    pub namespace: Arc<str>,
    /// Name of the filter, `plugin_name` to the guest.
    pub name: Arc<str>,
    /// Selects the root context's factory in C++ and AssemblyScript guests.
    pub root_id: String,
    /// Given to `proxy_on_configure`, byte for byte.
    pub config: Bytes,
    /// What of it no message may quote.
    pub secrets: Secrets,
    /// Groups of hostcalls it may use.
    pub capabilities: Capabilities,
    /// Names it may pass to HTTP and gRPC calls.
    pub clusters: BTreeSet<String>,
    /// Envoy's `allow_on_headers_stop_iteration`: a pause in a headers callback lets body callbacks go on.
    pub headers_wait_for_body: bool,
    /// Largest body, in bytes, that it may make by writing to a body buffer.
    pub buffered_body: usize,
    /// Whether `proxy_get_property` knows the names that Envoy had at the top level before 1.24 (`cluster_name`, `route_name`,
    /// `node`, `listener_direction`, `*_metadata`), which it has under `xds` only today. Older filters read them.
    pub old_property_names: bool,
}

/// What guests have asked for without their Filters granting it: such calls are answered with an error.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ungranted {
    /// Groups of hostcalls.
    pub capabilities: Capabilities,
    /// Names of clusters; the first few.
    pub clusters: BTreeSet<String>,
}

/// A set of hostcall groups. HTTP and gRPC calls are not among them: they follow from [`PluginConfig::clusters`].
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Capabilities(u8);

// === impl Limits ===

impl Default for Limits {
    /// The defaults of `Filter.spec.limits`.
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_millis(10),
            start_timeout: Duration::from_secs(5),
            memory: 64 << 20,
            contexts: 10_000,
            calls: 1_000,
        }
    }
}

// === impl Ungranted ===

impl Ungranted {
    /// Whether everything that was asked for was granted.
    pub fn is_empty(&self) -> bool {
        self.capabilities == Capabilities::NONE && self.clusters.is_empty()
    }
}

impl Default for Ungranted {
    fn default() -> Self {
        Self {
            capabilities: Capabilities::NONE,
            clusters: BTreeSet::new(),
        }
    }
}

// === impl Capabilities ===

impl Capabilities {
    /// None at all.
    pub const NONE: Self = Self(0);
    /// `proxy_get_shared_data`, `proxy_set_shared_data`
    pub const SHARED_DATA: Self = Self(1);
    /// `proxy_*_shared_queue`
    pub const SHARED_QUEUES: Self = Self(1 << 1);
    /// `proxy_*_metric`
    pub const METRICS: Self = Self(1 << 2);
    /// `proxy_set_tick_period_milliseconds`
    pub const TIMERS: Self = Self(1 << 3);
    /// `proxy_get_property`, `proxy_set_property`
    pub const PROPERTIES: Self = Self(1 << 4);
    /// `proxy_call_foreign_function`
    pub const FOREIGN_FUNCTIONS: Self = Self(1 << 5);
    /// Everything: the default.
    pub const ALL: Self = Self(0b11_1111);

    const NAMES: [(&'static str, Self); 6] = [
        ("shared-data", Self::SHARED_DATA),
        ("shared-queues", Self::SHARED_QUEUES),
        ("metrics", Self::METRICS),
        ("timers", Self::TIMERS),
        ("properties", Self::PROPERTIES),
        ("foreign-functions", Self::FOREIGN_FUNCTIONS),
    ];

    /// The group of that name in `Filter.spec.capabilities`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, capability)| *capability)
    }

    /// Names of all groups, in the order of the documentation.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().map(|(name, _)| *name)
    }

    /// Names of the groups in here.
    pub fn iter(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(_, one)| self.contains(*one))
            .map(|(name, _)| name)
    }

    /// Whether all of `other` is in here.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Capabilities;

    #[test]
    fn names_and_bits_agree() {
        let mut all = Capabilities::NONE;
        for name in Capabilities::names() {
            all = all | Capabilities::from_name(name).unwrap();
        }
        assert_eq!(all, Capabilities::ALL);
        assert_eq!(Capabilities::from_name("sockets"), None);
        assert!(!Capabilities::METRICS.contains(Capabilities::TIMERS));
        let two = Capabilities::TIMERS | Capabilities::SHARED_DATA;
        assert_eq!(two.iter().collect::<Vec<_>>(), ["shared-data", "timers"]);
    }
}
