//! What a matched rule does: its filters in order, its backends by weight, its timeouts and retries.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Serialize, Serializer};

use crate::backend::Backend;
use crate::filter::FilterSpec;
use crate::session::Session;

/// The object and the place in it that a rule comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleOrigin {
    /// `HTTPRoute`, `GRPCRoute` or `Ingress`.
    pub kind: &'static str,
    /// Namespace of the object.
    pub namespace: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
    /// Index in `spec.rules`.
    pub index: usize,
    /// `name` of the rule (Gateway API, SectionName).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// All of it in one line, made once: requests need it for logs and properties.
    #[serde(skip)]
    label: Arc<str>,
}

/// A rule of a route, complete: what platform, annotations and route ask for stands in one chain.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Where it comes from.
    pub origin: RuleOrigin,
    /// Request filters in order; responses pass them in reverse.
    pub filters: Vec<Filter>,
    /// Where requests go, by weight; none is a 500 unless a filter answers.
    pub backends: Vec<WeightedBackend>,
    /// Limits in time.
    pub timeouts: Timeouts,
    /// When a failed try is repeated beyond what is always safe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// What keeps a client on one endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// Whether requests appear in the access log.
    pub access_log: bool,
}

/// One step of a chain.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Filter {
    /// Changes request headers (HTTPHeaderFilter).
    RequestHeaders(HeaderModifier),
    /// Changes response headers.
    ResponseHeaders(HeaderModifier),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Changes host or path of what the upstream sees.
    Rewrite(UrlRewrite),
    /// Sends a copy elsewhere and ignores the answer.
    Mirror(Mirror),
    /// Bounds how many requests of one client are answered at a time.
    Concurrency(Concurrency),
    /// Answers every request with a status of the host's own.
    Refuse {
        /// Which.
        #[serde(serialize_with = "self::status")]
        status: StatusCode,
        /// Why, for the log.
        reason: Arc<str>,
    },
    /// A sandboxed module.
    Wasm(#[serde(serialize_with = "filter_name")] Arc<FilterSpec>),
    /// A reference that leads nowhere: 500, never skipped (Gateway API, HTTPRouteFilter.extensionRef).
    Unresolved {
        /// What was referred to.
        reference: Arc<str>,
        /// Why it leads nowhere.
        reason: Arc<str>,
    },
}

/// Header changes: `set`, then `add`, then `remove` (HTTPHeaderFilter).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderModifier {
    /// Overwrites or creates.
    #[serde(serialize_with = "header_list", skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Appends.
    #[serde(serialize_with = "header_list", skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Removes every value.
    #[serde(serialize_with = "header_names", skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<HeaderName>,
}

/// How the path of a redirect or rewrite is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathModifier {
    /// This path; the query stays.
    Full(Arc<str>),
    /// This in place of the matched prefix, by segments.
    Prefix(Arc<str>),
}

/// HTTPRequestRedirectFilter: what is absent is taken from the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<&'static str>,
    /// Host of `Location`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Arc<str>>,
    /// Path of `Location`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
    /// Port of `Location`; absent: the scheme's well-known port if a scheme is given, else the listener's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    #[serde(serialize_with = "status")]
    pub status: StatusCode,
}

/// HTTPURLRewriteFilter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UrlRewrite {
    /// Host that the upstream sees.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_value"
    )]
    pub hostname: Option<HeaderValue>,
    /// Path that the upstream sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
}

/// How many requests of one client address are answered at a time, over all workers of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Concurrency {
    /// Rules with the same zone count together.
    pub zone: Arc<str>,
    /// So many.
    pub most: u32,
    /// Status of a refusal.
    #[serde(serialize_with = "status")]
    pub status: StatusCode,
}

/// HTTPRequestMirrorFilter.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// Where the copy goes.
    #[serde(serialize_with = "backend_name")]
    pub backend: Arc<Backend>,
    /// Of `denominator` requests so many are copied.
    pub numerator: u32,
    /// See `numerator`; never 0.
    pub denominator: u32,
}

/// A share of a rule's requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightedBackend {
    /// Where to.
    pub target: BackendTarget,
    /// Share; 0 gets nothing.
    pub weight: u32,
    /// Filters for this backend alone, after the rule's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

/// What a backendRef leads to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BackendTarget {
    /// A known backend.
    Backend(#[serde(serialize_with = "backend_name")] Arc<Backend>),
    /// A reference that leads nowhere: 500 for its share (Gateway API, HTTPRouteRule.backendRefs).
    Unresolved {
        /// Why.
        reason: Arc<str>,
    },
}

/// HTTPRouteTimeouts and what annotations add; absent is unlimited or the host's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// Whole exchange, from the request's head to the last byte of the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
    /// One try, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<Duration>,
    /// Opening a connection to an endpoint, TLS included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Duration>,
    /// Longest silence of the upstream, before its response as within it. A tunnel is silent when nobody says anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Duration>,
    /// Longest time in which the upstream takes nothing of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<Duration>,
}

/// HTTPRouteRetry (GEP-1731).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Statuses of the upstream that are tried again.
    pub codes: Vec<u16>,
    /// Tries after the first.
    pub attempts: u32,
    /// Least wait before a further try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Duration>,
}

impl Rule {
    /// Whether a module of the chain must see the request (native filters alone need no stream for modules).
    pub fn wasm_filters(&self) -> impl Iterator<Item = &Arc<FilterSpec>> {
        let own = self.filters.iter();
        let backends = self
            .backends
            .iter()
            .flat_map(|backend| backend.filters.iter());
        own.chain(backends).filter_map(Filter::as_wasm)
    }
}

impl Filter {
    /// The module filter, if it is one.
    pub fn as_wasm(&self) -> Option<&Arc<FilterSpec>> {
        match self {
            Self::Wasm(spec) => Some(spec),
            _ => None,
        }
    }
}

impl RuleOrigin {
    /// The place of a rule.
    pub fn new(
        kind: &'static str,
        namespace: &str,
        name: &str,
        index: usize,
        rule: Option<&str>,
    ) -> Self {
        let place = rule.map_or_else(|| index.to_string(), str::to_owned);
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
            index,
            rule: rule.map(Into::into),
            label: format!("{kind} {namespace}/{name} rule {place}").into(),
        }
    }

    /// `HTTPRoute shop/web rule 0`, or the rule's name in place of its index.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }
}

impl std::fmt::Display for RuleOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.label)
    }
}

fn filter_name<S: Serializer>(spec: &Arc<FilterSpec>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&spec.id)
}

fn backend_name<S: Serializer>(backend: &Arc<Backend>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&backend.key)
}

fn status<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

fn optional_value<S: Serializer>(
    value: &Option<HeaderValue>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&String::from_utf8_lossy(
        value.as_ref().map_or(b"", HeaderValue::as_bytes),
    ))
}

fn header_list<S: Serializer>(
    list: &[(HeaderName, HeaderValue)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        list.iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))),
    )
}

fn header_names<S: Serializer>(list: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(HeaderName::as_str))
}
