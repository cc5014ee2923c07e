//! What a filter sees of one exchange: heads, bodies, trailers and attributes.
//!
//! One [`StreamIo`] travels along the filter chain. It is attached to a context for the length of a call, and stays attached
//! while that context holds the stream.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tidegate_model::{Backend, BackendTarget, PackedHeaders, RequestHead, ResponseHead, Rule};

use crate::action::Direction;
use crate::body::BodyData;
use crate::headers;

/// Filter state: what `proxy_set_property` wrote, under `wasm.` and the name, for all filters of the request.
pub type FilterState = BTreeMap<Vec<u8>, Bytes>;

/// One exchange, as filters read and change it.
#[derive(Debug)]
pub struct StreamIo {
    /// Without its headers once the request went out, see [`request_head`](Self::request_head).
    pub request: RequestHead,
    /// What the request body callback is about: the chunk, or all that was held. What the guest leaves in it passes on.
    pub request_body: BodyData,
    /// Trailers; a filter may add some at the end of the body.
    pub request_trailers: Option<HeaderMap>,
    /// None until the response's head is here, and without its headers once it went out, see
    /// [`response_head`](Self::response_head).
    pub response: Option<ResponseHead>,
    /// As [`request_body`](Self::request_body).
    pub response_body: BodyData,
    /// As [`request_trailers`](Self::request_trailers).
    pub response_trailers: Option<HeaderMap>,
    /// Pseudo-headers that a filter removed: a request that lacks one cannot be sent, nor a response without `:status`.
    pub missing: PseudoSet,
    /// What `proxy_get_property` reads beside the heads.
    pub attributes: Attributes,
    /// Values set by filters.
    pub state: FilterState,
    /// Headers that went out.
    sent_request: Option<Sent<RequestHead>>,
    sent_response: Option<Sent<ResponseHead>>,
}

/// A head that went out, for who still reads it in `on_log` or a body callback. Few do, so it is put together for the first.
#[derive(Debug)]
struct Sent<T> {
    headers: PackedHeaders,
    head: OnceCell<Box<T>>,
}

/// A set of pseudo-headers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PseudoSet(u8);

/// Facts about the exchange that its heads do not hold. All optional: absent is "not found" to the guest.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// `source.*`, `destination.*`, `connection.*`: made once per connection.
    pub connection: Option<Arc<ConnectionAttributes>>,
    /// `request.protocol`
    pub protocol: Option<http::Version>,
    /// `request.time`
    pub start: Option<SystemTime>,
    /// `request.duration`, known at the end.
    pub duration: Option<Duration>,
    /// Body bytes received so far: `request.size` where no `content-length` says it, `request.total_size`. Brought up to date
    /// for body callbacks and at the end.
    pub request_bytes: u64,
    /// `response.code`
    pub response_code: Option<StatusCode>,
    /// `response.code_details`, such as `via_upstream`.
    pub response_code_details: Option<Cow<'static, str>>,
    /// `response.flags`, Envoy's bits.
    pub response_flags: u64,
    /// Body bytes that went out so far: `response.size`. Brought up to date likewise.
    pub response_bytes: u64,
    /// `response.backend_latency`: from the request's first byte to the response's last, known at the end.
    pub backend_latency: Option<Duration>,
    /// `upstream.*`, once an endpoint is chosen.
    pub upstream: Option<Arc<UpstreamAttributes>>,
    /// `upstream.local_address`: this host's end of the connection.
    pub upstream_local: Option<SocketAddr>,
    /// `upstream.cx_pool_ready_duration`: how long the connection took to open; zero for one that was there.
    pub pool_ready: Option<Duration>,
    /// `upstream.request_attempt_count`
    pub attempts: u32,
    /// `xds.route_name`, `xds.virtual_host_name`; and the backend, while none is chosen and the rule has one only.
    pub rule: Option<Arc<Rule>>,
    /// Which of the rule's backends was chosen: `xds.cluster_name`.
    pub backend: Option<usize>,
}

/// Facts about the downstream connection.
#[derive(Clone, Debug, Default)]
pub struct ConnectionAttributes {
    /// `connection.id`, `connection_id`
    pub id: Option<u64>,
    /// `source.address`, `source.port`
    pub source: Option<SocketAddr>,
    /// `destination.address`, `destination.port`
    pub destination: Option<SocketAddr>,
    /// `connection.requested_server_name`
    pub server_name: Option<String>,
    /// `connection.termination_details`
    pub termination_details: Option<String>,
    /// `connection.transport_failure_reason`
    pub transport_failure_reason: Option<String>,
    /// `xds.filter_chain_name`: the listener.
    pub listener_name: Option<Arc<str>>,
    /// Absent without TLS.
    pub tls: Option<TlsAttributes>,
}

