//! Rate limits: which requests pass, and what the response says about it.
//!
//! ```text
//!   request ── key (whose counter) ── table (where it is, in the host's shared data) ── gcra (whether it may) ── verdict
//!                   └── what passes: service (descriptors, Envoy's rate limit service, which counts for all hosts) ──┘
//! ```
//!
//! Pure: the request, the shared data, the service's answer and the time come in from outside.

mod config;
mod descriptors;
mod gcra;
mod key;
pub mod proto;
pub mod service;
mod table;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use tidegate_sdk::Reply;
use tidegate_sdk::net::Networks;

pub use key::Request;
pub use table::{Store, StoreError};

use gcra::Outcome;
use key::Key;
use service::Service;
use table::Table;

/// A compiled configuration.
#[derive(Debug)]
pub struct RateLimit {
    limits: Vec<Limit>,
    exempt: Networks,
    trusted_hops: u32,
    /// Whether responses say what is left.
    headers: bool,
    /// `RateLimit-Policy` of the host's limits, the same for every response; absent where there is nothing to say.
    policy_header: Option<String>,
    status: u16,
    body: String,
    on_storage_failure: OnFailure,
    service: Option<Service>,
}

#[derive(Debug)]
struct Limit {
    name: String,
    quota: gcra::Quota,
    key: Key,
    table: Table,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnFailure {
    #[default]
    Allow,
    Deny,
}

/// What happens to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The reply that refuses it; `None` lets it pass.
    pub refusal: Option<Reply>,
    /// Headers of the response to a request that passes.
    pub headers: Vec<(&'static str, String)>,
    /// Further headers of it, in the service's words.
    pub added: Vec<(String, String)>,
    /// Headers for the upstream.
    pub request_headers: Vec<(String, String)>,
    /// Whether the service gave no answer, so that the verdict follows its `onFailure`.
    pub service_failed: bool,
    /// Whether counters could not be read or written, so that the verdict follows `onStorageFailure`.
    pub storage_failed: bool,
}

// === impl RateLimit ===

impl RateLimit {
    /// How many proxies in front of the host are to be believed about the client's address.
    #[must_use]
    pub fn trusted_hops(&self) -> u32 {
        self.trusted_hops
    }

    /// The service that counts for all hosts, if one is to be asked about what the host's own limits let pass.
    #[must_use]
    pub fn service(&self) -> Option<&Service> {
        self.service.as_ref()
    }

    /// What its answer means; `None` for none. `local` is what the host's own limits have said.
    #[must_use]
    pub fn after(&self, service: &Service, answer: Option<&[u8]>, local: Verdict) -> Verdict {
        match answer {
            Some(answer) => {
                let refusal = Reply::new(self.status).body(self.body.as_str());
                service.answered(answer, local, refusal, self.headers)
            }
            None => service.unanswered(local),
        }
    }

    /// Whether a request is neither limited nor counted.
    #[must_use]
    pub fn exempts(&self, request: &dyn Request) -> bool {
        !self.exempt.is_empty() && self.is_exempt(request.address())
    }

    /// Decides about a request at `now`, nanoseconds since the epoch, and counts it if it passes.
    pub fn check(&self, request: &dyn Request, store: &dyn Store, now: u64) -> Verdict {
        if self.exempts(request) {
            return Verdict::pass(Vec::new());
        }
        let counters: Vec<_> = self
            .limits
            .iter()
            .map(|limit| limit.table.counter(&limit.key.digest(request)))
            .collect();
        // With several limits, a request that one of them refuses is not to count against the others: look first.
        let outcomes = match self.limits.len() {
            1 => Ok(Vec::new()),
            _ => self.run(|index| self.limits[index].peek(&counters[index], store, now)),
        };
        let outcomes = outcomes.and_then(|looked| match retry(&looked) {
            Some(_) => Ok(looked),
            None => self.run(|index| self.limits[index].take(&counters[index], store, now)),
        });
        match outcomes {
            Ok(outcomes) => self.verdict(&outcomes),
            Err(_) => self.storage_failure(),
        }
    }

    fn is_exempt(&self, address: Option<IpAddr>) -> bool {
        address.is_some_and(|address| self.exempt.contains(address))
    }

    /// The outcomes of all limits.
    fn run(
        &self,
        step: impl FnMut(usize) -> Result<Outcome, StoreError>,
    ) -> Result<Vec<Outcome>, StoreError> {
        (0..self.limits.len()).map(step).collect()
    }

    fn verdict(&self, outcomes: &[Outcome]) -> Verdict {
        let retry = retry(outcomes);
        let headers = self.headers(outcomes, retry.is_none());
        let Some(retry) = retry else {
            return Verdict::pass(headers);
        };
        let reply = Reply::new(self.status)
            .header("retry-after", seconds(retry).max(1).to_string())
            .body(self.body.as_str());
        let reply = headers
            .into_iter()
            .fold(reply, |reply, (name, value)| reply.header(name, value));
        Verdict {
            refusal: Some(reply),
            ..Verdict::default()
        }
    }

    /// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
    fn headers(&self, outcomes: &[Outcome], counted: bool) -> Vec<(&'static str, String)> {
        let Some(policy) = &self.policy_header else {
            return Vec::new();
        };
        let members: Vec<_> = self
            .limits
            .iter()
            .zip(outcomes)
            .map(|(limit, outcome)| limit.header(outcome, counted))
            .collect();
        vec![
            ("ratelimit-policy", policy.clone()),
            ("ratelimit", members.join(", ")),
        ]
    }

    fn storage_failure(&self) -> Verdict {
        let refusal = match self.on_storage_failure {
            OnFailure::Allow => None,
            OnFailure::Deny => Some(Reply::new(503).body("The rate limit cannot be checked.\n")),
        };
        Verdict {
            refusal,
            storage_failed: true,
            ..Verdict::default()
        }
    }
}

// === impl Verdict ===

impl Verdict {
    fn pass(headers: Vec<(&'static str, String)>) -> Self {
        Self {
            headers,
            ..Self::default()
        }
    }
}

// === impl Limit ===

impl Limit {
    /// This limit's member of `RateLimit`. A limit that would have let a request pass which another one refused has not counted it.
    fn header(&self, outcome: &Outcome, counted: bool) -> String {
        let (remaining, reset) = match *outcome {
            Outcome::Refused { reset, .. } => (0, reset),
            Outcome::Allowed {
                remaining, reset, ..
            } if counted => (remaining, reset),
            Outcome::Allowed {
                remaining, reset, ..
            } => (remaining + 1, reset.saturating_sub(self.quota.interval())),
        };
        format!("\"{}\";r={remaining};t={}", self.name, seconds(reset))
    }

    fn peek(
        &self,
        counter: &table::Counter,
        store: &dyn Store,
        now: u64,
    ) -> Result<Outcome, StoreError> {
        self.table.peek(counter, &self.quota, store, now)
    }

    fn take(
        &self,
        counter: &table::Counter,
        store: &dyn Store,
        now: u64,
    ) -> Result<Outcome, StoreError> {
        self.table.take(counter, &self.quota, store, now)
    }
}

/// The time after which no limit refuses any more; `None` when none does.
fn retry(outcomes: &[Outcome]) -> Option<u64> {
    let times = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Allowed { .. } => None,
        Outcome::Refused { retry, .. } => Some(*retry),
    });
    times.max()
}

/// Whole seconds, rounded up.
fn seconds(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(gcra::SECOND)
}
