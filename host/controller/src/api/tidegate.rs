//! Our own kinds: Filter, FilterPolicy and GatewayConfig of `tidegate.dev/v1alpha1`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::reference::PolicyTargetReference;
use super::{Body, Kind, Object, duration, quantity};

/// A configured policy module.
pub type Filter = Object<FilterSpec>;
/// Puts filters on a Gateway, a listener, a namespace or a route.
pub type FilterPolicy = Object<FilterPolicySpec>;
/// Parameters of a class.
pub type GatewayConfig = Object<GatewayConfigSpec>;

/// `Filter.spec`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterSpec {
    /// Where the code comes from.
    pub module: ModuleSource,
    /// How it is fetched.
    #[serde(default)]
    pub pull: Pull,
    /// 64 hex digits; pins the module.
    #[serde(default)]
    pub sha256: Option<String>,
    /// A string is passed as it is, anything else as JSON text; absent as empty.
    #[serde(default)]
    pub config: Option<Value>,
    /// Values put into a JSON `config`, in order.
    #[serde(default)]
    pub config_from: Vec<ConfigFrom>,
    /// Which root context of the module.
    #[serde(default)]
    pub root_id: String,
    /// What the VM is given, and with whom it is shared.
    #[serde(default)]
    pub vm: VmSpec,
    /// What happens to requests when the filter cannot run.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// Exceptions from it.
    #[serde(default)]
    pub failure_policy_by_cause: FailurePolicyByCause,
    /// What is absent is the module's own limit, or the general default.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// The only places it may call.
    #[serde(default)]
    pub clusters: Vec<ClusterSpec>,
    /// What it may use; everything where it is absent.
    #[serde(default)]
    pub capabilities: Option<Vec<Capability>>,
    /// Envoy's `allow_on_headers_stop_iteration`.
    #[serde(default)]
    pub headers_wait_for_body: bool,
    /// What it needs of older hosts' ways.
    #[serde(default)]
    pub compatibility: CompatibilitySpec,
    /// Enforce, or only record what it would have done.
    #[serde(default)]
    pub mode: FilterMode,
    /// Of the status: what the tag of an image came to. Only a cluster's objects have it.
    #[serde(skip)]
    pub pinned: Option<PinnedImage>,
}

/// `status.image` and `status.digest`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PinnedImage {
    /// `registry/name:tag@sha256:…`
    pub image: String,
    /// `sha256:…` of the module.
    pub digest: String,
}

/// `module`: exactly one field of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawModule")]
pub enum ModuleSource {
    /// A policy that ships with the host.
    Builtin(String),
    /// A file, absolute or relative to the manifest's folder; standalone only.
    File(String),
    /// An OCI reference.
    Image(String),
    /// An `https` address; `sha256` is required.
    Url(String),
    /// `binaryData` of a ConfigMap in the Filter's namespace.
    ConfigMap(KeySelector),
}

/// An object of the Filter's namespace and a key of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct KeySelector {
    /// The object's name.
    pub name: String,
    /// The key.
    pub key: String,
}

/// `pull`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pull {
    /// A Secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/basic-auth`.
    pub secret_ref: Option<NameRef>,
    /// A ConfigMap's key with certificate authorities.
    pub ca_ref: Option<KeySelector>,
    /// Plain HTTP, no validation.
    pub insecure: bool,
}

/// An object of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct NameRef {
    /// The object's name.
    pub name: String,
}

/// `configFrom[]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawConfigFrom")]
pub struct ConfigFrom {
    /// JSON pointer into `config`; empty for all of it.
    pub path: String,
    /// Where the value is.
    pub source: ConfigSource,
    /// With a key: its text. Without: an object of all keys.
    pub key: Option<String>,
}

/// An object of the Filter's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// By name.
    Secret(String),
    /// By name.
    ConfigMap(String),
}

/// `vm`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VmSpec {
    /// Filters with equal ids share data and queues; the Filter's name where it is empty.
    pub id: String,
    /// Passed to `proxy_on_vm_start`.
    pub config: String,
    /// WASI environment.
    pub env: BTreeMap<String, String>,
    /// With whom a VM is shared.
    pub isolation: Isolation,
}

