//! Changes of `Set-Cookie` (RFC 6265): nginx's `proxy_cookie_domain`, `proxy_cookie_path` and `proxy_cookie_flags`.

use regex_lite::{Regex, RegexBuilder};
use serde::Deserialize;
use tidegate_sdk::{ConfigError, config, header};

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    names: Vec<String>,
    domain: Vec<Replacement>,
    path: Vec<Replacement>,
    secure: Option<bool>,
    http_only: Option<bool>,
    same_site: Option<SameSite>,
}

#[derive(Debug)]
struct Replacement {
    from: From,
    to: String,
}

#[derive(Debug)]
enum From {
    Text(String),
    Expression(Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum SameSite {
    Strict,
    Lax,
    None,
    /// Takes the attribute away.
    Off,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    domain: Vec<ReplacementConfig>,
    #[serde(default)]
    path: Vec<ReplacementConfig>,
    secure: Option<bool>,
    http_only: Option<bool>,
    same_site: Option<SameSite>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ReplacementConfig {
    from: String,
    to: String,
}

// === impl Policy ===

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown fields, expressions that do not compile, replacements that would end the attribute.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        Ok(Self {
            domain: compile("domain", &config.domain)?,
            path: compile("path", &config.path)?,
            names: config.names,
            secure: config.secure,
            http_only: config.http_only,
            same_site: config.same_site,
        })
    }

    /// The new value of a `Set-Cookie` header; the same bytes where nothing changes, and where it is no cookie.
    #[must_use]
    pub fn rewrite(&self, value: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(value) else {
            return value.to_vec();
        };
        let mut parts = text.split(';');
        let pair = parts.next().unwrap_or_default();
        let name = match pair.split_once('=') {
            Some((name, _)) if !name.trim().is_empty() => name.trim(),
            _ => return value.to_vec(),
        };
        if !self.names.is_empty() && !self.names.iter().any(|wanted| wanted == name) {
            return value.to_vec();
        }
        let mut cookie = Cookie {
            pair,
            attributes: parts.map(|part| part.trim().to_owned()).collect(),
            changed: false,
        };
        cookie.replace("domain", |domain| apply_domain(&self.domain, domain));
        cookie.replace("path", |path| apply_path(&self.path, path));
        cookie.flag("Secure", self.secure);
        cookie.flag("HttpOnly", self.http_only);
        if let Some(same_site) = self.same_site {
            cookie.same_site(same_site);
        }
        match cookie.changed {
            true => cookie.write().into_bytes(),
            false => value.to_vec(),
        }
    }
}

/// The first replacement that matches. A leading dot means nothing (RFC 6265 section 5.2.3), nor does case.
fn apply_domain(replacements: &[Replacement], domain: &str) -> Option<String> {
    let bare = domain
        .strip_prefix('.')
        .unwrap_or(domain)
        .to_ascii_lowercase();
    replacements
        .iter()
        .find_map(|replacement| match &replacement.from {
            From::Text(from) => {
                let from = from.strip_prefix('.').unwrap_or(from);
                from.eq_ignore_ascii_case(&bare)
                    .then(|| replacement.to.clone())
            }
            From::Expression(regex) => {
                let to = replacement.to.as_str();
                regex
                    .is_match(&bare)
                    .then(|| regex.replace(&bare, to).into_owned())
            }
        })
}

/// The first replacement that matches: of the beginning, or of what the expression matches.
fn apply_path(replacements: &[Replacement], path: &str) -> Option<String> {
    replacements
        .iter()
        .find_map(|replacement| match &replacement.from {
            From::Text(from) => {
                let rest = path.strip_prefix(from.as_str())?;
                Some(format!("{}{rest}", replacement.to))
            }
            From::Expression(regex) => {
                let to = replacement.to.as_str();
                regex
                    .is_match(path)
                    .then(|| regex.replace(path, to).into_owned())
            }
        })
}

/// A cookie in parts.
struct Cookie<'a> {
    pair: &'a str,
    attributes: Vec<String>,
    changed: bool,
}

