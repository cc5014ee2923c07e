//! Ingresses (networking.k8s.io/v1), translated into the same tables as routes of the Gateway API.
//!
//! ```text
//!   Ingress ── class ─┬─ rules, defaultBackend ── Plan (host, match, rule) ─┐
//!                     ├─ tls ── certificates by host ────────────────────────┼─ Site in the clear, Site over TLS
//!                     └─ annotation, FilterPolicies, class ── filters ───────┘
//! ```
//!
//! All Ingresses together are one listener without hostname on the port for HTTP, and, where some host has a certificate,
//! one on the port for HTTPS. An Ingress has no conditions of its own; ours says `Accepted` and `ResolvedRefs` of it.

mod annotations;
mod backends;
mod conflicts;
mod paths;
mod rules;
mod sites;
mod status;
mod tls;

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::{Filter, Protocol};

use super::chains;
use super::context::{Context, by_age};
use super::ingress_class::{IngressClasses, OwnClass};
use super::problem::Problem;
use super::settings::Asked;
use super::sites::Ports;
use super::tables::Site;
use crate::api::Key;
use crate::api::core::Ingress;
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
    let mut entries = Vec::new();
    let mut uses = BTreeMap::new();
    for object in by_age(&context.resources.ingresses) {
        match classes.of(object) {
            Ok((class, odd)) => {
                let rank = entries.len();
                context.service_uses.clear();
                entries.push(entry(context, object, &class, odd, rank));
                uses.insert(object.key(), std::mem::take(&mut context.service_uses));
            }
            Err(why) => context.statuses.of(object).ignored = Some(why),
        }
    }
    conflicts::mark(&mut entries);
    let certificates = tls::read(context, &mut entries);
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
    annotations::warn_about_others(&mut entry);
    let own: Vec<Filter> = annotations::filters(context, &mut entry);
    let surroundings = chains::around_ingress(context, config, &object.key());
    entry
        .warnings
        .extend(surroundings.unresolved.iter().cloned());
    rules::plan(context, &mut entry, &own, &surroundings);
    entry
}
