//! The configuration as it is written, and its compilation.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::Deserialize;
use tidegate_sdk::config::Span;
use tidegate_sdk::http::Url;
use tidegate_sdk::template::Template;
use tidegate_sdk::{ConfigError, config, header};

use super::cache::Cache;
use super::http::{Names, SignIn};
use super::{Failure, Policy, Service, grpc, http};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    url: Option<String>,
    grpc: Option<GrpcConfig>,
    cluster: String,
    /// Empty for the request's own.
    method: Option<String>,
    forward_target: Option<bool>,
    original_headers: Option<bool>,
    allowed_statuses: Option<Vec<u16>>,
    #[serde(default = "default_timeout")]
    timeout: Span,
    forward_headers: Option<Vec<String>>,
    #[serde(default)]
    set_headers: BTreeMap<String, String>,
    forward_body: Option<usize>,
    response_headers: Option<Vec<String>>,
    denied_headers: Option<Vec<String>>,
    denied_body: Option<bool>,
    sign_in: Option<String>,
    redirect_parameter: Option<String>,
    always_set_cookie: Option<bool>,
    request_redirect: Option<String>,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    on_failure: OnFailure,
    failure_status: Option<u16>,
    #[serde(default)]
    trusted_hops: u32,
    cache: Option<CacheConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GrpcConfig {
    #[serde(default)]
    context_extensions: BTreeMap<String, String>,
    #[serde(default)]
    body_as_bytes: bool,
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

const MAX_BODY: usize = 8 * 1024 * 1024;

fn default_timeout() -> Span {
    Span(std::time::Duration::from_secs(5))
}

/// What Envoy's ext_authz answers when its service fails, and nginx's `auth_request`.
const FAILURE_STATUS: (u16, u16) = (403, 500);

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
        config.check()?;
        let service = match &config.grpc {
            Some(grpc) => Service::Grpc(grpc::Service {
                context_extensions: grpc.context_extensions.clone(),
                body_as_bytes: grpc.body_as_bytes,
            }),
            None => Service::Http(config.http()?),
        };
        let default_status = match config.grpc {
            Some(_) => FAILURE_STATUS.0,
            None => FAILURE_STATUS.1,
        };
        let forward = config
            .forward_headers
            .as_ref()
            .map(|list| names("forwardHeaders", list))
            .transpose()?;
        Ok(Self {
            service,
            set: config.set()?,
            cluster: cluster(&config.cluster)?,
            timeout: config.timeout.0,
            forward,
            max_body: config.forward_body,
            except: config.except,
            failure: Failure {
                allow: config.on_failure == OnFailure::Allow,
                status: config.failure_status.unwrap_or(default_status),
            },
            trusted_hops: config.trusted_hops,
            cache_key,
            cache: RefCell::new(Cache::new(spans)),
        })
    }
}

impl Config {
    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field: &str, problem: &str| Err(ConfigError::new(field, problem));
        match (&self.url, &self.grpc) {
            (None, None) => return refuse("url", "is missing, and so is grpc: give one of them"),
            (Some(_), Some(_)) => {
                return refuse("url", "cannot stand beside grpc: give one of them");
            }
            _ => {}
        }
        let of_http = [
            ("method", self.method.is_some()),
            ("forwardTarget", self.forward_target.is_some()),
            ("originalHeaders", self.original_headers.is_some()),
            ("allowedStatuses", self.allowed_statuses.is_some()),
            ("responseHeaders", self.response_headers.is_some()),
            ("deniedHeaders", self.denied_headers.is_some()),
            ("deniedBody", self.denied_body.is_some()),
            ("signIn", self.sign_in.is_some()),
            ("redirectParameter", self.redirect_parameter.is_some()),
            ("alwaysSetCookie", self.always_set_cookie.is_some()),
            ("requestRedirect", self.request_redirect.is_some()),
        ];
        if let Some((field, _)) = of_http.iter().find(|(_, given)| *given)
            && self.grpc.is_some()
        {
            return refuse(
                field,
                "has no meaning with grpc, where the service's answer says it; remove it",
            );
        }
        if self.forward_body.is_some_and(|max| max > MAX_BODY) {
            return refuse("forwardBody", &format!("is above {MAX_BODY} bytes"));
        }
        if self
            .failure_status
            .is_some_and(|status| !(400..=599).contains(&status))
        {
            return refuse("failureStatus", "is no refusal; 400 to 599 are");
        }
        let mut except = self.except.iter();
        if let Some(index) = except.position(|prefix| !prefix.starts_with('/')) {
            return refuse(
                &format!("except[{index}]"),
                "is no path; it has to begin with a slash",
            );
        }
        Ok(())
    }

    fn http(&self) -> Result<http::Service, ConfigError> {
        let method = self.method.as_deref().unwrap_or("GET");
        if !method.is_empty() && !header::is_token(method.as_bytes()) {
            return Err(ConfigError::new(
                "method",
                format!("{method:?} is no method"),
            ));
        }
        let statuses = self.allowed_statuses.as_deref();
        if let Some(index) = statuses
            .into_iter()
            .flatten()
            .position(|status| !(200..=299).contains(status))
        {
            return Err(ConfigError::new(
                format!("allowedStatuses[{index}]"),
                "is no success; 200 to 299 are",
            ));
        }
        let redirect = self.request_redirect.as_deref();
        let denied = match &self.denied_headers {
            Some(list) => some_or_all("deniedHeaders", list)?,
            None => Names::Listed(vec![String::from("www-authenticate")]),
        };
        Ok(http::Service {
            url: url("url", self.url.as_deref().unwrap_or_default())?,
            method: (!method.is_empty()).then(|| method.to_owned()),
            forward_target: self.forward_target.unwrap_or_default(),
            original_headers: self.original_headers.unwrap_or(true),
            allowed_statuses: self.allowed_statuses.clone(),
            response_headers: some_or_all(
                "responseHeaders",
                self.response_headers.as_deref().unwrap_or_default(),
            )?,
            denied_headers: denied,
            denied_body: self.denied_body.unwrap_or_default(),
            sign_in: self.sign_in()?,
            always_set_cookie: self.always_set_cookie.unwrap_or_default(),
            redirect_header: value("requestRedirect", redirect.unwrap_or("${request.target}"))?,
        })
    }

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
        let parameter = self.redirect_parameter.as_deref().unwrap_or("rd");
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
            parameter: (!there).then(|| parameter.to_owned()),
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

/// Errors do not quote the text: a header's may be a credential that came from a Secret, and they are logged.
fn value(field: &str, text: &str) -> Result<Template, ConfigError> {
    if !header::is_value(text.as_bytes()) {
        return Err(ConfigError::new(
            field,
            "must be visible ASCII without white space at its ends",
        ));
    }
    Template::parse(text, &[]).map_err(|problem| ConfigError::new(field, problem))
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

/// A list of names, or `*` for all.
fn some_or_all(field: &str, list: &[String]) -> Result<Names, ConfigError> {
    match list {
        [only] if only == "*" => Ok(Names::All),
        list if list.iter().any(|name| name == "*") => Err(ConfigError::new(
            field,
            "has * beside other names; let it stand alone, or remove it",
        )),
        list => names(field, list).map(Names::Listed),
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
    header::name(field, name, &RESERVED)
}
