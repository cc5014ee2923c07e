//! The configuration as it is written, and its compilation.

use std::cell::RefCell;

use serde::Deserialize;
use tidegate_sdk::{ConfigError, config, header};

use super::BasicAuth;
use super::cache::Cache;
use super::users::{Source, Users};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    #[serde(default = "default_realm")]
    realm: String,
    users: Source,
    forward_user: Option<String>,
    #[serde(default)]
    strip_authorization: bool,
}

/// Headers whose change would break the request or its framing.
const RESERVED: [&str; 8] = [
    "authorization",
    "connection",
    "content-length",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const MAX_REALM: usize = 256;

fn default_realm() -> String {
    String::from("Restricted")
}

impl BasicAuth {
    /// Reads the JSON text of a configuration. `secret` must be random and of this VM alone: it keys the digests in the cache.
    ///
    /// # Errors
    ///
    /// Unknown or missing fields, values of the wrong type, malformed hashes, and a realm or header name that cannot be written.
    pub fn parse(text: &[u8], secret: [u8; 32]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        Ok(Self {
            challenge: challenge(&config.realm)?,
            users: Users::compile(&config.users)?,
            forward_user: config
                .forward_user
                .as_deref()
                .map(header_name)
                .transpose()?,
            strip_authorization: config.strip_authorization,
            cache: RefCell::new(Cache::new(secret)),
        })
    }
}

/// The value of `WWW-Authenticate`; the realm is a quoted string (RFC 9110 section 5.6.4).
fn challenge(realm: &str) -> Result<String, ConfigError> {
    let printable = realm.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    if !printable || realm.len() > MAX_REALM {
        return Err(ConfigError::new(
            "realm",
            format!("must be printable ASCII of at most {MAX_REALM} characters"),
        ));
    }
    let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
    Ok(format!("Basic realm=\"{quoted}\", charset=\"UTF-8\""))
}

fn header_name(name: &str) -> Result<String, ConfigError> {
    let name = name.to_ascii_lowercase();
    if !header::is_token(name.as_bytes()) || RESERVED.contains(&name.as_str()) {
        return Err(ConfigError::new(
            "forwardUser",
            format!("{name:?} cannot carry the user's name; take a name like X-Forwarded-User"),
        ));
    }
    Ok(name)
}
