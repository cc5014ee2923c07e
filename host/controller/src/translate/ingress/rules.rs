//! Rules of an Ingress and its default backend, as entries of route tables.

use std::sync::Arc;

use tidegate_model::{
    Age, Filter, HostPattern, Labels, PathMatch, RouteEntry, RouteMatch, Rule, RuleOrigin,
    Timeouts, WeightedBackend,
};

use super::{Entry, backends, paths};
use crate::api::core::{IngressBackend, IngressRule};
use crate::translate::chains::Surroundings;
use crate::translate::context::Context;

/// A match of an Ingress with what it leads to.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) host: HostPattern,
    pub(super) entry: RouteEntry,
    /// `spec.rules[0].http.paths[1]`
    pub(super) place: String,
    /// How a default backend comes in; none for rules.
    pub(super) default: Option<DefaultFor>,
}

/// Which requests a default backend takes. The order is that of precedence among default backends of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DefaultFor {
    /// Requests for a host of the Ingress's own rules that match none of them.
    OwnHost,
    /// Every request that nothing else takes: the Ingress has no rules.
    Everything,
    /// The same, of an Ingress whose rules are for other hosts.
    OtherHosts,
}

/// Fills `entry.plans`.
pub(super) fn plan(
    context: &mut Context<'_>,
    entry: &mut Entry<'_>,
    own: &[Filter],
    around: &Surroundings,
) {
    let object = entry.object;
    let rules = object.spec.rules.as_deref().unwrap_or_default();
    let mut maker = Maker {
        context,
        own,
        around,
    };
    for (index, rule) in rules.iter().enumerate() {
        maker.rule(entry, index, rule);
    }
    if let Some(backend) = &object.spec.default_backend {
        maker.default_backend(entry, backend, rules);
    } else if rules.is_empty() {
        entry
            .warnings
            .push("there are neither rules nor a defaultBackend, so nothing is served".to_owned());
    }
}

struct Maker<'m, 'a> {
    context: &'m mut Context<'a>,
    own: &'m [Filter],
    around: &'m Surroundings,
}

impl Maker<'_, '_> {
    fn rule(&mut self, entry: &mut Entry<'_>, index: usize, rule: &IngressRule) {
        let host = host(rule);
        let Some(http) = &rule.http else {
            if entry.object.spec.default_backend.is_none() {
                entry.warnings.push(format!("spec.rules[{index}] has no http.paths, and there is no defaultBackend for its requests"));
            }
            return;
        };
        for (at, path) in http.paths.iter().enumerate() {
            let place = format!("spec.rules[{index}].http.paths[{at}]");
            let matches = match paths::read(path) {
                Ok((matches, odd)) => {
                    entry
                        .warnings
                        .extend(odd.map(|odd| format!("{place}: {odd}")));
                    matches
                }
                Err(problem) => {
                    entry.refused.push(problem.at(&place));
                    continue;
                }
            };
            let backend = self.backend(entry, &path.backend, &format!("{place}.backend"));
            let rule = self.complete(entry, index, None, backend);
            let age = self.context.age(&entry.object.meta, 1, (index, at));
            entry.plans.push(Plan {
                host: host.clone(),
                entry: route(matches, age, rule),
                place,
                default: None,
            });
        }
    }

    /// "If none of the hosts or paths match the HTTP request in the Ingress objects, the traffic is routed to your default
    /// backend" (Ingress, "DefaultBackend"): so it stands under the Ingress's own hosts, and under no host, behind
    /// everything else in both places.
    fn default_backend(
        &mut self,
        entry: &mut Entry<'_>,
        backend: &IngressBackend,
        rules: &[IngressRule],
    ) {
        let place = "spec.defaultBackend";
        let backend = self.backend(entry, backend, place);
        let rule = self.complete(entry, rules.len(), Some("defaultBackend"), backend);
        let mut hosts: Vec<(HostPattern, DefaultFor)> = Vec::new();
        for host in rules.iter().map(host) {
            if !hosts.iter().any(|(known, _)| *known == host) {
                hosts.push((host, DefaultFor::OwnHost));
            }
        }
        if rules.is_empty() {
            hosts.push((HostPattern::Any, DefaultFor::Everything));
        } else if hosts.iter().all(|(host, _)| *host != HostPattern::Any) {
            hosts.push((HostPattern::Any, DefaultFor::OtherHosts));
        }
        for (at, (host, default)) in hosts.into_iter().enumerate() {
            let age = self.last(entry, default, (rules.len(), at));
            entry.plans.push(Plan {
                host,
                entry: route(PathMatch::prefix("/"), age, rule.clone()),
                place: place.to_owned(),
                default: Some(default),
            });
        }
    }

    /// An age that comes after that of every object, so that a rule for `/` goes before any default backend; among default
    /// backends the order is that of [`DefaultFor`], then of age.
    fn last(&self, entry: &Entry<'_>, default: DefaultFor, place: (usize, usize)) -> Age {
        const LAST: u64 = 1 << 63;
        let group = match default {
            DefaultFor::OwnHost => 0,
            DefaultFor::Everything => 1,
            DefaultFor::OtherHosts => 2,
        };
        let rank = u64::try_from(entry.rank).unwrap_or(u64::MAX >> 4);
        Age {
            created: (i64::MAX, LAST + (group << 60) + rank),
            ..self.context.age(&entry.object.meta, 1, place)
        }
    }

    fn backend(
        &mut self,
        entry: &mut Entry<'_>,
        backend: &IngressBackend,
        place: &str,
    ) -> WeightedBackend {
        let field = if backend.resource.is_some() {
            "resource"
        } else {
            "service"
        };
        let place = format!("{place}.{field}");
        let (backend, outcome) =
            backends::resolve(self.context, &entry.object.meta.namespace, backend);
        entry
            .unresolved
            .extend(outcome.err().map(|problem| problem.at(&place)));
        backend
    }

    fn complete(
        &self,
        entry: &Entry<'_>,
        index: usize,
        name: Option<&str>,
        backend: WeightedBackend,
    ) -> Arc<Rule> {
        let meta = &entry.object.meta;
        let rule = Arc::new(Rule {
            origin: RuleOrigin::new("Ingress", &meta.namespace, &meta.name, index, name),
            filters: self.own.to_vec(),
            backends: vec![backend],
            timeouts: Timeouts::default(),
            retry: None,
            session: None,
            access_log: true,
        });
        self.around.put_around(&rule)
    }
}

/// The host of a rule; its wildcard stands for one label ("the wildcard … covers a single DNS label").
pub(super) fn host(rule: &IngressRule) -> HostPattern {
    HostPattern::parse(rule.host.as_deref().unwrap_or_default(), Labels::One)
}

fn route(path: PathMatch, age: Age, rule: Arc<Rule>) -> RouteEntry {
    RouteEntry {
        matches: RouteMatch::path(path),
        age,
        rule,
    }
}
