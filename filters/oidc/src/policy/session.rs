//! A session: what is kept of a log-in, sealed, in the browser.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A session. Short names, because browsers keep few bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose it is: `sub`.
    #[serde(rename = "s")]
    pub subject: String,
    /// When it began, seconds since the epoch.
    #[serde(rename = "b")]
    pub begun: u64,
    /// From when on its tokens have to be renewed.
    #[serde(rename = "e")]
    pub expires: u64,
    /// Claims as headers carry them, as far as the configuration asks for them.
    #[serde(rename = "c", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    /// The ID token, where something needs it.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub id_token: Option<String>,
    /// The access token, where it goes to the upstream.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// The refresh token.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
}

impl Session {
    /// Whether its tokens still count.
    #[must_use]
    pub fn is_fresh(&self, now: Duration) -> bool {
        now.as_secs() < self.expires
    }

    /// What is left of a lifetime; zero when it is over. A session from the future has none.
    #[must_use]
    pub fn left(&self, lifetime: Duration, now: Duration) -> Duration {
        let begun = Duration::from_secs(self.begun);
        // A minute, because hosts' clocks differ.
        if begun > now + Duration::from_secs(60) {
            return Duration::ZERO;
        }
        (begun + lifetime).saturating_sub(now)
    }
}
