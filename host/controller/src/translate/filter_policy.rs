//! FilterPolicies: what each one targets, and what is said about it.

use std::collections::HashMap;

use super::absent::absent;
use super::chains::Chains;
use super::classes::{Class, Classes};
use super::context::{Context, by_age};
use super::filters;
use super::grants::{Grants, Referent, Referrer, remedy};
use super::ingress::Ingresses;
use super::problem::Problem;
use crate::api::reference::{ParentReference, PolicyTargetReference};
use crate::api::tidegate::{FilterPolicy, Stage};
use crate::api::{Key, Kind};
use crate::resources::Resources;
use crate::status::{AncestorStatus, Condition};

/// What a policy applies to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// Gateway, HTTPRoute, GRPCRoute, Ingress or Namespace.
    pub(super) kind: Kind,
    /// Its name; a Namespace has no namespace.
    pub(super) key: Key,
    /// A listener or rule of it.
    pub(super) section: Option<String>,
}

/// All policies by target, the oldest first. Several policies on one target do not conflict: they add up.
#[derive(Debug, Default)]
pub(super) struct Policies<'a> {
    by_target: HashMap<Target, Vec<&'a FilterPolicy>>,
}

impl<'a> Policies<'a> {
    /// Indexes the policies that may apply to what they target.
    pub(super) fn new(resources: &'a Resources, grants: &Grants<'_>) -> Self {
        let mut by_target: HashMap<Target, Vec<&FilterPolicy>> = HashMap::new();
        for policy in by_age(&resources.filter_policies) {
            for reference in &policy.spec.target_refs {
                if let Ok(target) = target(grants, policy, reference) {
                    let listed = by_target.entry(target).or_default();
                    // The same target twice means it once.
                    if !listed.iter().any(|known| known.key() == policy.key()) {
                        listed.push(policy);
                    }
                }
            }
        }
        Self { by_target }
    }

    /// The policies of one stage on this target.
    pub(super) fn on(
        &self,
        target: &Target,
        stage: Stage,
    ) -> impl Iterator<Item = &'a FilterPolicy> + '_ {
        let listed = self.by_target.get(target).map_or(&[][..], Vec::as_slice);
        listed
            .iter()
            .copied()
            .filter(move |policy| policy.spec.stage == stage)
    }

    /// Whether there are none at all.
    pub(super) fn is_empty(&self) -> bool {
        self.by_target.is_empty()
    }
}

/// What the reference means, if the policy may apply there: in its own namespace always, to another namespace as a whole
/// by a grant.
fn target(
    grants: &Grants<'_>,
    policy: &FilterPolicy,
    reference: &PolicyTargetReference,
) -> Result<Target, Problem> {
    let kind = Kind::of_group(&reference.group, &reference.kind);
    let section = reference
        .section_name
        .clone()
        .filter(|section| !section.is_empty());
    let own = &policy.meta.namespace;
    match kind {
        Some(kind @ (Kind::Gateway | Kind::HttpRoute | Kind::GrpcRoute | Kind::Ingress)) => {
            Ok(Target {
                kind,
                key: Key::new(own, &reference.name),
                section,
            })
        }
        Some(Kind::Namespace) => {
            let from = Referrer {
                group: Kind::FilterPolicy.group(),
                kind: Kind::FilterPolicy.name(),
                namespace: own,
            };
            let to = Referent {
                group: "",
                kind: "Namespace",
                namespace: &reference.name,
                name: &reference.name,
            };
            if !grants.permit(from, to) {
                return Err(Problem::new(
                    "RefNotPermitted",
                    format!(
                        "Namespace {} is not the policy's own ({own}), and no ReferenceGrant there allows it: {}",
                        reference.name,
                        remedy(from, to)
                    ),
                ));
            }
            Ok(Target {
                kind: Kind::Namespace,
                key: Key::new("", &reference.name),
                section: None,
            })
        }
        _ => Err(Problem::new(
            "Invalid",
            format!(
                "{} of group {:?} cannot be a target; use Gateway, HTTPRoute, GRPCRoute, Ingress or Namespace",
                reference.kind, reference.group
            ),
        )),
    }
}

