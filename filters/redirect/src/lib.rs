//! Bundled filter `redirect`: redirects by rules, and rewrites of the upstream's Location. See README.md.

pub mod policy;

use tidegate_sdk::template::Asked;
use tidegate_sdk::{ConfigError, Filter, Reply, Request, Response};

use policy::Policy;

tidegate_sdk::filter!(Plugin, "../schema.json", heads);

/// The filter.
#[derive(Debug)]
pub struct Plugin(Policy);

impl Filter for Plugin {
    type Memo = ();

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        Policy::parse(configuration).map(Self)
    }

    async fn request(&self, request: &Request) -> Result<(), Reply> {
        let asked = Asked {
            request,
            trusted_hops: 0,
        };
        match self.0.redirect(&asked) {
            Some(reply) => Err(reply),
            None => Ok(()),
        }
    }

    async fn response(&self, response: &Response, (): ()) -> Result<(), Reply> {
        if self.0.rewrites_location() {
            for name in ["location", "refresh"] {
                let value = response.headers().text(name);
                if let Some(value) = value.and_then(|value| self.0.location(name, &value)) {
                    response.headers().set(name, value);
                }
            }
        }
        Ok(())
    }
}
