//! Which ports of which Gateways serve: what something in front of the processes has to forward.

use std::collections::{BTreeMap, BTreeSet};

use super::context::Context;
use super::gateways::Gateways;
use crate::api::Key;
use crate::api::gateway::Protocol;

/// A port of a Gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exposed {
    /// As its listeners say.
    pub port: u16,
    /// As it is bound.
    pub bound: u16,
    /// Whether it is UDP; TCP otherwise.
    pub udp: bool,
}

/// The ports of all Gateways that bind no address that they asked for, with those of their ListenerSets.
pub(super) fn of(
    context: &Context<'_>,
    gateways: &Gateways<'_>,
) -> BTreeMap<Key, BTreeSet<Exposed>> {
    let mut all: BTreeMap<Key, BTreeSet<Exposed>> = BTreeMap::new();
    for (index, entry) in gateways.listeners.iter().enumerate() {
        let gateway = &gateways.gateways[entry.gateway];
        if gateway.asked || !gateways.serves(index) {
            continue;
        }
        let port = Exposed {
            port: entry.spec.port,
            bound: context.options.bound_port(entry.spec.port),
            udp: entry.spec.protocol == Protocol::Udp,
        };
        all.entry(gateway.object.key()).or_default().insert(port);
    }
    all
}