/// With whom a VM is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub enum Isolation {
    /// Filters of the same namespace with an equal module and vm.
    #[default]
    Shared,
    /// Nobody.
    Dedicated,
    /// Nobody, and no other request.
    Request,
}

/// What happens to a request when its filter cannot run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub enum FailurePolicy {
    /// It is refused.
    #[default]
    Closed,
    /// It passes.
    Open,
}

/// `failurePolicyByCause`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct FailurePolicyByCause {
    /// The module cannot be fetched, verified or compiled.
    pub load: Option<FailurePolicy>,
    /// The module refuses its configuration.
    pub configure: Option<FailurePolicy>,
    /// It trapped.
    pub trap: Option<FailurePolicy>,
    /// It took too long.
    pub deadline: Option<FailurePolicy>,
    /// It took too much memory.
    pub memory: Option<FailurePolicy>,
}

/// `limits`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitsSpec {
    /// CPU time of one callback. Default 10ms.
    #[serde(deserialize_with = "duration::optional")]
    pub call_timeout: Option<Duration>,
    /// Time to start and configure. Default 5s.
    #[serde(deserialize_with = "duration::optional")]
    pub start_timeout: Option<Duration>,
    /// Linear memory, in bytes. Default 64Mi.
    #[serde(deserialize_with = "quantity::optional")]
    pub memory: Option<u64>,
    /// Body it may hold back, in bytes. Default 1Mi.
    #[serde(deserialize_with = "quantity::optional")]
    pub buffered_body: Option<u64>,
    /// HTTP and gRPC calls and gRPC streams of a VM at a time. Default 1000.
    pub calls: Option<u32>,
}

/// `compatibility`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CompatibilitySpec {
    /// Whether properties have the bare names of Envoy before 1.24, too.
    pub old_property_names: bool,
}

/// `clusters[]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawCluster")]
pub struct ClusterSpec {
    /// As the filter knows it.
    pub name: String,
    /// What it is.
    pub target: ClusterTarget,
}

/// What a cluster's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterTarget {
    /// `http` or `https`.
    Url(String),
    /// A Service; another namespace needs a ReferenceGrant.
    Service(ServiceRef),
}

/// A Service's port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServiceRef {
    /// The Service's name.
    pub name: String,
    /// The Filter's own namespace where it is absent.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The Service's port.
    pub port: u16,
}

/// What a filter may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// `proxy_get_shared_data` and its like.
    SharedData,
    /// `proxy_enqueue_shared_queue` and its like.
    SharedQueues,
    /// `proxy_define_metric` and its like.
    Metrics,
    /// `proxy_set_tick_period_milliseconds`.
    Timers,
    /// `proxy_get_property` and its like.
    Properties,
    /// `proxy_call_foreign_function`.
    ForeignFunctions,
}

/// Whether a filter acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub enum FilterMode {
    /// It acts.
    #[default]
    Enforce,
    /// It works on a copy; what it would have done is recorded.
    Shadow,
}

/// `FilterPolicy.spec`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterPolicySpec {
    /// Gateway, HTTPRoute, GRPCRoute, Ingress or Namespace.
    pub target_refs: Vec<PolicyTargetReference>,
    /// Before or after the route's own filters.
    #[serde(default)]
    pub stage: Stage,
    /// Filters of the policy's namespace, in order.
    pub filters: Vec<NameRef>,
}

/// Where a policy's filters stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum Stage {
    /// Before the route's own filters.
    #[default]
    Before,
    /// After them.
    After,
}

/// `GatewayConfig.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayConfigSpec {
    /// Filters of every route of the class.
    pub filters: ClassFilters,
    /// Whether `nginx.ingress.kubernetes.io/…` is read on Ingresses of the class.
    pub ingress_nginx_annotations: bool,
    /// The access log.
    pub access_log: AccessLogSpec,
    /// Bounds on what clients may send and how long they may take.
    pub limits: ClientLimitsSpec,
    /// How many proxies in front are trusted to write `X-Forwarded-*`; as the process was told where it is absent.
    pub trusted_hops: Option<u32>,
}

