//! Rules that refuse requests. A rule refuses what all its conditions match; the first such rule answers.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidegate_sdk::expression::{self, MAX_NESTING, Regex};
use tidegate_sdk::{ConfigError, Reply, config, header, template};

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    max_body: usize,
}

#[derive(Debug)]
struct Rule {
    methods: Vec<String>,
    hosts: Option<Regex>,
    path: Option<Regex>,
    query: Option<Regex>,
    headers: Vec<(String, Option<Regex>)>,
    missing: Vec<String>,
    body: Option<Regex>,
    status: u16,
    text: String,
}

/// The head of a request as rules see it.
#[derive(Debug)]
pub struct Head {
    method: String,
    host: String,
    /// As it was sent, and what an upstream may make of it: decoded, and that in its plain form. Equal ones once.
    paths: Vec<String>,
    queries: [String; 2],
    headers: Vec<(String, String)>,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Pass,
    /// It is refused.
    Block(Reply),
    /// These rules, by index, depend on the body.
    NeedsBody(Vec<usize>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    rules: Vec<RuleConfig>,
    #[serde(default = "default_max_body")]
    max_body: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleConfig {
    #[serde(default)]
    methods: Vec<String>,
    host: Option<String>,
    path: Option<String>,
    query: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
    #[serde(default)]
    missing_headers: Vec<String>,
    body: Option<String>,
    #[serde(default = "default_status")]
    status: u16,
    #[serde(default = "default_text")]
    text: String,
}

const MAX_RULES: usize = 128;
const MAX_BODY: usize = 1024 * 1024;

fn default_max_body() -> usize {
    64 * 1024
}

fn default_status() -> u16 {
    403
}

fn default_text() -> String {
    String::from("Forbidden\n")
}

// === impl Policy ===

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown fields, rules without a condition, expressions that do not compile.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        if config.rules.is_empty() || config.rules.len() > MAX_RULES {
            return Err(ConfigError::new(
                "rules",
                format!("must hold 1 to {MAX_RULES} rules"),
            ));
        }
        if config.max_body > MAX_BODY {
            return Err(ConfigError::new(
                "maxBody",
                format!("is above {MAX_BODY} bytes"),
            ));
        }
        let rules = config.rules.into_iter().enumerate();
        Ok(Self {
            rules: rules
                .map(|(index, rule)| rule.compile(&format!("rules[{index}]")))
                .collect::<Result<_, _>>()?,
            max_body: config.max_body,
        })
    }

    /// The longest body that is looked at.
    #[must_use]
    pub fn max_body(&self) -> usize {
        self.max_body
    }

    /// Decides by the head as far as that goes.
    #[must_use]
    pub fn check(&self, head: &Head) -> Verdict {
        let mut waiting = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            match (rule.matches(head), &rule.body) {
                (false, _) => {}
                (true, None) => return Verdict::Block(rule.reply()),
                (true, Some(_)) => waiting.push(index),
            }
        }
        match waiting.is_empty() {
            true => Verdict::Pass,
            false => Verdict::NeedsBody(waiting),
        }
    }

    /// Decides by the body what the head left open.
    ///
    /// # Errors
    ///
    /// The refusal.
    pub fn check_body(&self, rules: &[usize], body: &[u8]) -> Result<(), Reply> {
        let body = String::from_utf8_lossy(body);
        let mut rules = rules.iter().map(|index| &self.rules[*index]);
        let found = rules.find(|rule| {
            rule.body
                .as_ref()
                .is_some_and(|regex| regex.is_match(&body))
        });
        found.map_or(Ok(()), |rule| Err(rule.reply()))
    }
}

// === impl Rule ===

impl Rule {
    fn matches(&self, head: &Head) -> bool {
        let any = |regex: &Option<Regex>, texts: &[String]| {
            regex
                .as_ref()
                .is_none_or(|regex| texts.iter().any(|text| regex.is_match(text)))
        };
        (self.methods.is_empty() || self.methods.contains(&head.method))
            && any(&self.hosts, std::slice::from_ref(&head.host))
            && any(&self.path, &head.paths)
            && any(&self.query, &head.queries)
            && self.missing.iter().all(|name| !head.has(name, None))
            && self
                .headers
                .iter()
                .all(|(name, regex)| head.has(name, regex.as_ref()))
    }

    fn reply(&self) -> Reply {
        Reply::new(self.status)
            .body(self.text.as_str())
            .details("request_blocked")
    }
}

// === impl Head ===

impl Head {
    /// From the pairs of a request, pseudo-headers among them.
    #[must_use]
    pub fn new(pairs: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let value = |name: &str| {
            let found = pairs.iter().find(|(key, _)| key == name.as_bytes());
            found.map(|(_, value)| value.as_slice()).unwrap_or_default()
        };
        let (path, query) = template::split(value(":path"));
        // A plus is a space in queries alone.
        let decoded_path = path.split(|byte| *byte == b'+').map(template::decode);
        let decoded_path = decoded_path.collect::<Vec<_>>().join(&b'+');
        let plain_path = plain(path);
        let mut paths = vec![text(path)];
        if decoded_path != path {
            paths.push(text(&decoded_path));
        }
        if plain_path != path && plain_path != decoded_path {
            paths.push(text(&plain_path));
        }
        Self {
            method: text(value(":method")),
            host: text(&template::host(value(":authority"))),
            paths,
            queries: [text(query), text(&template::decode(query))],
            headers: pairs
                .iter()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
        }
    }

