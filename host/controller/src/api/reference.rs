//! References between objects (`shared_types.go`, `object_reference_types.go`, `policy_types.go`).

use serde::{Deserialize, Serialize};

use super::filter::RouteFilter;
use super::kind::GATEWAY_GROUP;

/// A route's parent: a Gateway, a ListenerSet, or a Service (mesh).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// Default `gateway.networking.k8s.io`.
    #[serde(default = "gateway_group")]
    pub group: String,
    /// Default `Gateway`.
    #[serde(default = "gateway_kind")]
    pub kind: String,
    /// The route's own namespace where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The parent's name.
    pub name: String,
    /// The listener's name; every listener where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// The listener's port; any where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// The Gateway a ListenerSet belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct ParentGatewayReference {
    /// Default `gateway.networking.k8s.io`.
    #[serde(default = "gateway_group")]
    pub group: String,
    /// Default `Gateway`.
    #[serde(default = "gateway_kind")]
    pub kind: String,
    /// The Gateway's name.
    pub name: String,
    /// The ListenerSet's own namespace where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// An object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct LocalObjectReference {
    /// Empty for core kinds.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
}

/// An object in any namespace; group and kind have no default.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct ObjectReference {
    /// Empty for core kinds.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The referrer's own namespace where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A certificate: a Secret unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct SecretObjectReference {
    /// Default: core.
    #[serde(default)]
    pub group: String,
    /// Default `Secret`.
    #[serde(default = "secret_kind")]
    pub kind: String,
    /// The name.
    pub name: String,
    /// The referrer's own namespace where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Something traffic can be sent to: a Service unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct BackendObjectReference {
    /// Default: core.
    #[serde(default)]
    pub group: String,
    /// Default `Service`.
    #[serde(default = "service_kind")]
    pub kind: String,
    /// The name.
    pub name: String,
    /// The route's own namespace where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The Service's port (not its targetPort); required for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// A backend of a rule with its share of the traffic. One type for all route kinds; only HTTPRoute and
/// GRPCRoute can have filters here.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendRef {
    /// What it points to.
    pub backend: BackendObjectReference,
    /// The share among the rule's backends; 0 gets nothing. Default 1.
    pub weight: u32,
    /// What happens to requests that go to this backend.
    pub filters: Vec<RouteFilter>,
}

/// What a policy applies to, in its own namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTargetReference {
    /// Empty for core kinds.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
    /// A part of the target: a listener, a rule, a Service's port by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// A group and kind (`allowedRoutes.kinds`, `supportedKinds`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct RouteGroupKind {
    /// Default `gateway.networking.k8s.io`.
    #[serde(default = "gateway_group")]
    pub group: String,
    /// The kind.
    pub kind: String,
}

// === impl BackendRef ===

impl<'de> Deserialize<'de> for BackendRef {
    // By hand: the fields of the reference are inline, and `flatten` would lose the path of an error.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            group: String,
            #[serde(default = "service_kind")]
            kind: String,
            name: String,
            #[serde(default)]
            namespace: Option<String>,
            #[serde(default)]
            port: Option<u16>,
            #[serde(default = "one")]
            weight: u32,
            #[serde(default)]
            filters: Vec<RouteFilter>,
        }
        let raw = Raw::deserialize(deserializer)?;
        Ok(Self {
            backend: BackendObjectReference {
                group: raw.group,
                kind: raw.kind,
                name: raw.name,
                namespace: raw.namespace,
                port: raw.port,
            },
            weight: raw.weight,
            filters: raw.filters,
        })
    }
}

fn gateway_group() -> String {
    GATEWAY_GROUP.to_owned()
}

fn gateway_kind() -> String {
    "Gateway".to_owned()
}

fn secret_kind() -> String {
    "Secret".to_owned()
}

fn service_kind() -> String {
    "Service".to_owned()
}

fn one() -> u32 {
    1
}
