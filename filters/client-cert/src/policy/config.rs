//! The configuration as it is written, and its compilation.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidegate_sdk::expression::{self, MAX_NESTING};
use tidegate_sdk::{ConfigError, config, header};

use super::{Field, Policy, Rule};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    #[serde(default = "default_required")]
    required: bool,
    #[serde(default)]
    allow: Vec<RuleConfig>,
    #[serde(default)]
    forward: BTreeMap<String, Field>,
    #[serde(default = "default_status")]
    status: u16,
    #[serde(default = "default_missing_status")]
    missing_status: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleConfig {
    subject: Option<String>,
    cn: Option<String>,
    dns_san: Option<String>,
    uri_san: Option<String>,
    #[serde(default)]
    fingerprints: Vec<String>,
}

fn default_required() -> bool {
    true
}

fn default_status() -> u16 {
    403
}

/// nginx: "400 No required SSL certificate was sent".
fn default_missing_status() -> u16 {
    400
}

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown fields, empty rules, expressions that do not compile, fingerprints and names that are none.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        for (field, status) in [
            ("status", config.status),
            ("missingStatus", config.missing_status),
        ] {
            if !(400..=599).contains(&status) {
                return Err(ConfigError::new(field, "is no refusal; 400 to 599 are"));
            }
        }
        let allow = config.allow.iter().enumerate();
        let mut forward = Vec::new();
        for (name, field) in config.forward {
            if !header::is_token(name.as_bytes()) {
                let pointer = format!("/forward/{}", config::escape(&name));
                return Err(ConfigError::new(
                    pointer,
                    format!("{name:?} is no header name"),
                ));
            }
            forward.push((name.to_ascii_lowercase(), field));
        }
        Ok(Self {
            required: config.required,
            allow: allow
                .map(|(index, rule)| rule.compile(&format!("allow[{index}]")))
                .collect::<Result<_, _>>()?,
            forward,
            status: config.status,
            missing_status: config.missing_status,
        })
    }
}

impl RuleConfig {
    fn compile(&self, field: &str) -> Result<Rule, ConfigError> {
        let regex = |name: &str, pattern: &Option<String>| {
            let pattern = pattern.as_ref();
            pattern
                .map(|pattern| {
                    expression::compile(&format!("{field}.{name}"), pattern, MAX_NESTING)
                })
                .transpose()
        };
        let fingerprints = self.fingerprints.iter().enumerate();
        let fingerprints = fingerprints.map(|(index, text)| {
            // As openssl prints it, with colons, or without.
            let hex = text.replace(':', "").to_ascii_lowercase();
            let fine = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
            let problem = "is no SHA-256 in hexadecimal";
            if fine {
                Ok(hex)
            } else {
                Err(ConfigError::new(
                    format!("{field}.fingerprints[{index}]"),
                    problem,
                ))
            }
        });
        let rule = Rule {
            subject: regex("subject", &self.subject)?,
            cn: regex("cn", &self.cn)?,
            dns_san: regex("dnsSan", &self.dns_san)?,
            uri_san: regex("uriSan", &self.uri_san)?,
            fingerprints: fingerprints.collect::<Result<_, _>>()?,
        };
        let expressions = [&rule.subject, &rule.cn, &rule.dns_san, &rule.uri_san];
        let empty = expressions.iter().all(|regex| regex.is_none()) && rule.fingerprints.is_empty();
        match empty {
            true => Err(ConfigError::new(
                field,
                "has no condition and would let everybody in",
            )),
            false => Ok(rule),
        }
    }
}
