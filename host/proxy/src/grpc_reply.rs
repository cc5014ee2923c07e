//! Local replies to gRPC clients, which read a status from `grpc-status` and not from HTTP: as Envoy makes them.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use tidegate_wasm::{LocalReply, grpc_status_of};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a content type is one of gRPC's.
pub(crate) fn is_grpc(content_type: &HeaderValue) -> bool {
    let rest = content_type.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The reply as headers alone: 200, the status, and the body as the message.
pub(crate) fn of(mut reply: LocalReply) -> LocalReply {
    let status = reply
        .grpc_status
        .unwrap_or_else(|| grpc_status_of(reply.status));
    let message = encoded(&std::mem::replace(&mut reply.body, Bytes::new()));
    reply.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    reply.headers.insert(STATUS, HeaderValue::from(status));
    if !message.is_empty()
        && let Ok(message) = HeaderValue::from_str(&message)
    {
        reply.headers.insert(MESSAGE, message);
    }
    reply.status = StatusCode::OK;
    reply
}

/// Percent-encoding of `grpc-message`: what is visible ASCII, except for the percent sign, stays.
fn encoded(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text {
        match byte {
            b'%' | 0..b' ' | 0x7f.. => {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
            visible => out.push(char::from(*visible)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn reply(status: u16, body: &'static str, grpc_status: Option<u32>) -> LocalReply {
        LocalReply {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
            details: String::new(),
            grpc_status,
        }
    }

    #[test]
    fn a_reply_becomes_a_status_and_a_message() {
        let made = of(reply(403, "not 100% \u{fc}", None));
        assert_eq!((made.status, made.body.len()), (StatusCode::OK, 0));
        assert_eq!(made.headers[STATUS], "7");
        assert_eq!(made.headers[MESSAGE], "not 100%25 %C3%BC");
        let given = of(reply(503, "", Some(5)));
        assert_eq!(given.headers[STATUS], "5");
        assert!(!given.headers.contains_key(MESSAGE));
    }

    #[test]
    fn content_types_of_grpc() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&HeaderValue::from_static(kind)), expected, "{kind}");
        }
    }
}
