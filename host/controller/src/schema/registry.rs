//! The schema of each kind and version, read when it is first needed.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::core::schemas as core;
use super::node::Node;
use super::own;
use crate::api::Kind;

/// Made by `crds/update`.
const GATEWAY_API: &str = include_str!("../../crds/gateway-api.json");

/// A kind in one version.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) node: Node,
    /// What to tell whoever still uses this version.
    pub(crate) deprecation: Option<String>,
}

/// The schema of a served version.
pub(crate) fn schema(kind: Kind, version: &str) -> &'static Schema {
    // A map behind a lock, not a static for each kind: it is read once per object and there are few.
    static SCHEMAS: OnceLock<Mutex<HashMap<(Kind, String), &'static Schema>>> = OnceLock::new();
    let mut schemas = SCHEMAS
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(schema) = schemas.get(&(kind, version.to_owned())) {
        return schema;
    }
    // Lives as long as the process, once for each of the few versions.
    let schema: &'static Schema = Box::leak(Box::new(load(kind, version)));
    schemas.insert((kind, version.to_owned()), schema);
    schema
}

fn load(kind: Kind, version: &str) -> Schema {
    let (source, deprecation) = match kind.group() {
        crate::api::GATEWAY_GROUP => gateway_api(kind, version),
        crate::api::OWN_GROUP => (own::schema(kind), None),
        _ => (core::schema(kind), None),
    };
    let node = Node::parse(&source).unwrap_or_else(|error| {
        panic!("the embedded schema of {kind} {version} is malformed: {error}")
    });
    Schema { node, deprecation }
}

fn gateway_api(kind: Kind, version: &str) -> (Value, Option<String>) {
    let document = &mut serde_json::Deserializer::from_str(GATEWAY_API);
    let mut versions = Pick(&["kinds", kind.name(), "versions"])
        .deserialize(document)
        .ok()
        .flatten()
        .unwrap_or_default();
    let mut entry = |name: &str| {
        Entry::deserialize(versions[name].take())
            .unwrap_or_else(|error| panic!("the embedded CRD of {kind} lacks {name}: {error}"))
    };
    let wanted = entry(version);
    let schema = match wanted.same_as {
        Some(other) => entry(&other).schema,
        None => wanted.schema,
    };
    (schema, wanted.deprecation_warning)
}

/// One version in `gateway-api.json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    schema: Value,
    same_as: Option<String>,
    deprecation_warning: Option<String>,
}

/// Reads one value at a path and passes over the rest without building it.
struct Pick<'p>(&'p [&'p str]);

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return Value::deserialize(deserializer).map(Some);
        }
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((first, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == *first {
                found = map.next_value_seed(Pick(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
