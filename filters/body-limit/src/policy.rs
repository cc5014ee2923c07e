//! How long a body may be.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use tidegate_sdk::{ConfigError, Reply, config};

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    limit: Option<u64>,
    status: u16,
    body: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    /// Bytes, as a number or in nginx's notation (`8m`).
    #[serde(deserialize_with = "read_size")]
    max: u64,
    #[serde(default = "default_status")]
    status: u16,
    #[serde(default = "default_body")]
    body: String,
}

fn default_status() -> u16 {
    413
}

fn default_body() -> String {
    String::from("Payload Too Large\n")
}

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// A limit that is no size, a status that is no refusal, unknown fields.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        if !(400..=599).contains(&config.status) {
            return Err(ConfigError::new("status", "is no refusal; 400 to 599 are"));
        }
        Ok(Self {
            // 0 means none, as in nginx.
            limit: (config.max > 0).then_some(config.max),
            status: config.status,
            body: config.body,
        })
    }

    /// Bytes at the most; `None` for any number.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Decides by `Content-Length`, before anything of the body is there.
    ///
    /// # Errors
    ///
    /// The refusal of a length above the limit. A value that is no number is left to the host.
    pub fn announced<V: AsRef<[u8]>>(&self, values: &[V]) -> Result<(), Reply> {
        let length = |value: &V| {
            let text = std::str::from_utf8(value.as_ref()).ok()?.trim();
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // What does not fit into a number is above every limit.
            digits.then(|| text.parse().unwrap_or(u64::MAX))
        };
        let longest = values.iter().filter_map(length).max();
        match (longest, self.limit) {
            (Some(length), Some(limit)) if length > limit => Err(self.refusal()),
            _ => Ok(()),
        }
    }

    /// The reply to a body that is too long.
    #[must_use]
    pub fn refusal(&self) -> Reply {
        Reply::new(self.status)
            .body(self.body.as_str())
            .details("body_limit_exceeded")
    }
}

fn read_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    const EXPECTED: &str = "expected a number of bytes, or one with k, m or g behind it";
    match Written::deserialize(deserializer).map_err(|_| D::Error::custom(EXPECTED))? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => {
            size(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no size: {EXPECTED}")))
        }
    }
}

fn size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match lower.as_bytes().last()? {
        b'k' => (&lower[..lower.len() - 1], 1 << 10),
        b'm' => (&lower[..lower.len() - 1], 1 << 20),
        b'g' => (&lower[..lower.len() - 1], 1 << 30),
        _ => (&lower[..], 1),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain
        .then(|| digits.parse::<u64>().ok()?.checked_mul(factor))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("8k", Some(8192)),
            ("1M", Some(1 << 20)),
            ("2g", Some(2 << 30)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1.5m", None),
            ("1mb", None),
            ("99999999999999999999", None),
            ("18014398509481984g", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn lengths() {
        let policy = Policy::parse(br#"{"max": "1k"}"#).unwrap();
        for (values, fine) in [
            (vec![], true),
            (vec!["0"], true),
            (vec!["1024"], true),
            (vec!["1025"], false),
            (vec!["1", "1025"], false),
            (vec!["99999999999999999999999999"], false),
            (vec!["x"], true),
        ] {
            assert_eq!(policy.announced(&values).is_ok(), fine, "{values:?}");
        }
        let none = Policy::parse(br#"{"max": 0}"#).unwrap();
        assert_eq!(
            (none.limit(), none.announced(&["9999999"]).is_ok()),
            (None, true)
        );
    }
}
