//! The configuration as it is written, and its compilation.

use std::collections::HashSet;

use serde::Deserialize;
use tidegate_sdk::net::Networks;
use tidegate_sdk::{ConfigError, config};

use super::gcra::{Quota, SECOND};
use super::key::{Key, Part};
use super::table::Table;
use super::{Limit, OnFailure, RateLimit, descriptors, seconds};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    name: String,
    #[serde(default)]
    limits: Vec<LimitConfig>,
    service: Option<descriptors::ServiceConfig>,
    #[serde(default)]
    exempt: Vec<String>,
    #[serde(default)]
    trusted_hops: u32,
    #[serde(default = "default_status")]
    status: u16,
    #[serde(default = "default_headers")]
    headers: bool,
    #[serde(default = "default_body")]
    body: String,
    #[serde(default)]
    on_storage_failure: OnFailure,
    #[serde(default = "default_max_keys")]
    max_keys: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LimitConfig {
    name: Option<String>,
    requests: u64,
    per: Unit,
    burst: Option<u64>,
    #[serde(default)]
    algorithm: Algorithm,
    #[serde(default = "default_key")]
    key: Vec<Part>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Second,
    Minute,
    Hour,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Algorithm {
    /// `burst` requests at once.
    #[default]
    TokenBucket,
    /// nginx's: `burst` requests above the one that the rate allows.
    LeakyBucket,
}

const MAX_REQUESTS: u64 = 1_000_000;
const MAX_KEYS: u32 = 1_048_576;
const MAX_LIMITS: usize = 16;
const MAX_BODY: usize = 16_384;
const MAX_NAME: usize = 64;

fn default_status() -> u16 {
    429
}

fn default_headers() -> bool {
    true
}

fn default_body() -> String {
    String::from("Too many requests.\n")
}

fn default_max_keys() -> u32 {
    65_536
}

fn default_key() -> Vec<Part> {
    vec![Part::IP]
}

impl RateLimit {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown or missing fields, values of the wrong type or out of range.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        config.check()?;
        let limits = config
            .limits
            .iter()
            .enumerate()
            .map(|(index, limit)| limit.compile(index, &config))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            headers: config.headers,
            policy_header: (config.headers && !limits.is_empty()).then(|| policy_header(&limits)),
            service: config
                .service
                .map(descriptors::ServiceConfig::compile)
                .transpose()
                .map_err(|error| error.within("service"))?,
            limits,
            exempt: Networks::parse("exempt", &config.exempt)?,
            trusted_hops: config.trusted_hops,
            status: config.status,
            body: config.body,
            on_storage_failure: config.on_storage_failure,
        })
    }
}

impl Config {
    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field: &str, problem: String| Err(ConfigError::new(field, problem));
        let none = self.limits.is_empty() && self.service.is_none();
        if none || self.limits.len() > MAX_LIMITS {
            return refuse(
                "limits",
                format!("must hold 1 to {MAX_LIMITS} limits, or there must be a service"),
            );
        }
        if !(400..=599).contains(&self.status) {
            return refuse(
                "status",
                format!("{} is no status of an error; take 429 or 503", self.status),
            );
        }
        if !(1..=MAX_KEYS).contains(&self.max_keys) {
            return refuse("maxKeys", format!("must be 1 to {MAX_KEYS}"));
        }
        if self.body.len() > MAX_BODY {
            return refuse("body", format!("must be at most {MAX_BODY} bytes long"));
        }
        if self.name.len() > MAX_NAME {
            return refuse("name", format!("must be at most {MAX_NAME} bytes long"));
        }
        let mut names = HashSet::new();
        for (index, limit) in self.limits.iter().enumerate() {
            if let Some(name) = &limit.name
                && !names.insert(name)
            {
                return refuse(
                    &format!("limits[{index}].name"),
                    format!("{name:?} is the name of an earlier limit"),
                );
            }
        }
        Ok(())
    }
}

impl LimitConfig {
    fn compile(&self, index: usize, config: &Config) -> Result<Limit, ConfigError> {
        let field = |name: &str| format!("limits[{index}].{name}");
        if !(1..=MAX_REQUESTS).contains(&self.requests) {
            return Err(ConfigError::new(
                field("requests"),
                format!("must be 1 to {MAX_REQUESTS}"),
            ));
        }
        let name = self.name().ok_or_else(|| {
            ConfigError::new(
                field("name"),
                format!("must be 1 to {MAX_NAME} letters, digits, dots, dashes and underscores"),
            )
        })?;
        let capacity = self.capacity();
        let quota = Quota::new(self.requests, self.per.nanoseconds(), capacity)
            .filter(|_| capacity <= MAX_REQUESTS)
            .ok_or_else(|| {
                ConfigError::new(
                    field("burst"),
                    format!(
                        "must be at least 1 for a token bucket and at most {MAX_REQUESTS}, and refill within a year"
                    ),
                )
            })?;
        let key = Key::new(self.key.clone());
        // The rate is part of it: filters of different rates may meet in one VM's shared data, in Envoy by default.
        let identity = format!(
            "{}\n{name}\n{}/{}/{capacity}\n{key}\n{}",
            config.name,
            self.requests,
            self.per.name(),
            config.max_keys
        );
        let table = Table::new(&identity, config.max_keys);
        Ok(Limit {
            name,
            quota,
            key,
            table,
        })
    }

    /// Requests that pass at once after a pause.
    fn capacity(&self) -> u64 {
        match self.algorithm {
            Algorithm::TokenBucket => self.burst.unwrap_or(self.requests),
            Algorithm::LeakyBucket => self.burst.unwrap_or_default().saturating_add(1),
        }
    }

