//! A structural schema, read once from the JSON of a CRD.
//!
//! Only what a CRD may hold is known here; a keyword that is not known is refused, so that a newer set of
//! CRDs cannot bring a constraint that is silently ignored.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::cel::{Rule, go_regex};
use super::formats::Format;

/// One level of a schema.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) types: Vec<Type>,
    pub(crate) nullable: bool,
    pub(crate) preserve_unknown: bool,
    pub(crate) properties: BTreeMap<String, Self>,
    pub(crate) additional: Option<Box<Self>>,
    pub(crate) items: Option<Box<Self>>,
    pub(crate) required: Vec<String>,
    pub(crate) default: Option<Value>,
    pub(crate) choices: Vec<Value>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) format: Option<Format>,
    pub(crate) length: Bounds,
    pub(crate) size: Bounds,
    pub(crate) count: Bounds,
    pub(crate) minimum: Option<Limit>,
    pub(crate) maximum: Option<Limit>,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) unique: bool,
    pub(crate) list: ListType,
    pub(crate) all_of: Vec<Self>,
    pub(crate) any_of: Vec<Self>,
    pub(crate) one_of: Vec<Self>,
    pub(crate) not: Option<Box<Self>>,
    pub(crate) rules: Vec<Rule>,
}

/// A JSON type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// How a list merges, and so what must be unique in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// A least and a greatest number of characters, items or properties.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) min: Option<u64>,
    pub(crate) max: Option<u64>,
}

/// A least or greatest number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) value: f64,
    pub(crate) exclusive: bool,
}

/// A regular expression, compiled when it is first needed.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) source: String,
    compiled: OnceLock<Result<Regex, String>>,
}

// === impl Node ===

impl Node {
    /// Reads `openAPIV3Schema`.
    ///
    /// # Errors
    /// The first keyword that is unknown or malformed, with its place.
    pub(crate) fn parse(schema: &Value) -> Result<Self, String> {
        let schema = schema.as_object().ok_or("a schema must be an object")?;
        let mut node = Self::default();
        for (keyword, value) in schema {
            node.keyword(keyword, value, schema)
                .map_err(|error| format!("{keyword}: {error}"))?;
        }
        Ok(node)
    }

    fn keyword(
        &mut self,
        keyword: &str,
        value: &Value,
        schema: &Map<String, Value>,
    ) -> Result<(), String> {
        match keyword {
            "description" | "title" | "example" | "externalDocs" | "x-kubernetes-map-type" => {}
            "type" => self.types = vec![Type::parse(text(value)?)?],
            "nullable" => self.nullable = boolean(value)?,
            "properties" => self.properties = children(value)?,
            "additionalProperties" => self.additional(value)?,
            "items" => self.items = Some(Box::new(Self::parse(value)?)),
            "required" => self.required = texts(value)?,
            "default" => self.default = Some(value.clone()),
            "enum" => self.choices = list(value)?.clone(),
            "pattern" => self.pattern = Some(Pattern::new(text(value)?)),
            "format" => self.format = Format::parse(text(value)?),
            "minLength" => self.length.min = Some(natural(value)?),
            "maxLength" => self.length.max = Some(natural(value)?),
            "minItems" => self.size.min = Some(natural(value)?),
            "maxItems" => self.size.max = Some(natural(value)?),
            "minProperties" => self.count.min = Some(natural(value)?),
            "maxProperties" => self.count.max = Some(natural(value)?),
            "minimum" => self.minimum = Some(limit(value, schema.get("exclusiveMinimum"))?),
            "maximum" => self.maximum = Some(limit(value, schema.get("exclusiveMaximum"))?),
            "exclusiveMinimum" | "exclusiveMaximum" => {}
            "multipleOf" => self.multiple_of = Some(value.as_f64().ok_or("must be a number")?),
            "uniqueItems" => self.unique = boolean(value)?,
            "allOf" => self.all_of = nodes(value)?,
            "anyOf" => self.any_of = nodes(value)?,
            "oneOf" => self.one_of = nodes(value)?,
            "not" => self.not = Some(Box::new(Self::parse(value)?)),
            _ => self.extension(keyword, value, schema)?,
        }
        Ok(())
    }

