//! HTTPRoutes and GRPCRoutes: attached to listeners, oldest first, and what is said about them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_model::{Certificate, HostPattern, Labels, RouteEntry};

use super::context::{Context, by_age};
use super::gateways::Gateways;
use super::parents::{self, Parent};
use super::problem::Problem;
use super::route_kinds::Taken;
use super::rules::{self, Built, RulePlan};
use super::{chains, grpc, http};
use crate::api::reference::ParentReference;
use crate::api::{Body, Key, Kind, Meta, Object, Source};
use crate::status::{Condition, ParentStatus};

/// What routes of every kind have.
#[derive(Debug)]
pub(super) struct RouteFacts<'a> {
    /// The kind.
    pub(super) kind: Kind,
    /// Name, age, labels.
    pub(super) meta: &'a Meta,
    /// Where it was read.
    pub(super) source: &'a Source,
    /// `spec.parentRefs`
    pub(super) parents: &'a [ParentReference],
    /// `spec.useDefaultGateways`
    pub(super) use_default_gateways: Option<&'a str>,
    /// `spec.hostnames`; `Any` alone where it is empty.
    pub(super) hostnames: Vec<HostPattern>,
}

/// What a route puts on a listener.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    /// The route's hostnames, as written.
    pub(super) hostnames: Vec<HostPattern>,
    /// Its matches.
    pub(super) entries: Vec<RouteEntry>,
}

/// What routes put on every listener, by index.
pub(super) type Placements = BTreeMap<usize, Vec<Placed>>;

/// What is left to say once every route is attached.
#[derive(Debug, Default)]
pub(super) struct Attached {
    /// By listener.
    pub(super) placed: Placements,
    /// `(namespace, Service, port name)` that routes of a Gateway send traffic to.
    pub(super) uses: BTreeMap<Key, BTreeSet<(String, String, String)>>,
}

struct Route<'a> {
    facts: RouteFacts<'a>,
    plans: Vec<RulePlan<'a>>,
}

impl<'a> RouteFacts<'a> {
    /// The facts of a route.
    pub(super) fn new<S: Body>(
        object: &'a Object<S>,
        parents: &'a [ParentReference],
        use_default_gateways: Option<&'a str>,
        hostnames: &[String],
    ) -> Self {
        let mut patterns: Vec<HostPattern> = Vec::new();
        for hostname in hostnames {
            let pattern = HostPattern::parse(hostname, Labels::Many);
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
        if patterns.is_empty() {
            patterns.push(HostPattern::Any);
        }
        Self {
            kind: S::KIND,
            meta: &object.meta,
            source: &object.source,
            parents,
            use_default_gateways,
            hostnames: patterns,
        }
    }

    /// Whether some host is meant by both the route and the listener.
    pub(super) fn meets(&self, listener: &HostPattern) -> bool {
        self.hostnames
            .iter()
            .any(|hostname| hostname.intersects(listener))
    }

    /// `HTTPRoute namespace/name`
    pub(super) fn title(&self) -> String {
        format!("{} {}/{}", self.kind, self.meta.namespace, self.meta.name)
    }
}

/// Attaches all routes and writes their statuses.
pub(super) fn attach<'a>(context: &mut Context<'a>, gateways: &mut Gateways<'a>) -> Attached {
    let mut attached = Attached::default();
    let mut taken = Taken::new(context.resources);
    for route in all(context) {
        attach_one(context, gateways, &route, &mut taken, &mut attached);
    }
    attached
}

/// All routes, oldest first: where routes of two kinds want the same host, the older gets it.
fn all<'a>(context: &Context<'a>) -> Vec<Route<'a>> {
    let http = by_age(&context.resources.http_routes)
        .into_iter()
        .map(|object| Route {
            facts: RouteFacts::new(
                object,
                &object.spec.parent_refs,
                object.spec.use_default_gateways.as_deref(),
                &object.spec.hostnames,
            ),
            plans: object.spec.rules.iter().map(http::plan).collect(),
        });
    let grpc = by_age(&context.resources.grpc_routes)
        .into_iter()
        .map(|object| Route {
            facts: RouteFacts::new(
                object,
                &object.spec.parent_refs,
                object.spec.use_default_gateways.as_deref(),
                &object.spec.hostnames,
            ),
            plans: object.spec.rules.iter().map(grpc::plan).collect(),
        });
    let mut all: Vec<_> = http.chain(grpc).collect();
    all.sort_by(|a, b| {
        let key = |route: &Route<'a>| {
            (
                &route.facts.meta.age,
                &route.facts.meta.namespace,
                &route.facts.meta.name,
            )
        };
        key(a).cmp(&key(b))
    });
    all
}

fn attach_one(
    context: &mut Context<'_>,
    gateways: &mut Gateways<'_>,
    route: &Route<'_>,
    taken: &mut Taken,
    attached: &mut Attached,
) {
    let facts = &route.facts;
    let mut parents = parents::find(context, gateways, facts);
    if parents.is_empty() {
        return;
    }
    for parent in &mut parents {
        let refused = taken.yield_to(gateways, facts, parent);
        if let (Some(problem), Ok(_)) = (refused, &parent.listeners) {
            let status = context.statuses.entry(facts.kind, facts.meta, facts.source);
            status.warn(format!(
                "not attached to every listener: {}",
                problem.message
            ));
        }
    }
    let listeners: BTreeSet<usize> = parents
        .iter()
        .flat_map(|p| p.listeners.iter().flatten().copied())
        .collect();
    let mark = (context.backends.mark(), context.filters.mark());
    context.service_uses.clear();
    let built = build_for(context, gateways, route, &listeners);
    let first = built.first().map(|(_, built)| built);
    let unusable = first
        .filter(|built| built.rules.is_empty())
        .and_then(Built::why_unusable);
    if let Some(problem) = &unusable {
        for parent in &mut parents {
            if parent.listeners.is_ok() {
                parent.listeners = Err(problem.clone());
            }
        }
    }
    if unusable.is_none() {
        place(
            context, gateways, route, &built, &listeners, taken, attached,
        );
    }
    if unusable.is_some() || !listeners.iter().any(|index| gateways.serves(*index)) {
        context.backends.forget_after(mark.0);
        context.filters.forget_after(mark.1);
    }
    let built = first.expect("rules are built once at least, for no certificate");
    report(context, gateways, facts, &parents, built);
}

