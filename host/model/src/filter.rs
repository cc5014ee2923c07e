//! Filters as data: what a `Filter` object says once every reference in it is resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::backend::Backend;
use crate::image::ImageReference;
use crate::secrets::Secrets;

/// `namespace/name` of a Filter. What the translator makes itself (a CORS filter of a route) bears the route's name and place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId {
    /// The tenant.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

/// A filter with everything it needs: equal specs behave alike, so an unchanged one keeps its VMs and its state.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterSpec {
    /// Index among the filters of the snapshot; no part of what the filter is.
    #[serde(skip)]
    pub slot: usize,
    /// Its name.
    pub id: FilterId,
    /// Where the module comes from.
    pub module: ModuleSource,
    /// What the tag of its image has come to before, if its status says so; no part of what the filter is.
    #[serde(skip)]
    pub pinned: Option<PinnedImage>,
    /// SHA-256 that the module must have, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Arc<str>>,
    /// Configuration as the module gets it.
    #[serde(serialize_with = "config")]
    pub config: Config,
    /// `root_id` of the plugin.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub root_id: Arc<str>,
    /// Which VM it runs in.
    pub vm: VmSpec,
    /// What happens when it cannot run.
    pub failure_policy: FailurePolicies,
    /// What it may use.
    pub limits: FilterLimits,
    /// The only places it may call, under the names it knows them by.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        serialize_with = "cluster_names"
    )]
    pub clusters: BTreeMap<Arc<str>, Arc<Backend>>,
    /// What it may ask of the host.
    pub capabilities: BTreeSet<Capability>,
    /// Envoy's `allow_on_headers_stop_iteration`.
    pub headers_wait_for_body: bool,
    /// What it needs of other hosts' ways.
    #[serde(skip_serializing_if = "Compatibility::is_plain")]
    pub compatibility: Compatibility,
    /// Whether it acts or only records what it would do.
    pub mode: FilterMode,
}

/// Bytes for `on_configure`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The text, or nothing.
    pub bytes: Bytes,
    /// Whether a value of a Secret went into it, so that no page prints it.
    pub secret: bool,
    /// Those values, so that no message of the filter quotes them.
    pub secrets: Secrets,
}

/// Where a module comes from; exactly one is given in a Filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ModuleSource {
    /// One of the bundled filters.
    Builtin(Arc<str>),
    /// A file, absolute.
    File(PathBuf),
    /// In an OCI registry.
    Image {
        /// Which.
        image: ImageReference,
        /// How it is fetched.
        #[serde(skip_serializing_if = "Pull::is_plain")]
        pull: Pull,
    },
    /// On a web server; `sha256` says which bytes are meant.
    Url {
        /// The address.
        url: Arc<str>,
        /// How it is fetched.
        #[serde(skip_serializing_if = "Pull::is_plain")]
        pull: Pull,
    },
    /// `binaryData` of a ConfigMap, already read.
    ConfigMap {
        /// `namespace/name` and key.
        name: Arc<str>,
        /// The module.
        #[serde(skip)]
        bytes: Bytes,
    },
    /// Nowhere: the Filter exists, and cannot work as it is. The last good version of it serves on; where there is none, its
    /// failure policy for that cause holds.
    Refused {
        /// Which step would have failed.
        cause: FailureCause,
        /// What is wrong and what to do.
        reason: Arc<str>,
    },
}

/// `spec.pull`, its references read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pull {
    /// Who asks; nobody in particular where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// Who vouches for the server; the system's authorities where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorities: Option<Authorities>,
    /// Whether plain HTTP, and certificates that nobody vouches for, are fine.
    pub insecure: bool,
}

/// A name and a password for a registry or a web server.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Credentials {
    /// `namespace/name` of the Secret they are from.
    pub secret: Arc<str>,
    /// The name.
    #[serde(skip)]
    pub user: Arc<str>,
    /// The password; printed nowhere.
    #[serde(skip)]
    pub password: Arc<str>,
}

/// Certificate authorities.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Authorities {
    /// `namespace/name/key` of the ConfigMap they are from.
    pub name: Arc<str>,
    /// The certificates, PEM.
    #[serde(skip)]
    pub pem: Bytes,
}

/// What the tag of an image has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedImage {
    /// `sha256:…` of the manifest.
    pub manifest: Arc<str>,
    /// `sha256:…` of the module.
    pub module: Arc<str>,
}

/// `spec.vm`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VmSpec {
    /// `vm_id`
    #[serde(skip_serializing_if = "str::is_empty")]
    pub id: Arc<str>,
    /// VM configuration.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub config: Arc<str>,
    /// Environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Who else may be in it.
    pub isolation: Isolation,
}

/// `spec.vm.isolation`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Isolation {
    /// Filters of the namespace with equal keys share a VM.
    #[default]
    Shared,
    /// A VM of its own on each worker.
    Dedicated,
    /// A fresh instance for each request.
    Request,
}

