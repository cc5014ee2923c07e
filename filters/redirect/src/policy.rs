//! Which requests are redirected, and where to.

mod config;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use tidegate_sdk::Reply;
use tidegate_sdk::expression::{Captures, Regex};
use tidegate_sdk::template::{self, Source, Template};

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    /// Path prefixes that no rule touches.
    except: Vec<String>,
    location: Vec<Replacement>,
    forwarded_proto: bool,
}

#[derive(Debug)]
struct Rule {
    scheme: Option<String>,
    host: Option<Regex>,
    path: Option<Regex>,
    methods: Vec<String>,
    to: Template,
    status: u16,
}

/// nginx's `proxy_redirect`: a prefix, or an expression, and what stands for it.
#[derive(Debug)]
enum Replacement {
    Prefix { from: String, to: String },
    Expression { from: Regex, to: String },
}

/// The longest `Location` that is made: a request's target may be long, and templates may repeat it.
const MAX_LOCATION: usize = 32 * 1024;

// === impl Policy ===

impl Policy {
    /// The answer to a request that is redirected.
    #[must_use]
    pub fn redirect(&self, source: &dyn Source) -> Option<Reply> {
        if self.rules.is_empty() {
            return None;
        }
        let target = source.header(":path").unwrap_or_default();
        let path = String::from_utf8_lossy(template::split(&target).0).into_owned();
        if self.except.iter().any(|prefix| path.starts_with(prefix)) {
            return None;
        }
        let host = template::host(&source.header(":authority").unwrap_or_default());
        let host = String::from_utf8_lossy(&host).into_owned();
        let scheme = self.scheme(source);
        let method = source.header(":method").unwrap_or_default();
        let subject = Subject {
            method: &method,
            scheme: &scheme,
            host: &host,
            path: &path,
        };
        self.rules
            .iter()
            .find_map(|rule| rule.apply(&subject, source))
    }

    /// Whether responses are looked at.
    #[must_use]
    pub fn rewrites_location(&self) -> bool {
        !self.location.is_empty()
    }

    /// The new value of `location` or `refresh`, if it changes.
    #[must_use]
    pub fn location(&self, name: &str, value: &str) -> Option<String> {
        // Refresh: "5; url=http://…"
        let start = match name {
            "refresh" => value.to_ascii_lowercase().find("url=")? + 4,
            _ => 0,
        };
        let (head, url) = value.split_at(start);
        let new = self
            .location
            .iter()
            .find_map(|replacement| replacement.apply(url))?;
        Some(format!("{head}{new}"))
    }

    fn scheme(&self, source: &dyn Source) -> Vec<u8> {
        let forwarded = match self.forwarded_proto {
            true => source.header("x-forwarded-proto"),
            false => None,
        };
        forwarded
            .or_else(|| source.header(":scheme"))
            .unwrap_or_default()
            .to_ascii_lowercase()
    }
}

/// What rules look at.
struct Subject<'a> {
    method: &'a [u8],
    scheme: &'a [u8],
    host: &'a str,
    path: &'a str,
}

/// A request with what the expressions have captured.
struct Captured<'a> {
    request: &'a dyn Source,
    host: Option<Captures<'a>>,
    path: Option<Captures<'a>>,
}

// === impl Rule ===

impl Rule {
    fn apply(&self, subject: &Subject<'_>, source: &dyn Source) -> Option<Reply> {
        let method = |method: &String| method.as_bytes() == subject.method;
        if !self.methods.is_empty() && !self.methods.iter().any(method) {
            return None;
        }
        if self
            .scheme
            .as_ref()
            .is_some_and(|scheme| scheme.as_bytes() != subject.scheme)
        {
            return None;
        }
        let captured = Captured {
            request: source,
            host: captures(self.host.as_ref(), subject.host)?,
            path: captures(self.path.as_ref(), subject.path)?,
        };
        let location = self.to.render(&captured);
        // What a client sent is no text always; such bytes are encoded, as browsers would.
        let location = ascii(&location);
        let location = match self.to.leading_literal().starts_with("//") {
            true => location,
            false => with_one_slash(location),
        };
        if location.len() > MAX_LOCATION {
            return Some(Reply::new(414).body("The target is too long.\n"));
        }
        Some(
            Reply::new(self.status)
                .header("location", location)
                .details("redirect"),
        )
    }
}

/// `None` when the expression does not match, `Some(None)` when there is none.
fn captures<'a>(regex: Option<&Regex>, text: &'a str) -> Option<Option<Captures<'a>>> {
    match regex {
        Some(regex) => regex.captures(text).map(Some),
        None => Some(None),
    }
}

/// Two slashes at the beginning would name another host. To browsers a backslash is a slash, and a tab is nothing.
fn with_one_slash(location: String) -> String {
    let rest = location.trim_start_matches(['/', '\\', '\t']);
    let run = &location[..location.len() - rest.len()];
    match run.bytes().filter(|byte| *byte != b'\t').count() {
        0 | 1 => location,
        _ => format!("/{rest}"),
    }
}

/// Visible ASCII with the rest percent-encoded, and backslashes, which browsers take for slashes.
fn ascii(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            0x21..=0x7e if *byte != b'\\' => out.push(char::from(*byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

impl Source for Captured<'_> {
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.request.header(name)
    }

    fn address(&self) -> Option<IpAddr> {
        self.request.address()
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        self.request.property(path)
    }

    /// Numbers count the groups of the path's expression, or of the host's where there is none for the path.
    fn capture(&self, name: &str) -> Option<Vec<u8>> {
        let found = match name.parse() {
            Ok(index) => self.path.as_ref().or(self.host.as_ref())?.get(index),
            Err(_) => [&self.path, &self.host]
                .into_iter()
                .flatten()
                .find_map(|found| found.name(name)),
        };
        found.map(|found| found.as_str().as_bytes().to_vec())
    }
}

// === impl Replacement ===

impl Replacement {
    fn apply(&self, url: &str) -> Option<String> {
        let (new, to, may_stay) = match self {
            Self::Prefix { from, to } => {
                let rest = url.strip_prefix(from.as_str())?;
                (format!("{to}{rest}"), to, false)
            }
            Self::Expression { from, to } => {
                let new = from.is_match(url).then(|| from.replace(url, to.as_str()))?;
                // One that changes the middle keeps the host that the upstream has named.
                let may_stay = url.starts_with("//") && !to.starts_with('/');
                (new.into_owned(), to, may_stay)
            }
        };
        Some(match may_stay || to.starts_with("//") {
            true => new,
            // What the upstream has put behind its own address is a path here.
            false => with_one_slash(new),
        })
    }
}