/// The rules, once for each certificate that the Gateways of the route present to backends, by its name.
fn build_for(
    context: &mut Context<'_>,
    gateways: &Gateways<'_>,
    route: &Route<'_>,
    listeners: &BTreeSet<usize>,
) -> Vec<(Option<Arc<str>>, Built)> {
    let mut wanted: Vec<Option<&Arc<Certificate>>> = Vec::new();
    for index in listeners {
        let gateway = &gateways.gateways[gateways.listeners[*index].gateway];
        wanted.push(gateway.client_certificate.as_ref());
    }
    if wanted.is_empty() {
        wanted.push(None);
    }
    let name = |certificate: Option<&Arc<Certificate>>| certificate.map(|c| c.name.clone());
    wanted.sort_by_key(|certificate| name(*certificate));
    wanted.dedup_by_key(|certificate| name(*certificate));
    wanted
        .into_iter()
        .map(|certificate| {
            let built = rules::build(context, &route.facts, &route.plans, certificate);
            (name(certificate), built)
        })
        .collect()
}

fn place(
    context: &mut Context<'_>,
    gateways: &mut Gateways<'_>,
    route: &Route<'_>,
    built: &[(Option<Arc<str>>, Built)],
    listeners: &BTreeSet<usize>,
    taken: &mut Taken,
    attached: &mut Attached,
) {
    let facts = &route.facts;
    let uses = std::mem::take(&mut context.service_uses);
    for index in listeners {
        let entry = &mut gateways.listeners[*index];
        entry.attached.insert((
            facts.kind,
            Key::new(&facts.meta.namespace, &facts.meta.name),
        ));
        let gateway = &gateways.gateways[entry.gateway];
        let certificate = gateway.client_certificate.as_ref().map(|c| c.name.clone());
        let Some((_, built)) = built.iter().find(|(name, _)| *name == certificate) else {
            continue;
        };
        let all_uses = attached.uses.entry(gateway.object.key()).or_default();
        for used in &uses {
            // Thousands of routes may lead to one Service.
            if !all_uses.contains(used) {
                all_uses.insert(used.clone());
            }
        }
        taken.add(*index, &entry.hostname, facts);
        if !gateways.serves(*index) {
            continue;
        }
        let entry = &gateways.listeners[*index];
        let mut entries = Vec::new();
        for rule in built.rules.iter().chain(&built.refusals) {
            let complete = chains::around(context, entry, facts, &rule.rule);
            for (at, matches) in rule.matches.iter().enumerate() {
                entries.push(RouteEntry {
                    matches: matches.clone(),
                    age: context.age(facts.meta, 0, (rule.rule.origin.index, at)),
                    rule: complete.clone(),
                });
            }
        }
        attached.placed.entry(*index).or_default().push(Placed {
            hostnames: facts.hostnames.clone(),
            entries,
        });
    }
}

fn report(
    context: &mut Context<'_>,
    gateways: &Gateways<'_>,
    route: &RouteFacts<'_>,
    parents: &[Parent],
    built: &Built,
) {
    let partial = built.partially_invalid(route.meta.generation);
    let statuses = parent_statuses(
        gateways,
        route,
        parents,
        &built.unresolved,
        partial.as_ref(),
    );
    context
        .statuses
        .entry(route.kind, route.meta, route.source)
        .parents = statuses;
}

/// What is said about a route at each of its parents.
pub(super) fn parent_statuses(
    gateways: &Gateways<'_>,
    route: &RouteFacts<'_>,
    parents: &[Parent],
    unresolved: &[Problem],
    partially_invalid: Option<&Condition>,
) -> Vec<ParentStatus> {
    let generation = route.meta.generation;
    let resolved = match Problem::joined(unresolved) {
        None => Condition::yes(
            "ResolvedRefs",
            "ResolvedRefs",
            "every reference leads somewhere",
            generation,
        ),
        Some(problem) => problem.condition("ResolvedRefs", generation),
    };
    let statuses = parents.iter().map(|parent| {
        let mut conditions = Vec::new();
        match &parent.listeners {
            Ok(listeners) => {
                let names: Vec<&str> = listeners
                    .iter()
                    .map(|index| gateways.listeners[*index].spec.name.as_str())
                    .collect();
                let message = format!("attached to listener {}", names.join(", "));
                conditions.push(Condition::yes("Accepted", "Accepted", message, generation));
            }
            Err(problem) => conditions.push(problem.condition("Accepted", generation)),
        }
        conditions.push(resolved.clone());
        if parent.listeners.is_ok() {
            conditions.extend(partially_invalid.cloned());
        }
        ParentStatus {
            parent_ref: parent.reference.clone(),
            conditions,
        }
    });
    statuses.collect()
}
