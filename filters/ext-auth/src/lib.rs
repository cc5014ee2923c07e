//! Bundled filter `ext-auth`: asks an HTTP service whether a request may pass. See README.md.

pub mod policy;

use std::rc::Rc;

use tidegate_sdk::template::{self, Asked};
use tidegate_sdk::{ConfigError, Filter, Reply, Request, Response, http, time, warn};

use policy::{Decision, Edit, Policy};

tidegate_sdk::filter!(Plugin, "../schema.json");

/// The filter.
#[derive(Debug)]
pub struct Plugin(Policy);

impl Filter for Plugin {
    /// Cookies that the service sets.
    type Memo = Vec<Vec<u8>>;

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        Policy::parse(configuration).map(Self)
    }

    async fn request(&self, request: &Request) -> Result<Self::Memo, Reply> {
        if self.0.is_excepted(template::split(&request.path()).0) {
            return Ok(Vec::new());
        }
        let asked = Asked {
            request,
            trusted_hops: self.0.trusted_hops(),
        };
        let now = time::now();
        let key = self.0.cache_key(&asked);
        let remembered = key.as_ref().and_then(|key| self.0.remembered(key, now));
        let decision = match remembered {
            Some(decision) => decision,
            None => {
                let decision = Rc::new(self.ask(request, &asked).await?);
                if let Some(key) = key {
                    self.0.remember(key, &decision, now);
                }
                decision
            }
        };
        match &*decision {
            Decision::Allow { edits, cookies, .. } => {
                apply(request, edits);
                Ok(cookies.clone())
            }
            Decision::SignIn { .. } => Err(self.0.sign_in(&decision, &asked)),
            Decision::Deny { reply, .. } => Err(reply.clone()),
        }
    }

    async fn response(&self, response: &Response, cookies: Self::Memo) -> Result<(), Reply> {
        if self.0.sets_cookies_on(response.status()) {
            for cookie in cookies {
                response.headers().add("set-cookie", cookie);
            }
        }
        Ok(())
    }
}

impl Plugin {
    async fn ask(&self, request: &Request, asked: &Asked<'_>) -> Result<Decision, Reply> {
        let headers = request.headers().pairs();
        let Some(asking) = self.0.asking(&headers, asked) else {
            warn!("the address of the authentication service is no URL for this request");
            return Ok(self.0.failed());
        };
        let mut call =
            http::Call::at(self.0.cluster(), &asking.method, &asking.url).timeout(self.0.timeout());
        for (name, value) in &asking.headers {
            call = call.header(name, value);
        }
        if let Some(max) = self.0.max_body() {
            call = call.body(request.body_before_head(max).await?);
        }
        match call.send().await {
            Ok(answer) => Ok(self.0.decide(&answer)),
            Err(error) => {
                warn!("the authentication service cannot be asked: {error}");
                Ok(self.0.failed())
            }
        }
    }
}

fn apply(request: &Request, edits: &[Edit]) {
    for edit in edits {
        match edit {
            Edit::Remove(name) => request.headers().remove(name),
            Edit::Add(name, value) => request.headers().add(name, value),
        }
    }
}
