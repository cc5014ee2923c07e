//! From a rule as written to a rule as served: matches, filters, backends, limits.

use std::sync::Arc;

use tidegate_model::{
    Certificate, Filter, Retry, RouteMatch, Rule, RuleOrigin, Timeouts, WeightedBackend,
};

use super::backends::{Speaks, target};
use super::context::Context;
use super::grants::Referrer;
use super::native::{self, Place};
use super::problem::Problem;
use super::routes::RouteFacts;
use super::sessions;
use crate::api::filter::RouteFilter;
use crate::api::reference::BackendRef;
use crate::api::{Kind, http as api};
use crate::status::Condition;

/// A rule of a route of any kind, its matches read.
#[derive(Debug)]
pub(super) struct RulePlan<'a> {
    /// `name`
    pub(super) name: Option<&'a str>,
    /// `matches`, or what is wrong with them.
    pub(super) matches: Result<Vec<RouteMatch>, Problem>,
    /// Whether every match is by a prefix of the path, which replacing a prefix demands.
    pub(super) by_prefix: bool,
    /// `filters`
    pub(super) filters: &'a [RouteFilter],
    /// `backendRefs`
    pub(super) backends: &'a [BackendRef],
    /// `timeouts`
    pub(super) timeouts: api::Timeouts,
    /// `retry`
    pub(super) retry: Option<&'a api::Retry>,
    /// `sessionPersistence`
    pub(super) session: Option<&'a api::SessionPersistence>,
}

/// The rules of a route.
#[derive(Debug, Default)]
pub(super) struct Built {
    /// Those that are served.
    pub(super) rules: Vec<BuiltRule>,
    /// What answers in the place of dropped rules, if any rule is served.
    pub(super) refusals: Vec<BuiltRule>,
    /// Those that are not, by index, and why.
    pub(super) dropped: Vec<(usize, Problem)>,
    /// References that lead nowhere.
    pub(super) unresolved: Vec<Problem>,
}

/// A rule and when it applies.
#[derive(Debug)]
pub(super) struct BuiltRule {
    /// Any of these.
    pub(super) matches: Vec<RouteMatch>,
    /// What is done then.
    pub(super) rule: Arc<Rule>,
}

/// What filters and backends of a rule need to know about it.
pub(super) struct Scope<'a> {
    /// The route.
    pub(super) route: &'a RouteFacts<'a>,
    /// Index of the rule.
    pub(super) index: usize,
    /// See [`RulePlan::by_prefix`].
    pub(super) by_prefix: bool,
    /// Shown to backends.
    pub(super) client_certificate: Option<&'a Arc<Certificate>>,
}

impl Built {
    /// Why nothing of the route is served; `None` if it has no rule at all.
    pub(super) fn why_unusable(&self) -> Option<Problem> {
        let problems: Vec<Problem> = self
            .dropped
            .iter()
            .map(|(_, problem)| problem.clone())
            .collect();
        Problem::joined(&problems)
    }

    /// Condition `PartiallyInvalid`, if some rules are dropped and others not.
    pub(super) fn partially_invalid(&self, generation: i64) -> Option<Condition> {
        if self.dropped.is_empty() || self.rules.is_empty() {
            return None;
        }
        let dropped: Vec<String> = self
            .dropped
            .iter()
            .map(|(_, problem)| problem.message.clone())
            .collect();
        let mut message = format!("Dropped Rule: {}", dropped.join("; "));
        if !self.refusals.is_empty() {
            message.push_str("; requests that such a rule matches are answered with 500");
        }
        Some(Condition::yes(
            "PartiallyInvalid",
            "UnsupportedValue",
            message,
            generation,
        ))
    }
}

impl Scope<'_> {
    /// The route as a referrer, for grants.
    pub(super) fn referrer(&self) -> Referrer<'_> {
        Referrer {
            group: self.route.kind.group(),
            kind: self.route.kind.name(),
            namespace: &self.route.meta.namespace,
        }
    }

    /// What the route speaks to backends.
    pub(super) fn speaks(&self) -> Speaks {
        if self.route.kind == Kind::GrpcRoute {
            Speaks::Grpc
        } else {
            Speaks::Http
        }
    }
}

