//! The tables that requests are looked up in: for each bound address, listener hostname, route hostname.
//!
//! A bound address may serve listeners of many owners (Gateways with their ListenerSets; Ingresses together). Each owner's
//! listeners are isolated from each other: of those whose hostname covers a host, the most specific one takes the request
//! and no other is asked (Gateway API, "listener isolation"). So for every hostname that some listener of the address
//! bears, each owner contributes its most specific listener that covers it.
//!
//! Routes stand under the hostname that they and the listener have in common. Of several that meet a listener in its own
//! hostname only those that asked for the narrowest name do: the others stay under the wider names that they wrote
//! themselves, and so come after them (`HTTPRoute.spec.hostnames`: "precedence using the original hostnames").

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use tidegate_model::{
    Filter, HostMap, HostPattern, Listener, ListenerHost, ListenerTls, Protocol, RouteTable,
};

use super::routes::Placed;

/// A listener at one bound address, as the tables see it.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// Whose listener it is; listeners of one owner are isolated from each other.
    pub(super) owner: Arc<str>,
    /// `Gateway namespace/name/listener`, `Ingress`
    pub(super) name: Arc<str>,
    /// Where it is bound.
    pub(super) bind: SocketAddr,
    /// The port that clients see.
    pub(super) port: u16,
    /// What is spoken.
    pub(super) protocol: Protocol,
    /// Hosts it is for.
    pub(super) hostname: HostPattern,
    /// Filters before routing.
    pub(super) filters: Vec<Filter>,
    /// Certificates, for TLS.
    pub(super) tls: Option<Arc<ListenerTls>>,
    /// What routes put on it.
    pub(super) routes: Vec<Placed>,
}

/// Builds the listeners of a snapshot. Sites come in order of precedence; one that speaks another protocol than an
/// earlier one of its address is left out (callers have said so in its conditions).
pub(super) fn build(sites: &[Site]) -> Vec<Arc<Listener>> {
    let mut by_bind: BTreeMap<SocketAddr, Vec<&Site>> = BTreeMap::new();
    for site in sites {
        by_bind.entry(site.bind).or_default().push(site);
    }
    by_bind
        .into_iter()
        .map(|(bind, mut sites)| {
            let (port, protocol) = (sites[0].port, sites[0].protocol);
            sites.retain(|site| site.protocol == protocol);
            Arc::new(Listener {
                bind,
                port,
                protocol,
                hosts: hosts(&sites),
            })
        })
        .collect()
}

fn hosts(sites: &[&Site]) -> HostMap<ListenerHost> {
    let mut patterns: Vec<&HostPattern> = Vec::new();
    let mut owners: Vec<&str> = Vec::new();
    for site in sites {
        if !patterns.contains(&&site.hostname) {
            patterns.push(&site.hostname);
        }
        if !owners.contains(&&*site.owner) {
            owners.push(&site.owner);
        }
    }
    let mut hosts = HostMap::default();
    for pattern in patterns {
        let chosen: Vec<&Site> = owners
            .iter()
            .filter_map(|owner| most_specific(sites, owner, pattern))
            .collect();
        hosts.insert(pattern, host(pattern, &chosen));
    }
    hosts
}

/// The owner's listener that takes requests for hosts of this pattern.
fn most_specific<'s>(sites: &[&'s Site], owner: &str, pattern: &HostPattern) -> Option<&'s Site> {
    sites
        .iter()
        .copied()
        .filter(|site| *site.owner == *owner && covers(&site.hostname, pattern))
        .max_by_key(|site| site.hostname.specificity())
}

/// Whether every host of `inner` is one of `outer`.
fn covers(outer: &HostPattern, inner: &HostPattern) -> bool {
    outer.intersect(inner).as_ref() == Some(inner)
}

/// Of the route hostnames that meet the listener in its own hostname, the narrowest.
fn narrowest(site: &Site) -> Option<&HostPattern> {
    let all = site.routes.iter().flat_map(|placed| &placed.hostnames);
    all.filter(|hostname| covers(hostname, &site.hostname))
        .max_by_key(|hostname| hostname.specificity())
}

fn host(pattern: &HostPattern, sites: &[&Site]) -> ListenerHost {
    let mut host = ListenerHost::default();
    let mut certificates = Vec::new();
    let mut tables: Vec<(&HostPattern, RouteTable)> = Vec::new();
    let mut known = BTreeSet::new();
    for site in sites {
        host.names.push(site.name.clone());
        host.filters.extend(site.filters.iter().cloned());
        for certificate in site.tls.iter().flat_map(|tls| &tls.certificates) {
            if !certificates.contains(certificate) {
                certificates.push(certificate.clone());
            }
        }
        let narrowest = narrowest(site);
        for placed in &site.routes {
            for hostname in placed
                .hostnames
                .iter()
                .filter(|hostname| hostname.intersects(pattern))
            {
                let hostname = if Some(hostname) == narrowest {
                    &site.hostname
                } else {
                    hostname
                };
                let at = tables
                    .iter()
                    .position(|(known, _)| *known == hostname)
                    .unwrap_or_else(|| {
                        tables.push((hostname, RouteTable::default()));
                        tables.len() - 1
                    });
                for entry in &placed.entries {
                    // A route may reach this address through several parents; the first one counts.
                    if known.insert((at, entry.age.clone(), entry.rule.origin.kind)) {
                        tables[at].1.push(entry.clone());
                    }
                }
            }
        }
    }
    for (hostname, mut table) in tables {
        table.seal();
        host.routes.insert(hostname, table);
    }
    host.tls = (!certificates.is_empty()).then(|| Arc::new(ListenerTls { certificates }));
    host
}
