//! TLSRoute, TCPRoute and UDPRoute: rules without requests (`tlsroute_types.go`,
//! `tcproute_types.go`, `udproute_types.go`).

use serde::Deserialize;

use super::reference::{BackendRef, ParentReference};
use super::{Body, Kind, Object};

/// Routes by SNI.
pub type TlsRoute = Object<TlsRouteSpec>;
/// Routes for a port of TCP.
pub type TcpRoute = Object<TcpRouteSpec>;
/// Routes for a port of UDP.
pub type UdpRoute = Object<UdpRouteSpec>;

/// `TLSRoute.spec`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsRouteSpec {
    /// What it attaches to.
    pub parent_refs: Vec<ParentReference>,
    /// `All` or `None`: whether it attaches to default Gateways.
    pub use_default_gateways: Option<String>,
    /// SNI names; those of the listener where it is empty (old versions).
    pub hostnames: Vec<String>,
    /// Exactly one in v1.
    pub rules: Vec<StreamRule>,
}

/// `TCPRoute.spec`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRouteSpec {
    /// What it attaches to.
    pub parent_refs: Vec<ParentReference>,
    /// `All` or `None`: whether it attaches to default Gateways.
    pub use_default_gateways: Option<String>,
    /// Exactly one in v1.
    pub rules: Vec<StreamRule>,
}

/// `UDPRoute.spec`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UdpRouteSpec {
    /// What it attaches to.
    pub parent_refs: Vec<ParentReference>,
    /// `All` or `None`: whether it attaches to default Gateways.
    pub use_default_gateways: Option<String>,
    /// Exactly one in v1.
    pub rules: Vec<StreamRule>,
}

/// `rules[]` of all three.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamRule {
    /// Unique within the route.
    pub name: Option<String>,
    /// Where connections go, by weight.
    pub backend_refs: Vec<BackendRef>,
}

impl Body for TlsRouteSpec {
    const KIND: Kind = Kind::TlsRoute;
}

impl Body for TcpRouteSpec {
    const KIND: Kind = Kind::TcpRoute;
}

impl Body for UdpRouteSpec {
    const KIND: Kind = Kind::UdpRoute;
}
