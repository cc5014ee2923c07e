//! Chains: the filters that platform teams put around a rule's own.
//!
//! ```text
//!   class before │ FilterPolicies Before: Gateway, listener, Namespace, route, rule │ own │
//!                  FilterPolicies After: rule, route, Namespace, listener, Gateway │ class after
//! ```
//!
//! What stands further out belongs to whoever is responsible for more: a route's owner can add to the chain and cannot
//! take from it, because neither the class nor the Gateway is theirs. On one place the older policy is the outer one.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_model::{Filter, Rule};

use super::context::Context;
use super::filter_policy::{Policies, Target};
use super::filters;
use super::gateway_config;
use super::grants::{Grants, Referrer};
use super::listeners::{Entry, Owner};
use super::options::Options;
use super::routes::RouteFacts;
use crate::api::tidegate::{FilterPolicy, FilterRef, GatewayConfig, Stage};
use crate::api::{Key, Kind};
use crate::resources::Resources;

/// Who puts what around rules.
#[derive(Debug, Default)]
pub(super) struct Chains<'a> {
    policies: Policies<'a>,
    /// By Gateway.
    configs: HashMap<Key, &'a GatewayConfig>,
}

/// The filters around a rule's own.
#[derive(Debug)]
pub(super) struct Surroundings {
    before: Vec<Filter>,
    after: Vec<Filter>,
    access_log: bool,
    /// References that lead nowhere, for the owner of the route: its requests are refused because of them.
    pub(super) unresolved: Vec<String>,
}

/// A filter that somebody other than the route asks for.
struct Wanted<'a> {
    /// `FilterPolicy shop/auth`
    by: String,
    from: Referrer<'a>,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Chains<'a> {
    /// Reads who asks for what.
    pub(super) fn new(resources: &'a Resources, grants: &Grants<'_>, options: &Options) -> Self {
        let classes = gateway_config::of_gateway_classes(resources, options);
        let configs = resources.gateways.values().filter_map(|gateway| {
            let config = classes.get(gateway.spec.gateway_class_name.as_str())?;
            Some((gateway.key(), *config))
        });
        Self {
            policies: Policies::new(resources, grants),
            configs: configs.collect(),
        }
    }

    /// The GatewayConfig of a Gateway's class.
    pub(super) fn config(&self, gateway: &Key) -> Option<&'a GatewayConfig> {
        self.configs.get(gateway).copied()
    }

    /// A policy as a referrer, for grants.
    pub(super) fn policy_referrer(policy: &FilterPolicy) -> Referrer<'_> {
        Referrer {
            group: Kind::FilterPolicy.group(),
            kind: Kind::FilterPolicy.name(),
            namespace: &policy.meta.namespace,
        }
    }

    /// What is asked for around the places, which come from the outermost to the innermost.
    fn wanted(
        &self,
        config: Option<&'a GatewayConfig>,
        places: &[Target],
        stage: Stage,
    ) -> Vec<Wanted<'a>> {
        let mut wanted = Vec::new();
        let class = |list: fn(&GatewayConfig) -> &[FilterRef]| {
            config.into_iter().flat_map(move |config| {
                list(config).iter().map(move |filter| Wanted {
                    by: config.to_string(),
                    from: gateway_config::referrer(config),
                    namespace: filter
                        .namespace
                        .as_deref()
                        .unwrap_or(&config.meta.namespace),
                    name: &filter.name,
                })
            })
        };
        let policies = |place: &Target| {
            let on: Vec<&'a FilterPolicy> = self.policies.on(place, stage).collect();
            on.into_iter().flat_map(|policy| {
                policy.spec.filters.iter().map(move |filter| Wanted {
                    by: policy.to_string(),
                    from: Self::policy_referrer(policy),
                    namespace: &policy.meta.namespace,
                    name: &filter.name,
                })
            })
        };
        match stage {
            Stage::Before => {
                wanted.extend(class(|config| &config.spec.filters.before));
                wanted.extend(places.iter().flat_map(policies));
            }
            Stage::After => {
                wanted.extend(places.iter().rev().flat_map(policies));
                wanted.extend(class(|config| &config.spec.filters.after));
            }
        }
        wanted
    }
}

