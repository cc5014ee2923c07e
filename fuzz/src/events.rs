//! What the data plane does with a VM, in any order: streams and their callbacks, ticks, queues, answers to calls, effects.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arbitrary::Unstructured;
use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tidegate_model::{RequestHead, ResponseHead};
use tidegate_wasm::{
    Callback, ContextId, Effect, HttpCallResponse, PluginConfig, RootId, StreamIo, Vm,
};

use crate::limits::{CONTEXTS, MEMORY};

/// Most events of one case.
const MOST_EVENTS: usize = 60;

/// What has been opened and can be answered.
#[derive(Default)]
struct Open {
    /// Names of the effects that came.
    reached: BTreeSet<&'static str>,
    streams: Vec<ContextId>,
    roots: Vec<RootId>,
    http: Vec<u32>,
    grpc: Vec<u32>,
    queues: Vec<(RootId, u32)>,
}

/// Runs events until the bytes end or the VM does. Gives back which kinds of effects they led to.
pub(crate) fn run(
    bytes: &mut Unstructured<'_>,
    vm: &mut Vm,
    root: RootId,
    plugin: &Arc<PluginConfig>,
) -> BTreeSet<&'static str> {
    let mut open = Open {
        roots: vec![root],
        ..Open::default()
    };
    // A life as most streams have it comes first, so that short inputs do something too.
    open.begin_stream(bytes, vm);
    take_effects(vm, &mut open);
    for _ in 0..MOST_EVENTS {
        if vm.is_dead() || bytes.is_empty() {
            break;
        }
        // A failure is a guest's right; what follows one must not panic either.
        if event(bytes, vm, plugin, &mut open).is_err() {
            break;
        }
        take_effects(vm, &mut open);
        assert!(vm.memory_bytes() <= MEMORY, "{}", vm.memory_bytes());
        assert!(vm.contexts() <= CONTEXTS, "{}", vm.contexts());
    }
    for stream in std::mem::take(&mut open.streams) {
        let _ = vm.call(stream, Callback::Log);
        let _ = vm.call(stream, Callback::Done);
        let _ = vm.delete_stream(stream);
    }
    for root in std::mem::take(&mut open.roots) {
        let _ = vm.remove_root(root);
    }
    take_effects(vm, &mut open);
    open.reached
}

fn event(
    bytes: &mut Unstructured<'_>,
    vm: &mut Vm,
    plugin: &Arc<PluginConfig>,
    open: &mut Open,
) -> arbitrary::Result<()> {
    // What the call says of the guest is the guest's business here: only panics are looked for.
    match bytes.int_in_range(0..=20)? {
        0 => open.begin_stream(bytes, vm),
        1 => {
            if let Some(stream) = some(bytes, &open.streams)? {
                let _ = vm.detach(stream);
            }
        }
        2 => {
            if let Some(stream) = some(bytes, &open.streams)? {
                let _ = vm.delete_stream(stream);
                open.streams.retain(|other| *other != stream);
            }
        }
        3 => {
            if let Ok(root) = vm.add_root(plugin.clone()) {
                open.roots.push(root);
            }
        }
        4 => {
            if let Some(root) = some(bytes, &open.roots)? {
                let _ = vm.remove_root(root);
            }
        }
        5 => {
            if let Some(root) = some(bytes, &open.roots)? {
                let _ = vm.on_tick(root);
            }
        }
        6 => {
            if let Some((root, token)) = some(bytes, &open.queues)? {
                let _ = vm.on_queue_ready(root, token);
            }
        }
        7 | 8 => answer_http(bytes, vm, open)?,
        9..=11 => answer_grpc(bytes, vm, open)?,
        12 => {
            if let Some(stream) = some(bytes, &open.streams)?
                && let Some(io) = vm.io_mut(stream)
            {
                io.request_body
                    .make_mut()
                    .extend_from_slice(bytes.arbitrary()?);
                io.response = Some(response(bytes)?);
            }
        }
        _ => {
            if let Some(stream) = some(bytes, &open.streams)? {
                let _ = vm.call(stream, callback(bytes)?);
            }
        }
    }
    Ok(())
}

