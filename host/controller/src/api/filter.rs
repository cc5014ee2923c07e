//! The filters of HTTPRoute and GRPCRoute, on a rule and on a backendRef (`httproute_types.go`).

use serde::Deserialize;

use super::reference::{BackendObjectReference, LocalObjectReference};

/// A filter; the CRD's union made one that cannot disagree with its `type`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "RawFilter")]
pub enum RouteFilter {
    /// Changes request headers.
    RequestHeaderModifier(HeaderModifier),
    /// Changes response headers.
    ResponseHeaderModifier(HeaderModifier),
    /// Sends a copy of requests elsewhere.
    RequestMirror(RequestMirror),
    /// Answers with a redirect.
    RequestRedirect(RequestRedirect),
    /// Changes host or path of what the upstream sees.
    UrlRewrite(UrlRewrite),
    /// Cross-origin resource sharing.
    Cors(Cors),
    /// Asks another service whether the request may pass.
    ExternalAuth(ExternalAuth),
    /// An object in the same namespace, for us a Filter.
    ExtensionRef(LocalObjectReference),
    /// A type that this program does not know: newer than it, or of another implementation.
    Other(String),
}

/// `requestHeaderModifier`, `responseHeaderModifier`. Names are matched without case; `set` is applied
/// before `add`, `add` before `remove`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HeaderModifier {
    /// Overwrites.
    pub set: Vec<Header>,
    /// Appends.
    pub add: Vec<Header>,
    /// Removes, by name.
    pub remove: Vec<String>,
}

/// A header name and its value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Header {
    /// Case as written.
    pub name: String,
    /// The value.
    pub value: String,
}

/// `requestMirror`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestMirror {
    /// Where the copies go.
    pub backend_ref: BackendObjectReference,
    /// Share of requests, 0 to 100; all where this and `fraction` are absent.
    #[serde(default)]
    pub percent: Option<u8>,
    /// Share of requests, finer than percent.
    #[serde(default)]
    pub fraction: Option<Fraction>,
}

/// A share of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Fraction {
    /// At most the denominator.
    pub numerator: u32,
    /// Default 100.
    #[serde(default = "hundred")]
    pub denominator: u32,
}

/// `requestRedirect`; what is absent is taken from the request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestRedirect {
    /// `http` or `https`.
    #[serde(default)]
    pub scheme: Option<String>,
    /// Of the `Location` header.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Of the `Location` header.
    #[serde(default)]
    pub path: Option<PathModifier>,
    /// Of the `Location` header; absent: the scheme's well-known port if a scheme is given, else the
    /// listener's port.
    #[serde(default)]
    pub port: Option<u16>,
    /// 301, 302 (default), 303, 307 or 308.
    #[serde(default = "found")]
    pub status_code: u16,
}

/// `urlRewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UrlRewrite {
    /// The Host header the upstream sees.
    pub hostname: Option<String>,
    /// The path the upstream sees.
    pub path: Option<PathModifier>,
}

/// How a path is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawPathModifier")]
pub enum PathModifier {
    /// The whole path.
    ReplaceFullPath(String),
    /// The part that the rule's PathPrefix matched.
    ReplacePrefixMatch(String),
    /// A type that this program does not know.
    Other(String),
}

/// `cors`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cors {
    /// Origins, `*` for all, `https://*.example.com` for a suffix.
    pub allow_origins: Vec<String>,
    /// Default false.
    pub allow_credentials: bool,
    /// Methods, `*` for all.
    pub allow_methods: Vec<String>,
    /// Request headers, `*` for all.
    pub allow_headers: Vec<String>,
    /// Response headers that scripts may read.
    pub expose_headers: Vec<String>,
    /// How long a preflight's answer may be cached, in seconds. Default 5.
    pub max_age: u32,
}

/// `externalAuth`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalAuth {
    /// How the service is asked.
    pub protocol: ExternalAuthProtocol,
    /// The service that is asked.
    pub backend_ref: BackendObjectReference,
    /// For [`ExternalAuthProtocol::Grpc`].
    #[serde(default)]
    pub grpc: GrpcAuth,
    /// For [`ExternalAuthProtocol::Http`].
    #[serde(default)]
    pub http: HttpAuth,
    /// Whether the request's body is sent along; not where it is absent or 0.
    #[serde(default)]
    pub forward_body: ForwardBody,
}

/// How an external authorisation service is asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub enum ExternalAuthProtocol {
    /// Envoy's ext_authz v3.
    #[serde(rename = "GRPC")]
    Grpc,
    /// A request of its own; 200 lets the client's request pass.
    #[serde(rename = "HTTP")]
    Http,
    /// One that this program does not know.
    #[serde(untagged)]
    Other(String),
}

