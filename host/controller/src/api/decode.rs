//! From JSON to the types of this module, with errors that say which field.
//!
//! `serde_json`'s own errors name no field once a value is parsed. This reader walks the value itself
//! and remembers the way: `spec.rules[0].backendRefs[1].port: invalid type: …`. Like the API server it
//! takes `null` for an absent field of a struct.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;

use super::path::FieldPath;
use super::{Age, Body, Meta, Object, Source};

/// A value that does not have the shape of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The field, `spec.rules[0].name`; empty for the object itself.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
    located: bool,
}

/// Decodes an object whose kind is known to be that of `S`.
///
/// `age` is used when the object has no `creationTimestamp`.
///
/// # Errors
/// The first field that has the wrong type or is missing.
pub fn decode<S: Body>(object: &Value, source: Source, age: Age) -> Result<Object<S>, DecodeError> {
    let empty = Value::Object(serde_json::Map::new());
    let field = |name: &str| object.get(name).filter(|v| !v.is_null()).unwrap_or(&empty);
    let raw: RawMeta = from_value(field("metadata"), "metadata")?;
    let spec = match S::FIELD {
        Some(name) => from_value(field(name), name)?,
        None => from_value(object, "")?,
    };
    Ok(Object {
        meta: raw.into_meta(age),
        spec,
        source,
    })
}

/// Decodes a part of an object; `path` is what it is called in errors.
///
/// # Errors
/// The first field that has the wrong type or is missing.
pub fn from_value<'de, T: Deserialize<'de>>(
    value: &'de Value,
    path: &str,
) -> Result<T, DecodeError> {
    let path = FieldPath::Root(path);
    T::deserialize(Node { value, path: &path }).map_err(|error| error.at(&path))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct RawMeta {
    name: String,
    namespace: String,
    generation: Option<i64>,
    uid: String,
    creation_timestamp: Option<Timestamp>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl RawMeta {
    fn into_meta(mut self, age: Age) -> Meta {
        self.annotations
            .remove("kubectl.kubernetes.io/last-applied-configuration");
        Meta {
            namespace: self.namespace,
            name: self.name,
            generation: self.generation.unwrap_or(1),
            uid: self.uid,
            age: self.creation_timestamp.map_or(age, Age::Created),
            labels: self.labels,
            annotations: self.annotations,
        }
    }
}

#[derive(Clone, Copy)]
struct Node<'de, 'p> {
    value: &'de Value,
    path: &'p FieldPath<'p>,
}

// === impl DecodeError ===

impl DecodeError {
    /// Names the place unless a deeper one is named already.
    fn at(mut self, path: &FieldPath<'_>) -> Self {
        if !self.located {
            self.located = true;
            self.path = path.to_string();
        }
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: String::new(),
            message: message.to_string(),
            located: false,
        }
    }
}

// === impl Node ===

impl<'de> Node<'de, '_> {
    fn map<V: Visitor<'de>>(self, visitor: V, skip_nulls: bool) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Object(map) => visitor.visit_map(Fields {
                entries: map.iter(),
                next: None,
                path: self.path,
                skip_nulls,
            }),
            _ => self.deserialize_any(visitor),
        }
    }
}

impl<'de> Deserializer<'de> for Node<'de, '_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
                path: self.path,
            }),
            Value::Object(_) => self.map(visitor, false),
            scalar => scalar
                .deserialize_any(visitor)
                .map_err(|error| <DecodeError as de::Error>::custom(error).at(self.path)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.map(visitor, true)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.value
            .deserialize_enum(name, variants, visitor)
            .map_err(|error| <DecodeError as de::Error>::custom(error).at(self.path))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier
    }
}

struct Items<'de, 'p> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
    path: &'p FieldPath<'p>,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some((index, value)) = self.items.next() else {
            return Ok(None);
        };
        let path = FieldPath::Index(self.path, index);
        seed.deserialize(Node { value, path: &path })
            .map(Some)
            .map_err(|error| error.at(&path))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Fields<'de, 'p> {
    entries: serde_json::map::Iter<'de>,
    next: Option<(&'de str, &'de Value)>,
    path: &'p FieldPath<'p>,
    skip_nulls: bool,
}

impl<'de> MapAccess<'de> for Fields<'de, '_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let skip = self.skip_nulls;
        self.next = self
            .entries
            .find(|(_, value)| !(skip && value.is_null()))
            .map(|(name, value)| (name.as_str(), value));
        match self.next {
            Some((name, _)) => seed.deserialize(name.into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let (name, value) = self.next.take().expect("serde asks for a key first");
        let path = FieldPath::Field(self.path, name);
        seed.deserialize(Node { value, path: &path })
            .map_err(|error| error.at(&path))
    }
}
