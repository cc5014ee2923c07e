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

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use tidegate_model::{
    ClientValidation, Filter, HostMap, HostPattern, Labels, Listener, ListenerHost, ListenerTls,
    Protocol, RouteTable, StreamTls, Streams,
};

use super::options::Bind;
use super::routes::Placed;
use super::settings::{self, Asked};
use super::streams::PlacedStream;

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
    /// Settings that its class asks for; Ingresses may be of several classes, the oldest first.
    pub(super) asked: Vec<Asked>,
    /// What routes put on it.
    pub(super) routes: Vec<Placed>,
    /// What happens to TLS, where connections are passed on and not read.
    pub(super) streams: Option<StreamTls>,
    /// What routes for such connections put on it, the oldest first.
    pub(super) passed_on: Vec<PlacedStream>,
}

/// What clients of a hostname meet. Listeners whose terms differ are never merged: what asks for a certificate must not be
/// reached through what does not.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Terms {
    /// What happens to TLS, where connections are passed on and not read.
    pub(super) streams: Option<StreamTls>,
    /// What is asked of clients.
    pub(super) client_validation: Option<Arc<ClientValidation>>,
}

impl Terms {
    /// Of a listener whose streams and TLS are these.
    pub(super) fn of(streams: Option<StreamTls>, tls: Option<&ListenerTls>) -> Self {
        Self {
            streams,
            client_validation: tls.and_then(|tls| tls.client_validation.clone()),
        }
    }
}

impl Site {
    /// What has to be bound for it.
    pub(super) fn socket(&self) -> Bind {
        Bind {
            address: self.bind,
            udp: self.protocol == Protocol::Udp,
        }
    }

    fn terms(&self) -> Terms {
        Terms::of(self.streams, self.tls.as_deref())
    }
}

/// Builds the listeners of a snapshot. Sites come in order of precedence; one that speaks another protocol than an
/// earlier one of its address is left out (callers have said so in its conditions).
pub(super) fn build(sites: &[Site]) -> Vec<Arc<Listener>> {
    let mut by_bind: BTreeMap<Bind, Vec<&Site>> = BTreeMap::new();
    for site in sites {
        by_bind.entry(site.socket()).or_default().push(site);
    }
    by_bind
        .into_iter()
        .map(|(Bind { address: bind, .. }, mut sites)| {
            let (port, first) = (sites[0].port, sites[0].protocol);
            sites.retain(|site| site.protocol.shares_address_with(first));
            let https = sites.iter().any(|site| site.protocol == Protocol::Https);
            let protocol = if https { Protocol::Https } else { first };
            Arc::new(Listener {
                bind,
                port,
                protocol,
                settings: settings::of_address(&sites),
                hosts: hosts(&sites),
            })
        })
        .collect()
}

fn hosts(sites: &[&Site]) -> HostMap<ListenerHost> {
    let mut owners: Vec<Owner<'_>> = Vec::new();
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let mut patterns: Vec<&HostPattern> = Vec::new();
    let mut known: HashSet<&HostPattern> = HashSet::new();
    for site in sites {
        let at = *by_name.entry(&site.owner).or_insert(owners.len());
        if at == owners.len() {
            owners.push(Owner::default());
        }
        // Conflicts are settled before; of two listeners with one hostname the first stands.
        let standing = Standing {
            site,
            narrowest: narrowest(site),
        };
        owners[at].entry(&site.hostname).or_insert(standing);
        if known.insert(&site.hostname) {
            patterns.push(&site.hostname);
        }
    }
    let mut hosts = HostMap::default();
    for pattern in patterns {
        let mut chosen: Vec<&Standing<'_>> = owners
            .iter()
            .filter_map(|owner| most_specific(owner, pattern))
            .collect();
        keep_equal_terms(&mut chosen);
        hosts.insert(pattern, host(pattern, &chosen));
    }
    hosts
}

/// One owner's listeners by hostname.
type Owner<'s> = HashMap<&'s HostPattern, Standing<'s>>;

struct Standing<'s> {
    site: &'s Site,
    /// Of the route hostnames that meet the listener in its own hostname, the narrowest.
    narrowest: Option<&'s HostPattern>,
}

/// Leaves those whose clients meet what the most specific one says; of equals the first counts.
fn keep_equal_terms(chosen: &mut Vec<&Standing<'_>>) {
    let specificity = |standing: &&Standing<'_>| standing.site.hostname.specificity();
    let Some(first) = chosen.iter().rev().copied().max_by_key(specificity) else {
        return;
    };
    let terms = first.site.terms();
    chosen.retain(|standing| standing.site.terms() == terms);
}

/// The owner's listener that takes requests for hosts of this pattern.
fn most_specific<'o, 's>(owner: &'o Owner<'s>, pattern: &HostPattern) -> Option<&'o Standing<'s>> {
    if let Some(same) = owner.get(pattern) {
        return Some(same);
    }
    if owner.len() == 1 {
        return owner
            .values()
            .find(|standing| covers(&standing.site.hostname, pattern));
    }
    wider(pattern).find_map(|wider| owner.get(&wider))
}

