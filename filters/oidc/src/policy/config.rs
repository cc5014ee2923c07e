//! The configuration as it is written, and its compilation.

mod cookie;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tidegate_jose::{Algorithm, Keys, Remote, Rules, Store, Verifier};
use tidegate_sdk::config::Span;
use tidegate_sdk::credential::RESERVED;
use tidegate_sdk::http::Url;
use tidegate_sdk::{ConfigError, config, header};

use super::metadata::{Configured, Discovery};
use super::paths::Pattern;
use super::seal::Seal;
use super::token::ClientAuth;
use super::{Callback, Logout, Policy, ReturnTo};
use cookie::CookieConfig;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    issuer: String,
    cluster: String,
    client_id: String,
    client_secret: Option<String>,
    client_auth: Option<ClientAuthConfig>,
    cookie_keys: CookieKeys,
    #[serde(default)]
    cookie: CookieConfig,
    #[serde(default)]
    endpoints: EndpointsConfig,
    #[serde(default = "default_scopes")]
    scopes: Vec<String>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    #[serde(default = "default_callback")]
    callback: String,
    #[serde(default)]
    logout: LogoutConfig,
    #[serde(default)]
    exempt: Vec<String>,
    #[serde(default)]
    bearer: Bearer,
    #[serde(default = "default_session")]
    session_lifetime: Span,
    #[serde(default = "default_login")]
    login_lifetime: Span,
    algorithms: Option<Vec<Algorithm>>,
    #[serde(default = "default_skew")]
    clock_skew: Span,
    #[serde(default = "default_timeout")]
    timeout: Span,
    #[serde(default = "default_cache")]
    cache: Span,
    #[serde(default)]
    claims: BTreeMap<String, Value>,
    #[serde(default)]
    claims_to_headers: BTreeMap<String, String>,
    #[serde(default)]
    claims_to_properties: Vec<String>,
    #[serde(default)]
    forward_access_token: bool,
    id_token_header: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClientAuthConfig {
    ClientSecretBasic,
    ClientSecretPost,
    None,
}

/// Keys in a list, or in one text a line each, as a Secret holds them.
#[derive(Deserialize)]
#[serde(untagged)]
enum CookieKeys {
    Text(String),
    List(Vec<String>),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct EndpointsConfig {
    discovery: Option<String>,
    authorization: Option<String>,
    token: Option<String>,
    jwks: Option<String>,
    end_session: Option<String>,
    token_cluster: Option<String>,
    jwks_cluster: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct LogoutConfig {
    path: String,
    end_session: bool,
    return_to: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Bearer {
    #[default]
    Ignore,
    Pass,
}

/// Shorter secrets can be guessed.
const MIN_KEY: usize = 32;
const MAX_KEYS: usize = 8;

/// Parameters of the authorization request that are this filter's own.
const OWN_PARAMETERS: [&str; 11] = [
    "response_type",
    "response_mode",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
];

impl Default for LogoutConfig {
    fn default() -> Self {
        Self {
            path: String::from("/oauth2/logout"),
            end_session: true,
            return_to: None,
        }
    }
}

fn default_scopes() -> Vec<String> {
    vec![String::from("openid")]
}

fn default_callback() -> String {
    String::from("/oauth2/callback")
}

fn default_session() -> Span {
    Span(Duration::from_secs(12 * 3600))
}

fn default_login() -> Span {
    Span(Duration::from_secs(600))
}

fn default_skew() -> Span {
    Span(Duration::from_secs(60))
}

fn default_timeout() -> Span {
    Span(Duration::from_secs(5))
}

fn default_cache() -> Span {
    Span(Duration::from_secs(3600))
}

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown or missing fields, addresses that are none, keys that are too short, names that cannot be used.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        let issuer = url("issuer", &config.issuer)?;
        for (field, text) in [
            ("cluster", &config.cluster),
            ("clientId", &config.client_id),
        ] {
            if text.is_empty() {
                return Err(ConfigError::new(field, "must not be empty"));
            }
        }
        let discovery = config.discovery(&issuer)?;
        let callback = config.callback()?;
        let logout = config.logout(callback.path())?;
        let keys = config.keys()?;
        Ok(Self {
            verifier: config.verifier()?,
            auth: config.client_auth()?,
            seal: Seal::new(&keys, &config.issuer, &config.client_id),
            cookies: config.cookie.compile()?,
            scope: config.scope()?,
            parameters: config.authorization_parameters()?,
            exempt: config.exempt()?,
            claim_headers: config.claim_headers()?,
            id_token_header: config.id_token_header()?,
            token_cluster: config.endpoints.token_cluster.clone(),
            keeps_id_token: config.logout.end_session || config.id_token_header.is_some(),
            discovery,
            callback,
            logout,
            issuer: config.issuer,
            cluster: config.cluster,
            client: config.client_id,
            passes_bearer: config.bearer == Bearer::Pass,
            session_lifetime: config.session_lifetime.0,
            login_lifetime: config.login_lifetime.0,
            timeout: config.timeout.0,
            claim_properties: config.claims_to_properties,
            forwards_access_token: config.forward_access_token,
        })
    }
}

impl Config {
    fn discovery(&self, issuer: &Url) -> Result<Discovery, ConfigError> {
        let endpoints = &self.endpoints;
        let parsed = |name: &str, text: &Option<String>| {
            let field = format!("endpoints.{name}");
            text.as_deref().map(|text| url(&field, text)).transpose()
        };
        let document = match parsed("discovery", &endpoints.discovery)? {
            Some(url) => url,
            // Section 4.1: behind the issuer's path, whose last slash goes.
            None => Url {
                path: format!(
                    "{}/.well-known/openid-configuration",
                    issuer.path.trim_end_matches('/')
                ),
                ..issuer.clone()
            },
        };
        parsed("authorization", &endpoints.authorization)?;
        parsed("endSession", &endpoints.end_session)?;
        let configured = Configured {
            authorization: endpoints.authorization.clone(),
            token: parsed("token", &endpoints.token)?,
            jwks: parsed("jwks", &endpoints.jwks)?,
            end_session: endpoints.end_session.clone(),
        };
        Ok(Discovery::new(
            self.issuer.clone(),
            document,
            self.cache.0,
            configured,
        ))
    }

