//! Bundled filter `api-key`: API keys in a header, a query parameter or a cookie. See README.md.

pub mod policy;

use tidegate_sdk::credential::apply;
use tidegate_sdk::{ConfigError, Filter, Reply, Request, property, warn};

use policy::Policy;

tidegate_sdk::filter!(Plugin, "../schema.json", heads);

/// The filter.
#[derive(Debug)]
pub struct Plugin(Policy);

impl Filter for Plugin {
    type Memo = ();

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        let policy = Policy::parse(configuration)?;
        if policy.is_empty() {
            warn!("keys: names nobody, so every request is refused");
        }
        Ok(Self(policy))
    }

    async fn request(&self, request: &Request) -> Result<(), Reply> {
        let headers = request.headers();
        let verdict = self
            .0
            .check(&request.path(), &|name| headers.values(name))?;
        property::set(&["api-key", "client"], verdict.client.as_bytes());
        apply(headers, verdict.edits);
        Ok(())
    }
}