/// Why a filter could not run (`failurePolicyByCause`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureCause {
    /// Not fetched, not verified, not compiled, not started.
    Load,
    /// Its configuration was refused.
    Configure,
    /// It trapped.
    Trap,
    /// It passed its CPU time.
    Deadline,
    /// It passed its memory.
    Memory,
}

/// `spec.failurePolicy`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum FailurePolicy {
    /// The request is refused.
    #[default]
    Closed,
    /// The filter is skipped.
    Open,
}

/// A policy, and exceptions by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailurePolicies {
    /// For every cause not named.
    pub default: FailurePolicy,
    /// Exceptions.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_cause: BTreeMap<FailureCause, FailurePolicy>,
}

/// `spec.limits`
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterLimits {
    /// CPU time of one callback.
    pub call_timeout: Duration,
    /// CPU time of start and configuration.
    pub start_timeout: Duration,
    /// Bytes of linear memory and tables of a VM.
    pub memory: usize,
    /// Bytes of a body held back while the filter pauses.
    pub buffered_body: usize,
    /// HTTP and gRPC calls and gRPC streams that a VM may have under way.
    pub calls: usize,
}

/// `spec.compatibility`: what a filter needs that was written for another host, or for an older one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Compatibility {
    /// Whether it reads properties by the bare names that Envoy had at the top level before 1.24: `route_name` and its like.
    pub old_property_names: bool,
}

/// What a filter may be denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Shared data.
    SharedData,
    /// Shared queues.
    SharedQueues,
    /// Metrics.
    Metrics,
    /// Ticks.
    Timers,
    /// Properties.
    Properties,
    /// Foreign functions.
    ForeignFunctions,
}

/// `spec.mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum FilterMode {
    /// It acts.
    #[default]
    Enforce,
    /// It records what it would have done.
    Shadow,
}

/// What loading a filter taught; the translator turns it into conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterVerdict {
    /// Not known yet.
    Loading,
    /// Neither loaded nor about to be: its module is elsewhere, and this process does not use the network.
    NotFetched,
    /// Ready to run.
    Ready {
        /// `sha256:…` of the module.
        digest: Arc<str>,
        /// `0.2.1` and so on.
        abi: Arc<str>,
        /// Of an image: `registry/name:tag@sha256:…`, what its tag meant when it was resolved.
        image: Option<Arc<str>>,
    },
    /// Not usable.
    Failed {
        /// Which step failed.
        cause: FailureCause,
        /// What is wrong and what to do.
        message: Arc<str>,
        /// Whether an earlier version goes on serving.
        last_good: bool,
    },
}

/// Verdicts of all filters, by name.
pub type FilterVerdicts = BTreeMap<FilterId, FilterVerdict>;

// === impl ===

impl FilterSpec {
    /// Whether `other` is the same filter in everything but its place, and what was known of it.
    pub fn same(&self, other: &Self) -> bool {
        let plain = |spec: &Self| Self {
            slot: 0,
            pinned: None,
            ..spec.clone()
        };
        plain(self) == plain(other)
    }
}

impl ModuleSource {
    /// Whether it is fetched over the network.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Image { .. } | Self::Url { .. })
    }
}

impl Pull {
    /// Whether nothing of it was set.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

impl Compatibility {
    /// Whether nothing of it was set.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("secret", &self.secret)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl FailurePolicies {
    /// What to do for this cause.
    pub fn policy(&self, cause: FailureCause) -> FailurePolicy {
        self.by_cause.get(&cause).copied().unwrap_or(self.default)
    }
}

impl Capability {
    /// Every capability: what a Filter has that names none.
    pub const ALL: [Self; 6] = [
        Self::SharedData,
        Self::SharedQueues,
        Self::Metrics,
        Self::Timers,
        Self::Properties,
        Self::ForeignFunctions,
    ];
}

impl Default for FilterLimits {
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_millis(10),
            start_timeout: Duration::from_secs(5),
            memory: 64 << 20,
            buffered_body: 1 << 20,
            calls: 1_000,
        }
    }
}

impl FailureCause {
    /// The word used in the API, in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Configure => "configure",
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
        }
    }
}

impl fmt::Display for FilterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for FilterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn config<S: Serializer>(config: &Config, serializer: S) -> Result<S::Ok, S::Error> {
    if config.secret {
        return serializer.serialize_str("<redacted>");
    }
    match serde_json::from_slice::<serde_json::Value>(&config.bytes) {
        Ok(value) => value.serialize(serializer),
        Err(_) => serializer.serialize_str(&String::from_utf8_lossy(&config.bytes)),
    }
}

fn cluster_names<S: Serializer>(
    clusters: &BTreeMap<Arc<str>, Arc<Backend>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(clusters.iter().map(|(name, backend)| (name, &backend.key)))
}
