//! TLSRoutes, TCPRoutes and UDPRoutes: attached to listeners, oldest first, and what is said about them.
//!
//! A hostname of a listener (for TCP and UDP the listener itself) belongs to one route, the oldest; the others stay attached
//! and wait (Gateway API, "Conflicts": "the oldest Route based on creation timestamp").

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_model::{
    Certificate, HostPattern, RuleOrigin, StreamRule, StreamTls, WeightedBackend,
};

use super::backends::{Speaks, target};
use super::context::{Context, by_age};
use super::gateways::Gateways;
use super::grants::Referrer;
use super::parents;
use super::problem::Problem;
use super::routes::{RouteFacts, parent_statuses};
use crate::api::stream::StreamRule as Written;
use crate::api::{Key, Kind};

/// What a route for streams puts on a listener.
#[derive(Clone, Debug)]
pub(super) struct PlacedStream {
    /// The route's hostnames, as written; `Any` alone for TCP and UDP.
    pub(super) hostnames: Vec<HostPattern>,
    /// Where connections go.
    pub(super) rule: Arc<StreamRule>,
}

/// What such routes put on every listener, by index.
pub(super) type StreamPlacements = BTreeMap<usize, Vec<PlacedStream>>;

/// `(namespace, Service, port name)` that routes of a Gateway send traffic to.
type Uses = BTreeMap<Key, BTreeSet<(String, String, String)>>;

/// A route of one of the three kinds.
struct Route<'a> {
    facts: RouteFacts<'a>,
    rules: &'a [Written],
}

/// How backends are spoken to: by what the listener passes on, and with whose certificate.
#[derive(Clone, PartialEq)]
struct Way {
    speaks: Speaks,
    client_certificate: Option<Arc<Certificate>>,
}

/// The rule of a route, for one way.
struct Built {
    way: Way,
    backends: Vec<WeightedBackend>,
    unresolved: Vec<Problem>,
    uses: BTreeSet<(String, String, String)>,
}

/// The routes that have hostnames of listeners.
type Taken = BTreeMap<(usize, String), String>;

/// Attaches all of them and writes their statuses; `uses` learns to which Services a BackendTLSPolicy applies.
pub(super) fn attach(
    context: &mut Context<'_>,
    gateways: &mut Gateways<'_>,
    uses: &mut Uses,
) -> StreamPlacements {
    let mut placements = StreamPlacements::new();
    let mut taken = Taken::new();
    for route in all(context) {
        attach_one(context, gateways, &route, &mut taken, uses, &mut placements);
    }
    placements
}

fn all<'a>(context: &Context<'a>) -> Vec<Route<'a>> {
    let resources = context.resources;
    let tls = by_age(&resources.tls_routes).into_iter().map(|object| {
        let spec = &object.spec;
        let default = spec.use_default_gateways.as_deref();
        Route {
            facts: RouteFacts::new(object, &spec.parent_refs, default, &spec.hostnames),
            rules: &spec.rules,
        }
    });
    let tcp = by_age(&resources.tcp_routes).into_iter().map(|object| {
        let spec = &object.spec;
        let default = spec.use_default_gateways.as_deref();
        Route {
            facts: RouteFacts::new(object, &spec.parent_refs, default, &[]),
            rules: &spec.rules,
        }
    });
    let udp = by_age(&resources.udp_routes).into_iter().map(|object| {
        let spec = &object.spec;
        let default = spec.use_default_gateways.as_deref();
        Route {
            facts: RouteFacts::new(object, &spec.parent_refs, default, &[]),
            rules: &spec.rules,
        }
    });
    tls.chain(tcp).chain(udp).collect()
}

fn attach_one(
    context: &mut Context<'_>,
    gateways: &mut Gateways<'_>,
    route: &Route<'_>,
    taken: &mut Taken,
    uses: &mut Uses,
    placements: &mut StreamPlacements,
) {
    let facts = &route.facts;
    let mut parents = parents::find(context, gateways, facts);
    if parents.is_empty() {
        return;
    }
    let Some(rule) = route.rules.first() else {
        let problem = Problem::new("UnsupportedValue", "spec.rules is empty: give one rule");
        for parent in &mut parents {
            parent.listeners = parent.listeners.clone().and(Err(problem.clone()));
        }
        return report(context, gateways, facts, &parents, &[]);
    };
    if route.rules.len() > 1 {
        let status = context.statuses.entry(facts.kind, facts.meta, facts.source);
        status.warn(format!(
            "spec.rules: the first of {} rules has every connection, since nothing tells them apart: give each rule a route of its own",
            route.rules.len()
        ));
    }
    let listeners: BTreeSet<usize> = parents
        .iter()
        .flat_map(|parent| parent.listeners.iter().flatten().copied())
        .collect();
    let mark = context.backends.mark();
    let built = build(context, gateways, facts, rule, &listeners);
    let mut serves = false;
    for index in &listeners {
        let way = way(gateways, facts.kind, *index);
        let Some(built) = built.iter().find(|built| built.way == way) else {
            continue;
        };
        serves |= place(
            context, gateways, facts, rule, built, *index, taken, uses, placements,
        );
    }
    if !serves {
        context.backends.forget_after(mark);
    }
    let unresolved = built.first().map_or(&[][..], |built| &built.unresolved);
    report(context, gateways, facts, &parents, unresolved);
}

