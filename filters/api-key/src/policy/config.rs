//! The configuration as it is written, and its compilation.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidegate_sdk::credential::{PlaceConfig, RESERVED};
use tidegate_sdk::{ConfigError, config, header};

use super::{Digest, Policy, digest};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    #[serde(default = "default_from")]
    from: Vec<PlaceConfig>,
    /// Name of the client, and its key or keys.
    keys: BTreeMap<String, Keys>,
    forward_client: Option<String>,
    #[serde(default)]
    strip: bool,
    #[serde(default = "default_realm")]
    realm: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Keys {
    One(String),
    Several(Vec<String>),
}

/// Shorter keys can be guessed.
const MIN_KEY: usize = 16;

fn default_from() -> Vec<PlaceConfig> {
    vec![PlaceConfig::header("x-api-key", "")]
}

fn default_realm() -> String {
    String::from("API")
}

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown or missing fields, keys that are too short or that two clients have, malformed digests, bad names.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        if config.from.is_empty() {
            return Err(ConfigError::new("from", "must name at least one place"));
        }
        let places = config.from.iter().enumerate();
        let printable = config.realm.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
        if !printable {
            return Err(ConfigError::new("realm", "must be printable ASCII"));
        }
        let realm = config.realm.replace('\\', "\\\\").replace('"', "\\\"");
        Ok(Self {
            places: places
                .map(|(index, place)| place.compile(&format!("from[{index}]")))
                .collect::<Result<_, _>>()?,
            clients: clients(&config.keys)?,
            forward_client: config
                .forward_client
                .map(|name| header::name("forwardClient", &name, &RESERVED))
                .transpose()?,
            strip: config.strip,
            challenge: format!("ApiKey realm=\"{realm}\""),
        })
    }
}

fn clients(keys: &BTreeMap<String, Keys>) -> Result<BTreeMap<Digest, String>, ConfigError> {
    let mut clients = BTreeMap::new();
    for (name, keys) in keys {
        let field = format!("/keys/{}", config::escape(name));
        if !header::is_value(name.as_bytes()) || name.is_empty() {
            return Err(ConfigError::new(
                field,
                "the name must be visible ASCII, so that it fits into a header",
            ));
        }
        let keys = match keys {
            Keys::One(key) => std::slice::from_ref(key),
            Keys::Several(keys) => keys,
        };
        for key in keys {
            // What a Secret holds often ends with a line break.
            let digest =
                read_key(key.trim_ascii()).map_err(|problem| ConfigError::new(&*field, problem))?;
            let other = clients.insert(digest, name.clone());
            if let Some(other) = other.filter(|other| other != name) {
                return Err(ConfigError::new(
                    field,
                    format!("has the same key as {other:?}"),
                ));
            }
        }
    }
    Ok(clients)
}

/// A key, or behind `sha256:` the digest of one in hexadecimal.
fn read_key(text: &str) -> Result<Digest, &'static str> {
    let Some(hex) = text.strip_prefix("sha256:") else {
        return match text.len() {
            MIN_KEY.. => Ok(digest(text.as_bytes())),
            _ => Err("holds a key of less than 16 characters, which can be guessed"),
        };
    };
    let mut bytes = Digest::default();
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let valid = hex.len() == 2 * bytes.len()
        && bytes
            .iter_mut()
            .zip(hex.as_bytes().chunks(2))
            .all(|(byte, pair)| {
                let value = digit(pair[0]).zip(digit(pair[1]));
                *byte = value.map_or(0, |(high, low)| high << 4 | low);
                value.is_some()
            });
    match valid {
        true => Ok(bytes),
        false => Err("holds a digest that is not sha256: and 64 hexadecimal digits"),
    }
}
