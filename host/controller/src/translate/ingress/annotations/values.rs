//! Kinds of values: what ingress-nginx takes, and what is said of anything else.

use std::fmt;

use http::uri::Authority;
use http::{HeaderName, Method};
use ipnet::IpNet;

/// What the value of an annotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// `true` or `false`, as Go reads them.
    Flag,
    /// A whole number.
    Number,
    /// A whole number above 0.
    Positive,
    /// Bytes, or a number with k, m or g behind it.
    Size,
    /// Addresses and networks, with commas.
    Addresses,
    /// An absolute URL of http or https.
    Url,
    /// A path.
    Path,
    /// What a path is rewritten to.
    RewriteTarget,
    /// An absolute URL of http or https, or a path.
    Target,
    /// A whole number, below 0 too.
    Integer,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `name`, or `namespace/name`.
    Reference,
    /// The name of a header.
    HeaderName,
    /// Names of headers, with commas.
    HeaderNames,
    /// A method.
    Method,
    /// Methods, with commas.
    Methods,
    /// Origins, with commas, or `*`.
    Origins,
    /// A regular expression.
    Expression,
    /// A host, with a port if need be.
    Host,
    /// Hosts, with commas.
    Hosts,
    /// The name of a cookie.
    CookieName,
    /// An attribute of a cookie.
    CookieText,
    /// A realm.
    Realm,
    /// Lines of nginx's configuration.
    Snippet,
    /// Anything.
    Text,
}

impl Value {
    /// Whether the text is one, but for what needs more than the text.
    ///
    /// # Errors
    /// What is wrong, and what to write: `is no number; write …`.
    pub(crate) fn check(self, text: &str) -> Result<(), String> {
        let ok = match self {
            Self::Flag => flag(text).is_some(),
            Self::Number => text.parse::<u32>().is_ok(),
            Self::Positive => text.parse::<u32>().is_ok_and(|number| number > 0),
            Self::Size => is_size(text),
            Self::Addresses => {
                list(text).all(|item| network(item).is_some()) && list(text).next().is_some()
            }
            Self::Url => is_url(text),
            Self::Path => text.starts_with('/') && visible(text),
            Self::RewriteTarget => (text.starts_with(['/', '$']) || is_url(text)) && visible(text),
            Self::Target => is_url(text) || (text.starts_with('/') && visible(text)),
            Self::Integer => text.parse::<i64>().is_ok(),
            Self::Choice(words) => words.contains(&text),
            Self::Reference => reference(text, "").is_some(),
            Self::HeaderName => HeaderName::from_bytes(text.as_bytes()).is_ok(),
            Self::HeaderNames => list(text)
                .all(|name| name == "*" || HeaderName::from_bytes(name.as_bytes()).is_ok()),
            Self::Method => is_method(text),
            Self::Methods => list(text).all(|method| method == "*" || is_method(method)),
            // One by one, see `cors`.
            Self::Origins | Self::Hosts | Self::Snippet | Self::Text => true,
            Self::Expression => regex::Regex::new(text).is_ok(),
            Self::Host => is_authority(text),
            Self::CookieName => HeaderName::from_bytes(text.as_bytes()).is_ok(),
            Self::CookieText => visible(text) && !text.contains([';', ',']),
            Self::Realm => {
                text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
                    && !text.contains('"')
                    && text.len() <= 256
            }
        };
        if ok { Ok(()) } else { Err(self.remedy(text)) }
    }

    fn remedy(self, text: &str) -> String {
        match self {
            Self::Flag => "is neither true nor false; write one of them in quotes".to_owned(),
            Self::Number | Self::Integer => "is no number; write a whole number".to_owned(),
            Self::Positive => "is no number above 0; write a whole number".to_owned(),
            Self::Size => {
                "is no size; write a number with k, m or g behind it, as 8m, or 0 for no limit"
                    .to_owned()
            }
            Self::Addresses => {
                let odd = list(text)
                    .find(|item| network(item).is_none())
                    .unwrap_or_default();
                format!(
                    "holds {odd:?}, which is neither an address nor a network; write 10.0.0.0/8 or 2001:db8::1, with commas"
                )
            }
            Self::Url if text.contains(' ') => {
                "is no URL; write https://host/path without spaces".to_owned()
            }
            Self::Url => "is no absolute URL; write https://host/path".to_owned(),
            Self::Path => "is no path; begin it with a slash".to_owned(),
            Self::RewriteTarget => "is neither a path nor a URL; write /$2, say".to_owned(),
            Self::Target => {
                "is neither an absolute URL nor a path; write https://host/path".to_owned()
            }
            Self::Choice(words) => format!("is not known; write {}", words.join(", ")),
            Self::Reference => "is no reference; write name, or namespace/name".to_owned(),
            Self::HeaderName | Self::HeaderNames => {
                "holds what is no header's name; write names with commas between them".to_owned()
            }
            Self::Method | Self::Methods => {
                "holds what is no method; write GET, PUT, say".to_owned()
            }
            Self::Expression => {
                "is no regular expression without look-around and back references; write one"
                    .to_owned()
            }
            Self::Host => "is no host; write one".to_owned(),
            Self::CookieName => "is no name of a cookie; write letters, digits, - and _".to_owned(),
            Self::CookieText => {
                "cannot stand in a cookie; leave out spaces, commas and semicolons".to_owned()
            }
            Self::Realm => {
                "cannot be a realm; write up to 256 characters of ASCII without quotation marks"
                    .to_owned()
            }
            Self::Origins | Self::Hosts | Self::Snippet | Self::Text => "cannot be read".to_owned(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "true or false",
            Self::Number => "number",
            Self::Positive => "number above 0",
            Self::Size => "size",
            Self::Addresses => "networks",
            Self::Url => "URL",
            Self::Path => "path",
            Self::RewriteTarget => "path with $1, or URL",
            Self::Target => "URL or path",
            Self::Integer => "whole number",
            Self::Choice(words) => return f.write_str(&words.join(", ")),
            Self::Reference => "name or namespace/name",
            Self::HeaderName => "header",
            Self::HeaderNames => "headers",
            Self::Method => "method",
            Self::Methods => "methods",
            Self::Origins => "origins",
            Self::Expression => "expression",
            Self::Host => "host",
            Self::Hosts => "hosts",
            Self::CookieName => "name of a cookie",
            Self::CookieText | Self::Realm | Self::Text => "text",
            Self::Snippet => "lines of nginx",
        })
    }
}

