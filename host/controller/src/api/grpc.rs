//! GRPCRoute (`grpcroute_types.go`).

use serde::Deserialize;

use super::filter::RouteFilter;
use super::http::{HeaderMatch, SessionPersistence, ValueMatchType};
use super::reference::{BackendRef, ParentReference};
use super::{Body, Kind, Object};

/// Routes for gRPC.
pub type GrpcRoute = Object<GrpcRouteSpec>;

/// `GRPCRoute.spec`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcRouteSpec {
    /// What it attaches to.
    pub parent_refs: Vec<ParentReference>,
    /// `All` or `None`: whether it attaches to default Gateways.
    pub use_default_gateways: Option<String>,
    /// Hosts; those of the listener where it is empty.
    pub hostnames: Vec<String>,
    /// In the order written.
    pub rules: Vec<GrpcRouteRule>,
}

/// `rules[]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcRouteRule {
    /// Unique within the route.
    pub name: Option<String>,
    /// Any one of them suffices; empty matches every call.
    pub matches: Vec<GrpcRouteMatch>,
    /// In order.
    pub filters: Vec<RouteFilter>,
    /// Where calls go, by weight.
    pub backend_refs: Vec<BackendRef>,
    /// Keeps a client on one endpoint.
    pub session_persistence: Option<SessionPersistence>,
}

/// `matches[]`; all parts must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GrpcRouteMatch {
    /// Every method where it is absent.
    pub method: Option<GrpcMethodMatch>,
    /// Every one of them; of equal names the first counts.
    pub headers: Vec<HeaderMatch>,
}

/// `method`; at least one of service and method is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GrpcMethodMatch {
    /// Default Exact.
    #[serde(rename = "type")]
    pub kind: ValueMatchType,
    /// `package.Service`; any where it is absent.
    pub service: Option<String>,
    /// Any where it is absent.
    pub method: Option<String>,
}

impl Body for GrpcRouteSpec {
    const KIND: Kind = Kind::GrpcRoute;
}
