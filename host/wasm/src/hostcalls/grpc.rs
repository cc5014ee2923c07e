//! gRPC calls and streams.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};

use super::calls::{known_cluster, payload, room_for_call, timeout_of};
use super::{Guest, MAX_NAME};
use crate::effect::{Effect, GrpcTarget, RootId};
use crate::guest::{bytes, split, write_u32};
use crate::headers::fields_of;
use crate::host::{GrpcCall, Host, OF_GRPC_CALLS, OF_GRPC_STREAMS};
use crate::pairs::{self, Pair};
use crate::protobuf;
use crate::status::{Outcome, Status};

/// Where a call goes, as a guest says it.
pub(crate) struct Address<'a> {
    /// A cluster's name, or a serialised `envoy.config.core.v3.GrpcService`.
    pub(crate) target: &'a [u8],
    pub(crate) service: &'a [u8],
    pub(crate) method: &'a [u8],
    pub(crate) metadata: Vec<Pair<'a>>,
}

/// `proxy_grpc_call`
#[allow(clippy::too_many_arguments, reason = "the signature of the ABI")]
pub(super) fn call(
    caller: &mut Guest<'_>,
    target: u32,
    target_size: u32,
    service: u32,
    service_size: u32,
    method: u32,
    method_size: u32,
    metadata: u32,
    metadata_size: u32,
    message: u32,
    message_size: u32,
    timeout: u32,
    token_out: u32,
) -> Outcome {
    let (memory, host) = split(caller)?;
    write_u32(memory, token_out, 0)?;
    let address = Address {
        target: bytes(memory, target, target_size)?,
        service: bytes(memory, service, service_size)?,
        method: bytes(memory, method, method_size)?,
        metadata: pairs::decode(bytes(memory, metadata, metadata_size)?),
    };
    let message = bytes(memory, message, message_size)?;
    let token = unary(host, address, message, timeout)?;
    Ok(write_u32(memory, token_out, token)?)
}

/// Starts a call with one message on the current root; its token. `timeout` in milliseconds, 0 for none.
pub(crate) fn unary(
    host: &mut Host,
    address: Address<'_>,
    message: &[u8],
    timeout: u32,
) -> Result<u32, Status> {
    let message = payload(host, message)?;
    let timeout = timeout_of(timeout)?;
    let target = Box::new(address.resolve(host, true)?);
    let (token, root) = (target.token, target.root);
    host.push(Effect::GrpcCall {
        target,
        message,
        timeout,
    })?;
    begin(host, token, root);
    Ok(token)
}

/// `proxy_grpc_stream`
#[allow(clippy::too_many_arguments, reason = "the signature of the ABI")]
pub(super) fn stream(
    caller: &mut Guest<'_>,
    target: u32,
    target_size: u32,
    service: u32,
    service_size: u32,
    method: u32,
    method_size: u32,
    metadata: u32,
    metadata_size: u32,
    token_out: u32,
) -> Outcome {
    let (memory, host) = split(caller)?;
    write_u32(memory, token_out, 0)?;
    let address = Address {
        target: bytes(memory, target, target_size)?,
        service: bytes(memory, service, service_size)?,
        method: bytes(memory, method, method_size)?,
        metadata: pairs::decode(bytes(memory, metadata, metadata_size)?),
    };
    let target = Box::new(address.resolve(host, false)?);
    let (token, root) = (target.token, target.root);
    host.push(Effect::GrpcStream { target })?;
    begin(host, token, root);
    Ok(write_u32(memory, token_out, token)?)
}

/// `proxy_grpc_send`: on streams only.
pub(super) fn send(
    caller: &mut Guest<'_>,
    token: u32,
    message: u32,
    message_size: u32,
    end_of_stream: u32,
) -> Outcome {
    let (memory, host) = split(caller)?;
    let message = payload(host, bytes(memory, message, message_size)?)?;
    if token % 4 != OF_GRPC_STREAMS {
        return Err(Status::BadArgument.into());
    }
    let end_of_stream = end_of_stream != 0;
    if find(host, token)?.local_closed {
        return Err(Status::BadArgument.into());
    }
    host.push(Effect::GrpcSend {
        token,
        message,
        end_of_stream,
    })?;
    find(host, token)?.local_closed = end_of_stream;
    Ok(())
}

