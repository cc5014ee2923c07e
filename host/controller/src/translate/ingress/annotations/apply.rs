//! Puts what annotations ask for around the paths of Ingresses, once everything is known that concerns whole hosts.

use std::collections::HashSet;
use std::sync::Arc;

use http::StatusCode;
use tidegate_model::{Filter, HostPattern, PathMatch, PathModifier, Redirect, Rule};

use super::affinity::Sessions;
use super::canary::Canaries;
use super::chain::{self, Chain, Place};
use super::hosts::{self, Survey};
use super::paths::is_acme;
use super::{Annotated, redirects};
use crate::api::core::Ingress;
use crate::translate::chains::Surroundings;
use crate::translate::context::Context;
use crate::translate::filters;
use crate::translate::ingress::Entry;
use crate::translate::ingress::rules::{DefaultFor, Plan};
use crate::translate::ingress::tls::HostCertificates;

/// Completes the paths of all Ingresses that are read with annotations.
pub(in crate::translate::ingress) fn apply(
    context: &mut Context<'_>,
    entries: &mut [Entry<'_>],
    certificates: &mut HostCertificates,
    survey: &Survey,
    canaries: Canaries,
) {
    let aliases = hosts::alias_hosts(survey, entries);
    for (alias, host) in &aliases {
        certificates.extend(host, alias, false);
    }
    hosts::shut(entries);
    let sessions = Sessions::of(entries);
    for entry in entries.iter_mut() {
        let (Some(annotated), Some(around)) = (entry.annotated.take(), entry.around.take()) else {
            continue;
        };
        let mut problems = Vec::new();
        for plan in &mut entry.plans {
            let chain = chain_of(context, entry.object, &annotated, certificates, plan);
            complete(plan, &chain, &annotated, &sessions, &around);
            problems.extend(chain.problems);
        }
        entry.closed.extend(problems);
        entry.annotated = Some(annotated);
        entry.around = Some(around);
    }
    slashes(entries, survey);
    roots(context, entries, certificates, survey, &sessions);
    canaries.join(entries);
    for entry in entries.iter_mut() {
        copy_to_aliases(entry, &aliases);
    }
    www(context, entries, certificates, survey);
}

fn chain_of(
    context: &mut Context<'_>,
    object: &Ingress,
    annotated: &Annotated,
    certificates: &HostCertificates,
    plan: &Plan,
) -> Chain {
    let written = plan.written.as_ref();
    let path = written.map_or("/", |written| written.path.as_str());
    let place = Place {
        host: &plan.host,
        path,
        is_exact: written.is_some_and(|written| written.is_exact),
        is_acme: is_acme(path),
        is_implied: written.is_none() && plan.default.is_none(),
        name: &plan.place,
    };
    let mut chain = chain::make(
        context,
        object,
        annotated,
        place,
        certificates.has_own(&plan.host),
    );
    if let Some(why) = &plan.closed {
        chain.filters = vec![Filter::Refuse {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: why.as_str().into(),
        }];
        chain.to_tls = None;
    }
    chain
}

/// The rule of a path, and the one for requests in the clear where that differs.
fn complete(
    plan: &mut Plan,
    chain: &Chain,
    annotated: &Annotated,
    sessions: &Sessions,
    around: &Surroundings,
) {
    let path = plan
        .written
        .as_ref()
        .map_or("/", |written| written.path.as_str());
    let own = plan.entry.rule.filters.iter();
    let affinity = annotated.location.affinity.as_ref();
    let session = affinity
        .map(|affinity| affinity.session(path))
        .or_else(|| sessions.followed(&plan.entry.rule));
    let whole = |filters: Vec<Filter>| {
        let rule = Rule {
            filters,
            timeouts: annotated.location.upstream.timeouts.clone(),
            session: session.clone(),
            ..Rule::clone(&plan.entry.rule)
        };
        around.put_around(&Arc::new(rule))
    };
    let filters: Vec<Filter> = chain.filters.iter().chain(own).cloned().collect();
    plan.clear = chain.to_tls.as_ref().map(|(at, redirect)| {
        let mut filters = filters.clone();
        filters.insert(*at, redirect.clone());
        whole(filters)
    });
    plan.entry.rule = whole(filters);
}

/// nginx answers `/foo` with a redirect where the path is `/foo/`.
fn slashes(entries: &mut [Entry<'_>], survey: &Survey) {
    let mut known: HashSet<(HostPattern, String)> = HashSet::new();
    for plan in entries.iter().flat_map(|entry| &entry.plans) {
        if let Some(written) = &plan.written {
            known.insert((plan.host.clone(), written.path.clone()));
        }
    }
    for entry in entries.iter_mut().filter(|entry| entry.annotated.is_some()) {
        let mut further = Vec::new();
        for plan in &entry.plans {
            let Some(written) = plan.written.as_ref().filter(|written| !written.is_exact) else {
                continue;
            };
            let short = written
                .path
                .strip_suffix('/')
                .filter(|short| !short.is_empty());
            let Some(short) = short.filter(|_| !survey.has_expressions(&plan.host)) else {
                continue;
            };
            if !known.insert((plan.host.clone(), short.to_owned())) {
                continue;
            }
            let redirect = Filter::Redirect(Redirect {
                scheme: None,
                hostname: None,
                path: Some(PathModifier::Full(written.path.as_str().into())),
                port: None,
                status: StatusCode::MOVED_PERMANENTLY,
            });
            let mut plan = Plan {
                clear: None,
                written: None,
                ..plan.clone()
            };
            plan.entry.matches.path = PathMatch::Exact(short.into());
            plan.entry.age.place.1 += 14;
            let rule = Arc::new(Rule {
                filters: vec![redirect],
                ..Rule::clone(&plan.entry.rule)
            });
            plan.entry.rule = match &entry.around {
                Some(around) => around.put_around(&rule),
                None => rule,
            };
            further.push(plan);
        }
        entry.plans.append(&mut further);
    }
}

/// A host without a path `/` has one for ingress-nginx, with the annotations of its first Ingress: what no path takes is redirected or
/// refused as the rest of the host is, and else answered 404.
fn roots(
    context: &mut Context<'_>,
    entries: &mut [Entry<'_>],
    certificates: &HostCertificates,
    survey: &Survey,
    sessions: &Sessions,
) {
    let mut seen: HashSet<HostPattern> = HashSet::new();
    for entry in entries.iter() {
        for plan in &entry.plans {
            let is_root = plan
                .written
                .as_ref()
                .is_some_and(|written| written.path == "/" && !written.is_exact);
            if is_root
                || matches!(
                    plan.default,
                    Some(DefaultFor::OwnHost | DefaultFor::Everything)
                )
            {
                seen.insert(plan.host.clone());
            }
        }
    }
    for entry in entries.iter_mut() {
        let (Some(annotated), Some(around)) = (&entry.annotated, &entry.around) else {
            continue;
        };
        if annotated.canary.is_some() {
            continue;
        }
        let mut further: Vec<Plan> = Vec::new();
        for plan in &entry.plans {
            let path = plan.written.as_ref().map_or("", |written| &written.path);
            if is_acme(path) || seen.contains(&plan.host) || plan.default.is_some() {
                continue;
            }
            seen.insert(plan.host.clone());
            let mut root = Plan {
                written: None,
                closed: None,
                clear: None,
                place: format!("{}/", plan.host),
                ..plan.clone()
            };
            root.entry.matches.path = match survey.has_expressions(&plan.host) {
                true => PathMatch::Regex(
                    tidegate_model::Pattern::standing_for("/", "^/").expect("it is an expression"),
                ),
                false => PathMatch::prefix("/"),
            };
            root.entry.age.place = (usize::MAX, further.len());
            let nothing = Filter::Refuse {
                status: StatusCode::NOT_FOUND,
                reason: "the host has no path for this".into(),
            };
            root.entry.rule = Arc::new(Rule {
                filters: vec![nothing],
                backends: Vec::new(),
                ..Rule::clone(&plan.entry.rule)
            });
            let chain = chain_of(context, entry.object, annotated, certificates, &root);
            // Without a filter that could answer, no route answers 404 as well, and leaves the path to others.
            let answers = chain.filters.len()
                > usize::from(annotated.location.limits.body.is_some())
                || chain.to_tls.is_some();
            if answers {
                complete(&mut root, &chain, annotated, sessions, around);
                further.push(root);
            }
        }
        entry.plans.append(&mut further);
    }
}

fn copy_to_aliases(entry: &mut Entry<'_>, aliases: &[(HostPattern, HostPattern)]) {
    if entry.annotated.is_none() {
        return;
    }
    let copies: Vec<Plan> = entry
        .plans
        .iter()
        .flat_map(|plan| {
            let names = aliases.iter().filter(|(_, host)| *host == plan.host);
            names.map(|(alias, _)| Plan {
                host: alias.clone(),
                ..plan.clone()
            })
        })
        .collect();
    entry.plans.extend(copies);
}

/// `from-to-www-redirect`: everything of the other host leads to this one.
fn www(
    context: &mut Context<'_>,
    entries: &mut [Entry<'_>],
    certificates: &mut HostCertificates,
    survey: &Survey,
) {
    for (index, other, host) in hosts::www_hosts(survey, entries) {
        let entry = &mut entries[index];
        let own = entry
            .plans
            .iter()
            .find(|plan| plan.host.to_string() == host);
        let (Some(own), Some(around)) = (own.cloned(), &entry.around) else {
            continue;
        };
        certificates.extend(&own.host, &other, true);
        let redirect = filters::builtin(
            context,
            &entry.object.meta.namespace,
            &format!("Ingress/{}/www/{other}", entry.object.meta.name),
            "redirect",
            &redirects::to_host(&host),
        );
        let mut plan = Plan {
            host: other,
            written: None,
            clear: None,
            ..own
        };
        plan.entry.matches = tidegate_model::RouteMatch::path(PathMatch::prefix("/"));
        plan.entry.rule = around.put_around(&Arc::new(Rule {
            filters: vec![redirect],
            backends: Vec::new(),
            session: None,
            ..Rule::clone(&plan.entry.rule)
        }));
        entry.plans.push(plan);
    }
}
