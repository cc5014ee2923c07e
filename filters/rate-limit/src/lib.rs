//! Bundled filter `rate-limit`: rate limits of a host, with counters shared by all its workers, and of all replicas, by Envoy's rate
//! limit service. See README.md.

pub mod policy;

use std::cell::{Cell, OnceCell};
use std::net::IpAddr;

use tidegate_sdk::shared::{self, SharedDataError};
use tidegate_sdk::template::CLAIMS;
use tidegate_sdk::{ConfigError, Filter, Reply, Request, Response, grpc, property, time, warn};

use policy::service::{METHOD, SERVICE, Service};
use policy::{RateLimit, Store, StoreError, Verdict};

tidegate_sdk::filter!(Plugin, "../schema.json");

/// Time between two log lines about the same failure, in nanoseconds.
const QUIET: u64 = 10_000_000_000;

/// The filter.
#[derive(Debug)]
pub struct Plugin {
    limiter: RateLimit,
    storage_warned: Cell<Option<u64>>,
    service_warned: Cell<Option<u64>>,
}

impl Filter for Plugin {
    /// Headers for the response.
    type Memo = Headers;

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        Ok(Self {
            limiter: RateLimit::parse(configuration)?,
            storage_warned: Cell::new(None),
            service_warned: Cell::new(None),
        })
    }

    async fn request(&self, request: &Request) -> Result<Self::Memo, Reply> {
        let now = now();
        let asked = Asked {
            request,
            trusted_hops: self.limiter.trusted_hops(),
            address: OnceCell::new(),
        };
        if self.limiter.exempts(&asked) {
            return Ok(Headers::default());
        }
        let mut verdict = self.limiter.check(&asked, &SharedData, now);
        if verdict.storage_failed && is_time(&self.storage_warned, now) {
            warn!("counters cannot be read or written, onStorageFailure decides");
        }
        if let (None, Some(service)) = (&verdict.refusal, self.limiter.service()) {
            verdict = self.ask(service, &asked, verdict).await;
        }
        if let Some(reply) = verdict.refusal {
            return Err(reply);
        }
        for (name, value) in &verdict.request_headers {
            request.headers().add(name, value);
        }
        Ok(Headers {
            told: verdict.headers,
            added: verdict.added,
        })
    }

    async fn response(&self, response: &Response, headers: Self::Memo) -> Result<(), Reply> {
        for (name, value) in headers.told {
            response.headers().add(name, value);
        }
        for (name, value) in headers.added {
            response.headers().add(&name, value);
        }
        Ok(())
    }
}

/// Headers for a response.
#[derive(Debug, Default)]
pub struct Headers {
    told: Vec<(&'static str, String)>,
    added: Vec<(String, String)>,
}

impl Plugin {
    /// What the service says about a request that the host's own limits let pass.
    async fn ask(&self, service: &Service, asked: &Asked<'_>, local: Verdict) -> Verdict {
        let Some(message) = service.request(asked) else {
            return local;
        };
        let call = grpc::Call::new(service.cluster(), SERVICE, METHOD, message);
        let answer = call.timeout(service.timeout()).send().await;
        let verdict = self.limiter.after(service, answer.as_deref().ok(), local);
        if verdict.service_failed && is_time(&self.service_warned, now()) {
            match answer {
                Err(error) => warn!("the rate limit service cannot be asked: {error}"),
                Ok(_) => warn!("the rate limit service answers what is no answer"),
            }
        }
        verdict
    }
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    u64::try_from(time::now().as_nanos()).unwrap_or(u64::MAX)
}

/// Whether it is time to warn again.
fn is_time(warned: &Cell<Option<u64>>, now: u64) -> bool {
    let recently = warned.get().and_then(|then| now.checked_sub(then));
    let due = recently.is_none_or(|elapsed| elapsed >= QUIET);
    if due {
        warned.set(Some(now));
    }
    due
}

/// The request in hand.
struct Asked<'a> {
    request: &'a Request,
    trusted_hops: u32,
    /// Asked for once, though several limits and the exemptions need it.
    address: OnceCell<Option<IpAddr>>,
}

impl policy::Request for Asked<'_> {
    fn address(&self) -> Option<IpAddr> {
        *self
            .address
            .get_or_init(|| self.request.client_address(self.trusted_hops))
    }

    fn header(&self, name: &str) -> Vec<Vec<u8>> {
        let headers = self.request.headers();
        if name.starts_with(':') {
            headers.get(name).into_iter().collect()
        } else {
            headers.values(name)
        }
    }

    fn claim(&self, name: &str) -> Option<Vec<u8>> {
        property::get(&[CLAIMS, name])
    }
}

struct SharedData;

impl Store for SharedData {
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        shared::get(key).map_err(store_error)
    }

    fn set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), StoreError> {
        shared::set(key, value, cas).map_err(store_error)
    }
}

fn store_error(error: SharedDataError) -> StoreError {
    match error {
        SharedDataError::CasMismatch => StoreError::Conflict,
        SharedDataError::Refused(_) => StoreError::Failed,
    }
}
