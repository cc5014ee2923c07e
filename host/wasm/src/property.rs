//! The vocabulary of `proxy_get_property`: Envoy's attributes, and when each of them is there.
//!
//! A path is walked segment by segment, then the value is serialised: strings as they are, numbers as 8 bytes, booleans as 1,
//! maps as pairs. What derives from a head is there exactly while the guest can read that head. The bare names of older
//! versions of Envoy (`cluster_name`, `route_name` and so on) are understood where
//! [`PluginConfig::old_property_names`](crate::PluginConfig::old_property_names) says so: existing filters read them.

mod lookup;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use cel::objects::Key;
use chrono::{DateTime, TimeDelta};

use crate::expression::Attribute;
use crate::headers::View;
use crate::host::Host;
use crate::pairs;
use crate::protobuf;
use crate::status::Status;
use crate::stream::StreamIo;

/// A value on the way down a path.
pub(crate) enum Value<'a> {
    Bytes(Cow<'a, [u8]>),
    Int(i64),
    Uint(u64),
    /// Nanoseconds.
    Duration(i64),
    /// Nanoseconds since the epoch of Unix.
    Timestamp(i64),
    Bool(bool),
    /// A header map; none is an empty one.
    Headers(Option<View<'a>>),
    /// A message `Metadata`: always empty here.
    Metadata,
    EmptyMap,
    Object(Object),
}

/// Something that has fields but, but for the node, no serialised form: Envoy answers with a serialisation failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Object {
    Request,
    Response,
    Connection,
    Upstream,
    Source,
    Destination,
    Xds,
    Node,
    FilterState,
}

impl Object {
    /// Names of its fields.
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Request => &[
                "path",
                "url_path",
                "host",
                "scheme",
                "method",
                "headers",
                "headers_bytes",
                "referer",
                "useragent",
                "time",
                "id",
                "protocol",
                "query",
                "duration",
                "size",
                "total_size",
            ],
            Self::Response => &[
                "code",
                "code_details",
                "flags",
                "grpc_status",
                "headers",
                "headers_bytes",
                "trailers",
                "size",
                "total_size",
                "backend_latency",
            ],
            Self::Connection => &[
                "id",
                "mtls",
                "requested_server_name",
                "tls_version",
                "subject_local_certificate",
                "subject_peer_certificate",
                "dns_san_local_certificate",
                "dns_san_peer_certificate",
                "uri_san_local_certificate",
                "uri_san_peer_certificate",
                "sha256_peer_certificate_digest",
                "peer_certificate",
                "transport_failure_reason",
                "termination_details",
            ],
            Self::Upstream => &[
                "address",
                "port",
                "local_address",
                "num_endpoints",
                "request_attempt_count",
                "cx_pool_ready_duration",
                "locality",
                "transport_failure_reason",
                "tls_version",
                "subject_local_certificate",
                "subject_peer_certificate",
                "dns_san_local_certificate",
                "dns_san_peer_certificate",
                "uri_san_local_certificate",
                "uri_san_peer_certificate",
                "sha256_peer_certificate_digest",
                "peer_certificate",
            ],
            Self::Source | Self::Destination => &["address", "port"],
            Self::Xds => &[
                "node",
                "cluster_name",
                "cluster_metadata",
                "route_name",
                "route_metadata",
                "virtual_host_name",
                "virtual_host_metadata",
                "listener_direction",
                "listener_metadata",
                "upstream_host_metadata",
                "filter_chain_name",
            ],
            Self::Node => &["id"],
            Self::FilterState => &[],
        }
    }
}

/// The key under which `proxy_set_property` keeps a value, and other filters find it in `filter_state`.
pub(crate) fn state_key(path: &[u8]) -> Vec<u8> {
    [b"wasm.", path].concat()
}

/// Looks up `path`, segments separated by NUL, and serialises what is there into `out`.
pub(crate) fn get(host: &Host, path: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    // A NUL at the end starts no further segment.
    if path.is_empty() {
        return Err(Status::SerializationFailure);
    }
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let mut segments = path.split(|byte| *byte == 0);
    let first = segments.next().unwrap_or_default();
    let mut value = top(host, first).ok_or(Status::NotFound)?;
    for segment in segments {
        value = field(host, &value, segment).ok_or(Status::NotFound)?;
    }
    serialise(host, &value, out)
}

/// What stands at a path, for an expression.
pub(crate) fn value(host: &Host, path: &[&str]) -> Attribute {
    let find = || {
        let (first, rest) = path.split_first()?;
        let mut value = top(host, first.as_bytes())?;
        for segment in rest {
            value = field(host, &value, segment.as_bytes())?;
        }
        Some(value)
    };
    find().map_or(Attribute::Absent, |value| attribute(host, value))
}

fn attribute(host: &Host, value: Value<'_>) -> Attribute {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => cel::Value::from(text),
        Err(_) => cel::Value::Bytes(Arc::new(bytes.to_vec())),
    };
    let pairs = |entries: Vec<(&[u8], Vec<u8>)>| {
        let map: HashMap<Key, cel::Value> = entries
            .into_iter()
            .map(|(name, value)| {
                (
                    String::from_utf8_lossy(name).into_owned().into(),
                    text(&value),
                )
            })
            .collect();
        cel::Value::from(map)
    };
    Attribute::Value(match value {
        Value::Bytes(bytes) => text(&bytes),
        Value::Int(number) => number.into(),
        Value::Uint(number) => number.into(),
        Value::Duration(span) => cel::Value::Duration(TimeDelta::nanoseconds(span)),
        Value::Timestamp(time) => {
            cel::Value::Timestamp(DateTime::from_timestamp_nanos(time).fixed_offset())
        }
        Value::Bool(flag) => flag.into(),
        Value::Headers(Some(view)) => pairs(joined(view)),
        Value::Headers(None) | Value::Metadata | Value::EmptyMap => pairs(Vec::new()),
        Value::Object(Object::FilterState) => {
            let state = io(host).map(|io| &io.state);
            let entries = state.into_iter().flatten();
            pairs(
                entries
                    .map(|(name, value)| (name.as_slice(), value.to_vec()))
                    .collect(),
            )
        }
        Value::Object(object) => return Attribute::Fields(object.fields()),
    })
}

