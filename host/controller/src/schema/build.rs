//! A small vocabulary for writing schemas in Rust: what it makes is the JSON of `openAPIV3Schema`, which is
//! both printed as a CRD and used to validate.

use serde_json::{Map, Value, json};

/// A schema under construction.
#[derive(Clone, Debug)]
pub(crate) struct Schema(Map<String, Value>);

pub(crate) fn string() -> Schema {
    Schema::typed("string")
}

pub(crate) fn boolean() -> Schema {
    Schema::typed("boolean")
}

pub(crate) fn int32() -> Schema {
    Schema::typed("integer").with("format", "int32")
}

pub(crate) fn int64() -> Schema {
    Schema::typed("integer").with("format", "int64")
}

pub(crate) fn int_or_string() -> Schema {
    Schema(Map::new()).with("x-kubernetes-int-or-string", true)
}

/// Anything at all.
pub(crate) fn any() -> Schema {
    Schema(Map::new()).with("x-kubernetes-preserve-unknown-fields", true)
}

/// One of these words.
pub(crate) fn one_of<const N: usize>(choices: [&str; N]) -> Schema {
    string().with("enum", json!(choices.as_slice()))
}

pub(crate) fn object<const N: usize>(properties: [(&str, Schema); N]) -> Schema {
    let properties: Map<_, _> = properties
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema.into_value()))
        .collect();
    let schema = Schema::typed("object");
    if properties.is_empty() {
        schema
    } else {
        schema.with("properties", properties)
    }
}

/// Text by any name.
pub(crate) fn text_map() -> Schema {
    Schema::typed("object").with("additionalProperties", string().0)
}

pub(crate) fn list(items: Schema) -> Schema {
    Schema::typed("array").with("items", items.0)
}

/// A list whose items are told apart by a field.
pub(crate) fn list_by(key: &str, items: Schema) -> Schema {
    list(items)
        .with("x-kubernetes-list-type", "map")
        .with("x-kubernetes-list-map-keys", json!([key]))
}

/// A list without order or repetition.
pub(crate) fn set(items: Schema) -> Schema {
    list(items).with("x-kubernetes-list-type", "set")
}

// === impl Schema ===

impl Schema {
    fn typed(name: &str) -> Self {
        Self(Map::new()).with("type", name)
    }

    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    pub(crate) fn with(mut self, keyword: &str, value: impl Into<Value>) -> Self {
        self.0.insert(keyword.to_owned(), value.into());
        self
    }

    pub(crate) fn describe(self, description: &str) -> Self {
        self.with("description", description)
    }

    pub(crate) fn default(self, value: impl Into<Value>) -> Self {
        self.with("default", value)
    }

    pub(crate) fn require<const N: usize>(self, names: [&str; N]) -> Self {
        self.with("required", json!(names.as_slice()))
    }

    pub(crate) fn pattern(self, pattern: &str) -> Self {
        self.with("pattern", pattern)
    }

    pub(crate) fn length(self, min: u32, max: u32) -> Self {
        self.with("minLength", min).with("maxLength", max)
    }

    pub(crate) fn items(self, min: u32, max: u32) -> Self {
        let schema = if min > 0 {
            self.with("minItems", min)
        } else {
            self
        };
        schema.with("maxItems", max)
    }

    pub(crate) fn range(self, min: i32, max: i32) -> Self {
        self.with("minimum", min).with("maximum", max)
    }

    /// Adds a rule in CEL.
    pub(crate) fn rule(mut self, rule: &str, message: &str) -> Self {
        let rules = self
            .0
            .entry("x-kubernetes-validations")
            .or_insert_with(|| json!([]));
        if let Value::Array(rules) = rules {
            rules.push(json!({"rule": rule, "message": message}));
        }
        self
    }

    /// Exactly one of these fields is set.
    pub(crate) fn exactly_one<const N: usize>(self, names: [&str; N]) -> Self {
        let counted: Vec<_> = names
            .iter()
            .map(|name| format!("(has(self.{name})?1:0)"))
            .collect();
        let message = format!(
            "exactly one of the fields in [{}] must be set",
            names.join(" ")
        );
        self.rule(&format!("{} == 1", counted.join("+")), &message)
    }
}
