//! A small header filter with the project's SDK: what the benchmark compares between hosts.

use tidegate_sdk::{ConfigError, Filter, Reply, Request, Response};

tidegate_sdk::filter!(Plugin, "../schema.json", heads);

/// The filter.
#[derive(Debug)]
pub struct Plugin;

impl Filter for Plugin {
    /// Whether the request had both headers.
    type Memo = bool;

    fn configure(_: &[u8]) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    async fn request(&self, request: &Request) -> Result<bool, Reply> {
        let headers = request.headers();
        Ok(headers.get(":path").is_some() && headers.get("user-agent").is_some())
    }

    async fn response(&self, response: &Response, seen: bool) -> Result<(), Reply> {
        response
            .headers()
            .add("x-seen", if seen { "yes" } else { "no" });
        Ok(())
    }
}
