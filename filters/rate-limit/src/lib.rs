//! Bundled filter `rate-limit`: local rate limits with counters shared by all workers of a host. See README.md.

pub mod policy;

#[cfg(target_arch = "wasm32")]
mod glue {
    //! The proxy-wasm side.

    use std::cell::{Cell, OnceCell};
    use std::net::IpAddr;
    use std::rc::Rc;

    use proxy_wasm::traits::{Context, HttpContext};
    use proxy_wasm::types::Action;
    use tidegate_filter_common::ConfigError;
    use tidegate_filter_common::glue::{self, Filter};
    use tidegate_filter_common::shared_data::{self, SharedDataError};

    use crate::policy::{RateLimit, Request, Store, StoreError};

    tidegate_filter_common::filter!(Plugin, "../schema.json");

    /// Time between two log lines about the same failure, in nanoseconds.
    const QUIET: u64 = 10_000_000_000;

    struct Plugin(Rc<Shared>);

    struct Shared {
        limiter: RateLimit,
        warned: Cell<Option<u64>>,
    }

    impl Filter for Plugin {
        type Stream = Stream;

        fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
            let limiter = RateLimit::parse(configuration)?;
            let warned = Cell::new(None);
            Ok(Self(Rc::new(Shared { limiter, warned })))
        }

        fn stream(&self) -> Stream {
            Stream {
                shared: Rc::clone(&self.0),
                headers: Vec::new(),
            }
        }
    }

    struct Stream {
        shared: Rc<Shared>,
        /// For the response, if the request passed.
        headers: Vec<(&'static str, String)>,
    }

    impl Context for Stream {}

    impl HttpContext for Stream {
        fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
            let Shared { limiter, warned } = &*self.shared;
            let now = glue::now_nanoseconds();
            let request = HostRequest {
                trusted_hops: limiter.trusted_hops(),
                address: OnceCell::new(),
            };
            let verdict = limiter.check(&request, &SharedData, now);
            if verdict.storage_failed {
                let recently = warned.get().and_then(|then| now.checked_sub(then));
                if recently.is_none_or(|elapsed| elapsed >= QUIET) {
                    warned.set(Some(now));
                    log::warn!("counters cannot be read or written, onStorageFailure decides");
                }
            }
            self.headers = verdict.headers;
            match verdict.refusal {
                Some(reply) => glue::send(&reply),
                None => Action::Continue,
            }
        }

        fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
            for (name, value) in self.headers.drain(..) {
                glue::add_response_header(name, &value);
            }
            Action::Continue
        }
    }

    /// The request in hand.
    struct HostRequest {
        trusted_hops: u32,
        /// Asked for once, though several limits and the exemptions need it.
        address: OnceCell<Option<IpAddr>>,
    }

    impl Request for HostRequest {
        fn address(&self) -> Option<IpAddr> {
            *self
                .address
                .get_or_init(|| glue::client_address(self.trusted_hops))
        }

        fn header(&self, name: &str) -> Vec<Vec<u8>> {
            if name.starts_with(':') {
                glue::request_header(name).into_iter().collect()
            } else {
                glue::request_header_values(name)
            }
        }
    }

    struct SharedData;

    impl Store for SharedData {
        fn get(&self, key: &str) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
            shared_data::get(key).map_err(store_error)
        }

        fn set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), StoreError> {
            shared_data::set(key, value, cas).map_err(store_error)
        }
    }

    fn store_error(error: SharedDataError) -> StoreError {
        match error {
            SharedDataError::CasMismatch => StoreError::Conflict,
            SharedDataError::Refused(_) => StoreError::Failed,
        }
    }
}
