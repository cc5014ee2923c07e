//! A log-in: from the request that needs one to the provider and back.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tidegate_sdk::template;

/// What a browser keeps, sealed, while its user is at the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Ties the answer to this browser.
    pub state: String,
    /// Ties the ID token to this log-in.
    pub nonce: String,
    /// PKCE (RFC 7636): who has the code alone has nothing.
    pub verifier: String,
    /// Path and query to go to afterwards.
    pub target: String,
    /// As it was told to the provider.
    pub redirect_uri: String,
    /// When it began, seconds since the epoch.
    pub begun: u64,
}

/// Random bytes of one log-in.
pub type Entropy = [u8; 64];

/// Longest target that is gone back to, in bytes.
const MAX_TARGET: usize = 1024;

impl Login {
    /// One for a request for `target`.
    #[must_use]
    pub fn new(entropy: &Entropy, target: &[u8], redirect_uri: String, now: Duration) -> Self {
        Self {
            state: BASE64.encode(&entropy[..16]),
            nonce: BASE64.encode(&entropy[16..32]),
            verifier: BASE64.encode(&entropy[32..]),
            target: return_target(target),
            redirect_uri,
            begun: now.as_secs(),
        }
    }

    /// The authorization request: `endpoint` with the parameters of the standard and these others.
    #[must_use]
    pub fn address(
        &self,
        endpoint: &str,
        client: &str,
        scope: &str,
        others: &[(String, String)],
    ) -> String {
        let challenge = BASE64.encode(Sha256::digest(&self.verifier));
        let standard = [
            ("response_type", "code"),
            ("client_id", client),
            ("redirect_uri", &self.redirect_uri),
            ("scope", scope),
            ("state", &self.state),
            ("nonce", &self.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let others = others
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let pairs: Vec<_> = standard.into_iter().chain(others).collect();
        with_query(endpoint, &pairs)
    }
}

/// An address with further parameters.
#[must_use]
pub fn with_query(address: &str, pairs: &[(&str, &str)]) -> String {
    let mark = match address.contains('?') {
        true if address.ends_with(['?', '&']) => "",
        true => "&",
        false => "?",
    };
    format!("{address}{mark}{}", form(pairs))
}

/// Parameters as a form has them.
#[must_use]
pub fn form(pairs: &[(&str, &str)]) -> String {
    let mut out = Vec::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push(b'&');
        }
        template::encode(name.as_bytes(), &mut out);
        out.push(b'=');
        template::encode(value.as_bytes(), &mut out);
    }
    String::from_utf8(out).expect("everything else is encoded")
}

/// Where to go after the log-in: the path and query of the request, on this host whatever a browser makes of it. What begins with
/// two slashes or with a backslash among them is another host's address to browsers.
#[must_use]
pub fn return_target(target: &[u8]) -> String {
    let visible = target.iter().all(|byte| matches!(byte, 0x21..=0x7e));
    let second = target.get(1);
    let local = target.first() == Some(&b'/') && !matches!(second, Some(b'/' | b'\\'));
    let fine = visible && local && !target.contains(&b'\\') && target.len() <= MAX_TARGET;
    match std::str::from_utf8(target) {
        Ok(target) if fine => target.to_owned(),
        _ => String::from("/"),
    }
}
