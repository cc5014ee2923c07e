//! TLSRoutes, TCPRoutes and UDPRoutes: listeners of their protocols are not served yet, and their statuses say so.

use super::context::{Context, by_age};
use super::gateways::Gateways;
use super::parents;
use super::problem::Problem;
use super::routes::RouteFacts;
use crate::status::{Condition, ParentStatus};

/// Writes the statuses of all of them.
pub(super) fn report(context: &mut Context<'_>, gateways: &Gateways<'_>) {
    let resources = context.resources;
    for object in by_age(&resources.tls_routes) {
        let spec = &object.spec;
        let facts = RouteFacts::new(
            object,
            &spec.parent_refs,
            spec.use_default_gateways.as_deref(),
            &spec.hostnames,
        );
        refuse(context, gateways, &facts);
    }
    for object in by_age(&resources.tcp_routes) {
        let spec = &object.spec;
        let facts = RouteFacts::new(
            object,
            &spec.parent_refs,
            spec.use_default_gateways.as_deref(),
            &[],
        );
        refuse(context, gateways, &facts);
    }
    for object in by_age(&resources.udp_routes) {
        let spec = &object.spec;
        let facts = RouteFacts::new(
            object,
            &spec.parent_refs,
            spec.use_default_gateways.as_deref(),
            &[],
        );
        refuse(context, gateways, &facts);
    }
}

fn refuse(context: &mut Context<'_>, gateways: &Gateways<'_>, route: &RouteFacts<'_>) {
    let parents = parents::find(context, gateways, route);
    if parents.is_empty() {
        return;
    }
    let generation = route.meta.generation;
    let refusal = Problem::new(
        "NotAllowedByListeners",
        format!(
            "routes of kind {} are not supported yet: no listener takes them; use HTTPRoute or GRPCRoute",
            route.kind
        ),
    );
    let statuses = parents.into_iter().map(|parent| {
        let problem = match parent.listeners {
            Err(problem) if problem.reason == "NoMatchingParent" => problem,
            _ => refusal.clone(),
        };
        ParentStatus {
            parent_ref: parent.reference,
            conditions: vec![
                problem.condition("Accepted", generation),
                Condition::new(
                    "ResolvedRefs",
                    crate::status::ConditionStatus::Unknown,
                    "Pending",
                    "references of a route that is not accepted are not followed",
                    generation,
                ),
            ],
        }
    });
    let statuses: Vec<_> = statuses.collect();
    context
        .statuses
        .entry(route.kind, route.meta, route.source)
        .parents = statuses;
}
