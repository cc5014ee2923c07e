//! What a filter does to its stream: answer, go on, close, choose the route anew.
//!
//! Two things are safer here than in Envoy: a local reply from `proxy_on_log` is ignored, and one that was followed or preceded
//! by a resume in the same entry is not also sent upstream.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode};

use super::Guest;
use super::calls::payload;
use crate::action::Direction;
use crate::contexts::Open;
use crate::effect::{ContextId, Effect, LocalReply};
use crate::guest::{bytes, split};
use crate::headers::fields_of;
use crate::host::{Host, Reply};
use crate::pairs::{self, Pair};
use crate::status::{Outcome, Status};

/// Longest details string.
const MAX_DETAILS: usize = 1024;

/// `proxy_send_local_response`
#[allow(clippy::too_many_arguments, reason = "the signature of the ABI")]
pub(super) fn send_local_response(
    caller: &mut Guest<'_>,
    code: u32,
    details: u32,
    details_size: u32,
    body: u32,
    body_size: u32,
    headers: u32,
    headers_size: u32,
    grpc: u32,
) -> Outcome {
    let (memory, host) = split(caller)?;
    let details = bytes(memory, details, details_size)?;
    let body = bytes(memory, body, body_size)?;
    let headers = pairs::decode(bytes(memory, headers, headers_size)?);
    Ok(reply(host, code, details, body, &headers, grpc)?)
}

