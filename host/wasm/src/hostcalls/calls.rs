//! HTTP calls, and the status of the last gRPC call.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use tidegate_model::RequestHead;

use super::Guest;
use crate::effect::{Effect, RootId};
use crate::guest::{bytes, deliver_from, split, write_u32};
use crate::headers::{fields_of, request_of};
use crate::host::Host;
use crate::pairs::{self, Pair};
use crate::status::{Outcome, Status};

/// `proxy_http_call`, on the current root. The answer comes as a callback on it, whatever happens.
#[allow(clippy::too_many_arguments, reason = "the signature of the ABI")]
pub(super) fn http_call(
    caller: &mut Guest<'_>,
    cluster: u32,
    cluster_size: u32,
    headers: u32,
    headers_size: u32,
    body: u32,
    body_size: u32,
    trailers: u32,
    trailers_size: u32,
    timeout: u32,
    token_out: u32,
) -> Outcome {
    let (memory, host) = split(caller)?;
    // Tries the pointer before anything is started.
    write_u32(memory, token_out, 0)?;
    let call = HttpCall {
        cluster: bytes(memory, cluster, cluster_size)?,
        headers: &pairs::decode(bytes(memory, headers, headers_size)?),
        body: bytes(memory, body, body_size)?,
        trailers: &pairs::decode(bytes(memory, trailers, trailers_size)?),
        timeout,
    };
    let token = call.begin(host)?;
    Ok(write_u32(memory, token_out, token)?)
}

/// An HTTP call as a guest asks for it.
pub(crate) struct HttpCall<'a> {
    pub(crate) cluster: &'a [u8],
    /// With pseudo-headers.
    pub(crate) headers: &'a [Pair<'a>],
    pub(crate) body: &'a [u8],
    pub(crate) trailers: &'a [Pair<'a>],
    /// Milliseconds, 0 for none.
    pub(crate) timeout: u32,
}

impl HttpCall<'_> {
    /// Starts it on the current root; its token.
    pub(crate) fn begin(&self, host: &mut Host) -> Result<u32, Status> {
        let Some(cluster) = known_cluster(host, self.cluster) else {
            host.note_cluster(self.cluster);
            return Err(Status::BadArgument);
        };
        let body = payload(host, self.body)?;
        let trailers = self.trailers;
        let mut head = request_of(self.headers)?;
        frame(&mut head, body.len());
        let trailers = if trailers.is_empty() {
            None
        } else {
            Some(fields_of(trailers)?)
        };
        let timeout = timeout_of(self.timeout)?;
        let root = host.root_id().ok_or(Status::BadArgument)?;
        room_for_call(host)?;
        let token = host.calls.next_http();
        host.push(Effect::HttpCall {
            root: RootId(root),
            token,
            cluster,
            head: Box::new(head),
            body,
            trailers,
            timeout,
        })?;
        host.calls.http.insert(token, root);
        Ok(token)
    }
}

/// `proxy_get_status`, of the current root.
pub(super) fn get_status(
    caller: &mut Guest<'_>,
    code_out: u32,
    ptr_out: u32,
    size_out: u32,
) -> Outcome {
    let (memory, host) = split(caller)?;
    let code = host.root().map_or(0, |root| root.status.0);
    write_u32(memory, code_out, code)?;
    deliver_from(caller, ptr_out, size_out, |_, host, out| {
        if let Some(root) = host.root() {
            out.extend_from_slice(root.status.1.as_bytes());
        }
        Ok(())
    })
}

/// The cluster of that name, if the current plugin may call it.
pub(super) fn known_cluster(host: &Host, name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    host.root()?.plugin.clusters.get(name).cloned()
}

/// Milliseconds, 0 for none; the guest's number is signed.
pub(super) fn timeout_of(milliseconds: u32) -> Result<Option<Duration>, Status> {
    match milliseconds.cast_signed() {
        0 => Ok(None),
        1.. => Ok(Some(Duration::from_millis(u64::from(milliseconds)))),
        _ => Err(Status::BadArgument),
    }
}

/// Keeps a guest from having calls without number on their way.
pub(super) fn room_for_call(host: &Host) -> Result<(), Status> {
    if host.calls.len() < host.vm.limits.calls {
        Ok(())
    } else {
        Err(Status::InternalFailure)
    }
}

/// A body that the guest makes, within its limit: it lies in the host's memory from here on.
pub(super) fn payload(host: &Host, body: &[u8]) -> Result<Bytes, Status> {
    let limit = host.root().map_or(0, |root| root.plugin.buffered_body);
    if body.len() > limit {
        Err(Status::InternalFailure)
    } else {
        Ok(Bytes::copy_from_slice(body))
    }
}

/// The length is the body's, whatever the guest says.
fn frame(head: &mut RequestHead, len: usize) {
    if len > 0 || head.headers.contains_key(CONTENT_LENGTH) {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    }
    head.headers.remove(http::header::TRANSFER_ENCODING);
}
