//! Sets of keys: inline, or fetched and kept for a while.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tidegate_sdk::http::Url;

use crate::algorithm::Algorithm;
use crate::key::{Jwk, Key};
use crate::token::Token;

/// Where keys are.
#[derive(Debug)]
pub enum Keys {
    /// In the configuration.
    Inline(KeySet),
    /// Somewhere else.
    Remote(Box<Store>),
}

/// Keys.
#[derive(Debug, Default)]
pub struct KeySet(Vec<Key>);

/// Keys that are fetched.
#[derive(Debug)]
pub struct Store {
    remote: Remote,
    url: RefCell<Option<Url>>,
    keys: RefCell<Option<Rc<KeySet>>>,
    /// When they are fetched again, time since the epoch.
    due: Cell<Duration>,
    /// When a key that is not known may make them be fetched again.
    next_look: Cell<Duration>,
}

/// Where from.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The cluster that is called.
    pub cluster: String,
    /// How long keys are kept.
    pub cache: Duration,
    /// The time that a call may take.
    pub timeout: Duration,
    /// The time between two looks for keys that are not known.
    pub look_again: Duration,
}

/// Keys that are tried for a token without `kid`: each costs a check of a signature.
const MAX_TRIES: usize = 8;

/// Keys that a set may hold.
const MAX_KEYS: usize = 100;

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

// === impl KeySet ===

impl KeySet {
    /// Reads a JWK set. Keys of other purposes or kinds are left out, and so is what cannot be used, since a set may be newer than
    /// this filter; a set without any key that can be used is an error.
    ///
    /// # Errors
    ///
    /// What is no JWK set, or one without a key.
    pub fn parse(json: &[u8], secrets: bool) -> Result<Self, String> {
        let set: Set =
            serde_json::from_slice(json).map_err(|error| format!("is no JWK set: {error}"))?;
        let mut keys = Vec::new();
        let mut problem = "none is for signatures";
        for value in set.keys.into_iter().take(MAX_KEYS) {
            let Ok(jwk) = serde_json::from_value::<Jwk>(value) else {
                problem = "a key is malformed";
                continue;
            };
            match jwk.compile() {
                Ok(Some(key)) if key.is_secret() && !secrets => {
                    problem = "secrets are not taken from here"
                }
                Ok(key) => keys.extend(key),
                Err(found) => problem = found,
            }
        }
        match keys.is_empty() {
            true => Err(format!("holds no key that can be used: {problem}")),
            false => Ok(Self(keys)),
        }
    }

    /// One secret.
    #[must_use]
    pub fn of_secret(secret: Vec<u8>) -> Self {
        Self(vec![Key::secret(None, secret)])
    }

    /// Whether all of them are secrets.
    #[must_use]
    pub fn all_secret(&self) -> bool {
        self.0.iter().all(Key::is_secret)
    }

    /// Whether one of them is a secret.
    #[must_use]
    pub fn any_secret(&self) -> bool {
        self.0.iter().any(Key::is_secret)
    }

    /// Whether no key has this name.
    #[must_use]
    pub fn lacks(&self, id: Option<&str>) -> bool {
        id.is_some_and(|id| !self.0.iter().any(|key| key.id() == Some(id)))
    }

    pub(crate) fn verify(&self, algorithm: Algorithm, token: &Token) -> bool {
        self.0
            .iter()
            .filter(|key| key.fits(algorithm, token.key_id()))
            .take(MAX_TRIES)
            .any(|key| key.verify(algorithm, token.signed(), token.signature()))
    }
}

// === impl Store ===

impl Store {
    /// Keys that are fetched from there, once [`set_url`](Self::set_url) has said the address.
    #[must_use]
    pub fn new(remote: Remote) -> Self {
        Self {
            remote,
            url: RefCell::new(None),
            keys: RefCell::new(None),
            due: Cell::new(Duration::ZERO),
            next_look: Cell::new(Duration::ZERO),
        }
    }

    /// Where keys come from.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// The address.
    #[must_use]
    pub fn url(&self) -> Option<Url> {
        self.url.borrow().clone()
    }

    /// Says the address. Another one than before is asked at once.
    pub fn set_url(&self, url: Url) {
        if self.url.borrow().as_ref() != Some(&url) {
            self.url.replace(Some(url));
            self.due.set(Duration::ZERO);
        }
    }

    /// The keys that were fetched last. They serve on when a later fetch fails.
    #[must_use]
    pub fn keys(&self) -> Option<Rc<KeySet>> {
        self.keys.borrow().clone()
    }

    /// Whether it is time to fetch. A clock that went back far does not keep old keys for ever.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        let due = self.due.get();
        now >= due || due > now + self.remote.cache + Duration::from_secs(60)
    }

    /// Whether a token with a key that is not known may make the keys be fetched again now: once in a while for all such tokens,
    /// and not when the keys have just come.
    #[must_use]
    pub fn may_look_again(&self, id: Option<&str>, now: Duration) -> bool {
        if id.is_none() || now < self.next_look.get() {
            return false;
        }
        self.next_look.set(now + self.remote.look_again);
        true
    }

    /// Takes a fetched set.
    ///
    /// # Errors
    ///
    /// What is wrong with it. The old keys stay.
    pub fn update(&self, json: &[u8], now: Duration) -> Result<(), String> {
        let keys = KeySet::parse(json, false).map_err(|problem| format!("the answer {problem}"))?;
        self.keys.replace(Some(Rc::new(keys)));
        self.due.set(now + self.remote.cache);
        self.next_look.set(now + self.remote.look_again);
        Ok(())
    }

    /// Fetches no earlier than then.
    pub fn postpone(&self, until: Duration) {
        self.due.set(until);
        self.next_look.set(until);
    }
}