/// A local reply of the current context; `grpc` above 16 is none.
pub(crate) fn reply(
    host: &mut Host,
    code: u32,
    details: &[u8],
    body: &[u8],
    headers: &[Pair<'_>],
    grpc: u32,
) -> Result<(), Status> {
    let reply = local_reply(code, details, payload(host, body)?, headers, grpc)?;
    let current = host.current;
    let entered = host.entered == current;
    let Some(stream) = host.stream_mut() else {
        return Ok(());
    };
    if stream.ending {
        host.log(3, b"a local reply from proxy_on_log, proxy_on_done or proxy_on_delete comes too late and is ignored");
        return Ok(());
    }
    if stream.replied {
        if entered && host.reply == Reply::None {
            host.reply = Reply::Ignored;
        }
        return Ok(());
    }
    stream.replied = true;
    let context = ContextId(current);
    if entered {
        host.reply = Reply::Sent;
    }
    host.effects.retain(
        |effect| !matches!(effect, Effect::Resume { context: resumed, .. } if *resumed == context),
    );
    // Not counted against the number of effects: a stream gets one at most, and it must not be lost.
    host.effects.push(Effect::LocalReply { context, reply });
    Ok(())
}

fn local_reply(
    code: u32,
    details: &[u8],
    body: Bytes,
    headers: &[Pair<'_>],
    grpc: u32,
) -> Result<LocalReply, Status> {
    let status = u16::try_from(code)
        .ok()
        .filter(|code| (200..600).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(Status::BadArgument)?;
    // `:status` comes from the code.
    let fields: Vec<Pair<'_>> = headers
        .iter()
        .copied()
        .filter(|(name, _)| name.first() != Some(&b':'))
        .collect();
    let mut headers = fields_of(&fields)?;
    for framing in [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
        headers.remove(framing);
    }
    if !body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    let details = String::from_utf8_lossy(&details[..details.len().min(MAX_DETAILS)]);
    let details = details.replace(|c: char| c.is_whitespace() || c.is_control(), "_");
    let grpc_status = (grpc <= 16).then_some(grpc);
    Ok(LocalReply {
        status,
        headers,
        body,
        details,
        grpc_status,
    })
}

/// `proxy_continue_stream`
pub(super) fn continue_stream(caller: &mut Guest<'_>, stream: u32) -> Outcome {
    let direction = match stream {
        0 => Direction::Request,
        1 => Direction::Response,
        // Downstream: there is no raw TCP here, and so nothing to continue.
        2 => return Ok(()),
        3 => return Err(Status::Unimplemented.into()),
        _ => return Err(Status::BadArgument.into()),
    };
    Ok(resume(caller.data_mut(), direction)?)
}

/// `proxy_continue_request` of 0.1.0
pub(super) fn continue_request(caller: &mut Guest<'_>) -> Outcome {
    Ok(resume(caller.data_mut(), Direction::Request)?)
}

/// `proxy_continue_response` of 0.1.0
pub(super) fn continue_response(caller: &mut Guest<'_>) -> Outcome {
    Ok(resume(caller.data_mut(), Direction::Response)?)
}

/// Takes the request's maps and body away, whichever the direction, as Envoy does.
pub(crate) fn resume(host: &mut Host, direction: Direction) -> Result<(), Status> {
    let context = ContextId(host.current);
    let Some(stream) = host.stream_mut() else {
        return Ok(());
    };
    stream.open.remove(Open::REQUEST);
    if stream.ending || stream.replied {
        return Ok(());
    }
    let again = |effect: &Effect| matches!(effect, Effect::Resume { context: c, direction: d } if *c == context && *d == direction);
    if host.effects.last().is_some_and(again) {
        return Ok(());
    }
    host.push(Effect::Resume { context, direction })
}

/// `proxy_close_stream`
pub(super) fn close_stream(caller: &mut Guest<'_>, stream: u32) -> Outcome {
    let direction = match stream {
        0 => Direction::Request,
        1 => Direction::Response,
        2 | 3 => return Ok(()),
        _ => return Err(Status::BadArgument.into()),
    };
    Ok(close(caller.data_mut(), direction)?)
}

/// Ends the current context's stream.
pub(crate) fn close(host: &mut Host, direction: Direction) -> Result<(), Status> {
    let context = ContextId(host.current);
    match host.stream() {
        Some(stream) if !stream.ending => host.push(Effect::CloseStream { context, direction }),
        _ => Ok(()),
    }
}

/// `proxy_clear_route_cache` of 0.1.0, and the foreign function of that name.
pub(super) fn clear_route_cache(caller: &mut Guest<'_>) -> Outcome {
    let host = caller.data_mut();
    let context = ContextId(host.current);
    if host.stream().is_none() {
        return Ok(());
    }
    Ok(host.push(Effect::ClearRouteCache { context })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_replies_are_checked() {
        for code in [0, 99, 100, 199, 600, 1000, 65_736, u32::MAX] {
            assert_eq!(
                local_reply(code, b"", Bytes::from_static(b""), &[], u32::MAX).err(),
                Some(Status::BadArgument),
                "{code}"
            );
        }
        for name in [&b"x("[..], b"\"", b"a:b", b""] {
            assert_eq!(
                local_reply(200, b"", Bytes::from_static(b""), &[(name, b"v")], 0).err(),
                Some(Status::BadArgument),
                "{name:?}"
            );
        }
        assert_eq!(
            local_reply(
                200,
                b"",
                Bytes::from_static(b""),
                &[(b"a", b"x\r\ny: z")],
                0
            )
            .err(),
            Some(Status::BadArgument)
        );
    }

    #[test]
    fn local_replies_are_framed_by_the_host() {
        let headers: [Pair<'_>; 4] = [
            (b"Content-Length", b"1000"),
            (b"transfer-encoding", b"chunked"),
            (b"X-A", b"1"),
            (b":status", b"200"),
        ];
        let reply = local_reply(
            403,
            b"no such\nluck",
            Bytes::from_static(b"denied"),
            &headers,
            7,
        )
        .ok()
        .unwrap();
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
        assert_eq!(reply.headers.len(), 2);
        assert_eq!(reply.headers["x-a"], "1");
        assert_eq!(reply.headers[CONTENT_TYPE], "text/plain");
        assert_eq!(reply.details, "no_such_luck");
        assert_eq!(reply.grpc_status, Some(7));
        let reply = local_reply(204, b"", Bytes::from_static(b""), &[], 17)
            .ok()
            .unwrap();
        assert!(reply.headers.is_empty() && reply.grpc_status.is_none());
        let reply = local_reply(
            200,
            b"",
            Bytes::from_static(b"{}"),
            &[(b"Content-Type", b"application/json")],
            u32::MAX,
        )
        .ok()
        .unwrap();
        assert_eq!(reply.headers[CONTENT_TYPE], "application/json");
    }
}
