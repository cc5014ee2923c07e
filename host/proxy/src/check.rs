//! The strict reading of a request's head, right after the parse: what has two readings is refused, so that nothing
//! behind us can read it in the other way (RFC 9112 sections 3.2 and 6.1, RFC 9110 section 7.2, RFC 9113 section 8.3).

use http::header::{self, HeaderName};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use tidegate_model::{RequestHead, path};

use crate::config::Limits;

/// A request that goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// A word for response details.
    pub(crate) details: &'static str,
}

const fn bad(details: &'static str) -> Refused {
    Refused {
        status: StatusCode::BAD_REQUEST,
        details,
    }
}

/// `Content-Length` beside `Transfer-Encoding`.
pub(crate) const TWO_LENGTHS: Refused = bad("two_lengths");

/// Takes the head out of `parts`. `Host` leaves the headers and becomes the authority.
pub(crate) fn request_head(
    parts: &mut Parts,
    scheme: Scheme,
    limits: &Limits,
) -> Result<RequestHead, Refused> {
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Refused {
            status: StatusCode::METHOD_NOT_ALLOWED,
            details: "method_not_allowed",
        });
    }
    if parts.version < Version::HTTP_2 {
        transfer_encoding(&parts.headers)?;
    }
    // Over HTTP/1 the parser counts them before; over HTTP/2 nobody does.
    if parts.headers.len() > limits.headers {
        return Err(Refused {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            details: "too_many_headers",
        });
    }
    let authority = authority(parts)?;
    let path = target(parts, limits)?;
    let mut headers = std::mem::take(&mut parts.headers);
    headers.remove(header::HOST);
    if parts.version >= Version::HTTP_2 {
        join_cookies(&mut headers);
    }
    Ok(RequestHead {
        method: parts.method.clone(),
        scheme,
        authority,
        path,
        headers,
    })
}

/// The same for a head that filters have changed: an upstream must have one reading of it, too.
pub(crate) fn changed_head(head: &RequestHead) -> Result<(), &'static str> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err("its method leaves HTTP");
    }
    if head.authority.is_empty() || !is_authority(head.authority.as_bytes()) {
        return Err("its authority is not one");
    }
    let path = head.path.as_str();
    if !path.starts_with('/') || !path.is_ascii() {
        return Err("its path is not one");
    }
    Ok(())
}

/// What can be said in the access log of a request whose head was refused.
pub(crate) fn refused_head(parts: &Parts, scheme: Scheme) -> RequestHead {
    RequestHead {
        method: parts.method.clone(),
        scheme,
        authority: parts
            .headers
            .get(header::HOST)
            .cloned()
            .unwrap_or_else(|| HeaderValue::from_static("")),
        path: parts
            .uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/")),
        headers: HeaderMap::new(),
    }
}

/// Exactly one `chunked`, spelled plainly, or none: another coding would be lost where it is taken for no part of the message.
pub(crate) fn transfer_encoding(headers: &HeaderMap) -> Result<(), Refused> {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(bad("transfer_encoding_invalid")),
    }
}

fn authority(parts: &Parts) -> Result<HeaderValue, Refused> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("host_repeated"));
    }
    let in_target = parts.uri.authority().map(http::uri::Authority::as_str);
    let authority = match (in_target, host) {
        (Some(target), Some(host)) if !host.as_bytes().eq_ignore_ascii_case(target.as_bytes()) => {
            return Err(bad("host_contradicts_target"));
        }
        (_, Some(host)) => host.clone(),
        // RFC 9112 section 3.2: every request of HTTP/1.1 has it, an absolute target or not.
        (Some(_), None) if parts.version == Version::HTTP_11 => return Err(bad("host_missing")),
        (Some(target), None) => HeaderValue::from_str(target).map_err(|_| bad("host_invalid"))?,
        // HTTP/1.0 came before Host.
        (None, None) if parts.version <= Version::HTTP_10 => HeaderValue::from_static(""),
        (None, None) => return Err(bad("host_missing")),
    };
    if parts.version > Version::HTTP_10 && authority.is_empty()
        || !is_authority(authority.as_bytes())
    {
        return Err(bad("host_invalid"));
    }
    Ok(authority)
}

/// `uri-host [":" port]` without user information (RFC 9110 section 7.2), in plain letters.
fn is_authority(authority: &[u8]) -> bool {
    let (host, port) = match authority.iter().rposition(|byte| *byte == b':') {
        Some(at) if !authority[at..].contains(&b']') => {
            (&authority[..at], Some(&authority[at + 1..]))
        }
        _ => (authority, None),
    };
    let port_is_fine = port.is_none_or(is_port);
    let host_is_fine = match host.strip_prefix(b"[") {
        Some(rest) => rest
            .strip_suffix(b"]")
            .and_then(|inner| std::str::from_utf8(inner).ok())
            .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()),
        None => host
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')),
    };
    port_is_fine && host_is_fine
}