impl Open {
    fn begin_stream(&mut self, bytes: &mut Unstructured<'_>, vm: &mut Vm) {
        let Some(root) = self.roots.first().copied() else {
            return;
        };
        let (Ok(stream), Ok(io)) = (vm.create_stream(root), exchange(bytes)) else {
            return;
        };
        vm.attach(stream, Box::new(io));
        self.streams.push(stream);
        let end_of_stream = bytes.arbitrary().unwrap_or(false);
        let _ = vm.call(stream, Callback::RequestHeaders { end_of_stream });
    }
}

fn some<T: Copy>(bytes: &mut Unstructured<'_>, of: &[T]) -> arbitrary::Result<Option<T>> {
    if of.is_empty() {
        Ok(None)
    } else {
        bytes.choose(of).copied().map(Some)
    }
}

fn answer_http(
    bytes: &mut Unstructured<'_>,
    vm: &mut Vm,
    open: &mut Open,
) -> arbitrary::Result<()> {
    let Some(token) = some(bytes, &open.http)? else {
        return Ok(());
    };
    if bytes.ratio(1_u8, 5_u8)? {
        let _ = vm.on_http_call_failed(token);
    } else {
        let response = HttpCallResponse {
            head: response(bytes)?,
            body: Bytes::copy_from_slice(bytes.arbitrary()?),
            trailers: fields(bytes)?,
        };
        let _ = vm.on_http_call_response(token, response);
    }
    Ok(())
}

fn answer_grpc(
    bytes: &mut Unstructured<'_>,
    vm: &mut Vm,
    open: &mut Open,
) -> arbitrary::Result<()> {
    let Some(token) = some(bytes, &open.grpc)? else {
        return Ok(());
    };
    let _ = match bytes.int_in_range(0..=4)? {
        0 => {
            let head = bytes
                .arbitrary::<bool>()?
                .then(|| response(bytes))
                .transpose()?;
            vm.on_grpc_initial_metadata(token, head)
        }
        1 => vm.on_grpc_trailing_metadata(token, fields(bytes)?),
        2 | 3 => vm.on_grpc_receive(token, Bytes::copy_from_slice(bytes.arbitrary()?)),
        _ => vm.on_grpc_close(
            token,
            bytes.int_in_range(0..=17)?,
            bytes.arbitrary::<&str>()?.to_owned(),
        ),
    };
    Ok(())
}

/// Takes what the guest asked for, checks what the data plane relies on, and remembers what can be answered.
fn take_effects(vm: &mut Vm, open: &mut Open) {
    let effects: Vec<Effect> = vm.effects().collect();
    for effect in effects {
        open.reached.insert(name(&effect));
        match effect {
            Effect::LocalReply { reply, .. } => {
                assert!(
                    (200..=599).contains(&reply.status.as_u16()),
                    "{}",
                    reply.status
                );
                assert!(!reply.headers.contains_key("content-length"));
                assert!(!reply.headers.contains_key("transfer-encoding"));
                assert!(!reply.details.contains(' '), "{:?}", reply.details);
                assert!(reply.grpc_status.is_none_or(|status| status <= 16));
            }
            Effect::HttpCall {
                token, head, body, ..
            } => {
                assert!(!head.headers.contains_key("transfer-encoding"));
                if let Some(length) = head.headers.get("content-length") {
                    assert_eq!(length, &HeaderValue::from(body.len()));
                }
                open.http.push(token);
            }
            Effect::GrpcCall { target, .. } | Effect::GrpcStream { target } => {
                let path = format!("/{}/{}", target.service, target.method);
                assert!(PathAndQuery::try_from(path).is_ok());
                open.grpc.push(target.token);
            }
            Effect::QueueReady { token, root, .. } => open.queues.push((root, token)),
            Effect::RootDone { root } => open.roots.retain(|other| *other != root),
            _ => {}
        }
    }
}

fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::LocalReply { .. } => "local reply",
        Effect::Resume { .. } => "resume",
        Effect::CloseStream { .. } => "close",
        Effect::ClearRouteCache { .. } => "route cache",
        Effect::HttpCall { .. } => "HTTP call",
        Effect::GrpcCall { .. } => "gRPC call",
        Effect::GrpcStream { .. } => "gRPC stream",
        Effect::GrpcSend { .. } => "gRPC send",
        Effect::GrpcCancel { .. } => "gRPC cancel",
        Effect::GrpcClose { .. } => "gRPC close",
        Effect::SetTickPeriod { .. } => "tick",
        Effect::QueueReady { .. } => "queue",
        Effect::RootDone { .. } => "done",
    }
}

fn callback(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Callback> {
    let end_of_stream = bytes.arbitrary()?;
    Ok(match bytes.int_in_range(0..=7)? {
        0 => Callback::RequestHeaders { end_of_stream },
        1 => Callback::RequestBody { end_of_stream },
        2 => Callback::RequestTrailers,
        3 => Callback::ResponseHeaders { end_of_stream },
        4 => Callback::ResponseBody { end_of_stream },
        5 => Callback::ResponseTrailers,
        6 => Callback::Log,
        _ => Callback::Done,
    })
}

fn exchange(bytes: &mut Unstructured<'_>) -> arbitrary::Result<StreamIo> {
    let path = bytes
        .choose(&["/", "/p?q=1", "/%00%ff/../x", "*"])
        .copied()?;
    let mut io = StreamIo::new(RequestHead {
        method: Method::from_bytes(bytes.choose(&["GET", "POST", "X-OWN"])?.as_bytes())
            .expect("a method"),
        scheme: Scheme::HTTPS,
        authority: HeaderValue::from_static("shop.test:8443"),
        path: PathAndQuery::from_static(path),
        headers: fields(bytes)?,
    });
    io.request_body = Bytes::copy_from_slice(bytes.arbitrary()?).into();
    io.response_body = Bytes::copy_from_slice(bytes.arbitrary()?).into();
    if bytes.arbitrary()? {
        io.response = Some(response(bytes)?);
        io.attributes.response_code = Some(StatusCode::OK);
        io.attributes.response_bytes = bytes.arbitrary()?;
    }
    if bytes.arbitrary()? {
        io.request_trailers = Some(fields(bytes)?);
        io.response_trailers = Some(fields(bytes)?);
    }
    if bytes.arbitrary()? {
        io.attributes.start = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        io.attributes.duration = Some(Duration::from_nanos(bytes.arbitrary()?));
        io.attributes.request_bytes = bytes.arbitrary()?;
        io.attributes.pool_ready = Some(Duration::from_nanos(bytes.arbitrary()?));
    }
    Ok(io)
}

fn response(bytes: &mut Unstructured<'_>) -> arbitrary::Result<ResponseHead> {
    let status = bytes.int_in_range(100..=999)?;
    Ok(ResponseHead {
        status: StatusCode::from_u16(status).expect("three digits"),
        headers: fields(bytes)?,
    })
}

/// Fields as a peer may send them: any value that HTTP allows, names repeated.
fn fields(bytes: &mut Unstructured<'_>) -> arbitrary::Result<HeaderMap> {
    const NAMES: [&str; 8] = [
        "cookie",
        "content-length",
        "x-a",
        "accept",
        "vary",
        "user-agent",
        "grpc-status",
        "server",
    ];
    let mut fields = HeaderMap::new();
    for _ in 0..bytes.int_in_range(0..=6)? {
        let name = HeaderName::from_static(bytes.choose(&NAMES)?);
        let value: &[u8] = bytes.arbitrary()?;
        if let Ok(value) = HeaderValue::from_bytes(&value[..value.len().min(512)]) {
            fields.append(name, value);
        }
    }
    Ok(fields)
}
