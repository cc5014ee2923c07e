//! The configuration as it is written, and its compilation.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use tidegate_sdk::expression::{self, Regex};
use tidegate_sdk::{ConfigError, config};

use super::template::{Groups, Template};
use super::uri::{self, Component, Percent};
use super::{PathAction, QueryAction, Rewrite, Rule};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    rules: Vec<RuleConfig>,
    #[serde(default)]
    decode: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleConfig {
    r#match: MatchConfig,
    path: Option<String>,
    host: Option<String>,
    query: Option<QueryConfig>,
    #[serde(default = "default_stop")]
    stop: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct MatchConfig {
    path: Option<String>,
    host: Option<String>,
}

enum QueryConfig {
    Replace(String),
    Edit(QueryEdit),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct QueryEdit {
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    remove: Vec<String>,
}

const MAX_RULES: usize = 128;

/// Nesting of groups in an expression.
const MAX_NESTING: u32 = 32;

fn default_stop() -> bool {
    true
}

impl Rewrite {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown or missing fields, expressions that do not compile or are too large, and replacements that name groups which are
    /// not there.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        if config.rules.is_empty() || config.rules.len() > MAX_RULES {
            return Err(ConfigError::new(
                "rules",
                format!("must hold 1 to {MAX_RULES} rules"),
            ));
        }
        let rules = config
            .rules
            .iter()
            .enumerate()
            .map(|(index, rule)| rule.compile(&format!("rules[{index}]")))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            rules,
            decode: config.decode,
        })
    }
}

impl RuleConfig {
    fn compile(&self, field: &str) -> Result<Rule, ConfigError> {
        if self.r#match.path.is_none() && self.r#match.host.is_none() {
            return Err(ConfigError::new(
                format!("{field}.match"),
                "must hold path, host or both",
            ));
        }
        if self.path.is_none() && self.host.is_none() && self.query.is_none() {
            return Err(ConfigError::new(
                field,
                "changes nothing; give path, host or query",
            ));
        }
        let path = expression(&format!("{field}.match.path"), self.r#match.path.as_deref())?;
        let host = expression(&format!("{field}.match.host"), self.r#match.host.as_deref())?;
        let groups = Groups {
            path: path.as_ref(),
            host: host.as_ref(),
        };
        let new_path = self
            .path
            .as_deref()
            .map(|text| path_action(&format!("{field}.path"), text, groups));
        let new_host = self
            .host
            .as_deref()
            .map(|text| template(&format!("{field}.host"), text, groups, None));
        let query = self
            .query
            .as_ref()
            .map(|query| query.compile(&format!("{field}.query"), groups));
        Ok(Rule {
            new_path: new_path.transpose()?,
            new_host: new_host.transpose()?,
            query: query.transpose()?.unwrap_or_default(),
            path,
            host,
            stop: self.stop,
        })
    }
}

fn expression(field: &str, pattern: Option<&str>) -> Result<Option<Regex>, ConfigError> {
    pattern
        .map(|pattern| expression::compile(field, pattern, MAX_NESTING))
        .transpose()
}

fn template(
    field: &str,
    text: &str,
    groups: Groups<'_>,
    component: Option<Component>,
) -> Result<Template, ConfigError> {
    Template::parse(text, groups, component)
        .map_err(|problem| ConfigError::new(field, format!("{text:?} {problem}")))
}

/// nginx's rule for a question mark: what follows it becomes the query and the request's own follows after that, unless the
/// replacement ends with a question mark.
fn path_action(field: &str, text: &str, groups: Groups<'_>) -> Result<PathAction, ConfigError> {
    let (text, keep_query) = match text.strip_suffix('?') {
        Some(text) => (text, false),
        None => (text, true),
    };
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let path = template(field, path, groups, Some(Component::Path))?;
    // One that begins with a reference is completed for each request.
    if path
        .leading_literal()
        .is_some_and(|literal| !literal.starts_with('/'))
    {
        return Err(ConfigError::new(
            field,
            format!("{text:?} must begin with /; to change the host, use host"),
        ));
    }
    let query = query
        .filter(|query| !query.is_empty())
        .map(|query| template(field, query, groups, Some(Component::Query)))
        .transpose()?;
    Ok(PathAction {
        path,
        query,
        keep_query,
    })
}

impl QueryConfig {
    fn compile(&self, field: &str, groups: Groups<'_>) -> Result<QueryAction, ConfigError> {
        let edit = match self {
            Self::Replace(text) => {
                return Ok(QueryAction {
                    replace: Some(template(field, text, groups, Some(Component::Query))?),
                    ..QueryAction::default()
                });
            }
            Self::Edit(edit) => edit,
        };
        let set = edit
            .set
            .iter()
            .map(|(name, text)| {
                let field = format!("{field}.set.{}", name.escape_debug());
                if name.is_empty() {
                    return Err(ConfigError::new(field, "a parameter needs a name"));
                }
                let mut encoded = String::new();
                uri::encode(
                    name.as_bytes(),
                    Component::Parameter,
                    Percent::Literal,
                    &mut encoded,
                );
                let value = template(&field, text, groups, Some(Component::Parameter))?;
                Ok((name.clone(), encoded, value))
            })
            .collect::<Result<_, _>>()?;
        Ok(QueryAction {
            replace: None,
            remove: edit.remove.clone(),
            set,
        })
    }
}

impl<'de> Deserialize<'de> for QueryConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QueryVisitor)
    }
}

struct QueryVisitor;

impl<'de> Visitor<'de> for QueryVisitor {
    type Value = QueryConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a replacement, or an object with set and remove")
    }

    fn visit_str<E>(self, text: &str) -> Result<QueryConfig, E> {
        Ok(QueryConfig::Replace(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<QueryConfig, A::Error> {
        QueryEdit::deserialize(MapAccessDeserializer::new(map)).map(QueryConfig::Edit)
    }
}
