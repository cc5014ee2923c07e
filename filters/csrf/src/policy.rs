//! Where a state-changing request comes from: what browsers say about it in headers that pages cannot set.

use serde::Deserialize;
use tidegate_sdk::{ConfigError, Reply, config, header};

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    origins: Vec<Pattern>,
    safe: Vec<String>,
    allow_missing: bool,
    status: u16,
}

/// What a request says about its source.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Values of `Origin`.
    pub origin: Vec<Vec<u8>>,
    /// `Referer`.
    pub referer: Option<Vec<u8>>,
    /// `Sec-Fetch-Site`.
    pub fetch_site: Option<Vec<u8>>,
}

/// Scheme, host and port of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

/// An origin that may send requests; with `*.` in front of the host, any below it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    origin: Origin,
    below: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    additional_origins: Vec<String>,
    #[serde(default = "default_safe")]
    safe_methods: Vec<String>,
    #[serde(default)]
    missing_origin: Missing,
    #[serde(default = "default_status")]
    status: u16,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Missing {
    #[default]
    Deny,
    Allow,
}

fn default_safe() -> Vec<String> {
    ["GET", "HEAD", "OPTIONS", "TRACE"]
        .map(String::from)
        .to_vec()
}

fn default_status() -> u16 {
    403
}

// === impl Policy ===

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown fields, origins that are none, a status that is no refusal.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        if !(400..=599).contains(&config.status) {
            return Err(ConfigError::new("status", "is no refusal; 400 to 599 are"));
        }
        for (index, method) in config.safe_methods.iter().enumerate() {
            header::method(&format!("safeMethods[{index}]"), method)?;
        }
        let origins = config.additional_origins.iter().enumerate();
        let origins = origins.map(|(index, text)| {
            Pattern::parse(text).ok_or_else(|| {
                let field = format!("additionalOrigins[{index}]");
                ConfigError::new(
                    field,
                    format!(
                        "{text:?} is no origin such as https://app.example or https://*.example"
                    ),
                )
            })
        });
        Ok(Self {
            origins: origins.collect::<Result<_, _>>()?,
            safe: config.safe_methods,
            allow_missing: config.missing_origin == Missing::Allow,
            status: config.status,
        })
    }

    /// Whether requests with this method change nothing.
    #[must_use]
    pub fn is_safe(&self, method: &[u8]) -> bool {
        self.safe.iter().any(|safe| safe.as_bytes() == method)
    }

    /// Decides about a request for `authority` that may change something.
    ///
    /// # Errors
    ///
    /// The refusal.
    pub fn check(&self, source: &Source, authority: &[u8]) -> Result<(), Reply> {
        // Browsers compare whole origins, scheme included, and know no proxy in between.
        if source.fetch_site.as_deref() == Some(b"same-origin") {
            return Ok(());
        }
        let text = match &source.origin[..] {
            [origin] => Some(origin),
            [] => source.referer.as_ref(),
            _ => return Err(self.refusal("csrf_several_origins")),
        };
        let Some(text) = text else {
            return match self.allow_missing && source.fetch_site.is_none() {
                true => Ok(()),
                false => Err(self.refusal("csrf_no_origin")),
            };
        };
        // "null", a sandboxed page for example, is no origin and matches nothing.
        let origin = std::str::from_utf8(text).ok().and_then(Origin::parse);
        let fine = origin.is_some_and(|origin| {
            origin.is_of(authority) || self.origins.iter().any(|pattern| pattern.matches(&origin))
        });
        match fine {
            true => Ok(()),
            false => Err(self.refusal("csrf_other_origin")),
        }
    }

    fn refusal(&self, details: &'static str) -> Reply {
        Reply::new(self.status)
            .body("The request comes from another origin.\n")
            .details(details)
    }
}

// === impl Origin ===

impl Origin {
    /// The origin of an absolute URL.
    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let port = default_port(&scheme)?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let (host, port) = split_port(authority, port)?;
        (!host.is_empty() && !host.contains(['@', '\\', ' '])).then(|| Self {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// Whether a request with this authority goes back to where it came from. The scheme is left out, since a proxy in front may
    /// have ended TLS.
    fn is_of(&self, authority: &[u8]) -> bool {
        let authority = std::str::from_utf8(authority).ok();
        let target = authority
            .zip(default_port(&self.scheme))
            .and_then(|(authority, port)| split_port(authority, port));
        target
            .is_some_and(|(host, port)| host.eq_ignore_ascii_case(&self.host) && port == self.port)
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

fn split_port(authority: &str, default: u16) -> Option<(&str, u16)> {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => Some((host, port.parse().ok()?)),
        _ => Some((authority, default)),
    }
}

// === impl Pattern ===

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (below, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let plain = !rest.contains(['/', '?', '#', '*']);
        let origin = Origin::parse(&format!("{scheme}://{rest}"))?;
        plain.then_some(Self { origin, below })
    }

    fn matches(&self, origin: &Origin) -> bool {
        let host = match self.below {
            false => origin.host == self.origin.host,
            true => origin
                .host
                .strip_suffix(&self.origin.host)
                .is_some_and(|rest| rest.ends_with('.') && rest.len() > 1),
        };
        host && origin.scheme == self.origin.scheme && origin.port == self.origin.port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let fits = |pattern, origin| {
            let origin = Origin::parse(origin).unwrap();
            Pattern::parse(pattern).unwrap().matches(&origin)
        };
        assert!(fits("https://app.example", "https://APP.example:443"));
        assert!(!fits("https://app.example", "http://app.example"));
        assert!(!fits("https://app.example", "https://app.example.evil"));
        assert!(fits("https://*.example:8443", "https://a.b.example:8443"));
        for origin in [
            "https://example:8443",
            "https://evilexample:8443",
            "https://a.example",
        ] {
            assert!(!fits("https://*.example:8443", origin), "{origin}");
        }
        for text in [
            "",
            "app.example",
            "*",
            "https://",
            "https://a/b",
            "https://a.*.b",
            "ftp://a",
        ] {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
    }
}