/// Facts about TLS on either side. Empty strings are Envoy's answer for "none" in the subjects.
#[derive(Clone, Debug, Default)]
pub struct TlsAttributes {
    /// `tls_version`, as `TLSv1.3`.
    pub version: String,
    /// `subject_local_certificate`, RFC 2253.
    pub subject_local: String,
    /// `subject_peer_certificate`, RFC 2253.
    pub subject_peer: String,
    /// `dns_san_local_certificate`: the first one.
    pub dns_san_local: Option<String>,
    /// `dns_san_peer_certificate`: the first one.
    pub dns_san_peer: Option<String>,
    /// `uri_san_local_certificate`: the first one.
    pub uri_san_local: Option<String>,
    /// `uri_san_peer_certificate`: the first one.
    pub uri_san_peer: Option<String>,
    /// `sha256_peer_certificate_digest`: lower-case hex. Present exactly when the peer showed a certificate, then `mtls` is true.
    pub sha256_peer_digest: Option<String>,
    /// `peer_certificate`: URL-encoded PEM.
    pub peer_certificate: Option<String>,
}

/// Facts about the endpoint the request goes to.
#[derive(Clone, Debug, Default)]
pub struct UpstreamAttributes {
    /// `upstream.address`, `upstream.port`
    pub address: Option<SocketAddr>,
    /// `upstream.transport_failure_reason`
    pub transport_failure_reason: String,
    /// Absent without TLS towards the endpoint.
    pub tls: Option<TlsAttributes>,
}

// === impl StreamIo ===

impl StreamIo {
    /// An exchange that begins with this request. Fields that Envoy keeps inline come to stand in one line, as its filters see
    /// them.
    pub fn new(mut request: RequestHead) -> Self {
        headers::join_lines(&mut request.headers, headers::is_inline_in_requests);
        Self {
            request,
            request_body: BodyData::default(),
            request_trailers: None,
            response: None,
            response_body: BodyData::default(),
            response_trailers: None,
            missing: PseudoSet::NONE,
            attributes: Attributes::default(),
            state: FilterState::new(),
            sent_request: None,
            sent_response: None,
        }
    }

    /// The request's head, whether it has gone out or not.
    pub fn request_head(&self) -> &RequestHead {
        let Some(sent) = &self.sent_request else {
            return &self.request;
        };
        sent.head.get_or_init(|| {
            Box::new(RequestHead {
                headers: sent.headers.unpack(),
                ..self.request.clone()
            })
        })
    }

    /// The response's head, whether it has gone out or not.
    pub fn response_head(&self) -> Option<&ResponseHead> {
        let head = self.response.as_ref()?;
        let Some(sent) = &self.sent_response else {
            return Some(head);
        };
        Some(sent.head.get_or_init(|| {
            Box::new(ResponseHead {
                headers: sent.headers.unpack(),
                status: head.status,
            })
        }))
    }

    /// The response's head is here, or another in its place; its fields as those of [the request](Self::new).
    pub fn receive_response(&mut self, mut response: ResponseHead) {
        headers::join_lines(&mut response.headers, headers::is_inline_in_responses);
        self.attributes.response_code = Some(response.status);
        self.response = Some(response);
    }

    /// What the body callback of this direction is about.
    pub fn body_mut(&mut self, direction: Direction) -> &mut BodyData {
        match direction {
            Direction::Request => &mut self.request_body,
            Direction::Response => &mut self.response_body,
        }
    }

    /// The trailers of this direction.
    pub fn trailers_mut(&mut self, direction: Direction) -> &mut Option<HeaderMap> {
        match direction {
            Direction::Request => &mut self.request_trailers,
            Direction::Response => &mut self.response_trailers,
        }
    }

    /// Takes the request's head to send it. Filters can still read it.
    pub fn send_request(&mut self) -> RequestHead {
        let headers = std::mem::take(&mut self.request.headers);
        self.sent_request = Some(Sent::new(&headers));
        RequestHead {
            headers,
            ..self.request.clone()
        }
    }

    /// Takes the response's head to send it. Filters can still read it.
    pub fn send_response(&mut self) -> Option<ResponseHead> {
        let head = self.response.as_mut()?;
        let headers = std::mem::take(&mut head.headers);
        self.sent_response = Some(Sent::new(&headers));
        Some(ResponseHead {
            headers,
            status: head.status,
        })
    }
}

// === impl Sent ===

impl<T> Sent<T> {
    fn new(headers: &HeaderMap) -> Self {
        Self {
            headers: PackedHeaders::pack(headers),
            head: OnceCell::new(),
        }
    }
}

// === impl Attributes ===

impl Attributes {
    /// The chosen backend, or the only one that can be.
    pub(crate) fn backend(&self) -> Option<&Backend> {
        let rule = self.rule.as_deref()?;
        let chosen = match (self.backend, rule.backends.as_slice()) {
            (Some(chosen), backends) => backends.get(chosen)?,
            (None, [only]) => only,
            (None, _) => return None,
        };
        match &chosen.target {
            BackendTarget::Backend(backend) => Some(&**backend),
            BackendTarget::Unresolved { .. } => None,
        }
    }
}

// === impl PseudoSet ===

impl PseudoSet {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// `:authority`
    pub const AUTHORITY: Self = Self(1);
    /// `:path`
    pub const PATH: Self = Self(1 << 1);
    /// `:method`
    pub const METHOD: Self = Self(1 << 2);
    /// `:scheme`
    pub const SCHEME: Self = Self(1 << 3);
    /// `:status`
    pub const STATUS: Self = Self(1 << 4);
    /// All of a request's.
    pub const REQUEST: Self = Self(0b1111);

    /// Whether nothing is in it.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether one of `other` is in it.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Takes out all of `other`.
    pub const fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}