    /// The name in headers, which stands there in quotes; `None` for one that must not.
    fn name(&self) -> Option<String> {
        let Some(name) = &self.name else {
            return Some(format!("{}-per-{}", self.requests, self.per.name()));
        };
        let valid = (1..=MAX_NAME).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        valid.then(|| name.clone())
    }
}

impl Unit {
    fn nanoseconds(self) -> u64 {
        match self {
            Self::Second => SECOND,
            Self::Minute => 60 * SECOND,
            Self::Hour => 3600 * SECOND,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }
}

/// What passes at once, and the time until it would again: the two numbers of a bucket that a client can plan with.
fn policy_header(limits: &[Limit]) -> String {
    let members: Vec<_> = limits
        .iter()
        .map(|limit| {
            let quota = &limit.quota;
            format!(
                "\"{}\";q={};w={}",
                limit.name,
                quota.capacity(),
                seconds(quota.depth())
            )
        })
        .collect();
    members.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_configurations_name_the_field() {
        let limit = |text: &str| {
            format!(r#"{{"limits": [{{"requests": 1, "per": "second"}}, {{{text}}}]}}"#)
        };
        let top =
            |text: &str| format!(r#"{{"limits": [{{"requests": 1, "per": "second"}}], {text}}}"#);
        let service = |text: &str| format!(r#"{{"service": {{"cluster": "rls", {text}}}}}"#);
        for (config, field) in [
            (String::from("{}"), "limits"),
            (String::from(r#"{"limits": []}"#), "limits"),
            (
                limit(r#""requests": 0, "per": "second""#),
                "limits[1].requests",
            ),
            (
                limit(r#""requests": -1, "per": "second""#),
                "limits[1].requests",
            ),
            (
                limit(r#""requests": 1000001, "per": "second""#),
                "limits[1].requests",
            ),
            (limit(r#""requests": 1, "per": "day""#), "limits[1].per"),
            (
                limit(r#""requests": 1, "per": "hour", "burst": 0"#),
                "limits[1].burst",
            ),
            (
                limit(r#""requests": 1, "per": "hour", "burst": 1000000"#),
                "limits[1].burst",
            ),
            (
                limit(r#""requests": 1, "per": "hour", "algorithm": "window""#),
                "limits[1].algorithm",
            ),
            (
                limit(r#""requests": 1, "per": "hour", "name": "a\"b""#),
                "limits[1].name",
            ),
            (
                limit(r#""requests": 1, "per": "hour", "key": ["ips"]"#),
                "limits[1].key[0]",
            ),
            (
                limit(r#""requests": 1, "per": "hour", "key": ["ip", {"header": "a b"}]"#),
                "limits[1].key[1]",
            ),
            (
                limit(r#""requests": 1, "per": "hour", "key": [{"header": "a", "cookie": "b"}]"#),
                "limits[1].key[0]",
            ),
            (
                limit(
                    r#""requests": 1, "per": "hour", "key": [{"source": "ip", "ipv6Prefix": 129}]"#,
                ),
                "limits[1].key[0]",
            ),
            (
                limit(r#""requests": 1, "per": "hour", "key": [{"source": "mac"}]"#),
                "limits[1].key[0].source",
            ),
            (
                top(r#""exempt": ["10.0.0.0/8", "10.0.0.0/33"]"#),
                "exempt[1]",
            ),
            (top(r#""exempt": ["example.com"]"#), "exempt[0]"),
            (top(r#""status": 200"#), "status"),
            (top(r#""trustedHops": -1"#), "trustedHops"),
            (top(r#""maxKeys": 0"#), "maxKeys"),
            (top(r#""onStorageFailure": "retry""#), "onStorageFailure"),
            (
                service(r#""domain": "", "descriptors": [["ip"]]"#),
                "/service/domain",
            ),
            (
                service(r#""domain": "a", "descriptors": []"#),
                "/service/descriptors",
            ),
            (
                service(r#""domain": "a", "descriptors": [["ip"], []]"#),
                "/service/descriptors/1",
            ),
            (
                service(r#""domain": "a", "descriptors": [["ips"]]"#),
                "service.descriptors[0][0]",
            ),
            (
                service(r#""domain": "a", "descriptors": [["ip", {"key": "k"}]]"#),
                "service.descriptors[0][1]",
            ),
            (
                service(r#""domain": "a", "descriptors": [[{"key": "k", "value": ""}]]"#),
                "service.descriptors[0][0]",
            ),
            (
                service(
                    r#""domain": "a", "descriptors": [[{"header": "x", "default": "y", "skipIfAbsent": true}]]"#,
                ),
                "service.descriptors[0][0]",
            ),
            (
                service(r#""domain": "a", "descriptors": [["ip"]], "failureStatus": 200"#),
                "/service/failureStatus",
            ),
            (
                service(r#""domain": "a", "descriptors": [["ip"]], "hitsAddend": 0"#),
                "/service/hitsAddend",
            ),
        ] {
            let error = RateLimit::parse(config.as_bytes()).unwrap_err();
            assert_eq!(error.field(), field, "{config}: {error}");
        }
        let twice = r#"{"limits": [{"name": "a", "requests": 1, "per": "hour"}, {"name": "a", "requests": 2, "per": "hour"}]}"#;
        assert_eq!(
            RateLimit::parse(twice.as_bytes()).unwrap_err().field(),
            "limits[1].name"
        );
    }
}
