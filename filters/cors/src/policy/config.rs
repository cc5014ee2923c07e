//! The configuration as it is written, and its compilation.

use serde::Deserialize;
use tidegate_sdk::{ConfigError, config, header};

use super::origin::{Pattern, Wildcard};
use super::{Cors, Names, Origins};

/// Whose semantics apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The Gateway API's `HTTPCORSFilter` (GEP-1767).
    #[default]
    Gateway,
    /// ingress-nginx's `enable-cors`.
    Nginx,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    allow_origins: Option<Vec<String>>,
    allow_methods: Option<Vec<String>>,
    allow_headers: Option<Vec<String>>,
    expose_headers: Option<Vec<String>>,
    allow_credentials: Option<bool>,
    max_age: Option<u32>,
    #[serde(default)]
    preflight: Mode,
}

/// What ingress-nginx answers where the annotations say nothing.
mod nginx {
    pub(super) const METHODS: [&str; 6] = ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"];
    pub(super) const HEADERS: [&str; 9] = [
        "DNT",
        "Keep-Alive",
        "User-Agent",
        "X-Requested-With",
        "If-Modified-Since",
        "Cache-Control",
        "Content-Type",
        "Range",
        "Authorization",
    ];
    pub(super) const MAX_AGE: u32 = 1_728_000;
}

/// The Gateway API's default for `maxAge`.
const MAX_AGE: u32 = 5;

impl Cors {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown fields, values of the wrong type, and members that are no origin, method or header name.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        Self::compile(config::parse(text)?)
    }

    fn compile(config: Config) -> Result<Self, ConfigError> {
        let mode = config.preflight;
        let nginx = mode == Mode::Nginx;
        let methods = config
            .allow_methods
            .or_else(|| nginx.then(|| nginx::METHODS.map(String::from).to_vec()));
        let headers = config
            .allow_headers
            .or_else(|| nginx.then(|| nginx::HEADERS.map(String::from).to_vec()));
        let origins = config
            .allow_origins
            .unwrap_or_else(|| nginx.then(|| String::from("*")).into_iter().collect());
        let default_age = if nginx { nginx::MAX_AGE } else { MAX_AGE };
        Ok(Self {
            mode,
            origins: compile_origins(&origins, mode)?,
            allow_methods: Names::compile("allowMethods", &methods.unwrap_or_default(), mode)?,
            allow_headers: Names::compile("allowHeaders", &headers.unwrap_or_default(), mode)?,
            expose_headers: Names::compile(
                "exposeHeaders",
                &config.expose_headers.unwrap_or_default(),
                mode,
            )?,
            allow_credentials: config.allow_credentials.unwrap_or(nginx),
            max_age: config.max_age.unwrap_or(default_age).to_string(),
        })
    }
}

fn compile_origins(members: &[String], mode: Mode) -> Result<Origins, ConfigError> {
    if members.iter().any(|member| member == "*") {
        refuse_beside_wildcard("allowOrigins", members, mode)?;
        return Ok(Origins::Any);
    }
    let wildcard = match mode {
        Mode::Gateway => Wildcard::Labels,
        Mode::Nginx => Wildcard::Label,
    };
    members
        .iter()
        .enumerate()
        .map(|(index, member)| Pattern::parse(&format!("allowOrigins[{index}]"), member, wildcard))
        .collect::<Result<_, _>>()
        .map(Origins::Listed)
}

impl Names {
    fn compile(field: &str, members: &[String], mode: Mode) -> Result<Self, ConfigError> {
        if members.iter().any(|member| member == "*") {
            // exposeHeaders may list names beside the wildcard in the Gateway API; the wildcard covers them.
            if field != "exposeHeaders" {
                refuse_beside_wildcard(field, members, mode)?;
            }
            return Ok(Self::Any);
        }
        for (index, member) in members.iter().enumerate() {
            if !header::is_token(member.as_bytes()) {
                return Err(ConfigError::new(
                    format!("{field}[{index}]"),
                    format!(
                        "{member:?} is no name; letters, digits and -_.!#$%&'*+^`|~ are allowed, one name for each member"
                    ),
                ));
            }
        }
        Ok(match members {
            [] => Self::None,
            members => Self::Listed(members.join(", ")),
        })
    }
}

/// The Gateway API forbids it; ingress-nginx takes the wildcard.
fn refuse_beside_wildcard(field: &str, members: &[String], mode: Mode) -> Result<(), ConfigError> {
    if members.len() > 1 && mode == Mode::Gateway {
        return Err(ConfigError::new(
            field,
            "\"*\" stands beside other members; remove them or it",
        ));
    }
    Ok(())
}
