//! Edits of headers: what the configuration says, and what that means for one request.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidegate_sdk::template::{Source, Template};
use tidegate_sdk::{ConfigError, config, header};

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    request: Vec<Rule>,
    response: Vec<Rule>,
    /// Statuses of the responses that are edited; none means all.
    statuses: Vec<u16>,
    trusted_hops: u32,
}

/// A change of headers. Names are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// All values go.
    Remove(String),
    /// All headers whose names begin so go.
    RemovePrefix(String),
    /// One value instead of all.
    Set(String, Vec<u8>),
    /// A value beside the others.
    Add(String, Vec<u8>),
    /// A value where there is none.
    Default(String, Vec<u8>),
}

#[derive(Debug)]
enum Rule {
    Remove(String),
    RemovePrefix(String),
    Set(String, Template),
    Add(String, Template),
    Default(String, Template),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    request: Edits,
    #[serde(default)]
    response: ResponseEdits,
    #[serde(default)]
    trusted_hops: u32,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Edits {
    remove: Vec<String>,
    set: BTreeMap<String, String>,
    add: BTreeMap<String, Values>,
    default: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct ResponseEdits {
    remove: Vec<String>,
    set: BTreeMap<String, String>,
    add: BTreeMap<String, Values>,
    default: BTreeMap<String, String>,
    statuses: Vec<u16>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Several(Vec<String>),
}

/// Headers whose change would break the message or its framing. The host is the filter rewrite's.
const RESERVED: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

// === impl Policy ===

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown fields, names that are no header's or that must not be changed, values that are no header's, unknown variables.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        let ResponseEdits {
            remove,
            set,
            add,
            default,
            statuses,
        } = config.response;
        for (index, status) in statuses.iter().enumerate() {
            if !(100..=599).contains(status) {
                let field = format!("response.statuses[{index}]");
                return Err(ConfigError::new(field, "is no HTTP status; 100 to 599 are"));
            }
        }
        let response = Edits {
            remove,
            set,
            add,
            default,
        };
        Ok(Self {
            request: config.request.compile("/request")?,
            response: response.compile("/response")?,
            statuses,
            trusted_hops: config.trusted_hops,
        })
    }

    /// Proxies to be believed about the client's address.
    #[must_use]
    pub fn trusted_hops(&self) -> u32 {
        self.trusted_hops
    }

    /// What changes in this request.
    #[must_use]
    pub fn request_edits(&self, source: &dyn Source) -> Vec<Edit> {
        self.request
            .iter()
            .filter_map(|rule| rule.edit(source))
            .collect()
    }

    /// What changes in the response to this request.
    #[must_use]
    pub fn response_edits(&self, source: &dyn Source) -> Vec<Edit> {
        self.response
            .iter()
            .filter_map(|rule| rule.edit(source))
            .collect()
    }

    /// Whether responses of this status are edited.
    #[must_use]
    pub fn applies_to(&self, status: u16) -> bool {
        self.statuses.is_empty() || self.statuses.contains(&status)
    }
}

impl Edits {
    /// In the order in which they take effect.
    fn compile(self, field: &str) -> Result<Vec<Rule>, ConfigError> {
        let mut rules = Vec::new();
        for (index, name) in self.remove.iter().enumerate() {
            let field = format!("{field}/remove/{index}");
            rules.push(match name.strip_suffix('*') {
                Some(prefix) => Rule::RemovePrefix(name_of(&field, prefix)?),
                None => Rule::Remove(name_of(&field, name)?),
            });
        }
        for (name, value) in &self.set {
            let field = format!("{field}/set/{}", config::escape(name));
            rules.push(Rule::Set(name_of(&field, name)?, value_of(&field, value)?));
        }
        for (name, values) in &self.add {
            let field = format!("{field}/add/{}", config::escape(name));
            let values = match values {
                Values::One(value) => std::slice::from_ref(value),
                Values::Several(values) => values,
            };
            for value in values {
                rules.push(Rule::Add(name_of(&field, name)?, value_of(&field, value)?));
            }
        }
        for (name, value) in &self.default {
            let field = format!("{field}/default/{}", config::escape(name));
            rules.push(Rule::Default(
                name_of(&field, name)?,
                value_of(&field, value)?,
            ));
        }
        Ok(rules)
    }
}

