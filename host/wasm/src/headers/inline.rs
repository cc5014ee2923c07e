//! Envoy's inline headers: those that it holds as one string, so that a second line of the same name joins the first.
//!
//! Any recipient may join lines of one name by a comma (RFC 9110 section 5.3; `set-cookie` alone is excepted), so that what
//! filters see here is what they see there, and what goes on is what they saw.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Whether Envoy holds this field of a request as one string.
pub(crate) fn is_inline_in_requests(name: &str) -> bool {
    matches!(
        name,
        "accept"
            | "accept-encoding"
            | "access-control-request-headers"
            | "access-control-request-method"
            | "authorization"
            | "cache-control"
            | "content-type"
            | "expect"
            | "grpc-timeout"
            | "if-none-match"
            | "keep-alive"
            | "origin"
            | "referer"
            | "te"
            | "upgrade"
            | "user-agent"
            | "via"
            | "x-client-trace-id"
            | "x-forwarded-client-cert"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-forwarded-proto"
            | "x-request-id"
    )
}

/// Whether Envoy holds this field of a response as one string.
pub(crate) fn is_inline_in_responses(name: &str) -> bool {
    matches!(
        name,
        "access-control-allow-credentials"
            | "access-control-allow-headers"
            | "access-control-allow-methods"
            | "access-control-allow-origin"
            | "access-control-expose-headers"
            | "access-control-max-age"
            | "cache-control"
            | "content-encoding"
            | "content-type"
            | "date"
            | "etag"
            | "grpc-message"
            | "grpc-status"
            | "keep-alive"
            | "location"
            | "proxy-status"
            | "server"
            | "upgrade"
            | "vary"
            | "via"
            | "x-request-id"
    )
}

/// Joins the lines of fields that Envoy keeps inline, each where its first line stands.
#[inline]
pub(crate) fn join_lines(fields: &mut HeaderMap, is_inline: fn(&str) -> bool) {
    // Hardly any head has a name twice.
    if fields.len() > fields.keys_len() {
        join_repeated(fields, is_inline);
    }
}

#[cold]
fn join_repeated(fields: &mut HeaderMap, is_inline: fn(&str) -> bool) {
    let is_repeated = |name: &HeaderName| fields.get_all(name).iter().nth(1).is_some();
    let repeated: Vec<HeaderName> = fields
        .keys()
        .filter(|name| is_inline(name.as_str()) && is_repeated(name))
        .cloned()
        .collect();
    for name in repeated {
        let lines: Vec<&[u8]> = fields
            .get_all(&name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b',')) {
            fields.insert(name, joined);
        }
    }
}

/// A value and what is added to it.
pub(super) fn join(old: &[u8], value: &[u8]) -> Vec<u8> {
    [old, b",", value].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_inline_fields_become_one_and_all_others_stay() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("accept", "a"),
            ("x-a", "1"),
            ("accept", "b"),
            ("x-a", "2"),
            ("cookie", "c=1"),
            ("cookie", "d=2"),
            ("accept", "c"),
            ("vary", "a"),
        ] {
            fields.append(name, HeaderValue::from_static(value));
        }
        let lines = |fields: &HeaderMap| -> Vec<String> {
            fields
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect()
        };
        join_lines(&mut fields, is_inline_in_requests);
        let expected = [
            "accept: a,b,c",
            "x-a: 1",
            "x-a: 2",
            "cookie: c=1",
            "cookie: d=2",
            "vary: a",
        ];
        assert_eq!(lines(&fields), expected);
        join_lines(&mut fields, is_inline_in_requests);
        assert_eq!(lines(&fields), expected, "joined once and for all");
        fields.append("vary", HeaderValue::from_static("b"));
        join_lines(&mut fields, is_inline_in_responses);
        assert_eq!(lines(&fields)[5], "vary: a,b");
    }
}
