//! From checked listeners to what is bound: who gets an address first, and what that leaves of the others.

use std::collections::HashMap;
use std::net::SocketAddr;

use tidegate_model::{HostPattern, Protocol};

use super::context::Context;
use super::gateways::Gateways;
use super::problem::Problem;
use super::routes::Placements;
use super::settings::Asked;
use super::streams::StreamPlacements;
use super::tables::{Site, Terms};

/// Addresses that are taken, with what is spoken there.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// For datagrams (`true`) and for connections.
    taken: HashMap<(SocketAddr, bool), Protocol>,
    /// What clients of a hostname meet.
    terms: HashMap<(SocketAddr, HostPattern), Terms>,
}

impl Ports {
    /// Takes an address, unless something else is spoken there already.
    pub(super) fn take(&mut self, bind: SocketAddr, protocol: Protocol) -> bool {
        let taken = self.taken.entry((bind, protocol == Protocol::Udp));
        taken.or_insert(protocol).shares_address_with(protocol)
    }

    /// Takes a hostname of an address over TLS, unless its clients meet something else there already.
    pub(super) fn take_name(
        &mut self,
        bind: SocketAddr,
        name: &HostPattern,
        terms: &Terms,
    ) -> bool {
        let taken = self.terms.entry((bind, name.clone()));
        taken.or_insert_with(|| terms.clone()) == terms
    }
}

/// Refuses listeners whose address speaks another protocol for an older Gateway.
pub(super) fn check_ports(context: &Context<'_>, gateways: &mut Gateways<'_>) -> Ports {
    let mut ports = Ports::default();
    for index in 0..gateways.listeners.len() {
        let entry = &gateways.listeners[index];
        let Ok(protocol) = entry.programmed() else {
            continue;
        };
        if !gateways.serves(index) {
            continue;
        }
        let binds = gateways.binds(context, entry);
        let refused = binds.iter().find(|bind| !ports.take(**bind, protocol));
        let mut problem = refused.map(|bind| {
            Problem::new(
                "PortUnavailable",
                format!(
                    "listener {}: {bind} speaks another protocol for an older Gateway; choose another port, or give the Gateway an address of its own in spec.addresses",
                    entry.spec.name
                ),
            )
        });
        if problem.is_none() && protocol.is_tls() {
            let (name, terms) = (&entry.hostname, entry.terms());
            let refused = binds
                .iter()
                .find(|bind| !ports.take_name(**bind, name, &terms));
            problem = refused.map(|bind| {
                Problem::new(
                    "PortUnavailable",
                    format!(
                        "listener {}: for hostname {name} on {bind} an older Gateway has another tls.mode, protocol or validation of client certificates; choose another hostname or port, or give the Gateway an address of its own in spec.addresses",
                        entry.spec.name
                    ),
                )
            });
        }
        if let Some(problem) = problem {
            gateways.listeners[index].accepted = Err(problem);
        }
    }
    ports
}

/// The sites of all listeners that serve, older Gateways first.
pub(super) fn all(
    context: &Context<'_>,
    gateways: &Gateways<'_>,
    placements: &mut Placements,
    streams: &mut StreamPlacements,
) -> Vec<Site> {
    let mut sites = Vec::new();
    for (index, entry) in gateways.listeners.iter().enumerate() {
        let gateway = &gateways.gateways[entry.gateway];
        let Ok(protocol) = entry.programmed() else {
            continue;
        };
        if !gateways.serves(index) {
            continue;
        }
        let mut routes = placements.remove(&index).unwrap_or_default();
        let passed_on = streams.remove(&index).unwrap_or_default();
        let config = context.chains.config(&gateway.object.key());
        let asked: Vec<Asked> = config.and_then(Asked::of).into_iter().collect();
        let mut binds = gateways.binds(context, entry).into_iter().peekable();
        while let Some(bind) = binds.next() {
            // There are thousands of routes, and most often one address.
            let routes = match binds.peek() {
                Some(_) => routes.clone(),
                None => std::mem::take(&mut routes),
            };
            sites.push(Site {
                owner: gateway.object.key().to_string().into(),
                name: entry.name().into(),
                bind,
                port: entry.spec.port,
                protocol,
                hostname: entry.hostname.clone(),
                filters: entry.filters.clone(),
                tls: entry.tls.clone(),
                asked: asked.clone(),
                routes,
                streams: entry.streams,
                passed_on: passed_on.clone(),
            });
        }
    }
    sites
}
