//! The configuration as it is written, and its compilation.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use tidegate_jose::{Algorithm, KeySet, Keys, Remote, Rules, Store, Verifier};
use tidegate_sdk::config::Span;
use tidegate_sdk::credential::{Place, PlaceConfig, RESERVED};
use tidegate_sdk::http::Url;
use tidegate_sdk::{ConfigError, config, header};

use super::{Policy, Provider};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    providers: Vec<ProviderConfig>,
    #[serde(default = "default_from")]
    from: Vec<PlaceConfig>,
    #[serde(default)]
    optional: bool,
    #[serde(default = "default_realm")]
    realm: String,
    #[serde(default)]
    strip: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ProviderConfig {
    issuer: Option<String>,
    #[serde(default)]
    audiences: Vec<String>,
    algorithms: Option<Vec<Algorithm>>,
    jwks: Option<JwksConfig>,
    remote: Option<RemoteConfig>,
    secret: Option<String>,
    secret_base64: Option<String>,
    #[serde(default = "default_skew")]
    clock_skew: Span,
    #[serde(default = "default_true")]
    require_expiry: bool,
    max_age: Option<Span>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    claims: BTreeMap<String, Value>,
    #[serde(default)]
    claims_to_headers: BTreeMap<String, String>,
    payload_header: Option<String>,
    #[serde(default)]
    claims_to_properties: Vec<String>,
}

/// A JWK set as an object, or as the text that a Secret or ConfigMap holds.
#[derive(Deserialize)]
#[serde(untagged)]
enum JwksConfig {
    Text(String),
    Object(serde_json::Map<String, Value>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RemoteConfig {
    url: String,
    cluster: String,
    #[serde(default = "default_cache")]
    cache: Span,
    #[serde(default = "default_timeout")]
    timeout: Span,
    #[serde(default = "default_look_again")]
    look_again: Span,
}

/// A secret shorter than the smallest hash can be guessed (RFC 7518 section 3.2).
const MIN_SECRET: usize = 32;

fn default_true() -> bool {
    true
}

fn default_realm() -> String {
    String::from("API")
}

fn default_skew() -> Span {
    Span(Duration::from_secs(60))
}

fn default_cache() -> Span {
    Span(Duration::from_secs(300))
}

fn default_timeout() -> Span {
    Span(Duration::from_secs(5))
}

fn default_look_again() -> Span {
    Span(Duration::from_secs(30))
}

fn default_from() -> Vec<PlaceConfig> {
    vec![PlaceConfig::header("authorization", "Bearer ")]
}

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown or missing fields, keys that cannot be used, algorithms that do not fit the keys, bad names.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        if config.providers.is_empty() {
            return Err(ConfigError::new(
                "providers",
                "must name at least one provider",
            ));
        }
        if config.from.is_empty() {
            return Err(ConfigError::new("from", "must name at least one place"));
        }
        if !config
            .realm
            .bytes()
            .all(|byte| matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\')
        {
            return Err(ConfigError::new(
                "realm",
                "must be printable ASCII without quotes",
            ));
        }
        let places = config.from.iter().enumerate();
        let places: Vec<Place> = places
            .map(|(index, place)| place.compile(&format!("from[{index}]")))
            .collect::<Result<_, _>>()?;
        let headers_only = places
            .iter()
            .all(|place| matches!(place, Place::Header { .. }));
        if config.strip && !headers_only {
            return Err(ConfigError::new(
                "strip",
                "works for tokens in headers only",
            ));
        }
        let mut providers = Vec::new();
        for (index, provider) in config.providers.into_iter().enumerate() {
            let compiled = provider.compile(&format!("providers[{index}]"))?;
            if providers
                .iter()
                .any(|other: &Provider| other.verifier.issuer() == compiled.verifier.issuer())
            {
                let problem = "is an earlier provider's, too";
                return Err(ConfigError::new(
                    format!("providers[{index}].issuer"),
                    problem,
                ));
            }
            providers.push(compiled);
        }
        Ok(Self {
            providers,
            places,
            optional: config.optional,
            realm: config.realm,
            strip: config.strip,
        })
    }
}

impl ProviderConfig {
    fn compile(self, field: &str) -> Result<Provider, ConfigError> {
        let keys = self.keys(field)?;
        let algorithms = self.algorithms(field, &keys)?;
        let mut claim_headers = Vec::new();
        for (name, claim) in &self.claims_to_headers {
            let field = format!(
                "{}/claimsToHeaders/{}",
                ConfigError::new(field, "").pointer(),
                config::escape(name)
            );
            claim_headers.push((header::name(&field, name, &RESERVED)?, claim.clone()));
        }
        let payload_header = self.payload_header.as_deref();
        let payload_header = payload_header
            .map(|name| header::name(&format!("{field}.payloadHeader"), name, &RESERVED));
        if let Some(scope) = self
            .scopes
            .iter()
            .find(|scope| scope.is_empty() || scope.contains([' ', '"', '\\']))
        {
            return Err(ConfigError::new(
                format!("{field}.scopes"),
                format!("{scope:?} is no scope"),
            ));
        }
        let required = self.claims.into_iter().map(|(name, value)| match value {
            Value::Array(values) => (name, values),
            Value::Bool(true) => (name, vec![Value::Bool(true)]),
            Value::Null => (name, Vec::new()),
            value => (name, vec![value]),
        });
        let rules = Rules {
            audiences: self.audiences,
            clock_skew: self.clock_skew.0,
            require_expiry: self.require_expiry,
            max_age: self.max_age.map(|span| span.0),
            scopes: self.scopes,
            required: required.collect(),
        };
        Ok(Provider {
            verifier: Verifier::new(self.issuer, algorithms, keys, rules),
            claim_headers,
            payload_header: payload_header.transpose()?,
            claim_properties: self.claims_to_properties,
        })
    }

