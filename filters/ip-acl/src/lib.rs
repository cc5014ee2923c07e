//! Bundled filter `ip-acl`: allows and denies clients by address. See README.md.

pub mod policy;

use tidegate_sdk::{ConfigError, Filter, Reply, Request, property, template};

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
        if self.0.has_exceptions() && self.0.is_excepted(template::split(&request.path()).0) {
            return Ok(());
        }
        let peer = property::address(&["source", "address"]);
        let forwarded_for = match self.0.reads_forwarded_for() {
            true => request.headers().values("x-forwarded-for"),
            false => Vec::new(),
        };
        self.0.check(peer, &forwarded_for)
    }
}
