//! From objects to a snapshot: a pure function, without clock, network or files.
//!
//! ```text
//!   Resources ─┬─ classes ── gateways ── listeners, conflicts, ports ─┐
//!              ├─ routes ── parents (attachment) ── rules ─────────────┼─ sites ── tables ── Snapshot
//!              └─ grants, backends, endpoints, certificates ──────────┘
//!                        every step says what it found: Statuses
//! ```
//!
//! A bad reference becomes a condition on the object that holds it and hurts nothing else. Every list is in an order that
//! does not depend on hashing, so equal objects give equal snapshots.

mod absent;
mod backend_tls;
mod backends;
mod certificates;
mod chains;
mod classes;
mod client_validation;
mod conflicts;
mod context;
mod cors;
mod endpoints;
mod exposed;
mod external_auth;
mod features;
mod filter_policy;
mod filters;
mod gateway_config;
mod gateways;
mod grants;
mod grpc;
mod http;
mod ingress;
mod ingress_class;
mod kept;
mod listener_sets;
mod listeners;
mod namespaces;
mod native;
mod options;
mod parameters;
mod parents;
mod problem;
mod reading;
mod report;
mod route_kinds;
mod routes;
mod rules;
mod sessions;
mod settings;
mod sites;
mod slots;
mod streams;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_model::{FilterSpec, FilterVerdicts, Snapshot};

pub use exposed::Exposed;
pub use filters::docker_config;
pub use options::{Bind, Options};

use crate::api::Key;
use crate::resources::{ObjectId, Resources};
use crate::status::Statuses;
use classes::Classes;
use context::Context;
use gateways::Gateways;

/// What the objects come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translation {
    /// What is served; its generation is the publisher's business.
    pub snapshot: Snapshot,
    /// What is said about the objects.
    pub statuses: Statuses,
    /// What concerns no object.
    pub warnings: Vec<String>,
    /// The Secrets and ConfigMaps that permitted references of our objects name, whether or not they are there: in a
    /// cluster these are read, and no others.
    pub wanted: BTreeSet<ObjectId>,
    /// The ports of each Gateway that serves, for what stands in front of it.
    pub exposed: BTreeMap<Key, BTreeSet<Exposed>>,
    /// The Filters that nothing uses: they are in no snapshot, and who checks manifests loads them all the same.
    pub unused: Vec<Arc<FilterSpec>>,
}

/// Translates all objects.
pub fn translate(
    resources: &Resources,
    verdicts: &FilterVerdicts,
    options: &Options,
) -> Translation {
    let mut context = Context::new(resources, verdicts, options);
    let classes = Classes::read(&mut context);
    let mut gateways = Gateways::read(&mut context, &classes);
    let mut ports = sites::check_ports(&context, &mut gateways);
    let mut attached = routes::attach(&mut context, &mut gateways);
    let mut passed_on = streams::attach(&mut context, &mut gateways, &mut attached.uses);
    let ingresses = ingress::read(&mut context, &mut ports);
    let mut sites = sites::all(&context, &gateways, &mut attached.placed, &mut passed_on);
    sites.extend(ingresses.sites.iter().cloned());
    report::write(&mut context, &gateways);
    backend_tls::report(&mut context, &attached.uses, &ingresses.uses);
    filter_policy::report(&mut context, &classes, &ingresses);
    let overruled = settings::overruled(&sites);
    gateway_config::report(&mut context, &ingresses.configs, &overruled);
    filters::report(&mut context);
    reading::report(&mut context);
    let unused = filters::unused(&mut context);
    let exposed = exposed::of(&context, &gateways);
    certificates::sweep();
    Translation {
        snapshot: Snapshot {
            generation: 0,
            listeners: tables::build(&sites),
            filters: context.filters.into_items(),
            backends: context.backends.into_items(),
        },
        statuses: context.statuses,
        warnings: context.warnings,
        wanted: context.wanted.into_inner(),
        exposed,
        unused,
    }
}
