//! Bundled filter `cors`: cross-origin resource sharing as the Gateway API and as ingress-nginx define it. See README.md.

pub mod policy;

use tidegate_sdk::{ConfigError, Filter, Reply, Request, Response};

use policy::{Cors, Decision, Grant};

tidegate_sdk::filter!(Plugin, "../schema.json", heads);

/// The filter.
#[derive(Debug)]
pub struct Plugin(Cors);

impl Filter for Plugin {
    type Memo = Grant;

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        Cors::parse(configuration).map(Self)
    }

    async fn request(&self, request: &Request) -> Result<Grant, Reply> {
        let headers = request.headers();
        let asked = policy::Request {
            method: request.method(),
            origin: headers.values("origin"),
            request_method: headers.values("access-control-request-method"),
            request_headers: headers.values("access-control-request-headers"),
        };
        match self.0.request(&asked) {
            Decision::Reply(reply) => Err(reply),
            Decision::Continue(grant) => Ok(grant),
        }
    }

    async fn response(&self, response: &Response, grant: Grant) -> Result<(), Reply> {
        let headers = response.headers();
        for (name, value) in self.0.response(&grant, &headers.values("vary")) {
            match value {
                Some(value) => headers.set(name, value),
                None => headers.remove(name),
            }
        }
        Ok(())
    }
}