    fn verifier(&self) -> Result<Verifier, ConfigError> {
        let algorithms = match &self.algorithms {
            None => Algorithm::ASYMMETRIC.to_vec(),
            Some(wanted) => {
                let fine = !wanted.is_empty()
                    && wanted
                        .iter()
                        .all(|wanted| Algorithm::ASYMMETRIC.contains(wanted));
                if !fine {
                    let problem = "must name algorithms with public keys: ID tokens are checked against fetched ones";
                    return Err(ConfigError::new("algorithms", problem));
                }
                wanted.clone()
            }
        };
        let store = Store::new(Remote {
            cluster: self
                .endpoints
                .jwks_cluster
                .clone()
                .unwrap_or_else(|| self.cluster.clone()),
            cache: self.cache.0,
            timeout: self.timeout.0,
            // Only the provider itself shows this filter tokens: nobody else can make it look.
            look_again: Duration::ZERO,
        });
        let required = self.claims.iter().map(|(name, value)| {
            let values = match value {
                Value::Array(values) => values.clone(),
                Value::Null => Vec::new(),
                value => vec![value.clone()],
            };
            (name.clone(), values)
        });
        let rules = Rules {
            audiences: vec![self.client_id.clone()],
            clock_skew: self.clock_skew.0,
            require_expiry: true,
            max_age: None,
            scopes: Vec::new(),
            required: required.collect(),
        };
        let keys = Keys::Remote(Box::new(store));
        Ok(Verifier::new(
            Some(self.issuer.clone()),
            algorithms,
            keys,
            rules,
        ))
    }

    fn client_auth(&self) -> Result<ClientAuth, ConfigError> {
        use ClientAuthConfig as C;
        // What a Secret holds often ends with a line break.
        let secret = self.client_secret.as_deref().map(str::trim_ascii);
        match (self.client_auth, secret) {
            (None | Some(C::ClientSecretBasic | C::ClientSecretPost), Some("")) => {
                Err(ConfigError::new("clientSecret", "must not be empty"))
            }
            (None | Some(C::ClientSecretBasic), Some(secret)) => {
                Ok(ClientAuth::Basic(secret.to_owned()))
            }
            (Some(C::ClientSecretPost), Some(secret)) => Ok(ClientAuth::Post(secret.to_owned())),
            (Some(C::None), None) => Ok(ClientAuth::None),
            (Some(C::None), Some(_)) => Err(ConfigError::new(
                "clientAuth",
                "is none, so there must be no clientSecret",
            )),
            (_, None) => Err(ConfigError::new(
                "clientSecret",
                "is missing; for a public client set clientAuth to none",
            )),
        }
    }

