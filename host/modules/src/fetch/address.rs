//! Addresses: which server they name, and where answers lead.

use http::header::LOCATION;
use http::{HeaderMap, Method, StatusCode, Uri};

use super::error::FetchError;

/// Host and port.
pub(super) fn server(url: &Uri) -> Result<(&str, u16), FetchError> {
    let bad = || FetchError::Address(shown(url));
    let port = match url.scheme_str() {
        Some("https") => 443,
        Some("http") => 80,
        _ => return Err(bad()),
    };
    let authority = url.authority().ok_or_else(bad)?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(bad());
    }
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    Ok((host, authority.port_u16().unwrap_or(port)))
}

/// What credentials belong to.
pub(super) fn origin(url: &Uri) -> Option<(Option<&str>, String, u16)> {
    let (host, port) = server(url).ok()?;
    Some((url.scheme_str(), host.to_ascii_lowercase(), port))
}

/// An address as messages show it: without the query, where others put their tokens.
pub(super) fn shown(url: &Uri) -> String {
    match (url.scheme_str(), url.authority()) {
        (Some(scheme), Some(authority)) => format!("{scheme}://{authority}{}", url.path()),
        _ => url.path().to_owned(),
    }
}

/// Of what sends something, those that send it again to another place (RFC 9110 section 15.4).
pub(super) fn is_redirect(method: &Method, status: StatusCode) -> bool {
    match status.as_u16() {
        307 | 308 => true,
        301..=303 => method.is_safe(),
        _ => false,
    }
}

/// Where an answer leads.
pub(super) fn redirected(from: &Uri, headers: &HeaderMap) -> Result<Uri, FetchError> {
    let refused = |what| FetchError::Redirect {
        url: shown(from),
        what,
    };
    let location = headers
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| refused("without saying where to"))?;
    let to = resolve(from, location).ok_or_else(|| refused("to something that is no address"))?;
    match (from.scheme_str(), to.scheme_str()) {
        (Some("https"), Some("http")) => Err(refused("from https to http, which is not followed")),
        (_, Some("http" | "https")) => Ok(to),
        _ => Err(refused("to something that is neither http nor https")),
    }
}

/// RFC 3986 section 5.2, but for dot segments, which servers resolve themselves.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    let is_scheme =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if location
        .split_once("://")
        .is_some_and(|(scheme, _)| is_scheme(scheme))
    {
        return location.parse().ok();
    }
    let absolute = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else {
        let folder = base
            .path()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    absolute.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn redirects_are_resolved_against_where_they_come_from() {
        let base: Uri = "https://a.test:8443/one/two?q".parse().expect("an address");
        for (location, expected) in [
            ("https://b.test/x", "https://b.test/x"),
            ("//b.test/x", "https://b.test/x"),
            ("/x?y=://z", "https://a.test:8443/x?y=://z"),
            ("x", "https://a.test:8443/one/x"),
            ("?x", "https://a.test:8443/one/two?x"),
            ("/x#part", "https://a.test:8443/x"),
        ] {
            let resolved = resolve(&base, location).expect(location);
            assert_eq!(resolved.to_string(), expected);
        }
    }

    #[test]
    fn redirects_do_not_lead_out_of_https() {
        let base: Uri = "https://a.test/".parse().expect("an address");
        for location in [
            "http://a.test/",
            "file:///etc/passwd",
            "gopher://a.test/",
            "",
        ] {
            let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
            let to = redirected(&base, &headers);
            if location.is_empty() {
                // The same again; the number of redirects ends that.
                assert!(to.is_ok());
            } else {
                assert!(to.is_err(), "{location} is followed");
            }
        }
        assert!(redirected(&base, &HeaderMap::new()).is_err());
    }

    #[test]
    fn credentials_belong_to_scheme_host_and_port() {
        let same = |one: &str, other: &str| {
            let (one, other): (Uri, Uri) = (one.parse().expect(one), other.parse().expect(other));
            origin(&one) == origin(&other)
        };
        assert!(same("https://a.test/x", "https://A.test:443/y"));
        assert!(!same("https://a.test/", "http://a.test:443/"));
        assert!(!same("https://a.test/", "https://a.test:444/"));
    }
}
