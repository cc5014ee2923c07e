//! Whose key a request carries.
//!
//! Keys are kept as SHA-256 digests, and what a client sends is digested before it is looked up: how long a look-up takes says
//! something about digests, which nobody can choose, and nothing about keys.

mod config;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use tidegate_sdk::Reply;
use tidegate_sdk::credential::{Edit, Place};

/// A key's digest.
type Digest = [u8; 32];

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    places: Vec<Place>,
    /// Names of clients by the digests of their keys.
    clients: BTreeMap<Digest, String>,
    /// Header that carries the client's name upstream.
    forward_client: Option<String>,
    strip: bool,
    /// The value of `WWW-Authenticate`.
    challenge: String,
}

/// A request that may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whose key it is.
    pub client: String,
    /// What changes in the request.
    pub edits: Vec<Edit>,
}

/// Longest key that is looked at, in bytes.
const MAX_KEY: usize = 4096;

impl Policy {
    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Decides about a request with this target; `values` gives all values of a header.
    ///
    /// # Errors
    ///
    /// The reply that asks for a key, whether there was none or a wrong one.
    pub fn check(
        &self,
        target: &[u8],
        values: &dyn Fn(&str) -> Vec<Vec<u8>>,
    ) -> Result<Verdict, Reply> {
        let client = self
            .client(target, values)
            .ok_or_else(|| self.unauthorized())?;
        let mut edits = Vec::new();
        if self.strip {
            let mut target = target.to_vec();
            for place in &self.places {
                edits.extend(place.strip(&mut target, values));
            }
        }
        if let Some(name) = &self.forward_client {
            edits.push(Edit::Set(name.clone(), client.clone().into_bytes()));
        }
        Ok(Verdict { client, edits })
    }

    /// The first place that holds a key decides; a wrong key there is not made good by a right one elsewhere.
    fn client(&self, target: &[u8], values: &dyn Fn(&str) -> Vec<Vec<u8>>) -> Option<String> {
        let key = self
            .places
            .iter()
            .find_map(|place| place.find(target, values))?;
        // Two keys are a mistake or an attack: what this filter reads need not be what the upstream reads.
        let [key] = &key[..] else {
            return None;
        };
        if key.is_empty() || key.len() > MAX_KEY {
            return None;
        }
        self.clients.get(&digest(key)).cloned()
    }

    fn unauthorized(&self) -> Reply {
        Reply::new(401)
            .header("www-authenticate", self.challenge.as_str())
            .body("401 Unauthorized\n")
            .details("api_key_missing_or_wrong")
    }
}

fn digest(key: &[u8]) -> Digest {
    Sha256::digest(key).into()
}
