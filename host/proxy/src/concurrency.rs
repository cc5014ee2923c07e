//! How many requests of one client are answered at a time (`Filter::Concurrency`): counted over all workers, by zone and address.
//!
//! A request counts from the filter on to the last byte of its answer; a tunnel to its end (nginx's `limit_conn`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_model::Concurrency;

/// What is being answered, by zone and client.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<HashMap<Key, u32>>);

type Key = (Arc<str>, IpAddr);

/// A place that a request has taken; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    of: Arc<InFlight>,
    key: Key,
}

impl InFlight {
    /// A place for a request of this client, if there is one left.
    pub(crate) fn enter(self: &Arc<Self>, limit: &Concurrency, client: IpAddr) -> Option<Permit> {
        let key = (limit.zone.clone(), client.to_canonical());
        let mut counts = self.counts();
        let count = counts.entry(key.clone()).or_default();
        if *count >= limit.most {
            // Nothing stays behind of a zone that lets nobody in.
            if *count == 0 {
                counts.remove(&key);
            }
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Permit {
            of: self.clone(),
            key,
        })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.of.counts().entry(self.key.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn limit(zone: &str, most: u32) -> Concurrency {
        Concurrency {
            zone: zone.into(),
            most,
            status: StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    #[test]
    fn places_are_counted_by_zone_and_client_and_given_back() {
        let all: Arc<InFlight> = Arc::default();
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let two = limit("shop/web", 2);
        let held: Vec<_> = (0..2).map(|_| all.enter(&two, a).unwrap()).collect();
        assert!(all.enter(&two, a).is_none());
        // The same client, as a dual-stack socket shows it.
        assert!(
            all.enter(&two, "::ffff:10.0.0.1".parse().unwrap())
                .is_none()
        );
        assert!(all.enter(&two, b).is_some());
        assert!(all.enter(&limit("shop/api", 1), a).is_some());
        assert!(all.enter(&limit("shop/none", 0), a).is_none());
        drop(held);
        assert!(all.enter(&two, a).is_some());
        assert!(all.counts().is_empty());
    }
}
