//! How a registry wants to be asked: `WWW-Authenticate`, and the token that it sends for.
//!
//! <https://distribution.github.io/distribution/spec/auth/token/>

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use http::header::WWW_AUTHENTICATE;
use serde::Deserialize;
use tidegate_model::Credentials;

/// What a 401 asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Challenge {
    /// The one we can meet; a token rather than the password.
    pub(super) fn of(headers: &http::HeaderMap) -> Option<Self> {
        let all = headers.get_all(WWW_AUTHENTICATE).iter();
        let read: Vec<Self> = all
            .filter_map(|value| Self::read(value.to_str().ok()?))
            .collect();
        let bearer = read
            .iter()
            .position(|one| matches!(one, Self::Bearer { .. }));
        read.into_iter().nth(bearer.unwrap_or(0))
    }

    fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut realm = None;
        let mut service = None;
        for (name, value) in Parameters(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                _ => {}
            }
        }
        Some(Self::Bearer {
            realm: realm?,
            service,
        })
    }
}

/// What a token is to be good for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Actions {
    Pull,
    /// And pull: what is there need not be sent.
    Push,
}

impl Actions {
    /// As a scope has them.
    fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }
}

/// Where a token for that repository is to be had.
pub(super) fn address(
    realm: &str,
    service: Option<&str>,
    repository: &str,
    actions: Actions,
) -> String {
    let mut url = realm.to_owned();
    let mut add = |name: &str, value: &str| {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(name);
        url.push('=');
        escape(value, &mut url);
    };
    if let Some(service) = service {
        add("service", service);
    }
    // Ours, not the one in the challenge: a registry must not get us a token for another repository.
    let actions = actions.as_str();
    add("scope", &format!("repository:{repository}:{actions}"));
    url
}

/// `Basic …`
pub(super) fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let pair = format!("{}:{}", credentials.user, credentials.password);
    sensitive(&format!("Basic {}", BASE64_STANDARD.encode(pair)))
}

/// `Bearer …`, out of what the token service has sent.
pub(super) fn bearer(json: &[u8]) -> Option<HeaderValue> {
    let token: Token = serde_json::from_slice(json).ok()?;
    sensitive(&format!("Bearer {}", token.token.or(token.access_token)?))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// `name=value` and `name="value"`, separated by commas (RFC 9110 section 11.2).
struct Parameters<'a>(&'a str);

impl Iterator for Parameters<'_> {
    type Item = (String, String);

    fn next(&mut self) -> Option<(String, String)> {
        let text = self.0.trim_start_matches([' ', ',', '\t']);
        let (name, rest) = text.split_once('=')?;
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            self.0 = &rest[end..];
            return Some((name.to_owned(), rest[..end].trim().to_owned()));
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.0 = &quoted[at + 1..];
                    return Some((name.to_owned(), value));
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                other => value.push(other),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn of(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        Challenge::of(&headers)
    }

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        assert_eq!(
            of(&[
                r#"Bearer realm="https://a.test/token",service="r.test",scope="repository:x:pull,push""#
            ]),
            bearer("https://a.test/token", Some("r.test"))
        );
        assert_eq!(
            of(&[r#"bearer realm="a\"b" , error=x"#]),
            bearer("a\"b", None)
        );
        assert_eq!(
            of(&["Basic realm=\"x\"", "Bearer realm=\"y\""]),
            bearer("y", None)
        );
        assert_eq!(of(&["Basic"]), Some(Challenge::Basic));
        for odd in ["Negotiate", "Bearer", "Bearer realm=\"x", ""] {
            assert_eq!(of(&[odd]), None, "{odd:?}");
        }
    }

    #[test]
    fn the_scope_is_the_repository_s_own() {
        assert_eq!(
            address(
                "https://a.test/t?x=1",
                Some("r & s"),
                "team/a",
                Actions::Pull
            ),
            "https://a.test/t?x=1&service=r%20%26%20s&scope=repository%3Ateam%2Fa%3Apull"
        );
        assert_eq!(
            address("https://a.test/t", None, "a", Actions::Push),
            "https://a.test/t?scope=repository%3Aa%3Apull%2Cpush"
        );
    }

    #[test]
    fn tokens_come_under_two_names() {
        let shown = |json: &str| {
            bearer(json.as_bytes()).map(|value| value.to_str().expect("text").to_owned())
        };
        assert_eq!(shown(r#"{"token": "a"}"#).as_deref(), Some("Bearer a"));
        assert_eq!(
            shown(r#"{"access_token": "b", "expires_in": 5}"#).as_deref(),
            Some("Bearer b")
        );
        for odd in [r#"{}"#, r#"{"token": "a\nb"}"#, "token"] {
            assert_eq!(shown(odd), None, "{odd}");
        }
    }
}
