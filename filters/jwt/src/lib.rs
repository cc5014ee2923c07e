//! Bundled filter `jwt`: JSON Web Tokens, checked against inline or fetched keys. See README.md.

pub mod policy;

use tidegate_sdk::credential::apply;
use tidegate_sdk::template::CLAIMS;
use tidegate_sdk::{ConfigError, Filter, Reply, Request, property};

use policy::{Denied, Policy};

tidegate_sdk::filter!(Plugin, "../schema.json");

/// The filter.
#[derive(Debug)]
pub struct Plugin(Policy);

impl Filter for Plugin {
    type Memo = ();

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        Policy::parse(configuration).map(Self)
    }

    async fn request(&self, request: &Request) -> Result<(), Reply> {
        let policy = &self.0;
        let headers = request.headers();
        let values = |name: &str| headers.values(name);
        let (place, token) = match policy.find(&request.path(), &values) {
            Ok(Some(found)) => found,
            Ok(None) if policy.lets_anonymous_pass() => {
                apply(request.headers(), policy.edits_without_token());
                return Ok(());
            }
            Ok(None) => return Err(policy.reply(Denied::Missing)),
            Err(denied) => return Err(policy.reply(denied)),
        };
        let refuse = |denied| policy.reply(Denied::Token(denied));
        let provider = policy.provider_of(&token).map_err(refuse)?;
        let claims = provider.verifier().verify(&token).await.map_err(refuse)?;
        for (name, value) in provider.properties(&claims) {
            property::set(&[CLAIMS, name], value.as_bytes());
        }
        apply(
            request.headers(),
            policy.edits(provider, place, &token, &claims),
        );
        Ok(())
    }
}