/// `proxy_grpc_cancel`
pub(super) fn cancel(caller: &mut Guest<'_>, token: u32) -> Outcome {
    Ok(give_up(caller.data_mut(), token)?)
}

/// Cancels a call or stream of the current root.
pub(crate) fn give_up(host: &mut Host, token: u32) -> Result<(), Status> {
    find(host, token)?;
    host.push(Effect::GrpcCancel { token })?;
    host.calls.grpc.remove(&token);
    Ok(())
}

/// `proxy_grpc_close`: a call is cancelled, a stream half-closed.
pub(super) fn close(caller: &mut Guest<'_>, token: u32) -> Outcome {
    let host = caller.data_mut();
    find(host, token)?;
    host.push(Effect::GrpcClose { token })?;
    if is_call(token) {
        host.calls.grpc.remove(&token);
    } else {
        find(host, token)?.local_closed = true;
    }
    Ok(())
}

impl Address<'_> {
    fn resolve(self, host: &mut Host, call: bool) -> Result<GrpcTarget, Status> {
        let target = self.target;
        let (cluster, authority, mut metadata) = match known_cluster(host, target) {
            Some(cluster) => (cluster, &b""[..], Vec::new()),
            None => {
                let Some(service) = protobuf::grpc_service(target) else {
                    host.note_cluster(target);
                    return Err(Status::ParseFailure);
                };
                let Some(cluster) = known_cluster(host, service.cluster) else {
                    host.note_cluster(service.cluster);
                    return Err(Status::ParseFailure);
                };
                (cluster, service.authority, service.metadata)
            }
        };
        let authority = match authority {
            b"" => HeaderValue::from_str(&cluster),
            authority => HeaderValue::from_bytes(authority),
        };
        let authority = authority.map_err(|_| Status::ParseFailure)?;
        let service = name(self.service)?;
        let method = name(self.method)?;
        metadata.extend(self.metadata);
        let metadata = metadata_of(&metadata)?;
        let root = RootId(host.root_id().ok_or(Status::BadArgument)?);
        room_for_call(host)?;
        let token = if call {
            host.calls.next_grpc_call()
        } else {
            host.calls.next_grpc_stream()
        };
        Ok(GrpcTarget {
            root,
            token,
            cluster,
            authority,
            service,
            method,
            metadata,
        })
    }
}

/// Metadata out of pairs. Values of `-bin` names are bytes, which travel as base64.
fn metadata_of(entries: &[Pair<'_>]) -> Result<HeaderMap, Status> {
    let encoded: Vec<(&[u8], Cow<'_, [u8]>)> = entries
        .iter()
        .map(|(name, value)| {
            if name.to_ascii_lowercase().ends_with(b"-bin") {
                (*name, Cow::Owned(STANDARD.encode(value).into_bytes()))
            } else {
                (*name, Cow::Borrowed(*value))
            }
        })
        .collect();
    let entries: Vec<Pair<'_>> = encoded
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    fields_of(&entries)
}

/// A part of the path `/service/method`: nothing that could change its shape.
fn name(bytes: &[u8]) -> Result<String, Status> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if bytes.is_empty() || bytes.len() > MAX_NAME || !bytes.iter().all(plain) {
        return Err(Status::BadArgument);
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| Status::BadArgument)
}

fn begin(host: &mut Host, token: u32, root: RootId) {
    host.calls.grpc.insert(
        token,
        GrpcCall {
            root: root.0,
            local_closed: false,
        },
    );
}

/// A call of the current root: another plugin's token is not found.
fn find(host: &mut Host, token: u32) -> Result<&mut GrpcCall, Status> {
    let root = host.root_id();
    host.calls
        .grpc
        .get_mut(&token)
        .filter(|call| Some(call.root) == root)
        .ok_or(Status::NotFound)
}

fn is_call(token: u32) -> bool {
    token % 4 == OF_GRPC_CALLS
}
