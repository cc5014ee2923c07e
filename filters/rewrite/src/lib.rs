//! Bundled filter `rewrite`: rewrites of path, query and host with regular expressions. See README.md.

pub mod policy;

use tidegate_sdk::{ConfigError, Filter, Reply, Request};

use policy::{Outcome, Rewrite};

tidegate_sdk::filter!(Plugin, "../schema.json", heads);

/// The filter.
#[derive(Debug)]
pub struct Plugin(Rewrite);

impl Filter for Plugin {
    type Memo = ();

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        Rewrite::parse(configuration).map(Self)
    }

    async fn request(&self, request: &Request) -> Result<(), Reply> {
        match self.0.apply(&request.path(), &request.authority()) {
            Outcome::Pass { path, host } => {
                for (name, value) in [(":path", path), (":authority", host)] {
                    if let Some(value) = value {
                        request.headers().set(name, value);
                    }
                }
                Ok(())
            }
            Outcome::Refuse(reply) => Err(reply),
        }
    }
}