impl Cookie<'_> {
    fn find(&self, name: &str) -> Option<usize> {
        // Of several, the last counts (RFC 6265 section 5.3).
        self.attributes.iter().rposition(|attribute| {
            let key = attribute.split('=').next().unwrap_or_default().trim();
            key.eq_ignore_ascii_case(name)
        })
    }

    /// Gives an attribute another value; an empty one takes it away.
    fn replace(&mut self, name: &str, change: impl FnOnce(&str) -> Option<String>) {
        let Some(index) = self.find(name) else {
            return;
        };
        let Some((key, value)) = self.attributes[index].split_once('=') else {
            return;
        };
        match change(value.trim()) {
            None => {}
            Some(new) if new.is_empty() => {
                self.attributes.remove(index);
                self.changed = true;
            }
            Some(new) => {
                self.attributes[index] = format!("{key}={new}");
                self.changed = true;
            }
        }
    }

    fn flag(&mut self, name: &str, wanted: Option<bool>) {
        match (wanted, self.find(name)) {
            (Some(true), None) => self.attributes.push(name.to_owned()),
            (Some(false), Some(index)) => {
                self.attributes.remove(index);
            }
            _ => return,
        }
        self.changed = true;
    }

    fn same_site(&mut self, wanted: SameSite) {
        while let Some(index) = self.find("SameSite") {
            self.attributes.remove(index);
        }
        let value = match wanted {
            SameSite::Strict => Some("SameSite=Strict"),
            SameSite::Lax => Some("SameSite=Lax"),
            SameSite::None => Some("SameSite=None"),
            SameSite::Off => None,
        };
        self.attributes.extend(value.map(str::to_owned));
        self.changed = true;
    }

    fn write(&self) -> String {
        let parts = std::iter::once(self.pair).chain(self.attributes.iter().map(String::as_str));
        parts
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("; ")
    }
}

fn compile(field: &str, list: &[ReplacementConfig]) -> Result<Vec<Replacement>, ConfigError> {
    let list = list.iter().enumerate();
    list.map(|(index, entry)| entry.compile(&format!("{field}[{index}]")))
        .collect()
}

impl ReplacementConfig {
    fn compile(&self, field: &str) -> Result<Replacement, ConfigError> {
        const MAX_PROGRAM: usize = 64 * 1024;
        if !header::is_value(self.to.as_bytes()) || self.to.contains(';') {
            let problem =
                "must be visible ASCII without a semicolon, which would end the attribute";
            return Err(ConfigError::new(format!("{field}.to"), problem));
        }
        let field = format!("{field}.from");
        // nginx's notation: ~ for an expression, ~* for one without case.
        let from = match self.from.strip_prefix('~') {
            None if self.from.is_empty() => {
                return Err(ConfigError::new(field, "must not be empty"));
            }
            None => From::Text(self.from.clone()),
            Some(pattern) => {
                let pattern = match pattern.strip_prefix('*') {
                    Some(pattern) => format!("(?i){pattern}"),
                    None => pattern.to_owned(),
                };
                let regex = RegexBuilder::new(&pattern).size_limit(MAX_PROGRAM).build();
                let regex = regex.map_err(|error| {
                    ConfigError::new(
                        field,
                        format!("{pattern:?} is no usable expression: {error}"),
                    )
                })?;
                From::Expression(regex)
            }
        };
        Ok(Replacement {
            from,
            to: self.to.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_cookie_stays_byte_for_byte() {
        let policy = Policy::parse(br#"{"path": [{"from": "/", "to": "/app/"}]}"#).unwrap();
        for value in [
            &b"\xff\xfe; Path=/"[..],
            b"",
            b"a",
            b"a=b;;  ;Secure",
            b"a=b; path",
        ] {
            assert_eq!(policy.rewrite(value), value);
        }
        let flags =
            r#"{"secure": true, "sameSite": "Lax", "path": [{"from": "/", "to": "/app/"}]}"#;
        let policy = Policy::parse(flags.as_bytes()).unwrap();
        for value in [
            &b""[..],
            b"novalue",
            b"novalue; Path=/",
            b"=b; Path=/",
            b" = b",
        ] {
            assert_eq!(policy.rewrite(value), value);
        }
    }

    #[test]
    fn errors_name_the_field() {
        for (text, field) in [
            (r#"{"path": [{"from": "", "to": "/"}]}"#, "/path/0/from"),
            (r#"{"path": [{"from": "~(", "to": "/"}]}"#, "/path/0/from"),
            (
                r#"{"domain": [{"from": "a", "to": "b; Secure"}]}"#,
                "/domain/0/to",
            ),
            (r#"{"sameSite": "lax"}"#, "/sameSite"),
        ] {
            assert_eq!(
                Policy::parse(text.as_bytes()).unwrap_err().pointer(),
                field,
                "{text}"
            );
        }
    }
}
