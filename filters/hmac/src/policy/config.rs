//! The configuration as it is written, and its compilation.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tidegate_sdk::config::Span;
use tidegate_sdk::template::Template;
use tidegate_sdk::{ConfigError, config, header};

use super::{Algorithm, Encoding, Field, Policy, Secret};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    signature: SignatureConfig,
    #[serde(default)]
    algorithm: Algorithm,
    timestamp: Option<TimestampConfig>,
    key_id: Option<FieldConfig>,
    secrets: BTreeMap<String, String>,
    #[serde(default = "default_message")]
    message: String,
    #[serde(default = "default_max_body")]
    max_body: usize,
    #[serde(default)]
    hold_head: bool,
    forward_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SignatureConfig {
    header: String,
    parameter: Option<String>,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    encoding: Encoding,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TimestampConfig {
    header: String,
    parameter: Option<String>,
    #[serde(default = "default_tolerance")]
    tolerance: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FieldConfig {
    header: String,
    parameter: Option<String>,
}

const BODY: &str = "${body}";
const MAX_BODY: usize = 8 * 1024 * 1024;
/// Shorter secrets can be guessed from one signed request.
const MIN_SECRET: usize = 16;

fn default_message() -> String {
    String::from(BODY)
}

fn default_max_body() -> usize {
    1024 * 1024
}

fn default_tolerance() -> Span {
    Span(Duration::from_secs(300))
}

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown or missing fields, short secrets, unknown variables, a timestamp that is signed but not read.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        if config.max_body > MAX_BODY {
            return Err(ConfigError::new(
                "maxBody",
                format!("is above {MAX_BODY} bytes"),
            ));
        }
        let signature = field(
            "signature",
            &config.signature.header,
            config.signature.parameter.as_ref(),
        )?;
        let timestamp = config.timestamp.as_ref().map(|timestamp| {
            let field = field("timestamp", &timestamp.header, timestamp.parameter.as_ref())?;
            Ok::<_, ConfigError>((field, timestamp.tolerance.0))
        });
        let key_id = config.key_id.as_ref();
        let key_id = key_id
            .map(|key| field("keyId", &key.header, key.parameter.as_ref()))
            .transpose()?;
        let forward_key = config
            .forward_key
            .as_deref()
            .map(|name| header_name("forwardKey", name))
            .transpose()?;
        if forward_key.is_some() && key_id.is_none() && config.secrets.len() > 1 {
            let problem = "needs keyId where there are several secrets: the head is gone before the body shows which was used";
            return Err(ConfigError::new("forwardKey", problem));
        }
        let message = message(&config)?;
        Ok(Self {
            timestamp: timestamp.transpose()?,
            secrets: secrets(&config.secrets)?,
            signature,
            prefix: config.signature.prefix,
            encoding: config.signature.encoding,
            algorithm: config.algorithm,
            key_id,
            message,
            max_body: config.max_body,
            hold_head: config.hold_head,
            forward_key,
        })
    }
}

fn message(config: &Config) -> Result<Vec<Template>, ConfigError> {
    let captures: &[&str] = if config.timestamp.is_some() {
        &["timestamp"]
    } else {
        &[]
    };
    if config.timestamp.is_some() && !config.message.contains("${timestamp}") {
        return Err(ConfigError::new(
            "message",
            "does not hold ${timestamp}, which anybody could change then",
        ));
    }
    let pieces: Vec<&str> = config.message.split(BODY).collect();
    if pieces.len() > 2 {
        return Err(ConfigError::new("message", "holds the body twice"));
    }
    if config.message.is_empty() {
        return Err(ConfigError::new("message", "must not be empty"));
    }
    pieces
        .into_iter()
        .map(|piece| {
            Template::parse(piece, captures).map_err(|problem| {
                ConfigError::new("message", format!("{:?} {problem}", config.message))
            })
        })
        .collect()
}

fn secrets(secrets: &BTreeMap<String, String>) -> Result<Vec<(String, Secret)>, ConfigError> {
    if secrets.is_empty() {
        return Err(ConfigError::new("secrets", "must hold at least one secret"));
    }
    secrets
        .iter()
        .map(|(name, secret)| {
            let secret = secret.trim_ascii();
            let field = format!("/secrets/{}", config::escape(name));
            if name.is_empty() || !header::is_value(name.as_bytes()) {
                return Err(ConfigError::new(field, "the name must be visible ASCII"));
            }
            match secret.len() {
                MIN_SECRET.. => Ok((name.clone(), Secret(secret.as_bytes().to_vec()))),
                _ => Err(ConfigError::new(
                    field,
                    format!("has less than {MIN_SECRET} bytes"),
                )),
            }
        })
        .collect()
}

fn field(of: &str, name: &str, parameter: Option<&String>) -> Result<Field, ConfigError> {
    if let Some(parameter) = parameter.filter(|parameter| !header::is_token(parameter.as_bytes())) {
        return Err(ConfigError::new(
            format!("{of}.parameter"),
            format!("{parameter:?} is no name"),
        ));
    }
    Ok(Field {
        header: header_name(&format!("{of}.header"), name)?,
        parameter: parameter.cloned(),
    })
}

fn header_name(field: &str, name: &str) -> Result<String, ConfigError> {
    match header::is_token(name.as_bytes()) {
        true => Ok(name.to_ascii_lowercase()),
        false => Err(ConfigError::new(
            field,
            format!("{name:?} is no header name"),
        )),
    }
}
