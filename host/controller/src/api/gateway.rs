//! GatewayClass, Gateway and ListenerSet (`gatewayclass_types.go`, `gateway_types.go`,
//! `listenerset_types.go`).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;

use super::filter::ExternalAuth;
use super::reference::{
    LocalObjectReference, ObjectReference, ParentGatewayReference, RouteGroupKind,
    SecretObjectReference,
};
use super::{Body, Kind, Object};

/// A class of Gateways.
pub type GatewayClass = Object<GatewayClassSpec>;
/// A set of listeners.
pub type Gateway = Object<GatewaySpec>;
/// Further listeners of a Gateway, owned by somebody else.
pub type ListenerSet = Object<ListenerSetSpec>;

/// `GatewayClass.spec`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassSpec {
    /// Who implements the class, `example.net/controller`.
    pub controller_name: String,
    /// The class's configuration; for us a GatewayConfig.
    #[serde(default)]
    pub parameters_ref: Option<ObjectReference>,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
}

/// `Gateway.spec`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// The class.
    pub gateway_class_name: String,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// Requested addresses; the implementation's choice where there are none.
    #[serde(default)]
    pub addresses: Vec<GatewayAddress>,
    /// What is put on objects made for this Gateway.
    #[serde(default)]
    pub infrastructure: Infrastructure,
    /// Which namespaces may attach ListenerSets.
    #[serde(default)]
    pub allowed_listeners: AllowedListeners,
    /// TLS to backends and client certificates.
    #[serde(default)]
    pub tls: GatewayTls,
    /// Whether it takes routes with `useDefaultGateways`: `All` or `None`.
    #[serde(default)]
    pub default_scope: Option<String>,
}

/// `ListenerSet.spec`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSetSpec {
    /// The Gateway.
    pub parent_ref: ParentGatewayReference,
    /// At least one.
    pub listeners: Vec<Listener>,
}

/// A listener of a Gateway or an entry of a ListenerSet.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Unique within its object.
    pub name: String,
    /// `example.com`, `*.example.com`; all hosts where it is absent.
    #[serde(default)]
    pub hostname: Option<String>,
    /// 1 to 65535.
    pub port: u16,
    /// What is spoken.
    pub protocol: Protocol,
    /// For HTTPS and TLS.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// Which routes may attach. Default: those of the same namespace.
    #[serde(default)]
    pub allowed_routes: AllowedRoutes,
    /// What happens before a route is chosen.
    #[serde(default)]
    pub filters: ListenerFilters,
}

/// A listener's protocol.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// Cleartext HTTP.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP over TLS.
    #[serde(rename = "HTTPS")]
    Https,
    /// TLS by SNI.
    #[serde(rename = "TLS")]
    Tls,
    /// Plain TCP.
    #[serde(rename = "TCP")]
    Tcp,
    /// Plain UDP.
    #[serde(rename = "UDP")]
    Udp,
    /// Of another implementation.
    #[serde(untagged)]
    Other(String),
}

/// `listeners[].tls`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// Default Terminate.
    #[serde(default)]
    pub mode: TlsMode,
    /// Certificates; the best match for the client's SNI is taken.
    #[serde(default)]
    pub certificate_refs: Vec<SecretObjectReference>,
    /// Of an implementation.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// What happens to TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TlsMode {
    /// It ends here.
    #[default]
    Terminate,
    /// It goes on to the backend as it is.
    Passthrough,
    /// One that this program does not know.
    #[serde(untagged)]
    Other(String),
}

/// `listeners[].allowedRoutes`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AllowedRoutes {
    /// Default: the same namespace.
    pub namespaces: RouteNamespaces,
    /// What the protocol allows where it is empty.
    pub kinds: Vec<RouteGroupKind>,
}

/// Which namespaces routes may come from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct RouteNamespaces {
    /// Default Same.
    pub from: FromNamespaces,
    /// For [`FromNamespaces::Selector`].
    pub selector: Option<LabelSelector>,
}

/// `Gateway.spec.allowedListeners`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AllowedListeners {
    /// Default: none.
    pub namespaces: ListenerNamespaces,
}

/// Which namespaces ListenerSets may come from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct ListenerNamespaces {
    /// Default None.
    pub from: FromNamespaces,
    /// For [`FromNamespaces::Selector`].
    pub selector: Option<LabelSelector>,
}

/// A choice of namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub enum FromNamespaces {
    /// Any.
    All,
    /// Those whose labels match.
    Selector,
    /// The Gateway's own.
    Same,
    /// No namespace.
    None,
    /// One that this program does not know; it allows nothing.
    #[serde(untagged)]
    Other(String),
}