/// `GatewayConfig.spec.limits`; what is absent is the host's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientLimitsSpec {
    /// Bytes of a request's head.
    pub request_head_bytes: Option<u32>,
    /// Header fields of a request.
    pub request_headers: Option<u32>,
    /// Bytes of a request's target.
    pub request_target_bytes: Option<u32>,
    /// Time for a request's head.
    #[serde(deserialize_with = "duration::optional")]
    pub request_head_timeout: Option<Duration>,
    /// How long a connection without a request is kept.
    #[serde(deserialize_with = "duration::optional")]
    pub idle_timeout: Option<Duration>,
    /// How long an exchange may stand still.
    #[serde(deserialize_with = "duration::optional")]
    pub body_idle_timeout: Option<Duration>,
    /// Time for a TLS handshake.
    #[serde(deserialize_with = "duration::optional")]
    pub tls_handshake_timeout: Option<Duration>,
    /// Streams at once on an HTTP/2 connection.
    pub streams: Option<u32>,
    /// How long a connection of a TLSRoute or TCPRoute may be silent.
    #[serde(deserialize_with = "duration::optional")]
    pub stream_idle_timeout: Option<Duration>,
    /// How long a session of UDP may be silent.
    #[serde(deserialize_with = "duration::optional")]
    pub session_idle_timeout: Option<Duration>,
}

/// `GatewayConfig.spec.filters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ClassFilters {
    /// Before everything else.
    pub before: Vec<FilterRef>,
    /// After everything else.
    pub after: Vec<FilterRef>,
}

/// A Filter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct FilterRef {
    /// The GatewayConfig's own namespace where it is absent.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The Filter's name.
    pub name: String,
}

/// `GatewayConfig.spec.accessLog`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AccessLogSpec {
    /// Default true.
    pub enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawModule {
    builtin: Option<String>,
    file: Option<String>,
    image: Option<String>,
    url: Option<String>,
    config_map_ref: Option<KeySelector>,
}

#[derive(Deserialize)]
struct RawKeyRef {
    name: String,
    key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawConfigFrom {
    path: String,
    secret_ref: Option<RawKeyRef>,
    config_map_ref: Option<RawKeyRef>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCluster {
    name: String,
    url: Option<String>,
    backend_ref: Option<ServiceRef>,
}

impl Body for FilterSpec {
    const KIND: Kind = Kind::Filter;
}

impl Body for FilterPolicySpec {
    const KIND: Kind = Kind::FilterPolicy;
}

impl Body for GatewayConfigSpec {
    const KIND: Kind = Kind::GatewayConfig;
}

impl TryFrom<RawModule> for ModuleSource {
    type Error = &'static str;

    fn try_from(raw: RawModule) -> Result<Self, Self::Error> {
        let mut sources = [
            raw.builtin.map(Self::Builtin),
            raw.file.map(Self::File),
            raw.image.map(Self::Image),
            raw.url.map(Self::Url),
            raw.config_map_ref.map(Self::ConfigMap),
        ]
        .into_iter()
        .flatten();
        match (sources.next(), sources.next()) {
            (Some(source), None) => Ok(source),
            _ => Err(
                "exactly one of the fields in [builtin file image url configMapRef] must be set",
            ),
        }
    }
}

impl TryFrom<RawConfigFrom> for ConfigFrom {
    type Error = &'static str;

    fn try_from(raw: RawConfigFrom) -> Result<Self, Self::Error> {
        let (source, key) = match (raw.secret_ref, raw.config_map_ref) {
            (Some(secret), None) => (ConfigSource::Secret(secret.name), secret.key),
            (None, Some(map)) => (ConfigSource::ConfigMap(map.name), map.key),
            _ => return Err("exactly one of the fields in [secretRef configMapRef] must be set"),
        };
        Ok(Self {
            path: raw.path,
            source,
            key,
        })
    }
}

impl TryFrom<RawCluster> for ClusterSpec {
    type Error = &'static str;

    fn try_from(raw: RawCluster) -> Result<Self, Self::Error> {
        let target = match (raw.url, raw.backend_ref) {
            (Some(url), None) => ClusterTarget::Url(url),
            (None, Some(service)) => ClusterTarget::Service(service),
            _ => return Err("exactly one of the fields in [url backendRef] must be set"),
        };
        Ok(Self {
            name: raw.name,
            target,
        })
    }
}

impl Default for AccessLogSpec {
    fn default() -> Self {
        Self { enabled: true }
    }
}
