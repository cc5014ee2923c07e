//! The fields of each attribute object.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{StatusCode, Version};
use tidegate_model::RequestHead;

use super::{Object, Value};
use crate::headers::{MapType, View};
use crate::host::Host;
use crate::status::grpc_status_of;
use crate::stream::{StreamIo, TlsAttributes};

/// `request.*`
pub(super) fn request<'a>(host: &'a Host, io: &'a StreamIo, key: &[u8]) -> Option<Value<'a>> {
    let view = host.view(MapType::RequestHeaders);
    let attributes = &io.attributes;
    match key {
        b"headers" => return Some(Value::Headers(view)),
        b"headers_bytes" => return Some(length(byte_size(view))),
        b"time" => return attributes.start.map(timestamp),
        b"duration" => return attributes.duration.map(duration),
        b"protocol" => return attributes.protocol.map(protocol),
        b"size" => return request_size(view, io),
        b"total_size" => {
            return Some(number(
                attributes
                    .request_bytes
                    .saturating_add(byte_size(view) as u64),
            ));
        }
        _ => {}
    }
    let view = view?;
    let header = |name: &[u8]| view.get(name).map(bytes);
    match key {
        b"path" => header(b":path"),
        b"host" => header(b":authority"),
        b"scheme" => header(b":scheme"),
        b"method" => header(b":method"),
        b"referer" => header(b"referer"),
        b"useragent" => header(b"user-agent"),
        b"id" => header(b"x-request-id"),
        b"url_path" => Some(bytes(path_and_query(&io.request).0)),
        b"query" => Some(bytes(path_and_query(&io.request).1)),
        _ => None,
    }
}

/// `response.*`
pub(super) fn response<'a>(host: &'a Host, io: &'a StreamIo, key: &[u8]) -> Option<Value<'a>> {
    let (headers, trailers) = (
        host.view(MapType::ResponseHeaders),
        host.view(MapType::ResponseTrailers),
    );
    let attributes = &io.attributes;
    match key {
        b"code" => attributes
            .response_code
            .map(|code| Value::Int(i64::from(code.as_u16()))),
        b"code_details" => attributes.response_code_details.as_deref().map(text),
        b"flags" => Some(number(attributes.response_flags)),
        b"grpc_status" => grpc_status(headers, trailers, attributes.response_code),
        b"headers" => Some(Value::Headers(headers)),
        b"headers_bytes" => Some(length(byte_size(headers))),
        b"trailers" => Some(Value::Headers(trailers)),
        b"size" => Some(number(attributes.response_bytes)),
        b"total_size" => {
            let heads = byte_size(headers) + byte_size(trailers);
            Some(number(
                attributes.response_bytes.saturating_add(heads as u64),
            ))
        }
        b"backend_latency" => attributes.backend_latency.map(duration),
        _ => None,
    }
}

/// `connection.*`
pub(super) fn connection<'a>(io: &'a StreamIo, key: &[u8]) -> Option<Value<'a>> {
    let connection = io.attributes.connection.as_deref()?;
    let peer_shown = |tls: &TlsAttributes| tls.sha256_peer_digest.is_some();
    match key {
        b"id" => connection.id.map(Value::Uint),
        b"mtls" => Some(Value::Bool(connection.tls.as_ref().is_some_and(peer_shown))),
        b"requested_server_name" => {
            Some(text(connection.server_name.as_deref().unwrap_or_default()))
        }
        b"termination_details" => connection.termination_details.as_deref().map(text),
        b"transport_failure_reason" => connection.transport_failure_reason.as_deref().map(text),
        _ => tls(connection.tls.as_ref()?, key),
    }
}

/// `upstream.*`. How many endpoints there are is known with the backend, the rest with the connection.
pub(super) fn upstream<'a>(io: &'a StreamIo, key: &[u8]) -> Option<Value<'a>> {
    let attributes = &io.attributes;
    match key {
        b"request_attempt_count" => return Some(Value::Uint(u64::from(attributes.attempts))),
        b"num_endpoints" => {
            return attributes
                .backend()
                .map(|backend| Value::Uint(backend.endpoints.len() as u64));
        }
        _ => {}
    }
    let upstream = attributes.upstream.as_deref()?;
    match key {
        b"address" | b"port" => peer(upstream.address?, key),
        b"local_address" => peer(attributes.upstream_local?, b"address"),
        b"cx_pool_ready_duration" => attributes.pool_ready.map(duration),
        // A message without fields: endpoints have none here.
        b"locality" => Some(text("")),
        b"transport_failure_reason" => Some(text(&upstream.transport_failure_reason)),
        _ => tls(upstream.tls.as_ref()?, key),
    }
}

