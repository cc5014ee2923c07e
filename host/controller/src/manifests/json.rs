//! JSON files: documents with their lines, and no key twice.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::file::{Document, ParseError};

/// Parses a file of one or more documents, with nothing but white space between them.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Document>, ParseError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut documents = Vec::new();
    let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<Strict>();
    loop {
        let start = first_of(bytes, stream.byte_offset());
        let Some(parsed) = stream.next() else {
            return Ok(documents);
        };
        let Strict(value) = parsed.map_err(|error| told(&error))?;
        let line = line_of(bytes, start);
        match value {
            Value::Object(mut fields) if super::object::is_list(&fields) => {
                match fields.remove("items") {
                    Some(Value::Array(items)) => {
                        let items = items
                            .into_iter()
                            .map(|value| Document { value, line })
                            .collect();
                        documents.extend(super::object::expand(&fields, items));
                    }
                    _ => {
                        let value = Value::Object(fields);
                        documents.push(Document { value, line });
                    }
                }
            }
            value => documents.push(Document { value, line }),
        }
    }
}

fn told(error: &serde_json::Error) -> ParseError {
    let text = error.to_string();
    // The place is told apart.
    let message = text
        .rfind(" at line ")
        .map_or(text.as_str(), |at| &text[..at]);
    ParseError {
        line: u32::try_from(error.line()).unwrap_or(u32::MAX),
        message: message.to_owned(),
    }
}

fn first_of(bytes: &[u8], offset: usize) -> usize {
    let rest = bytes.get(offset..).unwrap_or_default();
    offset + rest.iter().take_while(|b| b.is_ascii_whitespace()).count()
}

fn line_of(bytes: &[u8], offset: usize) -> u32 {
    let newlines = bytes.iter().take(offset).filter(|b| **b == b'\n').count();
    u32::try_from(newlines + 1).unwrap_or(u32::MAX)
}

/// A value in which no object has a key twice; `serde_json` alone would keep the last.
struct Strict(Value);

struct StrictVisitor;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(Value::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(Value::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
        Ok(Strict(Value::from(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(Value::from(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strict, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Strict(Value::Array(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let Strict(value) = map.next_value()?;
            if fields.contains_key(&name) {
                return Err(de::Error::custom(format!("duplicate mapping key: {name}")));
            }
            fields.insert(name, value);
        }
        Ok(Strict(Value::Object(fields)))
    }
}
