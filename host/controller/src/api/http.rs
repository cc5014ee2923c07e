//! HTTPRoute (`httproute_types.go`).

use std::time::Duration;

use serde::Deserialize;

use super::filter::RouteFilter;
use super::reference::{BackendRef, ParentReference};
use super::{Body, Kind, Object, duration};

/// Routes for HTTP.
pub type HttpRoute = Object<HttpRouteSpec>;

/// `HTTPRoute.spec`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// What it attaches to.
    #[serde(default)]
    pub parent_refs: Vec<ParentReference>,
    /// `All` or `None`: whether it attaches to default Gateways.
    #[serde(default)]
    pub use_default_gateways: Option<String>,
    /// Hosts; those of the listener where it is empty.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// Default: one rule that matches everything and has no backend.
    #[serde(default = "one_rule")]
    pub rules: Vec<HttpRouteRule>,
}

/// `rules[]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteRule {
    /// Unique within the route.
    pub name: Option<String>,
    /// Any one of them suffices; never empty (the default matches every path).
    #[serde(deserialize_with = "matches")]
    pub matches: Vec<HttpRouteMatch>,
    /// In order.
    pub filters: Vec<RouteFilter>,
    /// Where requests go, by weight.
    pub backend_refs: Vec<BackendRef>,
    /// Limits of time.
    pub timeouts: Timeouts,
    /// Whether failed requests are tried again.
    pub retry: Option<Retry>,
    /// Keeps a client on one endpoint.
    pub session_persistence: Option<SessionPersistence>,
}

/// `matches[]`; all parts must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteMatch {
    /// Default: prefix `/`.
    pub path: PathMatch,
    /// Every one of them; of equal names the first counts.
    pub headers: Vec<HeaderMatch>,
    /// Every one of them; of equal names the first counts.
    pub query_params: Vec<QueryParamMatch>,
    /// `GET`; any where it is absent.
    pub method: Option<String>,
}

/// `path`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PathMatch {
    /// Default PathPrefix.
    #[serde(rename = "type")]
    pub kind: PathMatchType,
    /// Default `/`.
    pub value: String,
}

/// How a path is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum PathMatchType {
    /// Equal, with case.
    Exact,
    /// By segments, with case.
    #[default]
    PathPrefix,
    /// RE2, over the whole path.
    RegularExpression,
    /// One that this program does not know.
    #[serde(untagged)]
    Other(String),
}

/// How headers and query parameters are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ValueMatchType {
    /// Equal, with case.
    #[default]
    Exact,
    /// RE2, over the whole value.
    RegularExpression,
    /// One that this program does not know.
    #[serde(untagged)]
    Other(String),
}

/// `headers[]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HeaderMatch {
    /// Default Exact.
    #[serde(default, rename = "type")]
    pub kind: ValueMatchType,
    /// Compared without case.
    pub name: String,
    /// What is compared.
    pub value: String,
}

/// `queryParams[]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct QueryParamMatch {
    /// Default Exact.
    #[serde(default, rename = "type")]
    pub kind: ValueMatchType,
    /// Compared with case.
    pub name: String,
    /// What is compared.
    pub value: String,
}

/// `timeouts`; zero means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// From the first byte of the request to the last of the response, retries included.
    #[serde(deserialize_with = "duration::optional")]
    pub request: Option<Duration>,
    /// One attempt at a backend.
    #[serde(deserialize_with = "duration::optional")]
    pub backend_request: Option<Duration>,
}

/// `retry`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// Response codes, 400 to 599, that are retried besides connection errors.
    pub codes: Vec<u16>,
    /// How often at most, after the first time.
    pub attempts: Option<u32>,
    /// The least pause between attempts.
    #[serde(deserialize_with = "duration::optional")]
    pub backoff: Option<Duration>,
}

/// `sessionPersistence` (GEP-1619, experimental); also of GRPCRoute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionPersistence {
    /// When a session ends whatever happens.
    #[serde(deserialize_with = "duration::optional")]
    pub absolute_timeout: Option<Duration>,
    /// Default Cookie.
    #[serde(rename = "type")]
    pub kind: SessionPersistenceType,
    /// For cookies.
    pub cookie: Option<SessionCookie>,
    /// For headers.
    pub header: Option<SessionHeader>,
}

/// What carries a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum SessionPersistenceType {
    /// A cookie.
    #[default]
    Cookie,
    /// A header.
    Header,
    /// One that this program does not know.
    #[serde(untagged)]
    Other(String),
}

/// `sessionPersistence.cookie`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionCookie {
    /// The implementation's choice where it is absent.
    pub name: Option<String>,
    /// The cookie's Path. Default `/`.
    pub path: String,
    /// Default Session.
    pub lifetime_type: CookieLifetime,
}

/// When a session cookie ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum CookieLifetime {
    /// With the browser's session.
    #[default]
    Session,
    /// After `absoluteTimeout`.
    Permanent,
    /// One that this program does not know.
    #[serde(untagged)]
    Other(String),
}

/// `sessionPersistence.header`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SessionHeader {
    /// The header's name.
    pub name: String,
}

impl Body for HttpRouteSpec {
    const KIND: Kind = Kind::HttpRoute;
}

impl Default for HttpRouteRule {
    fn default() -> Self {
        Self {
            name: None,
            matches: vec![HttpRouteMatch::default()],
            filters: Vec::new(),
            backend_refs: Vec::new(),
            timeouts: Timeouts::default(),
            retry: None,
            session_persistence: None,
        }
    }
}

impl Default for PathMatch {
    fn default() -> Self {
        Self {
            kind: PathMatchType::PathPrefix,
            value: "/".to_owned(),
        }
    }
}

impl Default for SessionCookie {
    fn default() -> Self {
        Self {
            name: None,
            path: "/".to_owned(),
            lifetime_type: CookieLifetime::Session,
        }
    }
}

fn one_rule() -> Vec<HttpRouteRule> {
    vec![HttpRouteRule::default()]
}

/// An empty list means what an absent one means, though the CRD's default covers only the latter.
fn matches<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<HttpRouteMatch>, D::Error> {
    let mut matches = Vec::deserialize(deserializer)?;
    if matches.is_empty() {
        matches.push(HttpRouteMatch::default());
    }
    Ok(matches)
}
