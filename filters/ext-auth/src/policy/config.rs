//! The configuration as it is written, and its compilation.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::Deserialize;
use tidegate_sdk::config::Span;
use tidegate_sdk::http::Url;
use tidegate_sdk::template::Template;
use tidegate_sdk::{ConfigError, config, header};

use super::cache::Cache;
use super::{Failure, Policy, SignIn};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    url: String,
    cluster: String,
    /// Empty for the request's own.
    #[serde(default = "default_method")]
    method: String,
    #[serde(default = "default_timeout")]
    timeout: Span,
    forward_headers: Option<Vec<String>>,
    #[serde(default)]
    set_headers: BTreeMap<String, String>,
    forward_body: Option<usize>,
    #[serde(default)]
    response_headers: Vec<String>,
    #[serde(default = "default_denied_headers")]
    denied_headers: Vec<String>,
    #[serde(default)]
    denied_body: bool,
    sign_in: Option<String>,
    #[serde(default = "default_parameter")]
    redirect_parameter: String,
    #[serde(default)]
    always_set_cookie: bool,
    #[serde(default = "default_request_redirect")]
    request_redirect: String,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    on_failure: OnFailure,
    #[serde(default = "default_failure_status")]
    failure_status: u16,
    #[serde(default)]
    trusted_hops: u32,
    cache: Option<CacheConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CacheConfig {
    key: String,
    #[serde(default = "default_spans")]
    spans: BTreeMap<String, Span>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnFailure {
    #[default]
    Deny,
    Allow,
}

const MAX_BODY: usize = 1024 * 1024;

fn default_method() -> String {
    String::from("GET")
}

fn default_timeout() -> Span {
    Span(std::time::Duration::from_secs(5))
}

fn default_denied_headers() -> Vec<String> {
    vec![String::from("www-authenticate")]
}

fn default_parameter() -> String {
    String::from("rd")
}

fn default_request_redirect() -> String {
    String::from("${request.target}")
}

fn default_failure_status() -> u16 {
    500
}

/// ingress-nginx's default of `auth-cache-duration`.
fn default_spans() -> BTreeMap<String, Span> {
    let five_minutes = Span(std::time::Duration::from_secs(300));
    ["200", "202", "401"]
        .map(|status| (status.to_owned(), five_minutes))
        .into()
}

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown or missing fields, addresses that are none, unknown variables, bad names.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        let cache = config
            .cache
            .as_ref()
            .map(CacheConfig::compile)
            .transpose()?;
        let (cache_key, spans) = match cache {
            Some((key, spans)) => (Some(key), spans),
            None => (None, BTreeMap::new()),
        };
        if config.forward_body.is_some_and(|max| max > MAX_BODY) {
            return Err(ConfigError::new(
                "forwardBody",
                format!("is above {MAX_BODY} bytes"),
            ));
        }
        if !config.method.is_empty() && !header::is_token(config.method.as_bytes()) {
            return Err(ConfigError::new(
                "method",
                format!("{:?} is no method", config.method),
            ));
        }
        if !(400..=599).contains(&config.failure_status) {
            return Err(ConfigError::new(
                "failureStatus",
                "is no refusal; 400 to 599 are",
            ));
        }
        if let Some(index) = config
            .except
            .iter()
            .position(|prefix| !prefix.starts_with('/'))
        {
            return Err(ConfigError::new(
                format!("except[{index}]"),
                "is no path; it has to begin with a slash",
            ));
        }
        let forward = config
            .forward_headers
            .as_ref()
            .map(|list| names("forwardHeaders", list))
            .transpose()?;
        Ok(Self {
            url: url("url", &config.url)?,
            set: config.set()?,
            sign_in: config.sign_in()?,
            redirect_header: value("requestRedirect", &config.request_redirect)?,
            response_headers: names("responseHeaders", &config.response_headers)?,
            denied_headers: names("deniedHeaders", &config.denied_headers)?,
            cluster: cluster(&config.cluster)?,
            method: (!config.method.is_empty()).then_some(config.method),
            timeout: config.timeout.0,
            forward,
            max_body: config.forward_body,
            denied_body: config.denied_body,
            always_set_cookie: config.always_set_cookie,
            except: config.except,
            failure: Failure {
                allow: config.on_failure == OnFailure::Allow,
                status: config.failure_status,
            },
            trusted_hops: config.trusted_hops,
            cache_key,
            cache: RefCell::new(Cache::new(spans)),
        })
    }
}

