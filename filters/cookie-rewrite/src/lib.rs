//! Bundled filter `cookie-rewrite`: rewrites the cookies that upstreams set. See README.md.

pub mod policy;

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

    async fn request(&self, _: &Request) -> Result<(), Reply> {
        Ok(())
    }

    async fn response(&self, response: &Response, (): ()) -> Result<(), Reply> {
        let headers = response.headers();
        let before = headers.values("set-cookie");
        let after: Vec<Vec<u8>> = before.iter().map(|value| self.0.rewrite(value)).collect();
        if after != before {
            headers.remove("set-cookie");
            for value in after {
                headers.add("set-cookie", value);
            }
        }
        Ok(())
    }
}
