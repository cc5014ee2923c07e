//! Where a request goes: the listener hostname, the route, and a backend by weight.

use std::borrow::Cow;

use tidegate_model::{
    Listener, ListenerHost, RequestHead, RouteEntry, RouteQuery, WeightedBackend, path,
};

use super::Exchange;
use crate::error::Error;

impl Exchange {
    /// The listener hostname that serves the request, and only that one.
    pub(super) fn listener_host<'a>(
        &self,
        listener: &'a Listener,
        host: &str,
    ) -> Result<&'a ListenerHost, Error> {
        let found = listener.hosts.find(host).ok_or(Error::NoListener)?;
        if let Some(tls) = &self.stream.connection.tls {
            let by_name = listener
                .hosts
                .find(tls.server_name.as_deref().unwrap_or_default());
            // Whatever certificate they share: another listener may ask more of its clients (Gateway API, Listener.hostname).
            if by_name.is_none_or(|by_name| !std::ptr::eq(by_name, found)) {
                return Err(Error::Misdirected);
            }
        }
        Ok(found)
    }
}

/// The route for a request, its path read in the one way that routes are matched on.
pub(super) fn find<'a>(
    host: &'a ListenerHost,
    head: &RequestHead,
) -> Result<&'a RouteEntry, Error> {
    let path = path::canonical(head.path.path());
    host.find(&lower_host(head), &RouteQuery { head, path })
        .ok_or(Error::NoRoute)
}

pub(super) fn lower_host(head: &RequestHead) -> Cow<'_, str> {
    let host = head.host();
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(host.to_ascii_lowercase());
    }
    Cow::Borrowed(host)
}

/// A backend by weight.
pub(crate) fn choose(backends: &[WeightedBackend]) -> Option<usize> {
    if let [only] = backends {
        return (only.weight > 0).then_some(0);
    }
    let total: u64 = backends
        .iter()
        .map(|backend| u64::from(backend.weight))
        .sum();
    let mut at = if total == 0 {
        return None;
    } else {
        fastrand::u64(..total)
    };
    backends.iter().position(|backend| {
        let weight = u64::from(backend.weight);
        let here = at < weight;
        at = at.saturating_sub(weight);
        here
    })
}