/// Writes the statuses of all policies: for each target whether it is there, and for the policy as a whole whether it
/// applies anywhere.
pub(super) fn report(context: &mut Context<'_>, classes: &Classes, ingresses: &Ingresses) {
    for policy in context.resources.filter_policies.values() {
        let generation = policy.meta.generation;
        let resolved = match Problem::joined(&unresolved(context, policy)) {
            None => Condition::yes(
                "ResolvedRefs",
                "ResolvedRefs",
                "every reference leads somewhere",
                generation,
            ),
            Some(problem) => problem.condition("ResolvedRefs", generation),
        };
        let mut ancestors: Vec<AncestorStatus> = Vec::new();
        let mut problems = Vec::new();
        for (index, reference) in policy.spec.target_refs.iter().enumerate() {
            let found = target(&context.grants, policy, reference)
                .and_then(|target| exists(context.resources, classes, ingresses, &target))
                .map_err(|problem| problem.at(&format!("spec.targetRefs[{index}]")));
            let accepted = match found {
                Ok(()) => Condition::yes(
                    "Accepted",
                    "Accepted",
                    "the policy applies to this target",
                    generation,
                ),
                Err(problem) => {
                    let condition = problem.condition("Accepted", generation);
                    problems.push(problem);
                    condition
                }
            };
            ancestors.push(AncestorStatus {
                ancestor_ref: ancestor(policy, reference),
                conditions: vec![accepted, resolved.clone()],
            });
        }
        let status = context.statuses.of(policy);
        status.set(match Problem::joined(&problems) {
            None => Condition::yes(
                "Accepted",
                "Accepted",
                "the policy applies to every target",
                generation,
            ),
            // A policy that was meant to protect and misses a target must not look healthy.
            Some(problem) => problem.condition("Accepted", generation),
        });
        status.set(resolved);
        status.ancestors = ancestors;
    }
}

fn unresolved(context: &mut Context<'_>, policy: &FilterPolicy) -> Vec<Problem> {
    let from = Chains::policy_referrer(policy);
    let mut problems = Vec::new();
    for (index, filter) in policy.spec.filters.iter().enumerate() {
        if let Err(problem) = filters::check(context, from, &policy.meta.namespace, &filter.name) {
            problems.push(problem.at(&format!("spec.filters[{index}]")));
        }
    }
    problems
}

/// Whether the target is there and ours.
fn exists(
    resources: &Resources,
    classes: &Classes,
    ingresses: &Ingresses,
    target: &Target,
) -> Result<(), Problem> {
    let (kind, key) = (target.kind, &target.key);
    // A namespace is there as soon as something is in it; manifests rarely spell it out.
    if kind != Kind::Namespace && !resources.contains(kind, key) {
        let message = absent(resources, kind, &key.namespace, &key.name);
        return Err(Problem::new("TargetNotFound", message));
    }
    let foreign = match kind {
        Kind::Gateway => foreign_gateway(resources, classes, key).then_some("gatewayClassName"),
        Kind::Ingress => (!ingresses.serves(key)).then_some("ingressClassName"),
        _ => None,
    };
    if let Some(field) = foreign {
        return Err(Problem::new(
            "TargetNotFound",
            format!(
                "{kind} {key} is not one of this controller: correct its spec.{field} or the reference"
            ),
        ));
    }
    let Some(section) = &target.section else {
        return Ok(());
    };
    let sections = sections(resources, kind, key);
    if sections.contains(&section.as_str()) {
        return Ok(());
    }
    let part = if kind == Kind::Gateway {
        "listener"
    } else {
        "rule"
    };
    let known = if sections.is_empty() {
        "none".to_owned()
    } else {
        sections.join(", ")
    };
    Err(Problem::new(
        "TargetNotFound",
        format!("{kind} {key} has no {part} named {section:?}; it has {known}"),
    ))
}

fn foreign_gateway(resources: &Resources, classes: &Classes, key: &Key) -> bool {
    let class = resources
        .gateways
        .get(key)
        .and_then(|gateway| classes.get(&gateway.spec.gateway_class_name));
    !matches!(class, Some(Class::Ours | Class::Unusable(_)))
}

/// The names of listeners or rules.
fn sections<'a>(resources: &'a Resources, kind: Kind, key: &Key) -> Vec<&'a str> {
    match kind {
        Kind::Gateway => {
            let listeners = resources
                .gateways
                .get(key)
                .into_iter()
                .flat_map(|gateway| &gateway.spec.listeners);
            listeners.map(|listener| listener.name.as_str()).collect()
        }
        Kind::HttpRoute => {
            let rules = resources
                .http_routes
                .get(key)
                .into_iter()
                .flat_map(|route| &route.spec.rules);
            rules.filter_map(|rule| rule.name.as_deref()).collect()
        }
        Kind::GrpcRoute => {
            let rules = resources
                .grpc_routes
                .get(key)
                .into_iter()
                .flat_map(|route| &route.spec.rules);
            rules.filter_map(|rule| rule.name.as_deref()).collect()
        }
        _ => Vec::new(),
    }
}

fn ancestor(policy: &FilterPolicy, reference: &PolicyTargetReference) -> ParentReference {
    let namespaced = reference.kind != Kind::Namespace.name();
    ParentReference {
        group: reference.group.clone(),
        kind: reference.kind.clone(),
        namespace: namespaced.then(|| policy.meta.namespace.clone()),
        name: reference.name.clone(),
        section_name: reference.section_name.clone(),
        port: None,
    }
}
