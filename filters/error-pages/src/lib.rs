//! Bundled filter `error-pages`: replaces error responses with pages. See README.md.

pub mod policy;

use tidegate_sdk::template::Asked;
use tidegate_sdk::{ConfigError, Filter, Reply, Request, Response, http, warn};

use policy::{Backend, Policy, Seen};

tidegate_sdk::filter!(Plugin, "../schema.json");

/// The filter.
#[derive(Debug)]
pub struct Plugin(Policy);

impl Filter for Plugin {
    type Memo = Seen;

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        Policy::parse(configuration).map(Self)
    }

    async fn request(&self, request: &Request) -> Result<Seen, Reply> {
        let asked = Asked {
            request,
            trusted_hops: 0,
        };
        Ok(self.0.see(&asked))
    }

    async fn response(&self, response: &Response, seen: Seen) -> Result<(), Reply> {
        let status = response.status();
        if !self.0.intercepts(status) {
            return Ok(());
        }
        let kept = self.0.kept(|name| response.headers().values(name));
        if let Some(reply) = self.0.page(status, &seen, &kept) {
            return Err(reply);
        }
        let Some(backend) = self.0.backend() else {
            return Ok(());
        };
        match ask(backend, status, &seen).await {
            Ok(answer) => Err(self.0.reply_of(status, &answer, &kept)),
            Err(problem) => {
                // The error as it is says more than none.
                warn!("the error page for {status} cannot be had: {problem}");
                Ok(())
            }
        }
    }
}

async fn ask(backend: &Backend, status: u16, seen: &Seen) -> Result<http::Answer, String> {
    let mut call = http::Call::at(&backend.cluster, "GET", &backend.url)
        .timeout(backend.timeout)
        .header("x-code", status.to_string());
    for (name, value) in &seen.headers {
        call = call.header(name, value);
    }
    let answer = call.send().await.map_err(|error| error.to_string())?;
    match answer.is_failure() {
        true => Err(String::from_utf8_lossy(&answer.body).into_owned()),
        false => Ok(answer),
    }
}