impl Config {
    fn set(&self) -> Result<Vec<(String, Template)>, ConfigError> {
        self.set_headers
            .iter()
            .map(|(name, text)| {
                let field = format!("/setHeaders/{}", config::escape(name));
                Ok((header_name(&field, name)?, value(&field, text)?))
            })
            .collect()
    }

    fn sign_in(&self) -> Result<Option<SignIn>, ConfigError> {
        let Some(text) = &self.sign_in else {
            return Ok(None);
        };
        let parameter = &self.redirect_parameter;
        if parameter.is_empty()
            || !parameter
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        {
            return Err(ConfigError::new(
                "redirectParameter",
                format!("{parameter:?} is no name of a parameter"),
            ));
        }
        // An address that says where to return to is left alone, as by ingress-nginx.
        let query = text.split_once('?').map_or("", |(_, query)| query);
        let there = query
            .split('&')
            .any(|pair| pair.split('=').next() == Some(parameter));
        Ok(Some(SignIn {
            url: url("signIn", text)?,
            parameter: (!there).then(|| parameter.clone()),
        }))
    }
}

impl CacheConfig {
    fn compile(&self) -> Result<(Template, BTreeMap<u16, std::time::Duration>), ConfigError> {
        let key = value("cache.key", &self.key)?;
        if key.constant().is_some() {
            return Err(ConfigError::new(
                "cache.key",
                "has no variable, so one client's answer would be everybody's",
            ));
        }
        let mut spans = BTreeMap::new();
        for (status, span) in &self.spans {
            let number = match status.as_str() {
                "any" => Some(0),
                status => status
                    .parse()
                    .ok()
                    .filter(|status| (200..=499).contains(status)),
            };
            let number = number.ok_or_else(|| {
                ConfigError::new(
                    format!("cache.spans.{status}"),
                    "is neither a status from 200 to 499 nor any",
                )
            })?;
            spans.insert(number, span.0);
        }
        Ok((key, spans))
    }
}

/// An address whose host the configuration says; path and query may have variables.
fn url(field: &str, text: &str) -> Result<Template, ConfigError> {
    let template = value(field, text)?;
    let literal = template.leading_literal();
    let host = literal.split_once("://").map(|(_, rest)| rest);
    let whole = host.is_some_and(|rest| rest.contains(['/', '?'])) || template.constant().is_some();
    if !whole || Url::parse(literal).is_none() {
        let problem = format!("{text:?} is no absolute URL; variables may stand in path and query");
        return Err(ConfigError::new(field, problem));
    }
    Ok(template)
}

fn value(field: &str, text: &str) -> Result<Template, ConfigError> {
    if !header::is_value(text.as_bytes()) {
        return Err(ConfigError::new(
            field,
            "must be visible ASCII without white space at its ends",
        ));
    }
    Template::parse(text, &[])
        .map_err(|problem| ConfigError::new(field, format!("{text:?} {problem}")))
}

fn cluster(name: &str) -> Result<String, ConfigError> {
    match name.is_empty() {
        true => Err(ConfigError::new(
            "cluster",
            "must name a cluster that may be called",
        )),
        false => Ok(name.to_owned()),
    }
}

fn names(field: &str, list: &[String]) -> Result<Vec<String>, ConfigError> {
    let list = list.iter().enumerate();
    list.map(|(index, name)| header_name(&format!("{field}[{index}]"), name))
        .collect()
}

fn header_name(field: &str, name: &str) -> Result<String, ConfigError> {
    const RESERVED: [&str; 5] = [
        "connection",
        "content-length",
        "host",
        "transfer-encoding",
        "upgrade",
    ];
    let name = name.to_ascii_lowercase();
    match header::is_token(name.as_bytes()) && !RESERVED.contains(&name.as_str()) {
        true => Ok(name),
        false => Err(ConfigError::new(
            field,
            format!("{name:?} cannot be used here"),
        )),
    }
}