/// `source.*`, `destination.*`
pub(super) fn peer<'a>(address: SocketAddr, key: &[u8]) -> Option<Value<'a>> {
    match key {
        b"address" => Some(Value::Bytes(address.to_string().into_bytes().into())),
        b"port" => Some(Value::Int(i64::from(address.port()))),
        _ => None,
    }
}

/// `xds.*`: of this host without a stream, of the exchange with one. There is no metadata here, so every message of it is an
/// empty one.
pub(super) fn xds<'a>(io: Option<&'a StreamIo>, key: &[u8]) -> Option<Value<'a>> {
    match key {
        b"node" => return Some(Value::Object(Object::Node)),
        // UNSPECIFIED, as in an Envoy without a control plane of its own mind.
        b"listener_direction" => return Some(Value::Int(0)),
        b"listener_metadata" => return Some(Value::Metadata),
        _ => {}
    }
    let attributes = &io?.attributes;
    let rule = attributes.rule.as_deref();
    let label = || rule.map(|rule| &**rule.origin.label());
    match key {
        b"cluster_name" => attributes.backend().map(|backend| text(&backend.key)),
        b"route_name" | b"virtual_host_name" => label().map(text),
        b"filter_chain_name" => {
            let connection = attributes.connection.as_deref()?;
            connection.listener_name.as_deref().map(text)
        }
        b"cluster_metadata" => attributes.backend().map(|_| Value::Metadata),
        b"route_metadata" | b"virtual_host_metadata" => rule.map(|_| Value::Metadata),
        b"upstream_host_metadata" => attributes.upstream.as_ref().map(|_| Value::Metadata),
        _ => None,
    }
}

/// `xds.node.*`
pub(super) fn node<'a>(host: &'a Host, key: &[u8]) -> Option<Value<'a>> {
    match key {
        b"id" => Some(text(host.node())),
        _ => None,
    }
}

fn tls<'a>(tls: &'a TlsAttributes, key: &[u8]) -> Option<Value<'a>> {
    match key {
        b"tls_version" => Some(text(&tls.version)),
        b"subject_local_certificate" => Some(text(&tls.subject_local)),
        b"subject_peer_certificate" => Some(text(&tls.subject_peer)),
        b"dns_san_local_certificate" => tls.dns_san_local.as_deref().map(text),
        b"dns_san_peer_certificate" => tls.dns_san_peer.as_deref().map(text),
        b"uri_san_local_certificate" => tls.uri_san_local.as_deref().map(text),
        b"uri_san_peer_certificate" => tls.uri_san_peer.as_deref().map(text),
        b"sha256_peer_certificate_digest" => tls.sha256_peer_digest.as_deref().map(text),
        b"peer_certificate" => tls.peer_certificate.as_deref().map(text),
        _ => None,
    }
}

/// `content-length` while the head can be read; one that is no number is nothing at all.
fn request_size<'a>(view: Option<View<'a>>, io: &StreamIo) -> Option<Value<'a>> {
    match view.and_then(|view| view.get(b"content-length")) {
        Some(length) => std::str::from_utf8(length)
            .ok()?
            .trim()
            .parse()
            .ok()
            .map(Value::Int),
        None => Some(number(io.attributes.request_bytes)),
    }
}

/// From trailers or headers, else what gRPC makes of the HTTP status.
fn grpc_status<'a>(
    headers: Option<View<'_>>,
    trailers: Option<View<'_>>,
    code: Option<StatusCode>,
) -> Option<Value<'a>> {
    let said = [trailers, headers]
        .into_iter()
        .flatten()
        .find_map(|view| view.get(b"grpc-status"));
    if let Some(said) = said {
        return std::str::from_utf8(said).ok()?.parse().ok().map(Value::Int);
    }
    Some(Value::Int(i64::from(grpc_status_of(code?))))
}

fn path_and_query(head: &RequestHead) -> (&[u8], &[u8]) {
    let path = head.path.as_str().as_bytes();
    match path.iter().position(|byte| *byte == b'?') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, b""),
    }
}

fn protocol<'a>(version: Version) -> Value<'a> {
    text(match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    })
}

fn byte_size(view: Option<View<'_>>) -> usize {
    view.map_or(0, View::byte_size)
}

fn bytes(bytes: &[u8]) -> Value<'_> {
    Value::Bytes(bytes.into())
}

fn text(text: &str) -> Value<'_> {
    bytes(text.as_bytes())
}

fn length<'a>(len: usize) -> Value<'a> {
    Value::Int(i64::try_from(len).unwrap_or(i64::MAX))
}

fn number<'a>(number: u64) -> Value<'a> {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn duration<'a>(duration: Duration) -> Value<'a> {
    Value::Duration(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

fn timestamp<'a>(time: SystemTime) -> Value<'a> {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Value::Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
