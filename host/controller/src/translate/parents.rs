//! Attachment: which listeners a route's parents offer it.

use std::fmt;

use super::context::Context;
use super::gateways::Gateways;
use super::listeners::Entry;
use super::namespaces;
use super::problem::Problem;
use super::routes::RouteFacts;
use crate::api::reference::ParentReference;
use crate::api::{Key, Kind};

/// A parent of ours, and the listeners it gives.
#[derive(Debug)]
pub(super) struct Parent {
    /// As in the route.
    pub(super) reference: ParentReference,
    /// Indices of listeners that take the route, or why none does.
    pub(super) listeners: Result<Vec<usize>, Problem>,
}

/// The parents of ours, in the order of `parentRefs`; then default Gateways (`useDefaultGateways`).
pub(super) fn find(
    context: &mut Context<'_>,
    gateways: &Gateways<'_>,
    route: &RouteFacts<'_>,
) -> Vec<Parent> {
    let mut parents = Vec::new();
    let mut missing = Vec::new();
    let defaults = default_gateways(gateways, route);
    for reference in route.parents.iter().cloned().chain(defaults) {
        match candidates(gateways, route, &reference) {
            Some(candidates) => {
                let listeners =
                    candidates.and_then(|found| admit(context, gateways, route, &reference, found));
                parents.push(Parent {
                    reference,
                    listeners,
                });
            }
            None => missing.push(foreign(context, route, &reference)),
        }
    }
    if parents.is_empty() {
        let why = if missing.is_empty() {
            "spec.parentRefs is empty".to_owned()
        } else {
            let all: Vec<String> = missing.iter().map(ToString::to_string).collect();
            all.join("; ")
        };
        let status = context.statuses.entry(route.kind, route.meta, route.source);
        status.ignored = Some(why);
    } else {
        for missing in missing.iter().filter(|missing| !missing.exists) {
            let status = context.statuses.entry(route.kind, route.meta, route.source);
            status.warn(missing.to_string());
        }
    }
    parents
}

