//! Ingresses (networking.k8s.io/v1), translated into the same tables as routes of the Gateway API.
//!
//! ```text
//!   Ingress ── class ─┬─ rules, defaultBackend ── Plan (host, match, rule) ─┐
//!                     ├─ tls ── certificates by host ────────────────────────┼─ Site in the clear, Site over TLS
//!                     └─ annotation, FilterPolicies, class ── filters ───────┘
//! ```
//!
//! Where a class asks for it, annotations of ingress-nginx are read ([`annotations`]).
//!
//! All Ingresses together are one listener without hostname on the port for HTTP, and, where some host has a certificate,
//! one on the port for HTTPS. An Ingress has no conditions of its own; ours says `Accepted` and `ResolvedRefs` of it.

mod annotations;
mod backends;
mod conflicts;
mod own_filters;
mod paths;
mod rules;
mod sites;
mod status;
mod tls;

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::{Filter, Protocol};

use super::chains::{self, Surroundings};
use super::context::{Context, by_age};
use super::ingress_class::{IngressClasses, OwnClass};
use super::problem::Problem;
use super::settings::Asked;
use super::sites::Ports;
use super::tables::Site;
use crate::api::Key;
use crate::api::core::Ingress;
pub(super) use annotations::Bundled;
use annotations::{Annotated, Survey};
use rules::Plan;

/// What the Ingresses come to.
#[derive(Debug, Default)]
pub(super) struct Ingresses {
    /// Their listeners.
    pub(super) sites: Vec<Site>,
    /// `(namespace, Service, port name)` that each of them sends traffic to.
    pub(super) uses: BTreeMap<Key, BTreeSet<(String, String, String)>>,
    /// GatewayConfigs of their classes.
    pub(super) configs: BTreeSet<Key>,
    ours: BTreeSet<Key>,
}

/// An Ingress of ours while it is translated.
#[derive(Debug)]
struct Entry<'a> {
    object: &'a Ingress,
    /// Its place among all Ingresses, the oldest first.
    rank: usize,
    /// Why nothing of it is served.
    unusable: Option<Problem>,
    plans: Vec<Plan>,
    /// What its class asks of listeners.
    asked: Option<Asked>,
    /// Parts that are left out.
    refused: Vec<Problem>,
    /// References that lead nowhere.
    unresolved: Vec<Problem>,
    warnings: Vec<String>,
    /// What annotations of ingress-nginx ask for, where they are read.
    annotated: Option<Annotated>,
    /// Filters around its own, where they are put there with those of annotations.
    around: Option<Surroundings>,
    /// Why paths of it refuse every request.
    closed: Vec<Problem>,
    /// Ingresses that it is a canary of.
    canary_of: BTreeSet<String>,
}

impl Ingresses {
    /// Whether the Ingress is one of ours.
    pub(super) fn serves(&self, key: &Key) -> bool {
        self.ours.contains(key)
    }
}

/// Translates all Ingresses and writes their statuses and those of IngressClasses.
pub(super) fn read(context: &mut Context<'_>, ports: &mut Ports) -> Ingresses {
    let classes = IngressClasses::read(context);
    let mut own = Vec::new();
    for object in by_age(&context.resources.ingresses) {
        match classes.of(object) {
            Ok((class, odd)) => own.push((object, class, odd)),
            Err(why) => context.statuses.of(object).ignored = Some(why),
        }
    }
    let annotated = own
        .iter()
        .map(|(object, class, _)| (*object, reads_annotations(context, class)));
    let survey = Survey::of(annotated);
    let mut entries = Vec::new();
    let mut uses = BTreeMap::new();
    for (rank, (object, class, odd)) in own.into_iter().enumerate() {
        context.service_uses.clear();
        entries.push(entry(context, object, &class, odd, rank, &survey));
        uses.insert(object.key(), std::mem::take(&mut context.service_uses));
    }
    let canaries = annotations::take_canaries(&mut entries);
    conflicts::mark(&mut entries);
    let mut certificates = tls::read(context, &mut entries);
    annotations::apply(context, &mut entries, &mut certificates, &survey, canaries);
    let sites = sites::all(context, &mut entries, &certificates, ports);
    let speak = |protocol| sites.iter().any(|site| site.protocol == protocol);
    let spoken = status::Spoken {
        http: speak(Protocol::Http),
        https: speak(Protocol::Https),
    };
    for entry in &entries {
        status::write(context, entry, &certificates, spoken);
    }
    Ingresses {
        sites,
        uses,
        configs: classes.configs_in_use(),
        ours: entries.iter().map(|entry| entry.object.key()).collect(),
    }
}

fn entry<'a>(
    context: &mut Context<'a>,
    object: &'a Ingress,
    class: &OwnClass<'a>,
    odd: Option<String>,
    rank: usize,
    survey: &Survey,
) -> Entry<'a> {
    let mut entry = Entry {
        object,
        rank,
        unusable: None,
        plans: Vec::new(),
        asked: None,
        refused: Vec::new(),
        unresolved: Vec::new(),
        warnings: Vec::from_iter(odd),
        annotated: None,
        around: None,
        closed: Vec::new(),
        canary_of: BTreeSet::new(),
    };
    let config = match &class.config {
        Ok(config) => *config,
        Err(problem) => {
            entry.unusable = Some(
                problem
                    .clone()
                    .at("the class of this Ingress cannot be used"),
            );
            return entry;
        }
    };
    entry.asked = config.and_then(Asked::of);
    if reads_annotations(context, class) {
        let (annotated, said) = annotations::read(context, object);
        entry.warnings.extend(said.warnings);
        entry.closed = said.closed;
        entry.annotated = Some(annotated);
    }
    own_filters::warn_about_others(&mut entry);
    let own: Vec<Filter> = own_filters::filters(context, &mut entry);
    let surroundings = chains::around_ingress(context, config, &object.key());
    entry
        .warnings
        .extend(surroundings.unresolved.iter().cloned());
    rules::plan(context, &mut entry, &own, &surroundings, survey);
    entry.around = entry.annotated.is_some().then_some(surroundings);
    entry
}

/// Whether Ingresses of the class are read with annotations of ingress-nginx.
fn reads_annotations(context: &Context<'_>, class: &OwnClass<'_>) -> bool {
    let config = class.config.as_ref().ok().copied().flatten();
    context.options.ingress_nginx_annotations
        || config.is_some_and(|config| config.spec.ingress_nginx_annotations)
}