fn report(
    context: &mut Context<'_>,
    gateways: &Gateways<'_>,
    facts: &RouteFacts<'_>,
    parents: &[parents::Parent],
    unresolved: &[Problem],
) {
    let statuses = parent_statuses(gateways, facts, parents, unresolved, None);
    context
        .statuses
        .entry(facts.kind, facts.meta, facts.source)
        .parents = statuses;
}

/// How a listener speaks to backends.
fn way(gateways: &Gateways<'_>, kind: Kind, index: usize) -> Way {
    let entry = &gateways.listeners[index];
    let speaks = match (kind, entry.streams) {
        (Kind::UdpRoute, _) => Speaks::Udp,
        (_, Some(StreamTls::Passthrough)) => Speaks::TlsPassthrough,
        _ => Speaks::Tcp,
    };
    let gateway = &gateways.gateways[entry.gateway];
    Way {
        speaks,
        client_certificate: gateway
            .client_certificate
            .clone()
            .filter(|_| speaks == Speaks::Tcp),
    }
}

/// The rule, once for each way in which its listeners speak to backends; once at least, for what is to be said about it.
fn build(
    context: &mut Context<'_>,
    gateways: &Gateways<'_>,
    facts: &RouteFacts<'_>,
    rule: &Written,
    listeners: &BTreeSet<usize>,
) -> Vec<Built> {
    let mut ways: Vec<Way> = Vec::new();
    for index in listeners {
        let way = way(gateways, facts.kind, *index);
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    if ways.is_empty() {
        ways.push(Way {
            speaks: match facts.kind {
                Kind::UdpRoute => Speaks::Udp,
                Kind::TlsRoute => Speaks::TlsPassthrough,
                _ => Speaks::Tcp,
            },
            client_certificate: None,
        });
    }
    ways.into_iter()
        .map(|way| build_for(context, facts, rule, way))
        .collect()
}

fn build_for(context: &mut Context<'_>, facts: &RouteFacts<'_>, rule: &Written, way: Way) -> Built {
    context.service_uses.clear();
    let mut unresolved = Vec::new();
    let mut backends = Vec::new();
    for (index, reference) in rule.backend_refs.iter().enumerate() {
        let from = Referrer {
            group: facts.kind.group(),
            kind: facts.kind.name(),
            namespace: &facts.meta.namespace,
        };
        let found = context.route_backend(
            from,
            &reference.backend,
            way.speaks,
            way.client_certificate.as_ref(),
        );
        let place = format!("spec.rules[0].backendRefs[{index}]");
        backends.push(WeightedBackend {
            target: target(found, &place, &mut unresolved),
            weight: reference.weight,
            filters: Vec::new(),
        });
    }
    Built {
        way,
        backends,
        unresolved,
        uses: std::mem::take(&mut context.service_uses),
    }
}

/// Attaches the route to a listener; whether connections come to it there.
#[allow(
    clippy::too_many_arguments,
    reason = "all of it is the state of one attachment"
)]
fn place(
    context: &mut Context<'_>,
    gateways: &mut Gateways<'_>,
    facts: &RouteFacts<'_>,
    rule: &Written,
    built: &Built,
    index: usize,
    taken: &mut Taken,
    uses: &mut Uses,
    placements: &mut StreamPlacements,
) -> bool {
    let entry = &mut gateways.listeners[index];
    entry.attached.insert((
        facts.kind,
        Key::new(&facts.meta.namespace, &facts.meta.name),
    ));
    let entry = &gateways.listeners[index];
    let gateway = gateways.gateways[entry.gateway].object.key();
    // Only there a BackendTLSPolicy is asked.
    if built.way.speaks == Speaks::Tcp {
        uses.entry(gateway.clone())
            .or_default()
            .extend(built.uses.iter().cloned());
    }
    let mut hostnames = Vec::new();
    for hostname in facts
        .hostnames
        .iter()
        .filter(|hostname| hostname.intersects(&entry.hostname))
    {
        let holder = taken
            .entry((index, hostname.to_string()))
            .or_insert_with(|| facts.title());
        if *holder == facts.title() {
            hostnames.push(hostname.clone());
            continue;
        }
        let message = match hostname {
            HostPattern::Any => format!(
                "listener {}: every connection goes to the older {holder}: give one of the routes a listener of its own",
                entry.spec.name
            ),
            name => format!(
                "listener {}: every connection for {name} goes to the older {holder}: give one of the routes a listener or a hostname of its own",
                entry.spec.name
            ),
        };
        context
            .statuses
            .entry(facts.kind, facts.meta, facts.source)
            .warn(message);
    }
    if hostnames.is_empty() || !gateways.serves(index) {
        return false;
    }
    let config = context.chains.config(&gateway);
    placements.entry(index).or_default().push(PlacedStream {
        hostnames,
        rule: Arc::new(StreamRule {
            origin: RuleOrigin::new(
                facts.kind.name(),
                &facts.meta.namespace,
                &facts.meta.name,
                0,
                rule.name.as_deref(),
            ),
            backends: built.backends.clone(),
            access_log: config.is_none_or(|config| config.spec.access_log.enabled),
        }),
    });
    true
}
