//! The filter `maintenance`. See README.md.

pub mod policy;

use tidegate_sdk::{ConfigError, Filter, Reply, Request, time};

use policy::Policy;

tidegate_sdk::filter!(Plugin, "../schema.json", heads);

/// The filter: asks the policy, and does what it says.
#[derive(Debug)]
pub struct Plugin(Policy);

impl Filter for Plugin {
    type Memo = ();

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        Policy::parse(configuration).map(Self)
    }

    async fn request(&self, request: &Request) -> Result<(), Reply> {
        self.0.check(&request.path(), time::now())
    }
}
