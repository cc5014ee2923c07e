//! Rewriting path, host and query with regular expressions whose matching takes linear time.
//!
//! Pure: the request's target comes in as bytes, the new one goes out. Nothing that a client sent can leave the component it is
//! put into: what may not stand there is percent-encoded, and a path that would climb is refused.

mod config;
mod query;
mod template;
#[cfg(test)]
mod tests;
mod uri;

use tidegate_sdk::Reply;
use tidegate_sdk::expression::Regex;

use template::{Captured, Template};
use uri::{Component, Percent};

/// Longest target that is matched and longest that is made, in bytes.
const MAX_TARGET: usize = 32 * 1024;

/// A compiled configuration.
#[derive(Debug)]
pub struct Rewrite {
    rules: Vec<Rule>,
    /// Whether expressions see the path decoded and normalised, as nginx shows it to them.
    decode: bool,
}

#[derive(Debug)]
struct Rule {
    path: Option<Regex>,
    host: Option<Regex>,
    new_path: Option<PathAction>,
    new_host: Option<Template>,
    query: QueryAction,
    /// Whether later rules are left out once this one has matched.
    stop: bool,
}

#[derive(Debug)]
struct PathAction {
    path: Template,
    query: Option<Template>,
    /// Whether the request's own query follows.
    keep_query: bool,
}

#[derive(Debug, Default)]
struct QueryAction {
    replace: Option<Template>,
    remove: Vec<String>,
    /// Name, name as it is written, value.
    set: Vec<(String, String, Template)>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passes with these changes.
    Pass {
        /// The new `:path`.
        path: Option<String>,
        /// The new `:authority`.
        host: Option<String>,
    },
    /// The filter answers.
    Refuse(Reply),
}

/// A request's target between rules. The path is valid as it stands and begins with a slash.
struct Target {
    path: String,
    query: Option<String>,
    host: String,
    changed_path: bool,
    changed_host: bool,
}

/// The path as expressions see it.
struct Subject {
    text: String,
    percent: Percent,
    bytewise: bool,
}

// === impl Rewrite ===

impl Rewrite {
    /// Applies the rules to a request's `:path` and `:authority`.
    #[must_use]
    pub fn apply(&self, path: &[u8], host: &[u8]) -> Outcome {
        if path.len() > MAX_TARGET {
            return Outcome::Refuse(too_long());
        }
        // `*` of OPTIONS has no path to rewrite.
        let Some(mut target) = Target::new(path, host) else {
            return Outcome::Pass {
                path: None,
                host: None,
            };
        };
        match self.run(&mut target) {
            Ok(()) => Outcome::Pass {
                host: target.changed_host.then(|| target.host.clone()),
                path: target.changed_path.then(|| target.into_path()),
            },
            Err(reply) => Outcome::Refuse(reply),
        }
    }

    fn run(&self, target: &mut Target) -> Result<(), Reply> {
        for rule in &self.rules {
            let subject = Subject::new(&target.path, self.decode)?;
            let host = match_host(&target.host);
            let Some(captured) = rule.captures(&subject, &host) else {
                continue;
            };
            rule.apply(&captured, target)?;
            if rule.stop {
                break;
            }
        }
        Ok(())
    }
}

// === impl Rule ===

impl Rule {
    /// `None` when one of the expressions does not match.
    fn captures<'a>(&self, subject: &'a Subject, host: &'a str) -> Option<Captured<'a>> {
        let path = match &self.path {
            Some(regex) => Some(regex.captures(&subject.text)?),
            None => None,
        };
        let host = match &self.host {
            Some(regex) => Some(regex.captures(host)?),
            None => None,
        };
        Some(Captured {
            path,
            host,
            percent: subject.percent,
            bytewise: subject.bytewise,
        })
    }

    fn apply(&self, captured: &Captured<'_>, target: &mut Target) -> Result<(), Reply> {
        if let Some(action) = &self.new_path {
            action.apply(captured, target);
            if uri::has_dot_segments(&target.path) {
                return Err(bad_request("The path must not contain dot segments.\n"));
            }
        }
        self.query.apply(captured, target);
        if let Some(template) = &self.new_host {
            let host = template.render(captured, None);
            if !uri::is_authority(&host) {
                return Err(bad_request("The host is invalid.\n"));
            }
            target.host = host;
            target.changed_host = true;
        }
        let length = target.path.len() + target.query.as_ref().map_or(0, String::len);
        if length > MAX_TARGET {
            return Err(too_long());
        }
        Ok(())
    }
}