    fn keys(&self, field: &str) -> Result<Keys, ConfigError> {
        match (&self.jwks, &self.remote, &self.secret, &self.secret_base64) {
            (Some(jwks), None, None, None) => {
                let json = match jwks {
                    JwksConfig::Text(text) => text.clone(),
                    JwksConfig::Object(object) => Value::Object(object.clone()).to_string(),
                };
                KeySet::parse(json.as_bytes(), true)
                    .map(Keys::Inline)
                    .map_err(|problem| ConfigError::new(format!("{field}.jwks"), problem))
            }
            (None, Some(remote), None, None) => remote.compile(&format!("{field}.remote")),
            (None, None, Some(secret), None) => {
                of_secret(&format!("{field}.secret"), secret.clone().into_bytes())
            }
            (None, None, None, Some(text)) => {
                let field = format!("{field}.secretBase64");
                let secret = STANDARD.decode(text.trim_ascii());
                of_secret(
                    &field,
                    secret.map_err(|_| ConfigError::new(&*field, "is no base64"))?,
                )
            }
            _ => Err(ConfigError::new(
                field,
                "must hold exactly one of jwks, remote, secret and secretBase64",
            )),
        }
    }

    /// Never both kinds: with a public key taken for a secret anybody could sign.
    fn algorithms(&self, field: &str, keys: &Keys) -> Result<Vec<Algorithm>, ConfigError> {
        let symmetric = match keys {
            Keys::Inline(keys) if keys.any_secret() && !keys.all_secret() => {
                let problem = "holds secrets beside public keys; make two providers";
                return Err(ConfigError::new(format!("{field}.jwks"), problem));
            }
            Keys::Inline(keys) => keys.all_secret(),
            Keys::Remote(_) => false,
        };
        let possible: &[Algorithm] = match symmetric {
            true => &Algorithm::SYMMETRIC,
            false => &Algorithm::ASYMMETRIC,
        };
        let Some(wanted) = &self.algorithms else {
            return Ok(possible.to_vec());
        };
        let field = format!("{field}.algorithms");
        match wanted
            .iter()
            .find(|algorithm| !possible.contains(algorithm))
        {
            Some(algorithm) => {
                let problem = format!("{} does not fit the provider's keys", algorithm.name());
                Err(ConfigError::new(field, problem))
            }
            None if wanted.is_empty() => {
                Err(ConfigError::new(field, "must name at least one algorithm"))
            }
            None => Ok(wanted.clone()),
        }
    }
}

fn of_secret(field: &str, secret: Vec<u8>) -> Result<Keys, ConfigError> {
    match secret.len() {
        MIN_SECRET.. => Ok(Keys::Inline(KeySet::of_secret(secret))),
        size => {
            let problem = format!("has {size} bytes, at least {MIN_SECRET} are needed");
            Err(ConfigError::new(field, problem))
        }
    }
}

impl RemoteConfig {
    fn compile(&self, field: &str) -> Result<Keys, ConfigError> {
        let url = Url::parse(&self.url).ok_or_else(|| {
            ConfigError::new(
                format!("{field}.url"),
                format!("{:?} is no absolute URL", self.url),
            )
        })?;
        if self.cluster.is_empty() {
            return Err(ConfigError::new(
                format!("{field}.cluster"),
                "must name a cluster that may be called",
            ));
        }
        let store = Store::new(Remote {
            cluster: self.cluster.clone(),
            cache: self.cache.0,
            timeout: self.timeout.0,
            look_again: self.look_again.0,
        });
        store.set_url(url);
        Ok(Keys::Remote(Box::new(store)))
    }
}
