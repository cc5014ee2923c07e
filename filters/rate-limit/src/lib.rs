//! Bundled filter `rate-limit`: local rate limits with counters shared by all workers of a host. See README.md.

pub mod policy;

use std::cell::{Cell, OnceCell};
use std::net::IpAddr;

use tidegate_sdk::shared::{self, SharedDataError};
use tidegate_sdk::template::CLAIMS;
use tidegate_sdk::{ConfigError, Filter, Reply, Request, Response, property, time, warn};

use policy::{RateLimit, Store, StoreError};

tidegate_sdk::filter!(Plugin, "../schema.json");

/// Time between two log lines about the same failure, in nanoseconds.
const QUIET: u64 = 10_000_000_000;

/// The filter.
#[derive(Debug)]
pub struct Plugin {
    limiter: RateLimit,
    warned: Cell<Option<u64>>,
}

impl Filter for Plugin {
    /// Headers for the response.
    type Memo = Vec<(&'static str, String)>;

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        let limiter = RateLimit::parse(configuration)?;
        let warned = Cell::new(None);
        Ok(Self { limiter, warned })
    }

    async fn request(&self, request: &Request) -> Result<Self::Memo, Reply> {
        let now = u64::try_from(time::now().as_nanos()).unwrap_or(u64::MAX);
        let asked = Asked {
            request,
            trusted_hops: self.limiter.trusted_hops(),
            address: OnceCell::new(),
        };
        let verdict = self.limiter.check(&asked, &SharedData, now);
        if verdict.storage_failed {
            self.warn(now);
        }
        match verdict.refusal {
            Some(reply) => Err(reply),
            None => Ok(verdict.headers),
        }
    }

    async fn response(&self, response: &Response, headers: Self::Memo) -> Result<(), Reply> {
        for (name, value) in headers {
            response.headers().add(name, value);
        }
        Ok(())
    }
}

impl Plugin {
    fn warn(&self, now: u64) {
        let recently = self.warned.get().and_then(|then| now.checked_sub(then));
        if recently.is_none_or(|elapsed| elapsed >= QUIET) {
            self.warned.set(Some(now));
            warn!("counters cannot be read or written, onStorageFailure decides");
        }
    }
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
