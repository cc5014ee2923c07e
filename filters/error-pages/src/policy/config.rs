//! The configuration as it is written, and its compilation.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tidegate_sdk::config::Span;
use tidegate_sdk::http::Url;
use tidegate_sdk::template::Template;
use tidegate_sdk::{ConfigError, config, header};

use super::{Backend, OF_THE_BODY, Page, Policy, Statuses};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    statuses: Vec<StatusConfig>,
    #[serde(default)]
    pages: Vec<PageConfig>,
    backend: Option<BackendConfig>,
    #[serde(default)]
    keep_headers: Vec<String>,
}

/// A status, or `4xx` and the like.
#[derive(Deserialize)]
#[serde(untagged)]
enum StatusConfig {
    Number(u16),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PageConfig {
    #[serde(default)]
    statuses: Vec<StatusConfig>,
    #[serde(default = "default_type")]
    content_type: String,
    body: String,
    status: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BackendConfig {
    cluster: String,
    url: String,
    #[serde(default = "default_timeout")]
    timeout: Span,
    #[serde(default = "default_use_status")]
    use_status: bool,
    #[serde(default)]
    set_headers: BTreeMap<String, String>,
}

const MAX_PAGE: usize = 256 * 1024;

fn default_type() -> String {
    String::from("text/html; charset=utf-8")
}

fn default_timeout() -> Span {
    Span(Duration::from_secs(5))
}

fn default_use_status() -> bool {
    true
}

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown fields, statuses that are no errors, neither pages nor a backend, an address that is none.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        if config.statuses.is_empty() {
            return Err(ConfigError::new(
                "statuses",
                "must name the statuses of the responses that are replaced",
            ));
        }
        if config.pages.is_empty() && config.backend.is_none() {
            return Err(ConfigError::new("", "must hold pages, a backend or both"));
        }
        let pages = config.pages.into_iter().enumerate();
        let pages: Vec<Page> = pages
            .map(|(index, page)| page.compile(&format!("pages[{index}]")))
            .collect::<Result<_, _>>()?;
        let call_headers = match &config.backend {
            Some(backend) => backend.headers()?,
            None => Vec::new(),
        };
        let keep = config.keep_headers.iter().enumerate();
        let keep = keep.map(|(index, name)| {
            let name = name.to_ascii_lowercase();
            match header::is_token(name.as_bytes()) && !OF_THE_BODY.contains(&name.as_str()) {
                true => Ok(name),
                false => Err(ConfigError::new(
                    format!("keepHeaders[{index}]"),
                    format!("{name:?} cannot stay"),
                )),
            }
        });
        Ok(Self {
            statuses: statuses("statuses", &config.statuses)?,
            keep: keep.collect::<Result<_, _>>()?,
            backend: config
                .backend
                .map(|backend| backend.compile())
                .transpose()?,
            pages,
            call_headers,
        })
    }
}

fn statuses(field: &str, list: &[StatusConfig]) -> Result<Vec<Statuses>, ConfigError> {
    let list = list.iter().enumerate();
    list.map(|(index, status)| {
        let found = match status {
            StatusConfig::Number(status) if (300..=599).contains(status) => {
                Some(Statuses(*status, *status))
            }
            StatusConfig::Number(_) => None,
            StatusConfig::Text(text) => match text.as_str() {
                "4xx" => Some(Statuses(400, 499)),
                "5xx" => Some(Statuses(500, 599)),
                _ => None,
            },
        };
        found.ok_or_else(|| {
            ConfigError::new(
                format!("{field}[{index}]"),
                "must be a status from 300 to 599, 4xx or 5xx",
            )
        })
    })
    .collect()
}

impl PageConfig {
    fn compile(self, field: &str) -> Result<Page, ConfigError> {
        if !header::is_value(self.content_type.as_bytes()) || self.content_type.is_empty() {
            return Err(ConfigError::new(
                format!("{field}.contentType"),
                "is no media type",
            ));
        }
        if self.body.len() > MAX_PAGE {
            return Err(ConfigError::new(
                format!("{field}.body"),
                format!("is longer than {MAX_PAGE} bytes"),
            ));
        }
        if self
            .status
            .is_some_and(|status| !(200..=599).contains(&status))
        {
            return Err(ConfigError::new(
                format!("{field}.status"),
                "is no final status; 200 to 599 are",
            ));
        }
        Ok(Page {
            statuses: statuses(&format!("{field}.statuses"), &self.statuses)?,
            content_type: self.content_type,
            body: self.body,
            status: self.status,
        })
    }
}

impl BackendConfig {
    fn compile(&self) -> Result<Backend, ConfigError> {
        let url = Url::parse(&self.url).ok_or_else(|| {
            ConfigError::new("backend.url", format!("{:?} is no absolute URL", self.url))
        })?;
        if self.cluster.is_empty() {
            return Err(ConfigError::new(
                "backend.cluster",
                "must name a cluster that may be called",
            ));
        }
        Ok(Backend {
            cluster: self.cluster.clone(),
            url,
            timeout: self.timeout.0,
            use_status: self.use_status,
        })
    }

    /// The contract of ingress-nginx's default backends: `X-Code`, `X-Format`, `X-Original-URI`, and what is set beside.
    fn headers(&self) -> Result<Vec<(String, Template)>, ConfigError> {
        let standard = [
            ("accept", "${header.accept}"),
            ("x-format", "${header.accept}"),
            ("x-original-uri", "${request.target}"),
            ("x-original-host", "${request.authority}"),
            ("x-request-id", "${header.x-request-id}"),
        ];
        let standard = standard.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let own = self.set_headers.clone().into_iter();
        let mut headers: Vec<(String, Template)> = Vec::new();
        for (name, text) in standard.into_iter().chain(own) {
            let field = format!("/backend/setHeaders/{}", config::escape(&name));
            let name = name.to_ascii_lowercase();
            if !header::is_token(name.as_bytes()) || !header::is_value(text.as_bytes()) {
                return Err(ConfigError::new(field, "is no header name and value"));
            }
            let template = Template::parse(&text, &[])
                .map_err(|problem| ConfigError::new(field, format!("{text:?} {problem}")))?;
            headers.retain(|(other, _)| *other != name);
            headers.push((name, template));
        }
        Ok(headers)
    }
}