// === impl PathAction ===

impl PathAction {
    fn apply(&self, captured: &Captured<'_>, target: &mut Target) {
        let path = self.path.render(captured, Some(Component::Path));
        // Exactly one slash in front: two would be the beginning of another host to some readers of URLs.
        target.path = format!("/{}", path.trim_start_matches('/'));
        target.changed_path = true;
        let added = self
            .query
            .as_ref()
            .map(|template| template.render(captured, Some(Component::Parameter)));
        let kept = target.query.take().filter(|_| self.keep_query);
        target.query = match (added, kept) {
            (Some(added), Some(kept)) if !kept.is_empty() => Some(format!("{added}&{kept}")),
            (added, kept) => added.or(kept),
        };
    }
}

// === impl QueryAction ===

impl QueryAction {
    fn apply(&self, captured: &Captured<'_>, target: &mut Target) {
        let before = target.query.clone().filter(|query| !query.is_empty());
        if let Some(template) = &self.replace {
            target.query = Some(template.render(captured, Some(Component::Parameter)));
        }
        for name in &self.remove {
            target.query = target.query.take().map(|query| query::remove(&query, name));
        }
        for (name, encoded, template) in &self.set {
            let value = template.render(captured, Some(Component::Parameter));
            let query = target.query.take().unwrap_or_default();
            target.query = Some(query::set(&query, name, encoded, &value));
        }
        target.query = target.query.take().filter(|query| !query.is_empty());
        target.changed_path |= target.query != before;
    }
}

// === impl Target ===

impl Target {
    fn new(path: &[u8], host: &[u8]) -> Option<Self> {
        let (path, query) = match path.iter().position(|byte| *byte == b'?') {
            Some(mark) => (&path[..mark], Some(&path[mark + 1..])),
            None => (path, None),
        };
        if path.first() != Some(&b'/') {
            return None;
        }
        // Bytes that may not stand there, which some hosts pass on, are encoded before anything else.
        let encoded = |text: &[u8], component| {
            let mut out = String::with_capacity(text.len());
            uri::encode(text, component, Percent::Encoded, &mut out);
            out
        };
        Some(Self {
            path: encoded(path, Component::Path),
            query: query.map(|query| encoded(query, Component::Query)),
            host: String::from_utf8_lossy(host).into_owned(),
            changed_path: false,
            changed_host: false,
        })
    }

    fn into_path(self) -> String {
        match self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path,
        }
    }
}

// === impl Subject ===

impl Subject {
    fn new(path: &str, decode: bool) -> Result<Self, Reply> {
        if !decode {
            return Ok(Self {
                text: path.to_owned(),
                percent: Percent::Encoded,
                bytewise: false,
            });
        }
        let bytes = uri::normalize(&uri::decode(path.as_bytes()))
            .ok_or_else(|| bad_request("The path climbs above the root.\n"))?;
        let (text, bytewise) = match String::from_utf8(bytes) {
            Ok(text) => (text, false),
            Err(error) => (to_bytewise(error.as_bytes()), true),
        };
        Ok(Self {
            text,
            percent: Percent::Literal,
            bytewise,
        })
    }
}

/// Stands for the bytes that are no ASCII: private characters, so that no expression takes them for letters.
const PRIVATE: u32 = 0xf700;

/// A text with a character for each byte.
fn to_bytewise(bytes: &[u8]) -> String {
    let character = |byte: &u8| match byte.is_ascii() {
        true => Some(char::from(*byte)),
        false => char::from_u32(PRIVATE + u32::from(*byte)),
    };
    bytes.iter().filter_map(character).collect()
}

/// The bytes of such a text.
fn from_bytewise(text: &str) -> Vec<u8> {
    let byte = |character| {
        let number = u32::from(character);
        u8::try_from(number.checked_sub(PRIVATE).unwrap_or(number)).ok()
    };
    text.chars().filter_map(byte).collect()
}

/// The host as expressions see it: lower case, without the port.
fn match_host(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    host.to_ascii_lowercase()
}

fn bad_request(text: &str) -> Reply {
    Reply::new(400).body(text)
}

fn too_long() -> Reply {
    Reply::new(414).body("The target is too long.\n")
}