impl Rule {
    /// A value of which nothing is there (a claim that is missing) takes the header away instead of leaving the client's.
    fn edit(&self, source: &dyn Source) -> Option<Edit> {
        let rendered = |template: &Template| {
            let value = template.render(source).trim_ascii().to_vec();
            (!template.is_empty_for(source)).then_some(value)
        };
        match self {
            Self::Remove(name) => Some(Edit::Remove(name.clone())),
            Self::RemovePrefix(prefix) => Some(Edit::RemovePrefix(prefix.clone())),
            Self::Set(name, template) => Some(match rendered(template) {
                Some(value) => Edit::Set(name.clone(), value),
                None => Edit::Remove(name.clone()),
            }),
            Self::Add(name, template) => {
                rendered(template).map(|value| Edit::Add(name.clone(), value))
            }
            Self::Default(name, template) => {
                rendered(template).map(|value| Edit::Default(name.clone(), value))
            }
        }
    }
}

fn name_of(field: &str, name: &str) -> Result<String, ConfigError> {
    let name = name.to_ascii_lowercase();
    if !header::is_token(name.as_bytes()) {
        return Err(ConfigError::new(
            field,
            format!("{name:?} is no header name"),
        ));
    }
    if RESERVED.contains(&name.as_str()) {
        let problem = format!("{name} belongs to the connection and must not be changed");
        return Err(ConfigError::new(field, problem));
    }
    Ok(name)
}

/// Errors do not quote the value: it may be a credential that came from a Secret, and they are logged.
fn value_of(field: &str, value: &str) -> Result<Template, ConfigError> {
    if !header::is_value(value.as_bytes()) {
        let problem = "is no header value: visible ASCII, no white space at its ends";
        return Err(ConfigError::new(field, problem));
    }
    Template::parse(value, &[]).map_err(|problem| ConfigError::new(field, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Source for Nothing {
        fn header(&self, name: &str) -> Option<Vec<u8>> {
            (name == ":authority").then(|| b"shop.test".to_vec())
        }
        fn address(&self) -> Option<std::net::IpAddr> {
            None
        }
        fn property(&self, _: &[&str]) -> Option<Vec<u8>> {
            None
        }
    }

    #[test]
    fn edits_in_order() {
        let text = br#"{"request": {"default": {"d": "4"}, "add": {"C": ["3", "${request.host}"]}, "set": {"b": "2"}, "remove": ["A", "x-in-*"]}}"#;
        let edits = Policy::parse(text).unwrap().request_edits(&Nothing);
        let expected = [
            Edit::Remove("a".into()),
            Edit::RemovePrefix("x-in-".into()),
            Edit::Set("b".into(), b"2".to_vec()),
            Edit::Add("c".into(), b"3".to_vec()),
            Edit::Add("c".into(), b"shop.test".to_vec()),
            Edit::Default("d".into(), b"4".to_vec()),
        ];
        assert_eq!(edits, expected);
    }

    #[test]
    fn a_value_of_which_nothing_is_there_never_leaves_the_clients() {
        let text = br#"{"request": {"set": {"x-user": "${claim.sub}"}, "add": {"x-role": "r-${claim.role}"}, "default": {"x-d": "${claim.d}"}}}"#;
        let edits = Policy::parse(text).unwrap().request_edits(&Nothing);
        assert_eq!(edits, [Edit::Remove("x-user".into())]);
    }

    #[test]
    fn errors_quote_no_value() {
        for value in [
            r"hunter2\n",
            "hunter2$",
            "hunter2 ${",
            "hunter2 ${request.path|x}",
        ] {
            let text = format!(r#"{{"request": {{"set": {{"authorization": "{value}"}}}}}}"#);
            let error = Policy::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.pointer(), "/request/set/authorization");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn errors_name_the_field() {
        for (text, field) in [
            (r#"{"request": {"set": {"a b": "x"}}}"#, "/request/set/a b"),
            (
                r#"{"request": {"set": {"Host": "x"}}}"#,
                "/request/set/Host",
            ),
            (
                r#"{"request": {"remove": ["content-length"]}}"#,
                "/request/remove/0",
            ),
            (r#"{"response": {"remove": ["*"]}}"#, "/response/remove/0"),
            (
                r#"{"response": {"add": {"a/b": "x"}}}"#,
                "/response/add/a~1b",
            ),
            (
                r#"{"response": {"set": {"a": "x\r\ny: z"}}}"#,
                "/response/set/a",
            ),
            (r#"{"response": {"set": {"a": "${x}"}}}"#, "/response/set/a"),
            (
                r#"{"response": {"statuses": [99]}}"#,
                "/response/statuses/0",
            ),
            (
                r#"{"response": {"statuses": ["200"]}}"#,
                "/response/statuses/0",
            ),
        ] {
            assert_eq!(
                Policy::parse(text.as_bytes()).unwrap_err().pointer(),
                field,
                "{text}"
            );
        }
    }
}