    fn has(&self, name: &str, regex: Option<&Regex>) -> bool {
        let mut values = self
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.any(|(_, value)| regex.is_none_or(|regex| regex.is_match(value)))
    }
}

/// A path as servers read it that drop parameters (`/a;x/b`) and merge slashes: decoded, then without parameters, empty segments and
/// dot segments, which parameters hide from the host (`/a/..;/b`).
fn plain(path: &[u8]) -> Vec<u8> {
    let cut = |segment: &[u8]| -> Vec<u8> {
        let name = segment.split(|byte| *byte == b';').next();
        name.unwrap_or_default().to_vec()
    };
    // Before decoding, so that an encoded slash in a parameter goes with it, and behind it for an encoded semicolon.
    let segments = path.split(|byte| *byte == b'/').map(cut);
    let joined = segments.collect::<Vec<_>>().join(&b'/');
    let decoded = joined.split(|byte| *byte == b'+').map(template::decode);
    let decoded = decoded.collect::<Vec<_>>().join(&b'+');
    if !decoded.starts_with(b"/") {
        return decoded;
    }
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut ends_with_slash = false;
    for segment in decoded.split(|byte| *byte == b'/').map(cut) {
        ends_with_slash = matches!(&segment[..], b"" | b"." | b"..");
        match &segment[..] {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    let mut out = Vec::with_capacity(decoded.len());
    for segment in &kept {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if ends_with_slash {
        out.push(b'/');
    }
    out
}

// === impl RuleConfig ===

impl RuleConfig {
    fn compile(self, field: &str) -> Result<Rule, ConfigError> {
        let expression = |name: &str, pattern: &Option<String>| {
            let pattern = pattern.as_ref();
            pattern
                .map(|pattern| {
                    expression::compile(&format!("{field}.{name}"), pattern, MAX_NESTING)
                })
                .transpose()
        };
        for method in &self.methods {
            header::method(&format!("{field}.methods"), method)?;
        }
        let mut headers = Vec::new();
        for (name, pattern) in &self.headers {
            let pointer = format!(
                "{}/headers/{}",
                ConfigError::new(field, "").pointer(),
                config::escape(name)
            );
            if !header::is_token(name.as_bytes()) {
                return Err(ConfigError::new(
                    pointer,
                    format!("{name:?} is no header name"),
                ));
            }
            let regex = pattern
                .as_ref()
                .map(|pattern| expression::compile(&pointer, pattern, MAX_NESTING));
            headers.push((name.clone(), regex.transpose()?));
        }
        let rule = Rule {
            hosts: expression("host", &self.host)?,
            path: expression("path", &self.path)?,
            query: expression("query", &self.query)?,
            body: expression("body", &self.body)?,
            methods: self.methods,
            missing: self.missing_headers,
            status: self.status,
            text: self.text,
            headers,
        };
        if !(400..=599).contains(&rule.status) {
            return Err(ConfigError::new(
                format!("{field}.status"),
                "is no refusal; 400 to 599 are",
            ));
        }
        let conditions = [&rule.hosts, &rule.path, &rule.query, &rule.body];
        let empty = conditions.iter().all(|condition| condition.is_none())
            && rule.methods.is_empty()
            && rule.headers.is_empty()
            && rule.missing.is_empty();
        match empty {
            true => Err(ConfigError::new(
                field,
                "has no condition and would refuse everything",
            )),
            false => Ok(rule),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_field() {
        for (text, field) in [
            (r#"{"rules": []}"#, "/rules"),
            (r#"{"rules": [{}]}"#, "/rules/0"),
            (r#"{"rules": [{"path": "("}]}"#, "/rules/0/path"),
            (
                r#"{"rules": [{"methods": ["GET", "delete"]}]}"#,
                "/rules/0/methods",
            ),
            (
                r#"{"rules": [{"headers": {"x": "["}}]}"#,
                "/rules/0/headers/x",
            ),
            (
                r#"{"rules": [{"headers": {"a b": null}}]}"#,
                "/rules/0/headers/a b",
            ),
            (
                r#"{"rules": [{"path": "/", "status": 200}]}"#,
                "/rules/0/status",
            ),
            (
                r#"{"rules": [{"path": "/"}], "maxBody": 2000000}"#,
                "/maxBody",
            ),
        ] {
            assert_eq!(
                Policy::parse(text.as_bytes()).unwrap_err().pointer(),
                field,
                "{text}"
            );
        }
    }

    #[test]
    fn paths_in_their_plain_form() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a///b//", "/a/b/"),
            ("/.git;x=1/config;y", "/.git/config"),
            ("/%2egit%3bx/config", "/.git/config"),
            ("/.git;x%2Fy/config", "/.git/config"),
            ("/a/..;/b", "/b"),
            ("/a/.;x/b/%2e%2e", "/a/"),
            ("/../..", "/"),
            ("/;x", "/"),
            ("/a+b", "/a+b"),
            ("*", "*"),
            ("", ""),
        ] {
            let found = plain(path.as_bytes());
            assert_eq!(String::from_utf8_lossy(&found), expected, "{path}");
        }
    }

    #[test]
    fn an_expression_that_backtracks_elsewhere_takes_linear_time_here() {
        let policy = Policy::parse(br#"{"rules": [{"path": "^/(a+)+$"}]}"#).unwrap();
        let path = format!("/{}!", "a".repeat(30_000)).into_bytes();
        let head = Head::new(&[(b":path".to_vec(), path)]);
        assert_eq!(policy.check(&head), Verdict::Pass);
    }
}
