//! Origins and the patterns that allow them (RFC 6454 section 6.2; Gateway API `CORSOrigin`).

use tidegate_sdk::ConfigError;

/// An `Origin` header's value that is a scheme, a host and a port. `null` is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

/// How far a leading `*.` reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wildcard {
    /// Any number of labels: the Gateway API.
    Labels,
    /// Exactly one label: ingress-nginx.
    Label,
}

/// One member of `allowOrigins` other than `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// `None` allows every scheme, as ingress-nginx reads an origin without one.
    scheme: Option<String>,
    host: Host,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    Exact(String),
    /// With its leading dot.
    Suffix(String, Wildcard),
}

// === impl Origin ===

impl Origin {
    /// Reads the header. Scheme and host become lower case, a scheme's default port disappears, so that equal origins are equal.
    #[must_use]
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (scheme, authority) = text.split_once("://")?;
        let scheme = parse_scheme(scheme)?;
        let (host, port) = split_port(authority)?;
        is_host(host).then(|| Self {
            port: without_default(port, Some(&scheme)),
            scheme,
            host: host.to_ascii_lowercase(),
        })
    }
}

// === impl Pattern ===

impl Pattern {
    /// Reads a member of `allowOrigins`; `field` is its path for errors.
    ///
    /// # Errors
    ///
    /// What is no origin, has a path, or has a wildcard anywhere but as the first label.
    pub(super) fn parse(field: &str, text: &str, wildcard: Wildcard) -> Result<Self, ConfigError> {
        let refuse = |problem: &str| Err(ConfigError::new(field, format!("{text:?} {problem}")));
        if text.eq_ignore_ascii_case("null") {
            return refuse(
                "would allow every sandboxed page and local file; list the origins, or use \"*\"",
            );
        }
        let (scheme, authority) = match text.split_once("://") {
            Some((scheme, authority)) => match parse_scheme(scheme) {
                Some(scheme) => (Some(scheme), authority),
                None => return refuse("has an invalid scheme"),
            },
            None if wildcard == Wildcard::Label => (None, text),
            None => return refuse("has no scheme; write it as https://host"),
        };
        let Some((host, port)) = split_port(authority) else {
            return refuse("has an invalid port");
        };
        let host = host.to_ascii_lowercase();
        let host = if host == "*" {
            Host::Any
        } else if let Some(suffix) = host.strip_prefix("*.").filter(|rest| is_host(rest)) {
            Host::Suffix(format!(".{suffix}"), wildcard)
        } else if is_host(&host) {
            Host::Exact(host)
        } else {
            return refuse(
                "is no origin; expected scheme://host or scheme://host:port, and \"*\" only as the first label",
            );
        };
        Ok(Self {
            port: without_default(port, scheme.as_deref()),
            scheme,
            host,
        })
    }

    /// Whether it allows `origin`.
    #[must_use]
    pub(super) fn allows(&self, origin: &Origin) -> bool {
        self.port == origin.port
            && self
                .scheme
                .as_ref()
                .is_none_or(|scheme| *scheme == origin.scheme)
            && self.host.matches(&origin.host)
    }
}

impl Host {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == host,
            Self::Suffix(suffix, wildcard) => {
                host.strip_suffix(suffix.as_str())
                    .is_some_and(|labels| match wildcard {
                        Wildcard::Labels => !labels.is_empty() && !labels.starts_with('.'),
                        Wildcard::Label => !labels.is_empty() && !labels.contains('.'),
                    })
            }
        }
    }
}

fn parse_scheme(text: &str) -> Option<String> {
    let valid = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    valid.then(|| text.to_ascii_lowercase())
}

/// Host and port; `None` when there is a colon without a port behind it.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_address = authority.rfind(']').map_or(0, |end| end + 1);
    match authority[after_address..].find(':') {
        None => Some((authority, None)),
        Some(colon) => {
            let (host, port) = authority.split_at(after_address + colon);
            let digits = &port[1..];
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let port = plain.then(|| digits.parse().ok()).flatten()?;
            (port > 0).then_some((host, Some(port)))
        }
    }
}

fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(Some(address)) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        Some(None) => false,
        None => {
            !text.is_empty()
                && text.len() <= 253
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    }
}

fn without_default(port: Option<u16>, scheme: Option<&str>) -> Option<u16> {
    port.filter(|port| !matches!((scheme, port), (Some("http"), 80) | (Some("https"), 443)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, wildcard: Wildcard, origin: &str) -> bool {
        let pattern = Pattern::parse("allowOrigins[0]", pattern, wildcard).unwrap();
        Origin::parse(origin.as_bytes()).is_some_and(|origin| pattern.allows(&origin))
    }

    #[test]
    fn exact_origins_compare_without_case_and_default_port() {
        for (pattern, origin, expected) in [
            ("https://foo.com", "https://foo.com", true),
            ("https://foo.com", "HTTPS://Foo.COM", true),
            ("https://foo.com", "https://foo.com:443", true),
            ("https://foo.com:443", "https://foo.com", true),
            ("http://foo.com:80", "http://foo.com", true),
            ("https://foo.com", "http://foo.com", false),
            ("https://foo.com", "https://foo.com:8443", false),
            ("https://foo.com:8443", "https://foo.com", false),
            ("https://foo.com", "https://foo.com.evil.test", false),
            ("https://foo.com", "https://xfoo.com", false),
            (
                "http://[2001:db8::1]:8080",
                "http://[2001:db8::1]:8080",
                true,
            ),
            (
                "chrome-extension://abcdef",
                "chrome-extension://abcdef",
                true,
            ),
        ] {
            assert_eq!(
                allows(pattern, Wildcard::Labels, origin),
                expected,
                "{pattern} {origin}"
            );
        }
    }

    #[test]
    fn a_wildcard_takes_any_number_of_labels_or_one() {
        for (origin, labels, label) in [
            ("https://www.bar.com", true, true),
            ("https://xpto.www.bar.com", true, false),
            ("https://bar.com", false, false),
            ("https://.bar.com", false, false),
            ("https://..bar.com", false, false),
            ("https://evilbar.com", false, false),
            ("https://www.bar.com.evil.test", false, false),
        ] {
            assert_eq!(
                allows("https://*.bar.com", Wildcard::Labels, origin),
                labels,
                "{origin}"
            );
            assert_eq!(
                allows("https://*.bar.com", Wildcard::Label, origin),
                label,
                "{origin}"
            );
        }
        assert!(allows("https://*", Wildcard::Labels, "https://any.test"));
        assert!(!allows("https://*", Wildcard::Labels, "http://any.test"));
    }

    #[test]
    fn nginx_reads_an_origin_without_scheme_as_every_scheme() {
        assert!(allows("a.test", Wildcard::Label, "https://a.test"));
        assert!(allows("*.a.test", Wildcard::Label, "app://b.a.test"));
        assert!(!allows("a.test", Wildcard::Label, "https://xa.test"));
    }

    #[test]
    fn what_is_no_origin() {
        for text in [
            "",
            "null",
            "foo.com",
            "https://",
            "https://a b",
            "https://a/",
            "https://a,https://b",
            "https://a\r\nx: y",
            "https://a:0",
            "https://a:99999",
            "https://a:",
            "https://a:+1",
            "https://user@a",
            "1s://a",
            "://a",
            "https://[::1",
            "https://::1",
            "https://[zz]",
            "https://a?b",
            "https://a#b",
        ] {
            assert_eq!(Origin::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Origin::parse(b"https://\xff"), None);
    }

    #[test]
    fn refused_patterns_name_the_field_and_the_remedy() {
        for (text, part) in [
            ("foo.com", "has no scheme"),
            ("https://foo.com/", "is no origin"),
            ("https://a.*.com", "first label"),
            ("https://*foo.com", "first label"),
            ("https://foo.com:*", "invalid port"),
            ("null", "sandboxed"),
            ("h ttp://a", "invalid scheme"),
            ("https://", "is no origin"),
        ] {
            let error = Pattern::parse("allowOrigins[3]", text, Wildcard::Labels).unwrap_err();
            assert_eq!(error.field(), "allowOrigins[3]");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