/// `*DIGIT`, as far as there are ports.
fn is_port(digits: &[u8]) -> bool {
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u16>().ok();
    digits.is_empty() || digits.iter().all(u8::is_ascii_digit) && number(digits).is_some()
}

fn target(parts: &Parts, limits: &Limits) -> Result<PathAndQuery, Refused> {
    let completed;
    let target = match parts.uri.path_and_query() {
        Some(target) if target.as_str().starts_with('/') => target,
        // `http://a.test?x` has the path `/` (RFC 9112 section 3.2.1). HTTP/2 has no such target, and `*` has no route.
        Some(target) if target.as_str().starts_with('?') && parts.version < Version::HTTP_2 => {
            let whole = format!("/{}", target.as_str()).parse();
            completed = whole.map_err(|_| bad("target_invalid"))?;
            &completed
        }
        _ => return Err(bad("target_invalid")),
    };
    // The parser lets UTF-8 pass, which RFC 3986 does not have and upstreams read in different ways.
    if !target.as_str().is_ascii() {
        return Err(bad("target_not_ascii"));
    }
    if target.as_str().len() > limits.target_bytes {
        return Err(Refused {
            status: StatusCode::URI_TOO_LONG,
            details: "target_too_long",
        });
    }
    match path::resolve(target.path()) {
        Ok(std::borrow::Cow::Borrowed(_)) => Ok(target.clone()),
        Ok(std::borrow::Cow::Owned(resolved)) => {
            let query = target
                .query()
                .map_or_else(String::new, |query| format!("?{query}"));
            format!("{resolved}{query}")
                .parse()
                .map_err(|_| bad("target_invalid"))
        }
        Err(error) => Err(bad(error.as_str())),
    }
}

/// HTTP/2 may split the cookies over several fields; for filters and HTTP/1 they are one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

/// What the client asks to leave HTTP for on this connection (RFC 9110 section 7.8); HTTP/1 only.
pub(crate) fn upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    if version != Version::HTTP_11 || !names_token(headers, "upgrade") {
        return None;
    }
    let mut values = headers.get_all(header::UPGRADE).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let offered = value.to_str().ok()?.split(',').map(str::trim);
    let mut left: Vec<&str> = offered
        .filter(|protocol| !protocol.is_empty() && !is_http(protocol))
        .collect();
    match left.as_mut_slice() {
        [] => None,
        [only] if only.len() == value.len() => Some(value.clone()),
        several => HeaderValue::from_str(&several.join(", ")).ok(),
    }
}

/// Whether a protocol is HTTP itself: its requests would slip past every filter (RFC 9113 section 3.1 has dropped `h2c`).
fn is_http(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or_default();
    ["h2c", "h2", "http"]
        .iter()
        .any(|http| name.eq_ignore_ascii_case(http))
}

/// Whether the protocol that an upstream has switched to is one that was offered to it. One that does not say took the only one.
pub(crate) fn is_offered(offered: &HeaderValue, switched: &HeaderMap) -> bool {
    let tokens = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
        text.split(',')
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty())
            .collect::<Vec<_>>()
    };
    let offered = tokens(offered);
    switched
        .get_all(header::UPGRADE)
        .iter()
        .flat_map(tokens)
        .all(|token| offered.contains(&token))
}

/// Whether a `Connection` field names this token.
fn names_token(headers: &HeaderMap, token: &str) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case(token))
}

/// Fields that a `Connection` field cannot make disappear: they carry identity or framing.
const KEPT: [HeaderName; 4] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
];

/// Whose value the access log has, too.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields of one connection that need not be named by it.
const HOP_BY_HOP: [HeaderName; 3] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

fn is_hop_by_hop(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::UPGRADE,
        header::TRANSFER_ENCODING,
        header::TE,
    ]
    .contains(name)
        || HOP_BY_HOP.contains(name)
}