/// The patterns that cover this one, the narrowest first.
fn wider(pattern: &HostPattern) -> impl Iterator<Item = HostPattern> + '_ {
    let wildcard = |suffix: &str, labels| HostPattern::Wildcard {
        suffix: suffix.into(),
        labels,
    };
    let (name, first) = match pattern {
        HostPattern::Any => ("", None),
        HostPattern::Exact(name) => {
            let parent = name.split_once('.').map(|(_, parent)| parent);
            (&**name, parent.map(|parent| wildcard(parent, Labels::One)))
        }
        HostPattern::Wildcard { suffix, labels } => {
            let same = (*labels == Labels::One).then(|| wildcard(suffix, Labels::Many));
            (&**suffix, same)
        }
    };
    let parents = name
        .match_indices('.')
        .map(move |(at, _)| wildcard(&name[at + 1..], Labels::Many));
    let any = (*pattern != HostPattern::Any).then_some(HostPattern::Any);
    first.into_iter().chain(parents).chain(any)
}

/// Whether every host of `inner` is one of `outer`.
fn covers(outer: &HostPattern, inner: &HostPattern) -> bool {
    outer.intersect(inner).as_ref() == Some(inner)
}

fn narrowest(site: &Site) -> Option<&HostPattern> {
    let all = site.routes.iter().flat_map(|placed| &placed.hostnames);
    all.filter(|hostname| covers(hostname, &site.hostname))
        .max_by_key(|hostname| hostname.specificity())
}

fn host(pattern: &HostPattern, standings: &[&Standing<'_>]) -> ListenerHost {
    let mut host = ListenerHost::default();
    let mut certificates = Vec::new();
    let placed = standings.iter().map(|standing| standing.site.routes.len());
    let most = placed.sum();
    let mut tables: HashMap<&HostPattern, RouteTable> = HashMap::with_capacity(most);
    let mut known = HashSet::with_capacity(most);
    for Standing { site, narrowest } in standings {
        host.names.push(site.name.clone());
        host.filters.extend(site.filters.iter().cloned());
        for certificate in site.tls.iter().flat_map(|tls| &tls.certificates) {
            if !certificates.contains(certificate) {
                certificates.push(certificate.clone());
            }
        }
        for placed in &site.routes {
            for hostname in &placed.hostnames {
                if !hostname.intersects(pattern) {
                    continue;
                }
                let hostname = if Some(hostname) == *narrowest {
                    &site.hostname
                } else {
                    hostname
                };
                let table = tables.entry(hostname).or_default();
                for entry in &placed.entries {
                    // A route may reach this address through several parents; the first one counts.
                    if known.insert((
                        hostname,
                        entry.rule.origin.kind,
                        &entry.age.name,
                        entry.age.place,
                    )) {
                        table.push(entry.clone());
                    }
                }
            }
        }
    }
    for (hostname, mut table) in tables {
        table.seal();
        host.routes.insert(hostname, table);
    }
    let terms = standings.first().map(|standing| standing.site.terms());
    let (streams, client_validation) = terms.map_or((None, None), |terms| {
        (terms.streams, terms.client_validation)
    });
    host.streams = streams.map(|tls| passed_on(pattern, tls, standings));
    host.tls = (!certificates.is_empty()).then(|| {
        Arc::new(ListenerTls {
            certificates,
            client_validation,
        })
    });
    host
}

/// Where connections go: under every hostname the oldest route.
fn passed_on(pattern: &HostPattern, tls: StreamTls, standings: &[&Standing<'_>]) -> Streams {
    let mut streams = Streams {
        tls,
        routes: HostMap::default(),
    };
    let placed = standings.iter().flat_map(|one| &one.site.passed_on);
    for placed in placed {
        for hostname in &placed.hostnames {
            if hostname.intersects(pattern) && streams.routes.get(hostname).is_none() {
                streams.routes.insert(hostname, placed.rule.clone());
            }
        }
    }
    streams
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_patterns_cover_and_come_in_order() {
        let parse = |text: &str| HostPattern::parse(text, Labels::Many);
        let wider_of = |pattern: &HostPattern| wider(pattern).collect::<Vec<_>>();
        let one = HostPattern::parse("*.b.test", Labels::One);
        assert_eq!(
            wider_of(&parse("a.b.test")),
            [one.clone(), parse("*.b.test"), parse("*.test"), parse("*")]
        );
        assert_eq!(
            wider_of(&one),
            [parse("*.b.test"), parse("*.test"), parse("*")]
        );
        assert_eq!(wider_of(&parse("*.b.test")), [parse("*.test"), parse("*")]);
        assert_eq!(wider_of(&parse("*")), []);
        for pattern in [parse("a.b.test"), one, parse("*.b.test")] {
            let wider = wider_of(&pattern);
            assert!(
                wider.iter().all(|wider| covers(wider, &pattern)),
                "{pattern}"
            );
            let ranks: Vec<_> = wider.iter().map(HostPattern::specificity).collect();
            assert!(ranks.is_sorted_by(|a, b| a > b), "{pattern}");
        }
    }
}
