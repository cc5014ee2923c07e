//! The messages of Envoy's ext_authz, as far as they are used here.
//!
//! Field numbers from Envoy v1.40.0: `envoy/service/auth/v3/external_auth.proto` and `attribute_context.proto`,
//! `envoy/config/core/v3/base.proto` and `address.proto`, `envoy/type/v3/http_status.proto`
//! (<https://github.com/envoyproxy/envoy/tree/v1.40.0/api>), `google/rpc/status.proto`. Fields that are not listed are skipped when they
//! come; of those, `dynamic_metadata` has no place to go, since proxy-wasm cannot write Envoy's dynamic metadata.

use std::collections::BTreeMap;

use prost::Message;

/// What is asked.
#[derive(Clone, PartialEq, Message)]
pub struct CheckRequest {
    /// About this.
    #[prost(message, optional, tag = "1")]
    pub attributes: Option<AttributeContext>,
}

/// A request and its connection.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeContext {
    /// The client.
    #[prost(message, optional, tag = "1")]
    pub source: Option<Peer>,
    /// The listener.
    #[prost(message, optional, tag = "2")]
    pub destination: Option<Peer>,
    /// The request.
    #[prost(message, optional, tag = "4")]
    pub request: Option<Request>,
    /// What the configuration adds.
    #[prost(btree_map = "string, string", tag = "10")]
    pub context_extensions: BTreeMap<String, String>,
}

/// One end of the connection.
#[derive(Clone, PartialEq, Message)]
pub struct Peer {
    /// Its address.
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
    /// Who it is, from its certificate.
    #[prost(string, tag = "4")]
    pub principal: String,
}

/// An address.
#[derive(Clone, PartialEq, Message)]
pub struct Address {
    /// Of a socket.
    #[prost(message, optional, tag = "1")]
    pub socket_address: Option<SocketAddress>,
}

/// Of a socket.
#[derive(Clone, PartialEq, Message)]
pub struct SocketAddress {
    /// The IP address.
    #[prost(string, tag = "2")]
    pub address: String,
    /// The port.
    #[prost(uint32, tag = "3")]
    pub port_value: u32,
}

/// A request.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// When it came.
    #[prost(message, optional, tag = "1")]
    pub time: Option<Timestamp>,
    /// What it is in HTTP.
    #[prost(message, optional, tag = "2")]
    pub http: Option<HttpRequest>,
}

/// A time since 1970.
#[derive(Clone, PartialEq, Message)]
pub struct Timestamp {
    /// Seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// And nanoseconds.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// A request in HTTP.
#[derive(Clone, PartialEq, Message)]
pub struct HttpRequest {
    /// `X-Request-Id`.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Method.
    #[prost(string, tag = "2")]
    pub method: String,
    /// Headers in lower case, several values joined by commas.
    #[prost(btree_map = "string, string", tag = "3")]
    pub headers: BTreeMap<String, String>,
    /// Path and query.
    #[prost(string, tag = "4")]
    pub path: String,
    /// Host, and port if it was given.
    #[prost(string, tag = "5")]
    pub host: String,
    /// `http` or `https`.
    #[prost(string, tag = "6")]
    pub scheme: String,
    /// Length of the body in bytes, -1 where it is not known.
    #[prost(int64, tag = "9")]
    pub size: i64,
    /// `HTTP/1.1` and so on.
    #[prost(string, tag = "10")]
    pub protocol: String,
    /// The body as text.
    #[prost(string, tag = "11")]
    pub body: String,
    /// Or as bytes.
    #[prost(bytes = "vec", tag = "12")]
    pub raw_body: Vec<u8>,
}

/// What is answered.
#[derive(Clone, PartialEq, Message)]
pub struct CheckResponse {
    /// Code 0, or none: the request passes.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// What a client gets that is refused.
    #[prost(message, optional, tag = "2")]
    pub denied_response: Option<DeniedHttpResponse>,
    /// What passing means.
    #[prost(message, optional, tag = "3")]
    pub ok_response: Option<OkHttpResponse>,
    /// The service failed.
    #[prost(message, optional, tag = "5")]
    pub error_response: Option<DeniedHttpResponse>,
}

/// A gRPC status.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// Its code.
    #[prost(int32, tag = "1")]
    pub code: i32,
}

/// A reply.
#[derive(Clone, PartialEq, Message)]
pub struct DeniedHttpResponse {
    /// Its status.
    #[prost(message, optional, tag = "1")]
    pub status: Option<HttpStatus>,
    /// Its headers.
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<HeaderValueOption>,
    /// Its body.
    #[prost(string, tag = "3")]
    pub body: String,
}

/// A status of HTTP.
#[derive(Clone, PartialEq, Message)]
pub struct HttpStatus {
    /// The number.
    #[prost(int32, tag = "1")]
    pub code: i32,
}

/// Changes of request and response.
#[derive(Clone, PartialEq, Message)]
pub struct OkHttpResponse {
    /// Headers of the request.
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<HeaderValueOption>,
    /// Headers that the request loses.
    #[prost(string, repeated, tag = "5")]
    pub headers_to_remove: Vec<String>,
    /// Headers of the response.
    #[prost(message, repeated, tag = "6")]
    pub response_headers_to_add: Vec<HeaderValueOption>,
    /// Parameters of the query.
    #[prost(message, repeated, tag = "7")]
    pub query_parameters_to_set: Vec<QueryParameter>,
    /// Parameters that the query loses.
    #[prost(string, repeated, tag = "8")]
    pub query_parameters_to_remove: Vec<String>,
}

/// A header, and what becomes of values that are there.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderValueOption {
    /// The header.
    #[prost(message, optional, tag = "1")]
    pub header: Option<HeaderValue>,
    /// Whether they stay.
    #[prost(message, optional, tag = "2")]
    pub append: Option<BoolValue>,
    /// The same in more ways, where `append` is not there.
    #[prost(enumeration = "AppendAction", tag = "3")]
    pub append_action: i32,
}

/// `google.protobuf.BoolValue`
#[derive(Clone, PartialEq, Message)]
pub struct BoolValue {
    /// The value.
    #[prost(bool, tag = "1")]
    pub value: bool,
}

/// What becomes of values that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum AppendAction {
    /// Nothing said, or: they stay. The two cannot be told apart, and without `append` the first is meant: they go.
    AppendIfExistsOrAdd = 0,
    /// They stay, and nothing is added.
    AddIfAbsent = 1,
    /// They go.
    OverwriteIfExistsOrAdd = 2,
    /// They go; where there are none, nothing is added.
    OverwriteIfExists = 3,
}

/// A header.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value as text.
    #[prost(string, tag = "2")]
    pub value: String,
    /// Or as bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub raw_value: Vec<u8>,
}

impl HeaderValue {
    /// Its value, however it was sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self.raw_value.is_empty() {
            true => self.value.as_bytes(),
            false => &self.raw_value,
        }
    }
}

/// A parameter of a query.
#[derive(Clone, PartialEq, Message)]
pub struct QueryParameter {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}
