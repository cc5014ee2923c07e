//! The vocabulary of `proxy_get_property`: Envoy's attributes, and when each of them is there.
//!
//! A path is walked segment by segment, then the value is serialised: strings as they are, numbers as 8 bytes, booleans as 1,
//! maps as pairs. What derives from a head is there exactly while the guest can read that head. Beyond Envoy 1.40 the bare
//! names of older versions (`cluster_name`, `route_name` and so on) are still understood: existing filters read them.

mod lookup;

use std::borrow::Cow;

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

/// The key under which `proxy_set_property` keeps a value, and other filters find it in `filter_state`.
pub(crate) fn state_key(path: &[u8]) -> Vec<u8> {
    [b"wasm.", path].concat()
}

/// Looks up `path`, segments separated by NUL, and serialises what is there into `out`.
pub(crate) fn get(host: &Host, path: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    // A NUL at the end starts no further segment.
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let mut segments = path.split(|byte| *byte == 0);
    let first = segments.next().unwrap_or_default();
    if first.is_empty() && path.is_empty() {
        return Err(Status::SerializationFailure);
    }
    let mut value = top(host, first).ok_or(Status::NotFound)?;
    for segment in segments {
        value = field(host, &value, segment).ok_or(Status::NotFound)?;
    }
    serialise(host, &value, out)
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
        b"filter_state" | b"upstream_filter_state" => Object::FilterState,
        _ => return top_value(host, name),
    };
    io(host).map(|_| Value::Object(object))
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
        | b"upstream_host_metadata" => lookup::xds(io(host)?, name),
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
                Object::Xds => lookup::xds(io, key),
                Object::Node => lookup::node(io, key),
                Object::FilterState => state(io, key),
            }
        }
        Value::Bytes(_) | Value::Int(_) | Value::Uint(_) | Value::Bool(_) | Value::EmptyMap => None,
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
        Value::Int(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Uint(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Bool(flag) => out.push(u8::from(*flag)),
        Value::Headers(Some(view)) => serialise_headers(*view, out),
        Value::Headers(None) | Value::EmptyMap => out.extend_from_slice(&[0; 4]),
        Value::Metadata => {}
        Value::Object(Object::Node) => {
            if let Some(id) = io(host).and_then(|io| io.attributes.node_id.as_deref()) {
                protobuf::put_string(1, id, out);
            }
        }
        Value::Object(_) => return Err(Status::SerializationFailure),
    }
    Ok(())
}

/// One pair per name, values joined by commas.
fn serialise_headers(view: View<'_>, out: &mut Vec<u8>) {
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
    let borrowed = || {
        entries
            .iter()
            .map(|(name, value)| (*name, value.as_slice()))
    };
    let start = out.len();
    out.resize(start + pairs::encoded_len(borrowed()), 0);
    pairs::encode(borrowed(), entries.len(), &mut out[start..]);
}
