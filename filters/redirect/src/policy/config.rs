//! The configuration as it is written, and its compilation.

use serde::Deserialize;
use tidegate_sdk::expression::{self, MAX_NESTING, Regex};
use tidegate_sdk::template::Template;
use tidegate_sdk::{ConfigError, config, header};

use super::{Policy, Replacement, Rule};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    rules: Vec<RuleConfig>,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    location: Vec<LocationConfig>,
    #[serde(default)]
    forwarded_proto: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleConfig {
    #[serde(default)]
    r#match: MatchConfig,
    to: String,
    #[serde(default = "default_status")]
    status: u16,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct MatchConfig {
    scheme: Option<String>,
    host: Option<String>,
    path: Option<String>,
    methods: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LocationConfig {
    from: String,
    to: String,
}

const MAX_RULES: usize = 128;
const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

fn default_status() -> u16 {
    302
}

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown fields, expressions that do not compile, targets that are neither an absolute URL nor a path, other statuses.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        if config.rules.len() > MAX_RULES {
            return Err(ConfigError::new(
                "rules",
                format!("must hold at most {MAX_RULES} rules"),
            ));
        }
        for (index, prefix) in config.except.iter().enumerate() {
            if !prefix.starts_with('/') {
                let problem = format!("{prefix:?} is no path; it has to begin with a slash");
                return Err(ConfigError::new(format!("except[{index}]"), problem));
            }
        }
        let rules = config.rules.iter().enumerate();
        let location = config.location.iter().enumerate();
        Ok(Self {
            rules: rules
                .map(|(index, rule)| rule.compile(&format!("rules[{index}]")))
                .collect::<Result<_, _>>()?,
            location: location
                .map(|(index, entry)| entry.compile(&format!("location[{index}]")))
                .collect::<Result<_, _>>()?,
            except: config.except,
            forwarded_proto: config.forwarded_proto,
        })
    }
}

impl RuleConfig {
    fn compile(&self, field: &str) -> Result<Rule, ConfigError> {
        let wanted = &self.r#match;
        if !STATUSES.contains(&self.status) {
            let problem = format!(
                "{} is no redirect; 301, 302, 303, 307 and 308 are",
                self.status
            );
            return Err(ConfigError::new(format!("{field}.status"), problem));
        }
        let scheme = wanted
            .scheme
            .as_ref()
            .map(|scheme| scheme.to_ascii_lowercase());
        if !matches!(scheme.as_deref(), None | Some("http" | "https")) {
            return Err(ConfigError::new(
                format!("{field}.match.scheme"),
                "must be http or https",
            ));
        }
        for method in &wanted.methods {
            header::method(&format!("{field}.match.methods"), method)?;
        }
        let host = wanted
            .host
            .as_deref()
            .map(|text| expression::compile(&format!("{field}.match.host"), text, MAX_NESTING));
        let path = wanted
            .path
            .as_deref()
            .map(|text| expression::compile(&format!("{field}.match.path"), text, MAX_NESTING));
        let (host, path) = (host.transpose()?, path.transpose()?);
        Ok(Rule {
            to: self.target(&format!("{field}.to"), host.as_ref(), path.as_ref())?,
            methods: wanted.methods.clone(),
            status: self.status,
            scheme,
            host,
            path,
        })
    }

    fn target(
        &self,
        field: &str,
        host: Option<&Regex>,
        path: Option<&Regex>,
    ) -> Result<Template, ConfigError> {
        if !header::is_value(self.to.as_bytes()) || self.to.is_empty() || self.to.contains(' ') {
            return Err(ConfigError::new(
                field,
                "must be visible ASCII without spaces",
            ));
        }
        let count = path.or(host).map_or(0, Regex::captures_len);
        let numbers: Vec<String> = (0..count).map(|index| index.to_string()).collect();
        let named = [path, host]
            .into_iter()
            .flatten()
            .flat_map(Regex::capture_names)
            .flatten();
        let captures: Vec<&str> = numbers.iter().map(String::as_str).chain(named).collect();
        let template = Template::parse(&self.to, &captures)
            .map_err(|problem| ConfigError::new(field, format!("{:?} {problem}", self.to)))?;
        // Where the place is, is the configuration's to say: a captured text must not choose scheme and host.
        let literal = template.leading_literal();
        let absolute = literal
            .strip_prefix("https://")
            .or_else(|| literal.strip_prefix("http://"));
        let starts = absolute.is_some() || literal.starts_with('/');
        let variable = ["${request.target", "${request.path", "${request.scheme}://"];
        if !starts && !variable.iter().any(|name| self.to.starts_with(name)) {
            let problem = format!(
                "{:?} must begin with http://, https://, ${{request.scheme}}:// or a slash",
                self.to
            );
            return Err(ConfigError::new(field, problem));
        }
        Ok(template)
    }
}

impl LocationConfig {
    fn compile(&self, field: &str) -> Result<Replacement, ConfigError> {
        let from_field = format!("{field}.from");
        if self.from.is_empty() {
            return Err(ConfigError::new(from_field, "must not be empty"));
        }
        if !header::is_value(self.to.as_bytes()) {
            return Err(ConfigError::new(
                format!("{field}.to"),
                "must be visible ASCII",
            ));
        }
        let to = self.to.clone();
        // nginx's notation: ~ for an expression, ~* for one without case.
        Ok(match self.from.strip_prefix('~') {
            None => Replacement::Prefix {
                from: self.from.clone(),
                to,
            },
            Some(pattern) => {
                let pattern = match pattern.strip_prefix('*') {
                    Some(pattern) => format!("(?i){pattern}"),
                    None => pattern.to_owned(),
                };
                Replacement::Expression {
                    from: expression::compile(&from_field, &pattern, MAX_NESTING)?,
                    to,
                }
            }
        })
    }
}
