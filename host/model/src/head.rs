//! The heads of a request and a response, as every layer sees them: pseudo-headers apart, `Host` folded into the authority.

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// The head of a request after the strict checks: one authority, no `host` among [`headers`](Self::headers).
///
/// HTTP/1's `Host` and HTTP/2's `:authority` are the same field here, as RFC 9110 section 7.2 and Envoy have it.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// `:method`
    pub method: Method,
    /// `:scheme`, what the client used towards us: `http` or `https`.
    pub scheme: Scheme,
    /// `:authority`: host, and the port where the client named one.
    pub authority: HeaderValue,
    /// `:path`: path and query, byte for byte as received until a filter changes it.
    pub path: PathAndQuery,
    /// All other fields, names in lower case.
    pub headers: HeaderMap,
}

impl RequestHead {
    /// The host without port, as the client wrote it (case kept); empty if the authority is not UTF-8.
    pub fn host(&self) -> &str {
        strip_port(self.authority.to_str().unwrap_or_default())
    }
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// `:status`
    pub status: StatusCode,
    /// All fields, names in lower case.
    pub headers: HeaderMap,
}

/// `host:port` without its port; brackets of an IPv6 literal stay.
pub fn strip_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(at) if !authority[at..].contains(']') => &authority[..at],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::strip_port;

    #[test]
    fn ports_are_stripped_and_ipv6_kept() {
        assert_eq!(strip_port("a.test:80"), "a.test");
        assert_eq!(strip_port("a.test"), "a.test");
        assert_eq!(strip_port("[::1]:80"), "[::1]");
        assert_eq!(strip_port("[::1]"), "[::1]");
    }
}