impl Surroundings {
    fn nothing() -> Self {
        Self {
            before: Vec::new(),
            after: Vec::new(),
            access_log: true,
            unresolved: Vec::new(),
        }
    }

    /// The rule with these filters around its own; the rule itself where there is nothing to add, so that listeners share
    /// it.
    pub(super) fn put_around(&self, rule: &Arc<Rule>) -> Arc<Rule> {
        if self.before.is_empty() && self.after.is_empty() && self.access_log == rule.access_log {
            return rule.clone();
        }
        let own = rule.filters.iter();
        Arc::new(Rule {
            filters: self
                .before
                .iter()
                .chain(own)
                .chain(&self.after)
                .cloned()
                .collect(),
            access_log: self.access_log,
            ..Rule::clone(rule)
        })
    }
}

/// The rule as it holds on this listener.
pub(super) fn around(
    context: &mut Context<'_>,
    listener: &Entry<'_>,
    route: &RouteFacts<'_>,
    rule: &Arc<Rule>,
) -> Arc<Rule> {
    let gateway = gateway(listener);
    let config = context.chains.config(&gateway);
    if config.is_none() && context.chains.policies.is_empty() {
        return rule.clone();
    }
    let mut places = vec![place(Kind::Gateway, gateway.clone(), None)];
    // A policy names listeners of the Gateway; those of ListenerSets are somebody else's and may bear the same name.
    if listener.set.is_none() {
        places.push(place(Kind::Gateway, gateway, Some(&listener.spec.name)));
    }
    let own = Key::new(&route.meta.namespace, &route.meta.name);
    places.push(place(
        Kind::Namespace,
        Key::new("", &route.meta.namespace),
        None,
    ));
    places.push(place(route.kind, own.clone(), None));
    if let Some(name) = &rule.origin.rule {
        places.push(place(route.kind, own, Some(name)));
    }
    let surroundings = surroundings(context, config, &places);
    for message in &surroundings.unresolved {
        context
            .statuses
            .entry(route.kind, route.meta, route.source)
            .warn(message.clone());
    }
    surroundings.put_around(rule)
}

/// What stands around the rules of an Ingress.
pub(super) fn around_ingress<'a>(
    context: &mut Context<'a>,
    config: Option<&'a GatewayConfig>,
    ingress: &Key,
) -> Surroundings {
    if config.is_none() && context.chains.policies.is_empty() {
        return Surroundings::nothing();
    }
    let places = [
        place(Kind::Namespace, Key::new("", &ingress.namespace), None),
        place(Kind::Ingress, ingress.clone(), None),
    ];
    surroundings(context, config, &places)
}

fn surroundings<'a>(
    context: &mut Context<'a>,
    config: Option<&'a GatewayConfig>,
    places: &[Target],
) -> Surroundings {
    let mut unresolved = Vec::new();
    let mut stage = |context: &mut Context<'a>, stage| {
        let wanted = context.chains.wanted(config, places, stage);
        let mut filters = Vec::new();
        for wish in wanted {
            let (filter, found) = filters::resolve(context, wish.from, wish.namespace, wish.name);
            if let Err(problem) = found {
                unresolved.push(format!(
                    "{} puts a filter here that cannot be found, so requests are answered 500: {}",
                    wish.by, problem.message
                ));
            }
            filters.push(filter);
        }
        filters
    };
    let before = stage(context, Stage::Before);
    let after = stage(context, Stage::After);
    Surroundings {
        before,
        after,
        access_log: config.is_none_or(|config| config.spec.access_log.enabled),
        unresolved,
    }
}

fn place(kind: Kind, key: Key, section: Option<&str>) -> Target {
    Target {
        kind,
        key,
        section: section.map(str::to_owned),
    }
}

/// The Gateway that a listener belongs to, through its ListenerSet if need be.
fn gateway(listener: &Entry<'_>) -> Key {
    match listener.owner {
        Owner::Gateway(gateway) => gateway.key(),
        Owner::Set(set) => {
            let parent = &set.spec.parent_ref;
            Key::new(
                parent.namespace.as_deref().unwrap_or(&set.meta.namespace),
                &parent.name,
            )
        }
    }
}
