//! Rules of an Ingress and its default backend, as entries of route tables.

use std::sync::Arc;

use tidegate_model::{
    Age, Filter, HostPattern, Labels, PathMatch, RouteEntry, RouteMatch, Rule, RuleOrigin,
    Timeouts, WeightedBackend,
};

use super::annotations::{self, Protocol, Survey};
use super::{Entry, backends, paths};
use crate::api::core::{HTTPIngressPath, IngressBackend, IngressRule};
use crate::translate::chains::Surroundings;
use crate::translate::context::Context;

/// A match of an Ingress with what it leads to.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) host: HostPattern,
    pub(super) entry: RouteEntry,
    /// `spec.rules[0].http.paths[1]`
    pub(super) place: String,
    /// How a default backend comes in; none for rules.
    pub(super) default: Option<DefaultFor>,
    /// The path as it was written, of an Ingress that is read with annotations.
    pub(super) written: Option<Written>,
    /// Why every request is refused.
    pub(super) closed: Option<String>,
    /// What is done with requests in the clear, where that differs from those over TLS.
    pub(super) clear: Option<Arc<Rule>>,
}

/// A path as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Written {
    pub(super) path: String,
    pub(super) is_exact: bool,
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

/// Places of an Ingress's paths are so far apart, so that what annotations put beside a path has places between.
const STEP: usize = 16;

/// Fills `entry.plans`. Where annotations are read, filters around the Ingress's own are put there later, with theirs.
pub(super) fn plan(
    context: &mut Context<'_>,
    entry: &mut Entry<'_>,
    own: &[Filter],
    around: &Surroundings,
    survey: &Survey,
) {
    let object = entry.object;
    let rules = object.spec.rules.as_deref().unwrap_or_default();
    let mut maker = Maker {
        context,
        own,
        around,
        survey,
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
    survey: &'m Survey,
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
            let Some((matches, closed)) = self.matches(entry, &host, path, &place) else {
                continue;
            };
            let backend = self.backend(entry, &path.backend, &format!("{place}.backend"));
            let rule = self.complete(entry, index, None, backend);
            let age = self.context.age(&entry.object.meta, 1, (index, at * STEP));
            let written = entry.annotated.as_ref().map(|_| Written {
                path: annotations::text(path).to_owned(),
                is_exact: path.path_type == "Exact",
            });
            entry.plans.push(Plan {
                host: host.clone(),
                entry: route(matches, age, rule),
                place,
                default: None,
                written,
                closed,
                clear: None,
            });
        }
    }

    /// What a path matches, and why all that is refused; nothing where it matches nothing.
    fn matches(
        &self,
        entry: &mut Entry<'_>,
        host: &HostPattern,
        path: &HTTPIngressPath,
        place: &str,
    ) -> Option<(PathMatch, Option<String>)> {
        if entry.annotated.is_some() && self.survey.has_expressions(host) {
            return Some(match annotations::expression(path) {
                Ok(matches) => (matches, None),
                Err((problem, matches)) => {
                    let reason = problem.message.clone();
                    entry.closed.push(problem.at(place));
                    (matches, Some(reason))
                }
            });
        }
        match paths::read(path) {
            Ok((matches, odd)) => {
                entry
                    .warnings
                    .extend(odd.map(|odd| format!("{place}: {odd}")));
                Some((matches, None))
            }
            Err(problem) => {
                entry.refused.push(problem.at(place));
                None
            }
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
                written: None,
                closed: None,
                clear: None,
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
        let protocol = entry
            .annotated
            .as_ref()
            .map_or(Protocol::Http, annotations::Annotated::protocol);
        let namespace = &entry.object.meta.namespace;
        let (backend, outcome) = backends::resolve(self.context, namespace, backend, protocol);
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
        if entry.annotated.is_some() {
            return rule;
        }
        self.around.put_around(&rule)
    }
}

impl Plan {
    /// The route on a listener that speaks this.
    pub(super) fn entry_for(&self, spoken: tidegate_model::Protocol) -> RouteEntry {
        let clear = self
            .clear
            .as_ref()
            .filter(|_| spoken == tidegate_model::Protocol::Http);
        RouteEntry {
            rule: clear.unwrap_or(&self.entry.rule).clone(),
            ..self.entry.clone()
        }
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
