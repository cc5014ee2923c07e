//! GatewayConfigs: what the parameters of a class ask for, and what is said about them.

use std::collections::{BTreeSet, HashMap};

use super::context::Context;
use super::filters;
use super::grants::Referrer;
use super::options::Options;
use super::problem::Problem;
use crate::api::tidegate::{FilterRef, GatewayConfig};
use crate::api::{Key, Kind};
use crate::resources::Resources;
use crate::status::Condition;

/// The GatewayConfigs of our GatewayClasses, by class.
pub(super) fn of_gateway_classes<'a>(
    resources: &'a Resources,
    options: &Options,
) -> HashMap<&'a str, &'a GatewayConfig> {
    resources
        .gateway_classes
        .values()
        .filter(|class| class.spec.controller_name == options.controller_name)
        .filter_map(|class| {
            let reference = class.spec.parameters_ref.as_ref()?;
            let ours = reference.group == Kind::GatewayConfig.group()
                && reference.kind == Kind::GatewayConfig.name();
            let namespace = reference.namespace.as_deref().filter(|_| ours)?;
            let config = resources
                .gateway_configs
                .get(&Key::new(namespace, &reference.name))?;
            Some((class.meta.name.as_str(), &**config))
        })
        .collect()
}

/// The GatewayConfig as a referrer, for grants.
pub(super) fn referrer(config: &GatewayConfig) -> Referrer<'_> {
    Referrer {
        group: Kind::GatewayConfig.group(),
        kind: Kind::GatewayConfig.name(),
        namespace: &config.meta.namespace,
    }
}

/// Writes the statuses of all GatewayConfigs; `of_ingress_classes` are those of our IngressClasses.
///
/// `overruled` are those whose settings do not hold somewhere, and why.
pub(super) fn report(
    context: &mut Context<'_>,
    of_ingress_classes: &BTreeSet<Key>,
    overruled: &BTreeSet<(Key, String)>,
) {
    let of_gateway_classes = of_gateway_classes(context.resources, context.options);
    let mut used = of_ingress_classes.clone();
    used.extend(of_gateway_classes.values().map(|config| config.key()));
    for config in context.resources.gateway_configs.values() {
        let generation = config.meta.generation;
        let lists = &config.spec.filters;
        let mut problems = check(context, config, "before", &lists.before);
        problems.extend(check(context, config, "after", &lists.after));
        let resolved = match Problem::joined(&problems) {
            None => Condition::yes(
                "ResolvedRefs",
                "ResolvedRefs",
                "every reference leads somewhere",
                generation,
            ),
            Some(problem) => problem.condition("ResolvedRefs", generation),
        };
        let status = context.statuses.of(config);
        status.set(Condition::yes(
            "Accepted",
            "Accepted",
            "the GatewayConfig is valid",
            generation,
        ));
        status.set(resolved);
        if !used.contains(&config.key()) {
            status.warn("no GatewayClass or IngressClass of this controller refers to it, so it has no effect");
        }
        for (_, why) in overruled.iter().filter(|(key, _)| *key == config.key()) {
            status.warn(why);
        }
    }
}

/// Which of its filters lead nowhere. Looked at without making them part of the snapshot.
fn check(
    context: &mut Context<'_>,
    config: &GatewayConfig,
    list: &str,
    filters: &[FilterRef],
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, filter) in filters.iter().enumerate() {
        let namespace = filter
            .namespace
            .as_deref()
            .unwrap_or(&config.meta.namespace);
        if let Err(problem) = filters::check(context, referrer(config), namespace, &filter.name) {
            problems.push(problem.at(&format!("spec.filters.{list}[{index}]")));
        }
    }
    problems
}