/// Builds all rules of a route.
pub(super) fn build(
    context: &mut Context<'_>,
    route: &RouteFacts<'_>,
    plans: &[RulePlan<'_>],
    client_certificate: Option<&Arc<Certificate>>,
) -> Built {
    let mut built = Built::default();
    for (index, plan) in plans.iter().enumerate() {
        let scope = Scope {
            route,
            index,
            by_prefix: plan.by_prefix,
            client_certificate,
        };
        let mark = (context.backends.mark(), context.filters.mark());
        let mut unresolved = Vec::new();
        match rule(context, &scope, plan, &mut unresolved) {
            Ok(rule) => {
                built.rules.push(rule);
                built.unresolved.append(&mut unresolved);
            }
            Err(problem) => {
                context.backends.forget_after(mark.0);
                context.filters.forget_after(mark.1);
                let problem = problem.under(&format!("spec.rules[{index}]"));
                built.refusals.extend(refusal(&scope, plan, &problem));
                built.dropped.push((index, problem));
            }
        }
    }
    built
}

/// What stands in the place of a dropped rule whose matches can be read: its requests must not fall through to a wider
/// rule that perhaps asks for less.
fn refusal(scope: &Scope<'_>, plan: &RulePlan<'_>, problem: &Problem) -> Option<BuiltRule> {
    let matches = plan.matches.clone().ok()?;
    let rule = Rule {
        origin: origin(scope, plan),
        filters: vec![Filter::Unresolved {
            reference: format!("{} spec.rules[{}]", scope.route.title(), scope.index).into(),
            reason: problem.message.as_str().into(),
        }],
        backends: Vec::new(),
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
        access_log: true,
    };
    Some(BuiltRule {
        matches,
        rule: Arc::new(rule),
    })
}

fn origin(scope: &Scope<'_>, plan: &RulePlan<'_>) -> RuleOrigin {
    let meta = scope.route.meta;
    RuleOrigin::new(
        scope.route.kind.name(),
        &meta.namespace,
        &meta.name,
        scope.index,
        plan.name,
    )
}

fn rule(
    context: &mut Context<'_>,
    scope: &Scope<'_>,
    plan: &RulePlan<'_>,
    unresolved: &mut Vec<Problem>,
) -> Result<BuiltRule, Problem> {
    let matches = plan.matches.clone()?;
    let timeouts = timeouts(plan.timeouts)?;
    let place = Place::rule(scope.index);
    let filters = chain(context, scope, plan.filters, &place, unresolved)?;
    let backends = backends(context, scope, plan.backends, unresolved)?;
    let origin = origin(scope, plan);
    let session = plan.session.map(|written| sessions::read(written, &origin));
    let rule = Rule {
        origin,
        filters,
        backends,
        timeouts,
        retry: plan.retry.map(retry),
        session: session.transpose()?,
        access_log: true,
    };
    Ok(BuiltRule {
        matches,
        rule: Arc::new(rule),
    })
}

/// A list of filters, in order.
fn chain(
    context: &mut Context<'_>,
    scope: &Scope<'_>,
    filters: &[RouteFilter],
    place: &Place,
    unresolved: &mut Vec<Problem>,
) -> Result<Vec<Filter>, Problem> {
    let has = |name: &str| filters.iter().any(|filter| filter.type_name() == name);
    if has("RequestRedirect") && has("URLRewrite") {
        return Err(Problem::new(
            "IncompatibleFilters",
            format!(
                "{}filters: RequestRedirect and URLRewrite cannot be combined; remove one of them",
                place.inside_rule()
            ),
        ));
    }
    let mut out = Vec::new();
    for (index, filter) in filters.iter().enumerate() {
        let place = place.filter(index);
        out.extend(native::filter(context, scope, filter, &place, unresolved)?);
    }
    Ok(out)
}

fn backends(
    context: &mut Context<'_>,
    scope: &Scope<'_>,
    references: &[BackendRef],
    unresolved: &mut Vec<Problem>,
) -> Result<Vec<WeightedBackend>, Problem> {
    let mut backends = Vec::new();
    for (index, reference) in references.iter().enumerate() {
        let place = Place::backend(scope.index, index);
        let filters = chain(context, scope, &reference.filters, &place, unresolved)?;
        let found = context.route_backend(
            scope.referrer(),
            &reference.backend,
            scope.speaks(),
            scope.client_certificate,
        );
        backends.push(WeightedBackend {
            target: target(found, &place, unresolved),
            weight: reference.weight,
            filters,
        });
    }
    Ok(backends)
}

/// Zero means no limit (GEP-1742), and so does absence.
fn timeouts(written: api::Timeouts) -> Result<Timeouts, Problem> {
    let limit =
        |duration: Option<std::time::Duration>| duration.filter(|duration| !duration.is_zero());
    let timeouts = Timeouts {
        request: limit(written.request),
        backend_request: limit(written.backend_request),
        ..Timeouts::default()
    };
    match (timeouts.request, timeouts.backend_request) {
        (Some(whole), Some(one)) if one > whole => Err(Problem::new(
            "UnsupportedValue",
            "timeouts: backendRequest must not be longer than request, which covers it",
        )),
        _ => Ok(timeouts),
    }
}

fn retry(written: &api::Retry) -> Retry {
    let mut codes = written.codes.clone();
    codes.sort_unstable();
    codes.dedup();
    Retry {
        codes,
        // The default of the CRD; an explicit 0 turns retries off.
        attempts: written.attempts.unwrap_or(1),
        backoff: written.backoff,
    }
}