/// Removes what concerns one connection only (RFC 9110 section 7.6.1). `te: trailers` stays: gRPC needs it.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Most heads have none of these, and one look at each name costs less than a look-up for each of these.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| {
                !KEPT.contains(name)
                    && !name.as_str().starts_with("x-forwarded-")
                    && *name != REQUEST_ID
                    && *name != header::TE
            })
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(header::UPGRADE);
    headers.remove(header::TRANSFER_ENCODING);
    if let Some(te) = headers.remove(header::TE)
        && te.to_str().is_ok_and(|te| {
            te.split(',')
                .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
        })
    {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read(request: http::request::Builder) -> Result<RequestHead, &'static str> {
        let (mut parts, ()) = request.body(()).expect("a request").into_parts();
        request_head(&mut parts, Scheme::HTTP, &Limits::default())
            .map_err(|refused| refused.details)
    }

    #[test]
    fn one_host_spelled_plainly() {
        let get = || Request::get("/");
        assert_eq!(
            read(get().header("host", "a.test:80")).map(|h| h.authority),
            Ok("a.test:80".parse().expect("host"))
        );
        assert_eq!(
            read(get().header("host", "[::1]:80")).map(|h| h.host().to_owned()),
            Ok("[::1]".to_owned())
        );
        assert_eq!(read(get()).err(), Some("host_missing"));
        assert_eq!(
            read(get().header("host", "a").header("host", "a")).err(),
            Some("host_repeated")
        );
        for odd in [
            "", "a@b", "a/b", "a,b", "a b", "a:b", "a:123456", "a:65536", "[::1", "[x]", "a#b",
            "a?b", "a%20b",
        ] {
            assert_eq!(
                read(get().header("host", odd)).err(),
                Some("host_invalid"),
                "{odd}"
            );
        }
        assert_eq!(
            read(Request::get("http://b.test/").header("host", "a.test")).err(),
            Some("host_contradicts_target")
        );
        assert_eq!(
            read(Request::get("http://b.test/")).err(),
            Some("host_missing")
        );
        for version in [Version::HTTP_10, Version::HTTP_2] {
            assert!(read(Request::get("http://b.test/").version(version)).is_ok());
        }
        assert!(read(Request::get("/").version(Version::HTTP_10)).is_ok());
    }

    #[test]
    fn transfer_encoding_is_chunked_once_or_absent() {
        let post = || Request::post("/").header("host", "a");
        assert!(read(post().header("transfer-encoding", "Chunked")).is_ok());
        for odd in [
            "chunked, chunked",
            ",chunked",
            "chunked,",
            "gzip, chunked",
            "identity",
            "x",
        ] {
            assert_eq!(
                read(post().header("transfer-encoding", odd)).err(),
                Some("transfer_encoding_invalid"),
                "{odd}"
            );
        }
        let twice = post()
            .header("transfer-encoding", "chunked")
            .header("transfer-encoding", "chunked");
        assert_eq!(read(twice).err(), Some("transfer_encoding_invalid"));
    }

    #[test]
    fn methods_and_targets() {
        let host = |builder: http::request::Builder| {
            read(builder.header("host", "a")).map(|h| h.path.to_string())
        };
        assert_eq!(
            host(Request::builder().method("TRACE").uri("/")).err(),
            Some("method_not_allowed")
        );
        assert_eq!(host(Request::options("*")).err(), Some("target_invalid"));
        assert_eq!(
            host(Request::get("/a/../b?x=/../y")),
            Ok("/b?x=/../y".to_owned())
        );
        assert_eq!(
            host(Request::get("/a%2fb")).err(),
            Some("path_encoded_slash")
        );
        assert_eq!(
            host(Request::get(format!("/{}", "a".repeat(20_000)))).err(),
            Some("target_too_long")
        );
    }

    #[test]
    fn a_target_without_a_path_is_read_as_strictly() {
        let get = |uri: &str| read(Request::get(uri).header("host", "a.test"));
        let path = |uri: &str| get(uri).map(|head| head.path.to_string());
        assert_eq!(path("http://a.test?a=b"), Ok("/?a=b".to_owned()));
        let long = format!("http://a.test?{}", "a".repeat(20_000));
        assert_eq!(path(&long).err(), Some("target_too_long"));
        let many = (0..200).fold(Request::get("/").header("host", "a"), |request, at| {
            request.header(format!("x-{at}"), "y")
        });
        assert_eq!(read(many).err(), Some("too_many_headers"));
    }

    #[test]
    fn nobody_leaves_http_for_http() {
        let asked = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("connection", HeaderValue::from_static("Upgrade"));
            headers.insert("upgrade", HeaderValue::from_static(value));
            upgrade(Version::HTTP_11, &headers)
        };
        for http in ["h2c", "H2C", "h2c,", "h2c/1, HTTP/2.0", ""] {
            assert_eq!(asked(http), None, "{http}");
        }
        for (value, left) in [
            ("websocket", "websocket"),
            ("h2c, websocket", "websocket"),
            ("SPDY/3.1, tcp", "SPDY/3.1, tcp"),
        ] {
            assert_eq!(asked(value), Some(HeaderValue::from_static(left)));
        }
        let offered = HeaderValue::from_static("websocket, SPDY/3.1");
        for (switched, is_fine) in [
            (&["WebSocket"][..], true),
            (&[], true),
            (&["h2c"], false),
            (&["websocket", "other"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in switched {
                headers.append("upgrade", HeaderValue::from_static(value));
            }
            assert_eq!(is_offered(&offered, &headers), is_fine, "{switched:?}");
        }
    }

    #[test]
    fn connection_fields_end_here_and_take_only_harmless_names_along() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Mine, Authorization, X-Request-Id"),
            ("x-request-id", "1"),
            ("x-mine", "1"),
            ("authorization", "Basic x"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("keep-alive", "5"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.to_str().expect("text")))
            .collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                ("authorization", "Basic x"),
                ("te", "trailers"),
                ("x-request-id", "1")
            ]
        );
    }
}