/// A parent that is not ours.
struct Foreign {
    what: String,
    /// Whether somebody else may well know it.
    exists: bool,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

fn foreign(context: &Context<'_>, route: &RouteFacts<'_>, reference: &ParentReference) -> Foreign {
    let namespace = reference
        .namespace
        .as_deref()
        .unwrap_or(&route.meta.namespace);
    let (kind, name) = (&reference.kind, &reference.name);
    let key = Key::new(namespace, name);
    let exists = match Kind::of_group(&reference.group, kind) {
        Some(Kind::Gateway) => context.resources.gateways.contains_key(&key),
        Some(Kind::ListenerSet) => context.resources.listener_sets.contains_key(&key),
        _ => {
            return Foreign {
                what: format!("parentRef {kind} {key}: routes do not attach to this kind here"),
                exists: true,
            };
        }
    };
    let what = if exists {
        format!("parentRef {kind} {key} is not one of this controller")
    } else {
        format!("parentRef {kind} {key} does not exist: create it or correct the reference")
    };
    Foreign { what, exists }
}

/// Gateways that take routes by default and are not named by the route itself.
fn default_gateways(gateways: &Gateways<'_>, route: &RouteFacts<'_>) -> Vec<ParentReference> {
    if route.use_default_gateways != Some("All") {
        return Vec::new();
    }
    let named = |namespace: &str, name: &str| {
        route.parents.iter().any(|parent| {
            parent.kind == Kind::Gateway.name()
                && parent.name == name
                && parent.namespace.as_deref().unwrap_or(&route.meta.namespace) == namespace
        })
    };
    gateways
        .gateways
        .iter()
        .map(|gateway| gateway.object)
        .filter(|gateway| gateway.spec.default_scope.as_deref() == Some("All"))
        .filter(|gateway| !named(&gateway.meta.namespace, &gateway.meta.name))
        .map(|gateway| ParentReference {
            group: Kind::Gateway.group().to_owned(),
            kind: Kind::Gateway.name().to_owned(),
            namespace: Some(gateway.meta.namespace.clone()),
            name: gateway.meta.name.clone(),
            section_name: None,
            port: None,
        })
        .collect()
}

/// The listeners that the reference names; `None` if the parent is not ours.
fn candidates(
    gateways: &Gateways<'_>,
    route: &RouteFacts<'_>,
    reference: &ParentReference,
) -> Option<Result<Vec<usize>, Problem>> {
    if reference.group != Kind::Gateway.group() {
        return None;
    }
    let namespace = reference
        .namespace
        .as_deref()
        .unwrap_or(&route.meta.namespace);
    let all: Vec<usize> = match reference.kind.as_str() {
        "Gateway" => gateways
            .own(gateways.find(namespace, &reference.name)?)
            .collect(),
        "ListenerSet" => {
            let set = gateways.find_set(namespace, &reference.name)?;
            if let Err(problem) = &gateways.sets[set].allowed {
                return Some(Err(Problem::new(
                    "NoMatchingParent",
                    format!(
                        "ListenerSet {namespace}/{} is not accepted: {}",
                        reference.name, problem.message
                    ),
                )));
            }
            gateways.of_set(set).collect()
        }
        _ => return None,
    };
    let found: Vec<usize> = all
        .iter()
        .copied()
        .filter(|index| names(reference, &gateways.listeners[*index]))
        .collect();
    if !found.is_empty() {
        return Some(Ok(found));
    }
    let offered: Vec<String> = all
        .iter()
        .map(|index| &gateways.listeners[*index].spec)
        .map(|spec| format!("{} on port {}", spec.name, spec.port))
        .collect();
    Some(Err(Problem::new(
        "NoMatchingParent",
        format!(
            "{} {namespace}/{} has no listener{}{}; its listeners are {}",
            reference.kind,
            reference.name,
            reference
                .section_name
                .iter()
                .map(|name| format!(" named {name}"))
                .collect::<String>(),
            reference
                .port
                .iter()
                .map(|port| format!(" on port {port}"))
                .collect::<String>(),
            offered.join(", ")
        ),
    )))
}

fn names(reference: &ParentReference, entry: &Entry<'_>) -> bool {
    let section = reference
        .section_name
        .as_deref()
        .filter(|section| !section.is_empty());
    section.is_none_or(|section| section == entry.spec.name)
        && reference.port.is_none_or(|port| port == entry.spec.port)
}

/// The listeners whose kinds, namespaces and hostname admit the route.
fn admit(
    context: &Context<'_>,
    gateways: &Gateways<'_>,
    route: &RouteFacts<'_>,
    reference: &ParentReference,
    candidates: Vec<usize>,
) -> Result<Vec<usize>, Problem> {
    let (group, kind) = (route.kind.group(), route.kind.name());
    let takes = |entry: &Entry<'_>| {
        let mut kinds = entry.kinds.iter();
        kinds.any(|taken| taken.group == group && taken.kind == kind)
    };
    let parent = format_args!("{} {}", reference.kind, reference.name);
    let of_kind: Vec<usize> = candidates
        .into_iter()
        .filter(|index| takes(&gateways.listeners[*index]))
        .collect();
    if of_kind.is_empty() {
        return Err(Problem::new(
            "NotAllowedByListeners",
            format!(
                "no listener of {parent} takes routes of kind {}: its owner has to allow the kind in allowedRoutes.kinds of a listener that speaks {}",
                route.kind,
                match route.kind {
                    Kind::TlsRoute => "TLS",
                    Kind::TcpRoute => "TCP",
                    Kind::UdpRoute => "UDP",
                    _ => "HTTP or HTTPS",
                }
            ),
        ));
    }
    let allowed: Vec<usize> = of_kind
        .into_iter()
        .filter(|index| {
            let entry = &gateways.listeners[*index];
            let rule = &entry.spec.allowed_routes.namespaces;
            namespaces::allow(
                context,
                &rule.from,
                rule.selector.as_ref(),
                entry.owner.namespace(),
                &route.meta.namespace,
            )
        })
        .collect();
    if allowed.is_empty() {
        return Err(Problem::new(
            "NotAllowedByListeners",
            format!(
                "no listener of {parent} takes routes of namespace {}: its owner has to allow the namespace in allowedRoutes.namespaces",
                route.meta.namespace
            ),
        ));
    }
    let matching: Vec<usize> = allowed
        .iter()
        .copied()
        .filter(|index| route.meets(&gateways.listeners[*index].hostname))
        .collect();
    if matching.is_empty() {
        let theirs: Vec<String> = allowed
            .iter()
            .map(|index| gateways.listeners[*index].hostname.to_string())
            .collect();
        let ours: Vec<String> = route.hostnames.iter().map(ToString::to_string).collect();
        return Err(Problem::new(
            "NoMatchingListenerHostname",
            format!(
                "spec.hostnames ({}) and the hostnames of the listeners of {parent} ({}) have nothing in common",
                ours.join(", "),
                theirs.join(", ")
            ),
        ));
    }
    Ok(matching)
}
