//! Who may come in, by address.

use std::net::IpAddr;

use serde::Deserialize;
use tidegate_sdk::net::Networks;
use tidegate_sdk::{ConfigError, Reply, address, config};

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    allow: Networks,
    deny: Networks,
    except: Vec<String>,
    trusted_hops: u32,
    trusted_proxies: Networks,
    status: u16,
    body: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    trusted_hops: u32,
    #[serde(default)]
    trusted_proxies: Vec<String>,
    #[serde(default = "default_status")]
    status: u16,
    #[serde(default = "default_body")]
    body: String,
}

fn default_status() -> u16 {
    403
}

fn default_body() -> String {
    String::from("Forbidden\n")
}

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown fields, members that are no address or network, two ways to trust proxies, a status that is no refusal.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        if !(400..=599).contains(&config.status) {
            return Err(ConfigError::new("status", "is no refusal; 400 to 599 are"));
        }
        if config.trusted_hops > 0 && !config.trusted_proxies.is_empty() {
            let problem =
                "stands beside trustedHops; proxies are either counted or known by address";
            return Err(ConfigError::new("trustedProxies", problem));
        }
        for (index, prefix) in config.except.iter().enumerate() {
            if !prefix.starts_with('/') {
                let problem = format!("{prefix:?} is no path; it has to begin with a slash");
                return Err(ConfigError::new(format!("except[{index}]"), problem));
            }
        }
        Ok(Self {
            allow: Networks::parse("allow", &config.allow)?,
            deny: Networks::parse("deny", &config.deny)?,
            trusted_proxies: Networks::parse("trustedProxies", &config.trusted_proxies)?,
            except: config.except,
            trusted_hops: config.trusted_hops,
            status: config.status,
            body: config.body,
        })
    }

    /// Whether some paths are open to everybody.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        !self.except.is_empty()
    }

    /// Whether this path is open to everybody. Not one with dot segments, which an upstream may read as another one.
    #[must_use]
    pub fn is_excepted(&self, path: &[u8]) -> bool {
        let plain =
            !path.windows(2).any(|pair| pair == b"/.") || path.starts_with(b"/.well-known/");
        let dots = path.windows(2).any(|pair| pair == b"..")
            || path
                .windows(3)
                .any(|code| code.eq_ignore_ascii_case(b"%2e"));
        plain
            && !dots
            && self
                .except
                .iter()
                .any(|prefix| path.starts_with(prefix.as_bytes()))
    }

    /// Whether the header is needed.
    #[must_use]
    pub fn reads_forwarded_for(&self) -> bool {
        self.trusted_hops > 0 || !self.trusted_proxies.is_empty()
    }

    /// Decides about the client behind `peer`. As in nginx, what is denied stays denied though a wider network is allowed; with an
    /// allow list everybody else is refused, and so is a client whose address is not known.
    ///
    /// # Errors
    ///
    /// The refusal.
    pub fn check<V: AsRef<[u8]>>(
        &self,
        peer: Option<IpAddr>,
        forwarded_for: &[V],
    ) -> Result<(), Reply> {
        if self.allow.is_empty() && self.deny.is_empty() {
            return Ok(());
        }
        let client = match self.trusted_proxies.is_empty() {
            true => address::client(peer, forwarded_for, self.trusted_hops),
            false => address::client_behind(peer, forwarded_for, |hop| {
                self.trusted_proxies.contains(hop)
            }),
        };
        let allowed = client.is_some_and(|client| {
            !self.deny.contains(client) && (self.allow.is_empty() || self.allow.contains(client))
        });
        match allowed {
            true => Ok(()),
            false => Err(Reply::new(self.status)
                .body(self.body.as_str())
                .details("ip_acl_denied")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(config: &str, peer: &str, forwarded_for: &str) -> bool {
        let policy = Policy::parse(config.as_bytes()).unwrap();
        policy.check(peer.parse().ok(), &[forwarded_for]).is_ok()
    }

    #[test]
    fn deny_goes_before_allow() {
        let both = r#"{"allow": ["10.0.0.0/8", "2001:db8::/32"], "deny": ["10.1.0.0/16"]}"#;
        for (peer, expected) in [
            ("10.2.0.1", true),
            ("10.1.0.1", false),
            ("192.0.2.1", false),
            ("2001:db8::1", true),
            ("::ffff:10.2.0.1", true),
            ("no address", false),
        ] {
            assert_eq!(allowed(both, peer, ""), expected, "{peer}");
        }
        assert!(allowed(r#"{"deny": ["10.0.0.0/8"]}"#, "192.0.2.1", ""));
        assert!(!allowed(r#"{"deny": ["10.0.0.0/8"]}"#, "no address", ""));
        assert!(allowed("{}", "no address", ""));
    }

    #[test]
    fn forwarding_is_believed_of_those_it_is_said_of() {
        let allow = r#""allow": ["198.51.100.7"]"#;
        let hops = format!(r#"{{{allow}, "trustedHops": 1}}"#);
        let proxies = format!(r#"{{{allow}, "trustedProxies": ["10.0.0.0/8"]}}"#);
        let none = format!("{{{allow}}}");
        assert!(!allowed(&none, "10.0.0.1", "198.51.100.7"));
        assert!(allowed(&hops, "10.0.0.1", "198.51.100.7"));
        assert!(allowed(
            &proxies,
            "10.0.0.1",
            "6.6.6.6, 198.51.100.7, 10.0.0.2"
        ));
        assert!(!allowed(&proxies, "6.6.6.6", "198.51.100.7"));
        assert!(!allowed(&proxies, "10.0.0.1", "198.51.100.7, 6.6.6.6"));
    }

    #[test]
    fn exceptions_do_not_open_other_paths() {
        let policy =
            Policy::parse(br#"{"except": ["/.well-known/acme-challenge/", "/open/"]}"#).unwrap();
        for (path, expected) in [
            ("/.well-known/acme-challenge/x", true),
            ("/open/x", true),
            ("/open", false),
            ("/open/../secret", false),
            ("/open/%2e%2E/secret", false),
            ("/open/./x", false),
            ("/x/open/", false),
        ] {
            assert_eq!(policy.is_excepted(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn errors_name_the_field() {
        for (text, field) in [
            (r#"{"allow": ["10.0.0.0/40"]}"#, "/allow/0"),
            (r#"{"deny": ["::1", "x"]}"#, "/deny/1"),
            (
                r#"{"trustedHops": 1, "trustedProxies": ["::1"]}"#,
                "/trustedProxies",
            ),
            (r#"{"status": 200}"#, "/status"),
            (r#"{"except": ["open"]}"#, "/except/0"),
        ] {
            assert_eq!(
                Policy::parse(text.as_bytes()).unwrap_err().pointer(),
                field,
                "{text}"
            );
        }
    }
}
