//! What a service is asked about a request, and what its answer means.
//!
//! ```text
//!              ┌── http: nginx's auth_request, as ingress-nginx sets it up, and the Gateway API's externalAuth
//!   request ───┤                                                                                 ├──► Decision ── cache
//!              └── grpc: Envoy's ext_authz (CheckRequest, CheckResponse)
//! ```

mod cache;
mod config;
mod edit;
pub mod grpc;
pub mod http;
pub mod proto;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tidegate_sdk::Reply;
use tidegate_sdk::template::{Source, Template};

use cache::Cache;
pub use cache::Key;
pub use edit::{Edit, Query};

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    service: Service,
    cluster: String,
    timeout: Duration,
    /// Headers of the request that the service gets; `None` for all.
    forward: Option<Vec<String>>,
    /// Headers, or metadata, of the call.
    set: Vec<(String, Template)>,
    max_body: Option<usize>,
    except: Vec<String>,
    failure: Failure,
    trusted_hops: u32,
    cache_key: Option<Template>,
    cache: RefCell<Cache>,
}

/// How the service is asked.
#[derive(Debug)]
pub enum Service {
    /// By a request.
    Http(http::Service),
    /// By Envoy's ext_authz.
    Grpc(grpc::Service),
}

/// What happens when the service fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failure {
    /// Whether requests pass.
    allow: bool,
    status: u16,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It passes.
    Allow(Allowed),
    /// The client is to sign in.
    SignIn {
        /// Values of `Set-Cookie` for the client.
        cookies: Vec<Vec<u8>>,
    },
    /// The reply.
    Deny {
        /// The answer's status; 0 if there was none that means anything.
        status: u16,
        /// What the client gets.
        reply: Reply,
    },
}

/// What passing means for request and response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The answer's status; 0 where nothing was said, and it passes all the same.
    pub status: u16,
    /// Changes of the request's headers.
    pub request: Vec<Edit>,
    /// Changes of its query.
    pub query: Query,
    /// Values of `Set-Cookie` for the client, with responses of some statuses only.
    pub cookies: Vec<Vec<u8>>,
    /// Changes of the response's headers.
    pub response: Vec<Edit>,
}

// === impl Policy ===

impl Policy {
    /// How the service is asked.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Proxies to be believed about the client's address.
    #[must_use]
    pub fn trusted_hops(&self) -> u32 {
        self.trusted_hops
    }

    /// The cluster that is called.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The time that a call may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How much of a body the service gets; `None` for none.
    #[must_use]
    pub fn max_body(&self) -> Option<usize> {
        self.max_body
    }

    /// Headers, or metadata, that the call gets besides.
    pub fn set(&self, source: &dyn Source) -> Vec<(String, Vec<u8>)> {
        let rendered = self.set.iter();
        rendered
            .map(|(name, template)| (name.clone(), template.render(source)))
            .collect()
    }

    /// Whether this path is open. Not one with dot segments, which an upstream may read as another one.
    #[must_use]
    pub fn is_excepted(&self, path: &[u8]) -> bool {
        let dots = path.windows(2).any(|pair| pair == b"..")
            || path
                .windows(3)
                .any(|code| code.eq_ignore_ascii_case(b"%2e"));
        !dots
            && self
                .except
                .iter()
                .any(|prefix| path.starts_with(prefix.as_bytes()))
    }

    /// Whether the service gets a header of that name, in lower case.
    fn forwards(&self, name: &str) -> bool {
        match &self.forward {
            None => true,
            Some(names) => names.iter().any(|allowed| allowed == name),
        }
    }

    /// What happens when the service cannot be asked, or says nothing that means anything.
    #[must_use]
    pub fn failed(&self) -> Decision {
        self.failed_with(
            Reply::new(self.failure.status).body("The authentication service failed.\n"),
        )
    }

    /// The same, where it says itself what the client is to get.
    fn failed_with(&self, reply: Reply) -> Decision {
        let request = match &self.service {
            Service::Http(service) => service.removals(),
            Service::Grpc(_) => Vec::new(),
        };
        match self.failure.allow {
            true => Decision::Allow(Allowed {
                request,
                ..Allowed::default()
            }),
            false => Decision::Deny {
                status: 0,
                reply: reply.details("ext_auth_failed"),
            },
        }
    }

    /// By what an answer is remembered; `None` where none is.
    #[must_use]
    pub fn cache_key(&self, source: &dyn Source) -> Option<Key> {
        // Without any value in it (no cookie, no token) the key would be everybody's.
        let template = self
            .cache_key
            .as_ref()
            .filter(|template| !template.is_empty_for(source))?;
        Some(template.render(source))
    }

    /// The decision that is remembered.
    #[must_use]
    pub fn remembered(&self, key: &Key, now: Duration) -> Option<Rc<Decision>> {
        self.cache.borrow().get(key, now)
    }

    /// Remembers a decision, if answers of its status are remembered.
    pub fn remember(&self, key: Key, decision: &Rc<Decision>, now: Duration) {
        self.cache.borrow_mut().insert(key, decision, now);
    }
}

impl Decision {
    /// The answer's status.
    fn status(&self) -> u16 {
        match self {
            Self::Allow(Allowed { status, .. }) | Self::Deny { status, .. } => *status,
            Self::SignIn { .. } => 401,
        }
    }

    /// Whether it gives the client cookies, which are its own.
    fn sets_cookies(&self) -> bool {
        match self {
            Self::Allow(allowed) => {
                let mut edits = allowed.response.iter();
                !allowed.cookies.is_empty() || edits.any(|edit| edit.name() == "set-cookie")
            }
            Self::SignIn { cookies } => !cookies.is_empty(),
            Self::Deny { reply, .. } => reply.headers.iter().any(|(name, _)| name == "set-cookie"),
        }
    }
}