/// `externalAuth.grpc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcAuth {
    /// Request headers that are sent; all where it is empty.
    pub allowed_headers: Vec<String>,
}

/// `externalAuth.http`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpAuth {
    /// Put before the request's path.
    pub path: String,
    /// Request headers that are sent besides Host, Method, Path, Content-Length and Authorization.
    pub allowed_headers: Vec<String>,
    /// Headers of the answer that are put on the request; all but Host where it is empty.
    pub allowed_response_headers: Vec<String>,
}

/// `externalAuth.forwardBody`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ForwardBody {
    /// In bytes; 0 sends no body.
    pub max_size: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFilter {
    r#type: String,
    request_header_modifier: Option<HeaderModifier>,
    response_header_modifier: Option<HeaderModifier>,
    request_mirror: Option<RequestMirror>,
    request_redirect: Option<RequestRedirect>,
    url_rewrite: Option<UrlRewrite>,
    cors: Option<Cors>,
    external_auth: Option<ExternalAuth>,
    extension_ref: Option<LocalObjectReference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPathModifier {
    r#type: String,
    replace_full_path: Option<String>,
    replace_prefix_match: Option<String>,
}

// === impl RouteFilter ===

impl RouteFilter {
    /// As `type` spells it.
    pub fn type_name(&self) -> &str {
        match self {
            Self::RequestHeaderModifier(_) => "RequestHeaderModifier",
            Self::ResponseHeaderModifier(_) => "ResponseHeaderModifier",
            Self::RequestMirror(_) => "RequestMirror",
            Self::RequestRedirect(_) => "RequestRedirect",
            Self::UrlRewrite(_) => "URLRewrite",
            Self::Cors(_) => "CORS",
            Self::ExternalAuth(_) => "ExternalAuth",
            Self::ExtensionRef(_) => "ExtensionRef",
            Self::Other(name) => name,
        }
    }
}

impl TryFrom<RawFilter> for RouteFilter {
    type Error = String;

    fn try_from(raw: RawFilter) -> Result<Self, String> {
        fn need<T>(payload: Option<T>, field: &str, name: &str) -> Result<T, String> {
            payload
                .ok_or_else(|| format!("filter.{field} must be specified for {name} filter.type"))
        }
        let name = raw.r#type;
        Ok(match name.as_str() {
            "RequestHeaderModifier" => Self::RequestHeaderModifier(need(
                raw.request_header_modifier,
                "requestHeaderModifier",
                &name,
            )?),
            "ResponseHeaderModifier" => Self::ResponseHeaderModifier(need(
                raw.response_header_modifier,
                "responseHeaderModifier",
                &name,
            )?),
            "RequestMirror" => {
                Self::RequestMirror(need(raw.request_mirror, "requestMirror", &name)?)
            }
            "RequestRedirect" => {
                Self::RequestRedirect(need(raw.request_redirect, "requestRedirect", &name)?)
            }
            "URLRewrite" => Self::UrlRewrite(need(raw.url_rewrite, "urlRewrite", &name)?),
            "CORS" => Self::Cors(need(raw.cors, "cors", &name)?),
            "ExternalAuth" => Self::ExternalAuth(need(raw.external_auth, "externalAuth", &name)?),
            "ExtensionRef" => Self::ExtensionRef(need(raw.extension_ref, "extensionRef", &name)?),
            _ => Self::Other(name),
        })
    }
}

// === impl PathModifier ===

impl TryFrom<RawPathModifier> for PathModifier {
    type Error = String;

    fn try_from(raw: RawPathModifier) -> Result<Self, String> {
        match raw.r#type.as_str() {
            "ReplaceFullPath" => {
                raw.replace_full_path
                    .map(Self::ReplaceFullPath)
                    .ok_or_else(|| {
                        "replaceFullPath must be specified when type is set to 'ReplaceFullPath'"
                            .to_owned()
                    })
            }
            "ReplacePrefixMatch" => raw
                .replace_prefix_match
                .map(Self::ReplacePrefixMatch)
                .ok_or_else(|| {
                    "replacePrefixMatch must be specified when type is set to 'ReplacePrefixMatch'"
                        .to_owned()
                }),
            _ => Ok(Self::Other(raw.r#type)),
        }
    }
}

// === impl Cors ===

impl Default for Cors {
    fn default() -> Self {
        Self {
            allow_origins: Vec::new(),
            allow_credentials: false,
            allow_methods: Vec::new(),
            allow_headers: Vec::new(),
            expose_headers: Vec::new(),
            max_age: 5,
        }
    }
}

fn hundred() -> u32 {
    100
}

fn found() -> u16 {
    302
}
