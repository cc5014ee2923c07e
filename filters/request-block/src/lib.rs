//! Bundled filter `request-block`: refuses requests by method, path, query, header or body. See README.md.

pub mod policy;

use tidegate_sdk::{ConfigError, Filter, Reply, Request};

use policy::{Head, Policy, Verdict};

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
        let head = Head::new(&request.headers().pairs());
        match self.0.check(&head) {
            Verdict::Pass => Ok(()),
            Verdict::Block(reply) => Err(reply),
            Verdict::NeedsBody(rules) => {
                let body = request.body(self.0.max_body()).await?;
                self.0.check_body(&rules, &body)
            }
        }
    }
}