fn top<'a>(host: &'a Host, name: &[u8]) -> Option<Value<'a>> {
    let object = match name {
        b"request" => Object::Request,
        b"response" => Object::Response,
        b"connection" => Object::Connection,
        b"upstream" => Object::Upstream,
        b"source" => Object::Source,
        b"destination" => Object::Destination,
        b"xds" => Object::Xds,
        b"filter_state" => Object::FilterState,
        _ => return top_value(host, name),
    };
    // What a VM knows of its host is there without a request, too.
    (object == Object::Xds || io(host).is_some()).then_some(Value::Object(object))
}

fn top_value<'a>(host: &'a Host, name: &[u8]) -> Option<Value<'a>> {
    let text = |text: &'a str| Some(Value::Bytes(text.as_bytes().into()));
    match name {
        b"plugin_name" => text(&host.root()?.plugin.name),
        b"plugin_root_id" => text(&host.root()?.plugin.root_id),
        b"plugin_vm_id" => text(&host.vm.vm_id),
        b"connection_id" => lookup::connection(io(host)?, b"id"),
        b"metadata" => io(host).map(|_| Value::Metadata),
        b"node"
        | b"cluster_name"
        | b"route_name"
        | b"listener_direction"
        | b"cluster_metadata"
        | b"route_metadata"
        | b"listener_metadata"
        | b"upstream_host_metadata"
            if host.root()?.plugin.old_property_names =>
        {
            lookup::xds(io(host), name)
        }
        _ => state(io(host)?, &state_key(name)),
    }
}

fn field<'a>(host: &'a Host, value: &Value<'a>, key: &[u8]) -> Option<Value<'a>> {
    match value {
        Value::Headers(view) => {
            let mut joined = Vec::new();
            view.as_ref()?
                .get_joined(key, &mut joined)
                .then_some(Value::Bytes(joined.into()))
        }
        Value::Metadata => {
            matches!(key, b"filter_metadata" | b"typed_filter_metadata").then_some(Value::EmptyMap)
        }
        Value::Object(Object::Xds) => lookup::xds(io(host), key),
        Value::Object(Object::Node) => lookup::node(host, key),
        Value::Object(object) => {
            let io = io(host)?;
            match object {
                Object::Request => lookup::request(host, io, key),
                Object::Response => lookup::response(host, io, key),
                Object::Connection => lookup::connection(io, key),
                Object::Upstream => lookup::upstream(io, key),
                Object::Source => lookup::peer(io.attributes.connection.as_ref()?.source?, key),
                Object::Destination => {
                    lookup::peer(io.attributes.connection.as_ref()?.destination?, key)
                }
                Object::FilterState => state(io, key),
                Object::Xds | Object::Node => None,
            }
        }
        Value::Bytes(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Duration(_)
        | Value::Timestamp(_)
        | Value::Bool(_)
        | Value::EmptyMap => None,
    }
}

fn state<'a>(io: &'a StreamIo, key: &[u8]) -> Option<Value<'a>> {
    io.state
        .get(key)
        .map(|value| Value::Bytes((&value[..]).into()))
}

fn io(host: &Host) -> Option<&StreamIo> {
    host.stream()?.io.as_deref()
}

fn serialise(host: &Host, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Status> {
    match value {
        Value::Bytes(bytes) => out.extend_from_slice(bytes),
        Value::Int(number) | Value::Duration(number) | Value::Timestamp(number) => {
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Uint(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Bool(flag) => out.push(u8::from(*flag)),
        Value::Headers(Some(view)) => serialise_headers(*view, out),
        Value::Headers(None) | Value::EmptyMap => out.extend_from_slice(&[0; 4]),
        Value::Metadata => {}
        Value::Object(Object::Node) => {
            protobuf::put_string(1, host.node(), out);
        }
        Value::Object(_) => return Err(Status::SerializationFailure),
    }
    Ok(())
}

/// One pair per name, values joined by commas.
fn joined(view: View<'_>) -> Vec<(&[u8], Vec<u8>)> {
    let mut entries: Vec<(&[u8], Vec<u8>)> = Vec::with_capacity(view.len());
    for (name, _) in view.iter() {
        // Values of one name stand side by side.
        if entries.last().is_some_and(|(last, _)| *last == name) {
            continue;
        }
        let mut joined = Vec::new();
        view.get_joined(name, &mut joined);
        entries.push((name, joined));
    }
    entries
}

fn serialise_headers(view: View<'_>, out: &mut Vec<u8>) {
    let entries = joined(view);
    let borrowed = || {
        entries
            .iter()
            .map(|(name, value)| (*name, value.as_slice()))
    };
    let start = out.len();
    out.resize(start + pairs::encoded_len(borrowed()), 0);
    pairs::encode(borrowed(), entries.len(), &mut out[start..]);
}
