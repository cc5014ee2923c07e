//! The token endpoint: what is sent there (RFC 6749, 7636) and what its answer has to be (OpenID Connect Core 1.0).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256, Sha384, Sha512};
use tidegate_jose::{Claims, Token};

use super::login::form;

/// How this client shows the provider who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// `client_secret_basic`.
    Basic(String),
    /// `client_secret_post`.
    Post(String),
    /// Not at all: a public client.
    None,
}

/// An answer of the token endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Tokens {
    /// Always there after a log-in.
    pub id_token: Option<String>,
    /// For the upstream.
    pub access_token: Option<String>,
    /// A new one each time, with many providers.
    pub refresh_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<Value>,
}

/// A refusal of the token endpoint.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error: String,
}

// === impl ClientAuth ===

impl ClientAuth {
    /// The value of `authorization`, if it goes there.
    #[must_use]
    pub fn header(&self, client: &str) -> Option<String> {
        let Self::Basic(secret) = self else {
            return None;
        };
        // Both are encoded as in forms first (RFC 6749 section 2.3.1), which differs for a colon, for example.
        let pair = format!("{}:{}", encode(client), encode(secret));
        Some(format!("Basic {}", STANDARD.encode(pair)))
    }

    /// The body of a call with these parameters.
    #[must_use]
    pub fn body(&self, client: &str, pairs: &[(&str, &str)]) -> String {
        let mut pairs = pairs.to_vec();
        match self {
            Self::Basic(_) => {}
            Self::Post(secret) => pairs.extend([("client_id", client), ("client_secret", secret)]),
            Self::None => pairs.push(("client_id", client)),
        }
        form(&pairs)
    }
}

fn encode(text: &str) -> String {
    form(&[("", text)]).split_off(1)
}

// === impl Tokens ===

impl Tokens {
    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let tokens: Self = serde_json::from_slice(body)
            .map_err(|error| format!("the answer is not what tokens come in: {error}"))?;
        let bearer = tokens
            .token_type
            .as_ref()
            .is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
        match bearer {
            true => Ok(tokens),
            false => Err(String::from("the tokens are not of the type Bearer")),
        }
    }

    /// When they have to be renewed, seconds since the epoch: a little before they are over. `exp` is the ID token's.
    #[must_use]
    pub fn expires(&self, exp: Option<u64>, now: Duration) -> u64 {
        let now = now.as_secs();
        let lifetime = match &self.expires_in {
            // Some write a number as text.
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_u64(),
            None => None,
        };
        let lifetime =
            lifetime.unwrap_or_else(|| exp.map_or(300, |exp: u64| exp.saturating_sub(now)));
        now.saturating_add(lifetime - (lifetime / 10).min(10))
    }
}

/// The error code of a refusal, as far as it may be shown.
#[must_use]
pub fn error_code(body: &[u8]) -> String {
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    printable(&refusal.error).to_owned()
}

/// An error code, or `unknown_error` for what is none.
#[must_use]
pub fn printable(error: &str) -> &str {
    let fine = !error.is_empty()
        && error.len() <= 64
        && error
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fine { error } else { "unknown_error" }
}

/// What the standard asks of an ID token beyond what `tidegate_jose` has looked at (section 3.1.3.7). Without `nonce` after a refresh.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_id_token(
    claims: &Claims,
    client: &str,
    nonce: Option<&str>,
) -> Result<(), &'static str> {
    if claims.text("sub").is_none_or(str::is_empty) {
        return Err("the ID token has no sub");
    }
    if claims.get("iat").and_then(Value::as_f64).is_none() {
        return Err("the ID token has no iat");
    }
    let several = claims
        .get("aud")
        .and_then(Value::as_array)
        .is_some_and(|audiences| audiences.len() > 1);
    match claims.get("azp") {
        Some(party) if party.as_str() != Some(client) => {
            return Err("the ID token is for another party (azp)");
        }
        None if several => return Err("the ID token is for several and says not for whom (azp)"),
        _ => {}
    }
    match nonce {
        Some(nonce) if claims.text("nonce") != Some(nonce) => {
            Err("the ID token is not of this log-in (nonce)")
        }
        _ => Ok(()),
    }
}

/// Whether the access token is the one that the ID token was made with, where that says so (section 3.1.3.6).
///
/// # Errors
///
/// It is another.
pub fn check_access_token(
    id_token: &Token,
    claims: &Claims,
    access_token: &str,
) -> Result<(), &'static str> {
    let Some(expected) = claims.text("at_hash") else {
        return Ok(());
    };
    let algorithm = id_token.algorithm();
    let digest = match algorithm.get(algorithm.len().saturating_sub(3)..) {
        Some("256") => Sha256::digest(access_token).to_vec(),
        Some("384") => Sha384::digest(access_token).to_vec(),
        _ => Sha512::digest(access_token).to_vec(),
    };
    match URL_SAFE_NO_PAD.encode(&digest[..digest.len() / 2]) == expected {
        true => Ok(()),
        false => Err("the access token is not the ID token's (at_hash)"),
    }
}
