//! The configuration of the rate limit service: descriptors as they are written, and their compilation.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use tidegate_sdk::ConfigError;
use tidegate_sdk::config::Span;

use super::OnFailure;
use super::key::{Object, Part, Source};
use super::service::{Absent, Named, Service, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ServiceConfig {
    cluster: String,
    domain: String,
    descriptors: Vec<Vec<Named>>,
    #[serde(default = "default_hits")]
    hits_addend: u32,
    #[serde(default = "default_timeout")]
    timeout: Span,
    #[serde(default)]
    on_failure: OnFailure,
    #[serde(default = "default_failure_status")]
    failure_status: u16,
}

/// A descriptor's entry where it is not a word.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    key: Option<String>,
    value: Option<String>,
    from: Option<Part>,
    default: Option<String>,
    #[serde(default)]
    skip_if_absent: bool,
    source: Option<Source>,
    ipv4_prefix: Option<u8>,
    ipv6_prefix: Option<u8>,
    header: Option<String>,
    cookie: Option<String>,
    claim: Option<String>,
}

const MAX_DESCRIPTORS: usize = 16;
const MAX_ENTRIES: usize = 16;
const MAX_HITS: u32 = 1_000_000;

/// What the service is told for a value that a request has not.
const ABSENT: &str = "-";

fn default_hits() -> u32 {
    1
}

fn default_timeout() -> Span {
    Span(std::time::Duration::from_millis(100))
}

fn default_failure_status() -> u16 {
    503
}

impl ServiceConfig {
    /// Checks what types do not.
    ///
    /// # Errors
    ///
    /// Empty names and lists, numbers out of range.
    pub(super) fn compile(self) -> Result<Service, ConfigError> {
        let refuse = |field: &str, problem: String| Err(ConfigError::new(field, problem));
        if self.cluster.is_empty() {
            return refuse(
                "cluster",
                String::from("must name a cluster that may be called"),
            );
        }
        if self.domain.is_empty() {
            return refuse(
                "domain",
                String::from("must be one that the service is configured with"),
            );
        }
        if !(1..=MAX_DESCRIPTORS).contains(&self.descriptors.len()) {
            return refuse(
                "descriptors",
                format!("must hold 1 to {MAX_DESCRIPTORS} lists of entries"),
            );
        }
        let mut lists = self.descriptors.iter();
        if let Some(index) = lists.position(|list| !(1..=MAX_ENTRIES).contains(&list.len())) {
            return refuse(
                &format!("descriptors[{index}]"),
                format!("must hold 1 to {MAX_ENTRIES} entries"),
            );
        }
        if !(1..=MAX_HITS).contains(&self.hits_addend) {
            return refuse("hitsAddend", format!("must be 1 to {MAX_HITS}"));
        }
        if !(400..=599).contains(&self.failure_status) {
            return refuse(
                "failureStatus",
                String::from("is no refusal; 400 to 599 are"),
            );
        }
        Ok(Service {
            cluster: self.cluster,
            domain: self.domain,
            descriptors: self.descriptors,
            hits_addend: self.hits_addend,
            timeout: self.timeout.0,
            on_failure: self.on_failure,
            failure_status: self.failure_status,
        })
    }
}

impl Entry {
    fn compile(self) -> Result<Named, String> {
        let plain = Object {
            source: self.source,
            ipv4_prefix: self.ipv4_prefix,
            ipv6_prefix: self.ipv6_prefix,
            header: self.header,
            cookie: self.cookie,
            claim: self.claim,
        };
        let absent = match (self.default, self.skip_if_absent) {
            (Some(_), true) => {
                return Err(String::from("default and skipIfAbsent exclude each other"));
            }
            (Some(text), false) if text.is_empty() => {
                return Err(String::from("default must not be empty"));
            }
            (None, true) => Some(Absent::Skip),
            (default, false) => default.map(Absent::Default),
        };
        let absent_or_dash = absent
            .clone()
            .unwrap_or_else(|| Absent::Default(ABSENT.to_owned()));
        if self.key.as_deref() == Some("") || self.value.as_deref() == Some("") {
            return Err(String::from("key and value must not be empty"));
        }
        match (self.key, self.value, self.from) {
            (Some(key), Some(text), None) if plain.is_empty() && absent.is_none() => Ok(Named {
                key,
                value: Value::Constant(text),
            }),
            (Some(key), None, Some(part)) if plain.is_empty() => Ok(Named {
                key,
                value: Value::Of(part, absent_or_dash),
            }),
            (key, None, None) if !plain.is_empty() => {
                let part = plain.into_part()?;
                Ok(Named {
                    key: key.unwrap_or_else(|| part.default_key()),
                    value: Value::Of(part, absent_or_dash),
                })
            }
            _ => Err(String::from(
                "expected key with value (a text) or from (a part of the request), or one of source, header, cookie and claim",
            )),
        }
    }
}

impl Object {
    fn is_empty(&self) -> bool {
        let prefixes = self.ipv4_prefix.is_none() && self.ipv6_prefix.is_none();
        let names = self.header.is_none() && self.cookie.is_none() && self.claim.is_none();
        self.source.is_none() && prefixes && names
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamedVisitor)
    }
}

struct NamedVisitor;

impl<'de> Visitor<'de> for NamedVisitor {
    type Value = Named;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#""ip", "path", "host", "method", {"header": name}, {"cookie": name}, {"claim": name}, {"key": name, "value": text} or {"key": name, "from": part}"#)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Named, E> {
        let part = Part::named(text)
            .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))?;
        Ok(Named {
            key: part.default_key(),
            value: Value::Of(part, Absent::Default(ABSENT.to_owned())),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Named, A::Error> {
        let entry = Entry::deserialize(MapAccessDeserializer::new(map))?;
        entry.compile().map_err(A::Error::custom)
    }
}