    fn extension(
        &mut self,
        keyword: &str,
        value: &Value,
        schema: &Map<String, Value>,
    ) -> Result<(), String> {
        match keyword {
            "x-kubernetes-preserve-unknown-fields" => self.preserve_unknown = boolean(value)?,
            "x-kubernetes-int-or-string" => {
                if boolean(value)? {
                    self.types = vec![Type::Integer, Type::String];
                }
            }
            "x-kubernetes-list-type" => {
                self.list = match text(value)? {
                    "atomic" => ListType::Atomic,
                    "set" => ListType::Set,
                    "map" => ListType::Map(texts(
                        schema
                            .get("x-kubernetes-list-map-keys")
                            .ok_or("needs x-kubernetes-list-map-keys")?,
                    )?),
                    other => return Err(format!("unknown list type {other}")),
                }
            }
            "x-kubernetes-list-map-keys" => {}
            "x-kubernetes-validations" => {
                self.rules = list(value)?
                    .iter()
                    .map(Rule::parse)
                    .collect::<Result<_, _>>()?;
            }
            _ => return Err("unknown keyword".to_owned()),
        }
        Ok(())
    }

    fn additional(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Bool(true) => self.additional = Some(Box::default()),
            Value::Bool(false) => {}
            schema => self.additional = Some(Box::new(Self::parse(schema)?)),
        }
        Ok(())
    }

    /// Every schema in it, itself first.
    #[cfg(test)]
    pub(crate) fn walk<'n>(&'n self, path: &str, visit: &mut impl FnMut(&str, &'n Self)) {
        visit(path, self);
        for (name, child) in &self.properties {
            child.walk(&format!("{path}.{name}"), visit);
        }
        for (suffix, child) in [
            ("{}", &self.additional),
            ("[]", &self.items),
            ("!", &self.not),
        ] {
            if let Some(child) = child {
                child.walk(&format!("{path}{suffix}"), visit);
            }
        }
        for child in self.all_of.iter().chain(&self.any_of).chain(&self.one_of) {
            child.walk(path, visit);
        }
    }
}

// === impl Type ===

impl Type {
    fn parse(name: &str) -> Result<Self, String> {
        Ok(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return Err(format!("unknown type {name}")),
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

// === impl Pattern ===

impl Pattern {
    pub(crate) fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            compiled: OnceLock::new(),
        }
    }

    /// The compiled expression.
    ///
    /// # Errors
    /// What is wrong with the expression.
    pub(crate) fn regex(&self) -> Result<&Regex, &str> {
        self.compiled
            .get_or_init(|| go_regex(&self.source))
            .as_ref()
            .map_err(String::as_str)
    }
}

fn children(value: &Value) -> Result<BTreeMap<String, Node>, String> {
    value
        .as_object()
        .ok_or("must be an object")?
        .iter()
        .map(|(name, schema)| match Node::parse(schema) {
            Ok(node) => Ok((name.clone(), node)),
            Err(error) => Err(format!("{name}: {error}")),
        })
        .collect()
}

fn nodes(value: &Value) -> Result<Vec<Node>, String> {
    list(value)?.iter().map(Node::parse).collect()
}

fn limit(value: &Value, exclusive: Option<&Value>) -> Result<Limit, String> {
    Ok(Limit {
        value: value.as_f64().ok_or("must be a number")?,
        exclusive: exclusive.is_some_and(|e| e == &Value::Bool(true)),
    })
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "must be a string".to_owned())
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    list(value)?
        .iter()
        .map(|v| text(v).map(str::to_owned))
        .collect()
}

fn boolean(value: &Value) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| "must be a boolean".to_owned())
}

fn natural(value: &Value) -> Result<u64, String> {
    value
        .as_u64()
        .ok_or_else(|| "must be a natural number".to_owned())
}

fn list(value: &Value) -> Result<&Vec<Value>, String> {
    value.as_array().ok_or_else(|| "must be a list".to_owned())
}
