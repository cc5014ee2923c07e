//! Bundled filter `body-limit`: refuses requests whose bodies are too long. See README.md.

pub mod policy;

use tidegate_sdk::{ConfigError, Filter, Reply, Request};

use policy::Policy;

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
        let Some(limit) = self.0.limit() else {
            return Ok(());
        };
        self.0
            .announced(&request.headers().values("content-length"))?;
        if request.has_body() {
            // A body without a length, or one that is longer than it said.
            let refusal = self.0.refusal();
            let mut seen = 0;
            request.watch_body(move |chunk| {
                seen += chunk.bytes().len() as u64;
                match seen {
                    seen if seen > limit => Err(refusal.clone()),
                    _ => Ok(()),
                }
            });
        }
        Ok(())
    }
}
