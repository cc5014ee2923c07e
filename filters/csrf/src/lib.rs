//! Bundled filter `csrf`: refuses state-changing requests from other origins. See README.md.

pub mod policy;

use tidegate_sdk::{ConfigError, Filter, Reply, Request};

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
        if self.0.is_safe(&request.method()) {
            return Ok(());
        }
        let headers = request.headers();
        let source = policy::Source {
            origin: headers.values("origin"),
            referer: headers.get("referer"),
            fetch_site: headers.get("sec-fetch-site"),
        };
        self.0.check(&source, &request.authority())
    }
}
