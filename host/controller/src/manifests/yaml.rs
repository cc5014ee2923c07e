//! YAML files: documents with their lines.

use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{MessageFormatter, Options, Spanned, UserMessageFormatter};

use super::file::{Document, ParseError};

/// Parses a file. One document that is malformed makes the file as a whole unreadable: what a half-written
/// file holds is not what its author meant.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Vec<Document>, ParseError> {
    let mut documents = Vec::new();
    for parsed in serde_saphyr::read_with_options::<_, Spanned<Top>>(&mut bytes, options()) {
        let document = parsed.map_err(|error| told(&error))?;
        document
            .value
            .flatten(line(document.referenced), &mut documents);
    }
    Ok(documents)
}

/// The limits keep a small file from becoming a large one in memory: aliases may repeat no more than a
/// million nodes. What the file itself holds is limited by its size.
fn options() -> Options {
    serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        // As kubectl reads them.
        legacy_octal_numbers: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_documents: 1_000_000,
            max_events: 20_000_000,
            max_nodes: 10_000_000,
            max_depth: 100,
        },
    }
}

fn told(error: &serde_saphyr::Error) -> ParseError {
    let line = error.location().map_or(0, line);
    ParseError {
        line,
        message: UserMessageFormatter
            .format_message(error.without_snippet())
            .into_owned(),
    }
}

fn line(location: serde_saphyr::Location) -> u32 {
    u32::try_from(location.line()).unwrap_or(u32::MAX)
}

/// A document. The items of a list are read apart, so that each has its line.
enum Top {
    List {
        fields: Map<String, Value>,
        items: Vec<Spanned<Value>>,
    },
    Other(Value),
}

/// What stands under `items`, which is a list of objects in a `List` and may be anything elsewhere.
enum Items {
    List(Vec<Spanned<Value>>),
    Other(Value),
}

// === impl Top ===

impl Top {
    fn flatten(self, line: u32, documents: &mut Vec<Document>) {
        match self {
            Self::List { fields, items } => {
                let items = items.into_iter().map(|item| Document {
                    line: self::line(item.referenced),
                    value: item.value,
                });
                documents.extend(super::object::expand(&fields, items.collect()));
            }
            Self::Other(value) => documents.push(Document { value, line }),
        }
    }
}

impl<'de> Deserialize<'de> for Top {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TopVisitor)
    }
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemsVisitor)
    }
}

struct TopVisitor;
struct ItemsVisitor;

/// Scalars become the same value in both visitors.
macro_rules! scalars {
    ($wrap:expr) => {
        fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
            Ok($wrap(Value::from(value)))
        }

        fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
            Ok($wrap(Value::from(value)))
        }

        fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
            Ok($wrap(Value::from(value)))
        }

        fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
            Ok($wrap(Value::from(value)))
        }

        fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
            Ok($wrap(Value::from(value)))
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($wrap(Value::Null))
        }
    };
}

impl<'de> Visitor<'de> for TopVisitor {
    type Value = Top;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    scalars!(Top::Other);

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Top, A::Error> {
        Value::deserialize(SeqAccessDeserializer::new(seq)).map(Top::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top, A::Error> {
        let mut fields = Map::new();
        let mut items = None;
        while let Some(name) = map.next_key::<String>()? {
            if name != "items" {
                fields.insert(name, map.next_value()?);
                continue;
            }
            match map.next_value()? {
                Items::List(list) => items = Some(list),
                Items::Other(value) => {
                    fields.insert(name, value);
                }
            }
        }
        Ok(match items {
            Some(items) if super::object::is_list(&fields) => Top::List { fields, items },
            Some(items) => {
                let items = items.into_iter().map(|item| item.value).collect();
                fields.insert("items".to_owned(), items);
                Top::Other(Value::Object(fields))
            }
            None => Top::Other(Value::Object(fields)),
        })
    }
}

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    scalars!(Items::Other);

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Items::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Items, A::Error> {
        Value::deserialize(MapAccessDeserializer::new(map)).map(Items::Other)
    }
}
