//! Somebody's tokens: their keys, what they have to say, and which of them were found right before.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tidegate_sdk::flight::Flight;
use tidegate_sdk::{http, time, warn};

use crate::token::Digest;
use crate::{Algorithm, Claims, Denied, KeySet, Keys, Rules, Store, Token};

/// Believes tokens of one issuer, or of anybody who has its keys.
#[derive(Debug)]
pub struct Verifier {
    issuer: Option<String>,
    algorithms: Vec<Algorithm>,
    keys: Keys,
    rules: Rules,
    /// Claims by the digests of tokens whose signatures were right.
    pub(crate) verified: RefCell<BTreeMap<Digest, Rc<Claims>>>,
    fetch: Flight<()>,
}

/// Tokens that are remembered for each verifier and VM.
pub(crate) const MAX_VERIFIED: usize = 1024;

/// The pause after keys could not be fetched.
const RETRY: Duration = Duration::from_secs(5);

// === impl Verifier ===

impl Verifier {
    /// One for tokens of `issuer` (any, if there is none).
    #[must_use]
    pub fn new(
        issuer: Option<String>,
        algorithms: Vec<Algorithm>,
        keys: Keys,
        rules: Rules,
    ) -> Self {
        Self {
            issuer,
            algorithms,
            keys,
            rules,
            verified: RefCell::default(),
            fetch: Flight::new(),
        }
    }

    /// Whose tokens these are.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The claims of a token, once its signature and they are found right. Fetches keys where that is due.
    ///
    /// # Errors
    ///
    /// What is wrong with the token, or that keys cannot be had.
    pub async fn verify(&self, token: &Token) -> Result<Rc<Claims>, Denied> {
        // Before a look at what is remembered: with new keys that is forgotten.
        if let Keys::Remote(store) = &self.keys
            && store.is_due(time::now())
        {
            self.fetch(store).await;
        }
        let claims = match self.remembered(token) {
            Some(claims) => claims,
            None => {
                self.check_signature(token).await?;
                self.remember(token)
            }
        };
        self.rules
            .check(&claims, self.issuer.as_deref(), time::now())?;
        Ok(claims)
    }

    async fn check_signature(&self, token: &Token) -> Result<(), Denied> {
        let store = match &self.keys {
            Keys::Inline(keys) => return self.check_with(keys, token),
            Keys::Remote(store) => store,
        };
        let keys = store.keys().ok_or(Denied::NoKeys)?;
        // A key that is not known may be a new one: look, but not for every forged token.
        if keys.lacks(token.key_id()) && store.may_look_again(token.key_id(), time::now()) {
            self.fetch(store).await;
        }
        let keys = store.keys().ok_or(Denied::NoKeys)?;
        self.check_with(&keys, token)
    }

    pub(crate) fn check_with(&self, keys: &KeySet, token: &Token) -> Result<(), Denied> {
        let algorithm = self
            .algorithms
            .iter()
            .find(|algorithm| algorithm.name() == token.algorithm())
            .ok_or(Denied::Invalid("The algorithm is not allowed"))?;
        match keys.verify(*algorithm, token) {
            true => Ok(()),
            false => Err(Denied::Invalid(
                "The signature is wrong or its key not known",
            )),
        }
    }

    /// Fetches keys, once for all requests that wait for them.
    async fn fetch(&self, store: &Store) {
        let once = async || match get(store).await {
            Ok(body) => match store.update(&body, time::now()) {
                Ok(()) => self.forget(),
                Err(problem) => failed(store, &problem),
            },
            Err(problem) => failed(store, &problem),
        };
        self.fetch.run(once).await;
    }

    /// The claims of a token whose signature was found right before.
    pub(crate) fn remembered(&self, token: &Token) -> Option<Rc<Claims>> {
        self.verified.borrow().get(&token.digest()).cloned()
    }

    /// Remembers that the signature is right.
    pub(crate) fn remember(&self, token: &Token) -> Rc<Claims> {
        let claims = Rc::new(token.claims().clone());
        let mut verified = self.verified.borrow_mut();
        if verified.len() >= MAX_VERIFIED {
            verified.clear();
        }
        verified.insert(token.digest(), Rc::clone(&claims));
        claims
    }

    /// Forgets all of it: the keys have changed.
    pub(crate) fn forget(&self) {
        self.verified.borrow_mut().clear();
    }
}

async fn get(store: &Store) -> Result<Vec<u8>, String> {
    let remote = store.remote();
    let url = store
        .url()
        .ok_or_else(|| String::from("their address is not known"))?;
    let answer = http::Call::at(&remote.cluster, "GET", &url)
        .header("accept", "application/jwk-set+json, application/json")
        .timeout(remote.timeout)
        .send()
        .await
        .map_err(|error| error.to_string())?;
    match answer.status {
        200 => Ok(answer.body),
        status => Err(format!("the answer has status {status}")),
    }
}

fn failed(store: &Store, problem: &str) {
    store.postpone(time::now() + RETRY);
    let from = store.url().map(|url| url.to_string()).unwrap_or_default();
    warn!("keys cannot be fetched from {from}: {problem}");
}
