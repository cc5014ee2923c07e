//! The filters that the Gateway API itself defines: header modifiers, redirect, URL rewrite.

use http::header::{self, HeaderMap};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use tidegate_model::{
    HeaderModifier, PathMatch, PathModifier, Redirect, RequestHead, UrlRewrite, path,
};

use crate::body::Body;

/// HTTPHeaderFilter: set, then add, then remove. Where a message ends is not a route's to say.
pub(crate) fn modify(headers: &mut HeaderMap, modifier: &HeaderModifier) {
    for (name, value) in modifier.set.iter().filter(|(name, _)| !is_framing(name)) {
        headers.insert(name, value.clone());
    }
    for (name, value) in modifier.add.iter().filter(|(name, _)| !is_framing(name)) {
        headers.append(name, value.clone());
    }
    for name in modifier.remove.iter().filter(|name| !is_framing(name)) {
        headers.remove(name);
    }
}

fn is_framing(name: &HeaderName) -> bool {
    *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING
}

/// The same on a request, whose `Host` is its authority.
pub(crate) fn modify_request(head: &mut RequestHead, modifier: &HeaderModifier) {
    modify(&mut head.headers, modifier);
    if let Some(host) = head.headers.remove(header::HOST) {
        head.authority = host;
    }
}

/// HTTPURLRewriteFilter.
pub(crate) fn rewrite(head: &mut RequestHead, rewrite: &UrlRewrite, matched: &PathMatch) {
    if let Some(hostname) = &rewrite.hostname {
        head.authority = hostname.clone();
    }
    if let Some(modifier) = &rewrite.path
        && let Some(path) = modified(&head.path, modifier, matched)
    {
        head.path = path;
    }
}

/// HTTPRequestRedirectFilter. `port` is the listener's.
pub(crate) fn redirect(
    head: &RequestHead,
    redirect: &Redirect,
    matched: &PathMatch,
    port: u16,
) -> Response<Body> {
    let request_scheme = if head.scheme == Scheme::HTTPS {
        "https"
    } else {
        "http"
    };
    let scheme = redirect.scheme.unwrap_or(request_scheme);
    let host = redirect.hostname.as_deref().unwrap_or_else(|| head.host());
    if host.is_empty() {
        // A request of HTTP/1.0 without a host has none to be sent on to.
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    }
    let well_known = |scheme: &str| if scheme == "https" { 443 } else { 80 };
    let port = redirect.port.unwrap_or_else(|| match redirect.scheme {
        Some(scheme) => well_known(scheme),
        None => port,
    });
    let port = if port == well_known(scheme) {
        String::new()
    } else {
        format!(":{port}")
    };
    let path = redirect
        .path
        .as_ref()
        .and_then(|modifier| modified(&head.path, modifier, matched));
    let path = path.as_ref().unwrap_or(&head.path);
    let location = format!("{scheme}://{host}{port}{path}");
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = redirect.status;
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The path after a modifier, with the query of before; `None` if nothing fits into a path.
fn modified(
    target: &PathAndQuery,
    modifier: &PathModifier,
    matched: &PathMatch,
) -> Option<PathAndQuery> {
    let path = match modifier {
        PathModifier::Full(full) => full.to_string(),
        PathModifier::Prefix(replacement) => replace_prefix(target.path(), matched, replacement),
    };
    let query = target
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    format!("{path}{query}").parse().ok()
}

/// HTTPPathModifier.replacePrefixMatch: the matched prefix gives way, by segments, and no slash is doubled or lost.
fn replace_prefix(request: &str, matched: &PathMatch, replacement: &str) -> String {
    let PathMatch::Prefix(prefix) = matched else {
        return request.to_owned();
    };
    let canonical;
    let rest = match request.strip_prefix(&**prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        // The route matched another spelling of the path; then the canonical one is what the upstream gets.
        _ => {
            canonical = path::canonical(request);
            canonical.strip_prefix(&**prefix).unwrap_or_default()
        }
    };
    let replacement = replacement.trim_end_matches('/');
    match format!("{replacement}{rest}") {
        empty if empty.is_empty() => "/".to_owned(),
        path if path.starts_with('/') => path,
        path => format!("/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn head(target: &str) -> RequestHead {
        RequestHead {
            method: Method::GET,
            scheme: Scheme::HTTP,
            authority: HeaderValue::from_static("a.test:8080"),
            path: target.parse().expect("a path"),
            headers: HeaderMap::new(),
        }
    }

    #[test]
    fn prefixes_are_replaced_as_the_api_tabulates() {
        // HTTPPathModifier.replacePrefixMatch, the table of its documentation.
        let table = [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo?x=1", "/foo", "/bar", "/bar?x=1"),
            ("//foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ];
        for (request, prefix, replacement, expected) in table {
            let target: PathAndQuery = request.parse().expect("a path");
            let modifier = PathModifier::Prefix(replacement.into());
            let path = modified(&target, &modifier, &PathMatch::prefix(prefix));
            assert_eq!(
                path.expect("a path").as_str(),
                expected,
                "{request} {prefix} {replacement}"
            );
        }
    }

    fn location(redirect_filter: &Redirect, port: u16) -> String {
        let response = redirect(
            &head("/a?b"),
            redirect_filter,
            &PathMatch::prefix("/"),
            port,
        );
        assert_eq!(response.status(), redirect_filter.status);
        response.headers()["location"]
            .to_str()
            .expect("text")
            .to_owned()
    }

    #[test]
    fn framing_is_left_alone() {
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from(500));
        let five = (header::CONTENT_LENGTH, HeaderValue::from(5));
        let modifier = HeaderModifier {
            set: vec![five.clone()],
            add: vec![
                five,
                (header::TRANSFER_ENCODING, HeaderValue::from_static("x")),
            ],
            remove: vec![header::CONTENT_LENGTH],
        };
        modify(&mut headers, &modifier);
        let left: Vec<_> = headers.iter().collect();
        let length = HeaderValue::from(500);
        assert_eq!(left, [(&header::CONTENT_LENGTH, &length)]);
    }

    #[test]
    fn redirects_name_a_port_only_where_it_is_not_the_well_known_one() {
        let plain = Redirect {
            scheme: None,
            hostname: None,
            path: None,
            port: None,
            status: StatusCode::FOUND,
        };
        assert_eq!(location(&plain, 8080), "http://a.test:8080/a?b");
        assert_eq!(location(&plain, 80), "http://a.test/a?b");
        let https = Redirect {
            scheme: Some("https"),
            ..plain.clone()
        };
        assert_eq!(location(&https, 8080), "https://a.test/a?b");
        let port = Redirect {
            port: Some(443),
            ..https.clone()
        };
        assert_eq!(location(&port, 8080), "https://a.test/a?b");
        let odd = Redirect {
            port: Some(8443),
            hostname: Some("b.test".into()),
            ..https
        };
        assert_eq!(location(&odd, 80), "https://b.test:8443/a?b");
        let path = Redirect {
            path: Some(PathModifier::Full("/new".into())),
            ..plain
        };
        assert_eq!(location(&path, 80), "http://a.test/new?b");
    }
}