    fn keys(&self) -> Result<Vec<Vec<u8>>, ConfigError> {
        let keys: Vec<&str> = match &self.cookie_keys {
            CookieKeys::Text(text) => text.lines().collect(),
            CookieKeys::List(list) => list.iter().map(String::as_str).collect(),
        };
        let keys: Vec<&str> = keys
            .into_iter()
            .map(str::trim_ascii)
            .filter(|key| !key.is_empty())
            .collect();
        if keys.is_empty() || keys.len() > MAX_KEYS {
            let problem = format!("must hold 1 to {MAX_KEYS} keys, the newest first");
            return Err(ConfigError::new("cookieKeys", problem));
        }
        if keys.iter().any(|key| key.len() < MIN_KEY) {
            let problem = format!(
                "holds a key of less than {MIN_KEY} characters; `openssl rand -base64 32` makes one"
            );
            return Err(ConfigError::new("cookieKeys", problem));
        }
        Ok(keys
            .into_iter()
            .map(|key| key.as_bytes().to_vec())
            .collect())
    }

    fn scope(&self) -> Result<String, ConfigError> {
        let fine = |scope: &String| {
            let visible = |byte: u8| matches!(byte, 0x21..=0x7e) && byte != b'"' && byte != b'\\';
            !scope.is_empty() && scope.bytes().all(visible)
        };
        if let Some(scope) = self.scopes.iter().find(|scope| !fine(scope)) {
            let problem = format!("{scope:?} is no scope; each is one member of the list");
            return Err(ConfigError::new("scopes", problem));
        }
        match self.scopes.iter().any(|scope| scope == "openid") {
            true => Ok(self.scopes.join(" ")),
            false => Err(ConfigError::new(
                "scopes",
                "must hold openid; without it there is no ID token",
            )),
        }
    }

    fn authorization_parameters(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let own = |name: &&String| name.is_empty() || OWN_PARAMETERS.contains(&name.as_str());
        match self.parameters.keys().find(own) {
            Some(name) => Err(ConfigError::new(
                format!("/parameters/{}", config::escape(name)),
                "is set by this filter itself",
            )),
            None => Ok(self.parameters.clone().into_iter().collect()),
        }
    }

    fn callback(&self) -> Result<Callback, ConfigError> {
        let text = &self.callback;
        let path = match is_path(text) {
            true => return Ok(Callback::Path(text.clone())),
            false => url("callback", text)?.path,
        };
        match is_path(&path) {
            true => Ok(Callback::Absolute {
                address: text.clone(),
                path,
            }),
            false => Err(ConfigError::new(
                "callback",
                "must be a path or an address without a query",
            )),
        }
    }

    fn logout(&self, callback: &str) -> Result<Logout, ConfigError> {
        let path = &self.logout.path;
        if !is_path(path) || path == callback {
            let problem = "must be a path without a query, and not the callback's";
            return Err(ConfigError::new("logout.path", problem));
        }
        let return_to = match self.logout.return_to.as_deref() {
            None => None,
            Some(text) if text.starts_with('/') => {
                match super::login::return_target(text.as_bytes()) == text {
                    true => Some(ReturnTo::Path(text.to_owned())),
                    false => {
                        return Err(ConfigError::new(
                            "logout.returnTo",
                            "is no path of this host",
                        ));
                    }
                }
            }
            Some(text) => {
                url("logout.returnTo", text)?;
                Some(ReturnTo::Address(text.to_owned()))
            }
        };
        Ok(Logout {
            path: path.clone(),
            end_session: self.logout.end_session,
            return_to,
        })
    }

    fn exempt(&self) -> Result<Vec<Pattern>, ConfigError> {
        let patterns = self.exempt.iter().enumerate();
        patterns
            .map(|(index, text)| {
                Pattern::parse(text).ok_or_else(|| {
                    let problem = format!("{text:?} is neither a path nor one with /* at its end");
                    ConfigError::new(format!("exempt[{index}]"), problem)
                })
            })
            .collect()
    }

    fn claim_headers(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let headers = self.claims_to_headers.iter();
        headers
            .map(|(name, claim)| {
                let field = format!("/claimsToHeaders/{}", config::escape(name));
                Ok((own_header(&field, name)?, claim.clone()))
            })
            .collect()
    }

    fn id_token_header(&self) -> Result<Option<String>, ConfigError> {
        let name = self.id_token_header.as_deref();
        name.map(|name| own_header("idTokenHeader", name))
            .transpose()
    }
}

fn url(field: &str, text: &str) -> Result<Url, ConfigError> {
    Url::parse(text)
        .ok_or_else(|| ConfigError::new(field, format!("{text:?} is no address with http(s)://")))
}

/// A path that is one to browsers, too, and has no query.
fn is_path(text: &str) -> bool {
    text.len() > 1 && !text.contains('?') && super::login::return_target(text.as_bytes()) == text
}

fn own_header(field: &str, name: &str) -> Result<String, ConfigError> {
    let name = header::name(field, name, &RESERVED)?;
    match name == "authorization" {
        true => Err(ConfigError::new(
            field,
            "authorization is set by forwardAccessToken",
        )),
        false => Ok(name),
    }
}
