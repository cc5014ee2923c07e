//! What browsers are told about cookies.

use serde::Deserialize;
use tidegate_sdk::{ConfigError, header};

use crate::policy::cookie::Cookies;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct CookieConfig {
    name: Option<String>,
    domain: Option<String>,
    path: String,
    secure: bool,
    same_site: SameSite,
}

#[derive(Clone, Copy, Default, Deserialize)]
enum SameSite {
    #[default]
    Lax,
    None,
}

impl Default for CookieConfig {
    fn default() -> Self {
        Self {
            name: None,
            domain: None,
            path: String::from("/"),
            secure: true,
            same_site: SameSite::Lax,
        }
    }
}

impl CookieConfig {
    /// Checks it.
    pub(super) fn compile(&self) -> Result<Cookies, ConfigError> {
        let host_only = self.secure && self.domain.is_none() && self.path == "/";
        let name = match &self.name {
            Some(name) => name.clone(),
            None if host_only => String::from("__Host-oidc"),
            None => String::from("oidc"),
        };
        let lower = name.to_ascii_lowercase();
        let prefix = (lower.starts_with("__host-") && !host_only)
            || (lower.starts_with("__secure-") && !self.secure);
        if !header::is_token(name.as_bytes()) || name.len() > 64 || prefix {
            let problem = format!(
                "{name:?} cannot be used; __Host- needs secure, the path / and no domain, __Secure- needs secure"
            );
            return Err(ConfigError::new("cookie.name", problem));
        }
        if matches!(self.same_site, SameSite::None) && !self.secure {
            return Err(ConfigError::new("cookie.sameSite", "None needs secure"));
        }
        let plain = |text: &str| {
            text.bytes()
                .all(|byte| matches!(byte, 0x21..=0x7e) && byte != b';' && byte != b',')
        };
        if !self.path.starts_with('/') || !plain(&self.path) {
            return Err(ConfigError::new("cookie.path", "is no path"));
        }
        let mut attributes = format!("; Path={}", self.path);
        if let Some(domain) = &self.domain {
            if domain.is_empty() || !plain(domain) {
                return Err(ConfigError::new("cookie.domain", "is no domain"));
            }
            attributes += &format!("; Domain={domain}");
        }
        attributes += "; HttpOnly";
        if self.secure {
            attributes += "; Secure";
        }
        attributes += match self.same_site {
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        };
        Ok(Cookies { name, attributes })
    }
}
