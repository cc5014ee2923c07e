//! From checked listeners to what is bound: who gets an address first, and what that leaves of the others.

use std::collections::HashMap;
use std::net::SocketAddr;

use tidegate_model::Protocol;

use super::context::Context;
use super::gateways::Gateways;
use super::problem::Problem;
use super::routes::Placements;
use super::settings::Asked;
use super::tables::Site;

/// Addresses that are taken, with what is spoken there.
#[derive(Debug, Default)]
pub(super) struct Ports {
    taken: HashMap<SocketAddr, Protocol>,
}

impl Ports {
    /// Takes an address, unless something else is spoken there already.
    pub(super) fn take(&mut self, bind: SocketAddr, protocol: Protocol) -> bool {
        *self.taken.entry(bind).or_insert(protocol) == protocol
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
        let refused = binds.into_iter().find(|bind| !ports.take(*bind, protocol));
        if let Some(bind) = refused {
            let problem = Problem::new(
                "PortUnavailable",
                format!(
                    "listener {}: {bind} speaks another protocol for an older Gateway; choose another port, or give the Gateway an address of its own in spec.addresses",
                    entry.spec.name
                ),
            );
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
        let routes = placements.remove(&index).unwrap_or_default();
        let config = context.chains.config(&gateway.object.key());
        let asked: Vec<Asked> = config.and_then(Asked::of).into_iter().collect();
        for bind in gateways.binds(context, entry) {
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
                routes: routes.clone(),
            });
        }
    }
    sites
}