/// `listeners[].filters` (GEP-4467, experimental).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ListenerFilters {
    /// In order.
    pub requests: Vec<ListenerFilter>,
}

/// A filter that runs before the route is chosen.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "RawListenerFilter")]
pub enum ListenerFilter {
    /// Asks another service whether the request may pass.
    ExternalAuth(ExternalAuth),
    /// An object in the same namespace, for us a Filter.
    ExtensionRef(LocalObjectReference),
    /// A type that this program does not know.
    Other(String),
}

/// `Gateway.spec.addresses[]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GatewayAddress {
    /// Default IPAddress.
    #[serde(default, rename = "type")]
    pub kind: AddressType,
    /// Empty: any address of that type.
    #[serde(default)]
    pub value: String,
    /// Empty, `Cluster`, or of an implementation.
    #[serde(default)]
    pub routability: String,
}

/// A type of address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum AddressType {
    /// A numeric address.
    #[default]
    #[serde(rename = "IPAddress")]
    IpAddress,
    /// A DNS name.
    Hostname,
    /// Of an implementation.
    #[serde(untagged)]
    Other(String),
}

/// `Gateway.spec.infrastructure`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Infrastructure {
    /// Put on every object made for the Gateway.
    pub labels: BTreeMap<String, String>,
    /// Put on every object made for the Gateway.
    pub annotations: BTreeMap<String, String>,
    /// This Gateway's configuration.
    pub parameters_ref: Option<LocalObjectReference>,
}

/// `Gateway.spec.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GatewayTls {
    /// Towards backends.
    pub backend: BackendTls,
    /// Towards clients; listeners with HTTPS only.
    pub frontend: Option<FrontendTls>,
}

/// `Gateway.spec.tls.backend`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendTls {
    /// The certificate the gateway shows to backends.
    pub client_certificate_ref: Option<SecretObjectReference>,
}

/// `Gateway.spec.tls.frontend`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendTls {
    /// For every HTTPS listener without an entry in `per_port`.
    pub default: TlsConfig,
    /// For the listeners of one port.
    #[serde(default)]
    pub per_port: Vec<TlsPortConfig>,
}

/// What is asked of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TlsConfig {
    /// Client certificates; not asked for where it is absent.
    pub validation: Option<FrontendTlsValidation>,
}

/// What is asked of clients on one port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TlsPortConfig {
    /// The port.
    pub port: u16,
    /// Its configuration.
    pub tls: TlsConfig,
}

/// Validation of client certificates.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FrontendTlsValidation {
    /// Authorities: ConfigMaps with `ca.crt`, or of an implementation.
    #[serde(rename = "caCertificateRefs")]
    pub ca_certificate_refs: Vec<ObjectReference>,
    /// Default AllowValidOnly.
    #[serde(default)]
    pub mode: FrontendValidationMode,
}

/// What happens to clients without a valid certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum FrontendValidationMode {
    /// They are refused.
    #[default]
    AllowValidOnly,
    /// They are let in.
    AllowInsecureFallback,
    /// One that this program does not know; treat it as the strict one.
    #[serde(untagged)]
    Other(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawListenerFilter {
    r#type: String,
    external_auth: Option<ExternalAuth>,
    extension_ref: Option<LocalObjectReference>,
}

impl Body for GatewayClassSpec {
    const KIND: Kind = Kind::GatewayClass;
}

impl Body for GatewaySpec {
    const KIND: Kind = Kind::Gateway;
}

impl Body for ListenerSetSpec {
    const KIND: Kind = Kind::ListenerSet;
}

impl Default for RouteNamespaces {
    fn default() -> Self {
        Self {
            from: FromNamespaces::Same,
            selector: None,
        }
    }
}

impl Default for ListenerNamespaces {
    fn default() -> Self {
        Self {
            from: FromNamespaces::None,
            selector: None,
        }
    }
}

impl TryFrom<RawListenerFilter> for ListenerFilter {
    type Error = String;

    fn try_from(raw: RawListenerFilter) -> Result<Self, String> {
        match raw.r#type.as_str() {
            "ExternalAuth" => raw.external_auth.map(Self::ExternalAuth).ok_or_else(|| {
                "filter.externalAuth must be specified for ExternalAuth filter.type".to_owned()
            }),
            "ExtensionRef" => raw.extension_ref.map(Self::ExtensionRef).ok_or_else(|| {
                "filter.extensionRef must be specified for ExtensionRef filter.type".to_owned()
            }),
            _ => Ok(Self::Other(raw.r#type)),
        }
    }
}