/// As Go's `strconv.ParseBool`.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The items of a list; an empty one is a comma too many.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', '\n'])
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// An address or a network, as the filter ip-acl takes it.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let network: Option<IpNet> = text.parse().ok();
    network.or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

/// `namespace/name`; without a namespace that of the Ingress.
pub(super) fn reference<'a>(text: &'a str, own: &'a str) -> Option<(&'a str, &'a str)> {
    let (namespace, name) = text.split_once('/').unwrap_or((own, text));
    let is_name = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
    };
    let whole = !name.is_empty() && is_name(name) && is_name(namespace) && !text.starts_with('/');
    whole.then_some((namespace, name))
}

fn is_size(text: &str) -> bool {
    let digits = text
        .strip_suffix(['k', 'K', 'm', 'M', 'g', 'G'])
        .unwrap_or(text);
    !digits.is_empty() && digits.len() <= 12 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        !rest.starts_with(['/', '?', '#']) && !rest.is_empty() && !rest.contains('@')
    }) && visible(text)
}

/// A host, and a port if need be, as a request can carry it.
fn is_authority(text: &str) -> bool {
    // What stands before an @ is no part of a host.
    !text.contains('@')
        && text
            .parse::<Authority>()
            .is_ok_and(|authority| !authority.host().is_empty())
}

fn is_method(text: &str) -> bool {
    Method::from_bytes(text.as_bytes()).is_ok()
        && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_ingress_nginx_takes_them() {
        let cases: [(Value, &[&str], &[&str]); 14] = [
            (
                Value::Flag,
                &["true", "1", "False", "t"],
                &["yes", "on", "tRUE"],
            ),
            (
                Value::Number,
                &["0", "17"],
                &["-1", "1.5", "many", "99999999999"],
            ),
            (Value::Positive, &["60"], &["0", "60s"]),
            (
                Value::Size,
                &["0", "8m", "1G", "1024"],
                &["8mb", "m", "-1", "8 m"],
            ),
            (
                Value::Addresses,
                &["10.0.0.0/8", "::1, 10.0.0.1"],
                &["10.0.0.0/33", "localhost", ","],
            ),
            (
                Value::Url,
                &["https://a.test", "http://$host/x?y"],
                &["/x", "ftp://a", "https://", "https://me@a"],
            ),
            (
                Value::RewriteTarget,
                &["/$2", "$1", "https://a.test/$1"],
                &["x", "/a b"],
            ),
            (
                Value::Target,
                &["https://a.test", "/new"],
                &["new", "ftp://a", "/a b"],
            ),
            (Value::Integer, &["301", "-1"], &["x", "1.5", ""]),
            (
                Value::Host,
                &["a.test", "a.test:8080", "a_b", "[::1]:80"],
                &["a.test:80:90", "a b", "me@a.test", "a/b", ":80"],
            ),
            (
                Value::Reference,
                &["users", "shop/users"],
                &["a/b/c", "/x", "A"],
            ),
            (Value::HeaderNames, &["X-A, X-B", "*"], &["X A", "ä"]),
            (Value::Methods, &["GET, PUT"], &["GET;PUT"]),
            (
                Value::CookieName,
                &["route", "A-b_c"],
                &["a b", "a=b", "a;b"],
            ),
        ];
        for (value, good, bad) in cases {
            for text in good {
                assert_eq!(value.check(text), Ok(()), "{value:?} {text}");
            }
            for text in bad {
                let why = value.check(text).expect_err(text);
                assert!(why.contains("; "), "{value:?} {text}: {why}");
            }
        }
    }
}
