//! Bundled filter `jwt`: JSON Web Tokens, checked against inline or fetched keys. See README.md.

pub mod policy;

use std::rc::Rc;
use std::time::Duration;

use tidegate_sdk::flight::Flight;
use tidegate_sdk::template::CLAIMS;
use tidegate_sdk::{ConfigError, Filter, Reply, Request, http, property, time, warn};

use policy::jwks::{Keys, Remote, Store};
use policy::{Denied, Edit, Policy, Provider, Token};

tidegate_sdk::filter!(Plugin, "../schema.json");

/// The filter.
#[derive(Debug)]
pub struct Plugin {
    policy: Policy,
    /// One for each provider whose keys are fetched.
    fetches: Vec<Flight<()>>,
}

impl Filter for Plugin {
    type Memo = ();

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        let policy = Policy::parse(configuration)?;
        let fetches = policy.providers().iter().map(|_| Flight::new()).collect();
        Ok(Self { policy, fetches })
    }

    async fn request(&self, request: &Request) -> Result<(), Reply> {
        let headers = request.headers();
        let values = |name: &str| headers.values(name);
        let token = match self.policy.find(&request.path(), &values) {
            Ok(Some(token)) => token,
            Ok(None) if self.policy.lets_anonymous_pass() => {
                self.apply(request, self.policy.edits_without_token());
                return Ok(());
            }
            Ok(None) => return Err(self.policy.reply(Denied::Missing)),
            Err(denied) => return Err(self.policy.reply(denied)),
        };
        let outcome = self.verify(&token).await;
        let (index, claims) = outcome.map_err(|denied| self.policy.reply(denied))?;
        let provider = &self.policy.providers()[index];
        for (name, value) in provider.properties(&claims) {
            property::set(&[CLAIMS, name], value.as_bytes());
        }
        self.apply(request, self.policy.edits(provider, &token, &claims));
        Ok(())
    }
}

impl Plugin {
    /// The provider of a token and its claims, once its signature and they are found right.
    async fn verify(&self, token: &Token) -> Result<(usize, Rc<policy::Claims>), Denied> {
        let index = self.policy.provider_of(token)?;
        let provider = &self.policy.providers()[index];
        // Before a look at what is remembered: with new keys that is forgotten.
        if let Keys::Remote(store) = provider.keys()
            && store.is_due(time::now())
        {
            self.fetch(index, provider, store).await;
        }
        let claims = match provider.remembered(token) {
            Some(claims) => claims,
            None => {
                self.check_signature(index, provider, token).await?;
                provider.remember(token)
            }
        };
        provider.check_claims(&claims, time::now())?;
        Ok((index, claims))
    }

    async fn check_signature(
        &self,
        index: usize,
        provider: &Provider,
        token: &Token,
    ) -> Result<(), Denied> {
        let store = match provider.keys() {
            Keys::Inline(keys) => return provider.check_signature(keys, token),
            Keys::Remote(store) => store,
        };
        let keys = store.keys().ok_or(Denied::NoKeys)?;
        // A key that is not known may be a new one: look, but not for every forged token.
        if keys.lacks(token.key_id()) && store.may_look_again(token.key_id(), time::now()) {
            self.fetch(index, provider, store).await;
        }
        let keys = store.keys().ok_or(Denied::NoKeys)?;
        provider.check_signature(&keys, token)
    }

    /// Fetches keys, once for all requests that wait for them.
    async fn fetch(&self, index: usize, provider: &Provider, store: &Store) {
        let flight = &self.fetches[index];
        flight
            .run(async || match get(store.remote()).await {
                Ok(body) => match store.update(&body, time::now()) {
                    Ok(()) => provider.forget(),
                    Err(problem) => failed(store, &problem),
                },
                Err(problem) => failed(store, &problem),
            })
            .await;
    }

    fn apply(&self, request: &Request, edits: Vec<Edit>) {
        let headers = request.headers();
        for edit in edits {
            match edit {
                Edit::Set(name, value) => headers.set(&name, value),
                Edit::Remove(name) => headers.remove(&name),
            }
        }
    }
}

async fn get(remote: &Remote) -> Result<Vec<u8>, String> {
    let answer = http::Call::at(&remote.cluster, "GET", &remote.url)
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
    const RETRY: Duration = Duration::from_secs(5);
    store.postpone(time::now() + RETRY);
    warn!(
        "keys cannot be fetched from {}: {problem}",
        store.remote().url
    );
}
