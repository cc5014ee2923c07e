//! Core kinds: the types of `k8s-openapi`, or the fields of them that are read.

use std::collections::BTreeMap;
use std::ops::Deref;

use k8s_openapi::ByteString;
use serde::Deserialize;

use super::{Body, Kind, Object};

pub use k8s_openapi::api::core::v1::{LoadBalancerIngress, ServicePort, ServiceSpec};
pub use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
pub use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, IngressBackend, IngressClassParametersReference,
    IngressClassSpec, IngressRule, IngressServiceBackend, IngressSpec, IngressTLS,
    ServiceBackendPort,
};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// networking.k8s.io/v1.
pub type Ingress = Object<IngressSpec>;
/// networking.k8s.io/v1.
pub type IngressClass = Object<IngressClassSpec>;
/// A Service.
pub type Service = Object<ServiceBody>;
/// discovery.k8s.io/v1.
pub type EndpointSlice = Object<EndpointSliceBody>;
/// A Secret.
pub type Secret = Object<SecretBody>;
/// A ConfigMap.
pub type ConfigMap = Object<ConfigMapBody>;
/// A Namespace; its labels are what is read.
pub type Namespace = Object<NamespaceBody>;

/// The legacy annotation that names an Ingress's class.
pub const INGRESS_CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// The label that names an EndpointSlice's Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A Service's spec, through which this derefs, and its load balancer's addresses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, from = "RawService")]
pub struct ServiceBody {
    /// `spec`.
    pub spec: ServiceSpec,
    /// `status.loadBalancer.ingress`.
    pub load_balancer: Vec<LoadBalancerIngress>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSliceBody {
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// In the order written.
    pub endpoints: Vec<Endpoint>,
    /// Shared by all endpoints.
    pub ports: Vec<EndpointPort>,
}

/// A Secret. `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SecretBody {
    /// Default `Opaque`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Decoded from base64.
    pub data: BTreeMap<String, ByteString>,
}

/// A ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMapBody {
    /// Text.
    pub data: BTreeMap<String, String>,
    /// Decoded from base64.
    pub binary_data: BTreeMap<String, ByteString>,
}

/// A Namespace has nothing else that is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct NamespaceBody {}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawService {
    spec: ServiceSpec,
    status: RawServiceStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawServiceStatus {
    load_balancer: RawLoadBalancer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawLoadBalancer {
    ingress: Vec<LoadBalancerIngress>,
}

impl Body for IngressSpec {
    const KIND: Kind = Kind::Ingress;
}

impl Body for IngressClassSpec {
    const KIND: Kind = Kind::IngressClass;
}

impl Body for ServiceBody {
    const KIND: Kind = Kind::Service;
    const FIELD: Option<&'static str> = None;
}

impl Body for EndpointSliceBody {
    const KIND: Kind = Kind::EndpointSlice;
    const FIELD: Option<&'static str> = None;
}

impl Body for SecretBody {
    const KIND: Kind = Kind::Secret;
    const FIELD: Option<&'static str> = None;
}

impl Body for ConfigMapBody {
    const KIND: Kind = Kind::ConfigMap;
    const FIELD: Option<&'static str> = None;
}

impl Body for NamespaceBody {
    const KIND: Kind = Kind::Namespace;
}

// === impl ServiceBody ===

impl Deref for ServiceBody {
    type Target = ServiceSpec;

    fn deref(&self) -> &ServiceSpec {
        &self.spec
    }
}

impl From<RawService> for ServiceBody {
    fn from(raw: RawService) -> Self {
        Self {
            spec: raw.spec,
            load_balancer: raw.status.load_balancer.ingress,
        }
    }
}

// === impl SecretBody ===

impl SecretBody {
    /// The bytes of a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(|bytes| bytes.0.as_slice())
    }
}

impl std::fmt::Debug for SecretBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretBody")
            .field("kind", &self.kind)
            .field("keys", &self.data.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

// === impl ConfigMapBody ===

impl ConfigMapBody {
    /// The bytes of a key, from `data` or `binaryData`; a key is in one of them at most.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.data
            .get(key)
            .map(String::as_bytes)
            .or_else(|| self.binary_data.get(key).map(|bytes| bytes.0.as_slice()))
    }
}
