//! Filters: what a reference to a `Filter` object leads to, and the bundled filters that the translator itself puts in.
//!
//! ```text
//!   Filter object ─┬─ module    where the code comes from
//!                  ├─ config    config with configFrom put in, held against the schema of a bundled filter
//!                  ├─ clusters  where it may call
//!                  └─ ────────▶ FilterSpec in the snapshot, conditions on the object
//! ```
//!
//! A reference that leads nowhere (no such object, no grant) is [`Filter::Unresolved`]: 500. A Filter that exists but
//! cannot work (its Secret is missing, its configuration is refused) stays in the snapshot with
//! [`ModuleSource::Refused`]: so its routes keep the last good version of it, and without one follow its failure policy.

mod clusters;
mod config;
mod module;
mod pointer;
mod pull;
mod schema;
mod spec;
mod status;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;
use tidegate_model::{
    Backend, Capability, Compatibility, Config, FailureCause, FailurePolicies, Filter, FilterId,
    FilterLimits, FilterMode, FilterSpec, ModuleSource, VmSpec,
};

use super::absent::absent;
use super::context::Context;
use super::grants::{Referent, Referrer};
use super::problem::Problem;
use crate::api::reference::LocalObjectReference;
use crate::api::{Key, Kind, tidegate as api};

pub use pull::docker_config;
pub(super) use status::report;

/// Filters that were read already: many routes may use one.
pub(super) type Known = HashMap<Key, Arc<Reading>>;

/// What a Filter object says. Nothing of it is in the snapshot until a route needs it.
#[derive(Debug)]
pub(super) struct Reading {
    /// Without slot and clusters.
    spec: FilterSpec,
    clusters: BTreeMap<Arc<str>, Backend>,
    /// Ports of Services that `clusters` lead to, for BackendTLSPolicies.
    uses: BTreeSet<(String, String, String)>,
    /// Condition `Accepted`.
    accepted: Result<(), Problem>,
    /// Condition `ResolvedRefs`.
    resolved: Result<(), Problem>,
    warnings: Vec<String>,
}

/// The filter that an ExtensionRef leads to, and whether it leads anywhere. A reference that does not is a filter too:
/// one that refuses the request ("MUST NOT be skipped", `HTTPRouteFilter.type`).
pub(super) fn extension(
    context: &mut Context<'_>,
    namespace: &str,
    reference: &LocalObjectReference,
) -> (Filter, Result<(), Problem>) {
    if reference.group != Kind::Filter.group() || reference.kind != Kind::Filter.name() {
        let message = format!(
            "extensionRef: {} {} of group {:?} is not known; refer to a Filter of group {}",
            reference.kind,
            reference.name,
            reference.group,
            Kind::Filter.group()
        );
        let unresolved = Filter::Unresolved {
            reference: format!("{} {namespace}/{}", reference.kind, reference.name).into(),
            reason: message.as_str().into(),
        };
        return (unresolved, Err(Problem::new("InvalidKind", message)));
    }
    // ExtensionRefs have no namespace, so no grant is asked for.
    let from = Referrer {
        group: "",
        kind: "",
        namespace,
    };
    let (filter, resolved) = resolve(context, from, namespace, &reference.name);
    (
        filter,
        resolved.map_err(|problem| problem.at("extensionRef")),
    )
}

/// The Filter of that name, known to the snapshot; [`Filter::Unresolved`], and why, where there is none or the referrer may
/// not use it.
pub(super) fn resolve(
    context: &mut Context<'_>,
    from: Referrer<'_>,
    namespace: &str,
    name: &str,
) -> (Filter, Result<(), Problem>) {
    match find(context, from, namespace, name) {
        Ok(reading) => (Filter::Wasm(intern(context, &reading)), Ok(())),
        Err(problem) => {
            let unresolved = Filter::Unresolved {
                reference: format!("Filter {namespace}/{name}").into(),
                reason: problem.message.as_str().into(),
            };
            (unresolved, Err(problem))
        }
    }
}

/// Whether the reference leads somewhere, without making anything part of the snapshot.
///
/// # Errors
/// Why it leads nowhere.
pub(super) fn check(
    context: &mut Context<'_>,
    from: Referrer<'_>,
    namespace: &str,
    name: &str,
) -> Result<(), Problem> {
    find(context, from, namespace, name).map(drop)
}

/// A bundled filter that no Filter object stands for. `name` says where it comes from; a slash in it keeps it apart from
/// the names of objects.
pub(super) fn builtin(
    context: &mut Context<'_>,
    namespace: &str,
    name: &str,
    module: &str,
    config: &Value,
) -> Filter {
    let bundle = Bundle {
        namespace: namespace.into(),
        name: name.to_owned(),
        module,
        config,
        secret: false,
        clusters: Vec::new(),
    };
    bundled(context, bundle)
}

/// A bundled filter that the translator puts in.
#[derive(Clone, Debug)]
pub(super) struct Bundle<'a> {
    /// The tenant.
    pub(super) namespace: Arc<str>,
    /// Where it comes from, with a slash.
    pub(super) name: String,
    /// The bundled module.
    pub(super) module: &'a str,
    /// Its configuration.
    pub(super) config: &'a Value,
    /// Whether a value of a Secret is in it.
    pub(super) secret: bool,
    /// Where it may call.
    pub(super) clusters: Vec<(&'static str, Arc<Backend>)>,
}

/// Holds a configuration against the schema of the bundled filter.
///
/// # Errors
/// What the schema refuses.
pub(super) fn check_bundled(
    bundled: &tidegate_filters::Bundled,
    config: &Value,
    secret: bool,
) -> Result<(), String> {
    schema::check_value(bundled, config, secret)
}

/// The origin of a URL as a backend that is not interned yet.
///
/// # Errors
/// What is wrong with it: `is neither …`, without the URL itself.
pub(super) fn origin(url: &str, standalone: bool) -> Result<Backend, String> {
    clusters::origin(url, standalone)
}

/// Makes the filter part of the snapshot.
pub(super) fn bundled(context: &mut Context<'_>, bundle: Bundle<'_>) -> Filter {
    let Bundle {
        namespace,
        name,
        module,
        config,
        secret,
        clusters,
    } = bundle;
    let mut limits = FilterLimits::default();
    let known = tidegate_filters::get(module);
    if let Some(timeout) = known.and_then(|bundled| bundled.call_timeout) {
        limits.call_timeout = timeout;
    }
    let held = known.and_then(|bundled| held_body(bundled, config));
    limits.buffered_body = limits.buffered_body.max(held.unwrap_or_default());
    let spec = FilterSpec {
        slot: 0,
        id: FilterId {
            namespace,
            name: name.into(),
        },
        module: ModuleSource::Builtin(module.into()),
        pinned: None,
        sha256: None,
        config: Config {
            bytes: config.to_string().into_bytes().into(),
            secret,
            ..Config::default()
        },
        root_id: Arc::from(""),
        vm: VmSpec::default(),
        failure_policy: FailurePolicies::default(),
        limits,
        clusters: clusters
            .into_iter()
            .map(|(name, backend)| (name.into(), backend))
            .collect(),
        capabilities: BTreeSet::from(Capability::ALL),
        headers_wait_for_body: held.is_some(),
        compatibility: Compatibility::default(),
        mode: FilterMode::default(),
    };
    Filter::Wasm(context.filters.intern(spec))
}

/// Whether a bundled filter holds heads back until the body is there, and then how many bytes of it at the most, if its configuration
/// says so; 0 if not. Without `headersWaitForBody` such a filter would wait for ever.
fn held_body(bundled: &tidegate_filters::Bundled, config: &Value) -> Option<usize> {
    match config.get(bundled.holds_head?)? {
        Value::Bool(true) => Some(0),
        Value::Number(max) => Some(usize::try_from(max.as_u64()?).unwrap_or(usize::MAX)),
        _ => None,
    }
}

/// The Filters that nothing uses, as they would be loaded.
pub(super) fn unused(context: &mut Context<'_>) -> Vec<Arc<FilterSpec>> {
    let mut unused = Vec::new();
    for object in context.resources.filters.values() {
        if context.filters.contains(&object.key().to_string()) {
            continue;
        }
        let reading = reading(context, object);
        let mut spec = reading.spec.clone();
        let clusters = reading.clusters.iter();
        spec.clusters = clusters
            .map(|(name, backend)| (name.clone(), Arc::new(backend.clone())))
            .collect();
        unused.push(Arc::new(spec));
    }
    unused
}

fn find(
    context: &mut Context<'_>,
    from: Referrer<'_>,
    namespace: &str,
    name: &str,
) -> Result<Arc<Reading>, Problem> {
    let to = Referent {
        group: Kind::Filter.group(),
        kind: Kind::Filter.name(),
        namespace,
        name,
    };
    context.grants.require(from, to)?;
    let Some(object) = context.resources.filters.get(&Key::new(namespace, name)) else {
        return Err(Problem::new(
            "BackendNotFound",
            absent(context.resources, Kind::Filter, namespace, name),
        ));
    };
    Ok(reading(context, object))
}

fn reading(context: &mut Context<'_>, object: &api::Filter) -> Arc<Reading> {
    let key = object.key();
    if let Some(known) = context.known_filters.get(&key) {
        return known.clone();
    }
    let reading = Arc::new(read(context, object));
    context.known_filters.insert(key, reading.clone());
    reading
}

/// Gives the filter and its backends their slots. They may have lost them since the last time: what a route brought goes
/// with it when the route is attached nowhere.
fn intern(context: &mut Context<'_>, reading: &Reading) -> Arc<FilterSpec> {
    context.service_uses.extend(reading.uses.iter().cloned());
    let mut spec = reading.spec.clone();
    for (name, backend) in &reading.clusters {
        spec.clusters
            .insert(name.clone(), context.backends.intern(backend.clone()));
    }
    context.filters.intern(spec)
}

fn read(context: &mut Context<'_>, object: &api::Filter) -> Reading {
    let mut pull_warnings = Vec::new();
    let module = module::source(context, object, &mut pull_warnings);
    let config = config::read(context, object);
    let clusters = clusters::read(context, object);
    let mut spec = spec::read(object);
    // The first thing that keeps it from working, in the order in which the loader would meet it.
    let mut refusal = None;
    match module {
        Ok(source) => spec.module = source,
        Err(problem) => refusal = Some((FailureCause::Load, problem)),
    }
    match config {
        Ok(config) => {
            if let Some(bytes) = held_body_of(object, &config) {
                spec.headers_wait_for_body = true;
                if object.spec.limits.buffered_body.is_none() {
                    spec.limits.buffered_body = spec.limits.buffered_body.max(bytes);
                }
            }
            spec.config = config;
        }
        Err(problem) if refusal.is_none() => refusal = Some((FailureCause::Configure, problem)),
        Err(_) => {}
    }
    let mut unresolved = clusters.problems;
    let mut accepted = Ok(());
    if let Some((cause, problem)) = refusal {
        spec.module = ModuleSource::Refused {
            cause,
            reason: problem.message.as_str().into(),
        };
        if problem.reason == REFERENCE {
            unresolved.insert(0, problem);
        } else {
            accepted = Err(problem);
        }
    }
    pull_warnings.extend(clusters.warnings);
    Reading {
        spec,
        clusters: clusters.found,
        uses: clusters.uses,
        accepted,
        resolved: Problem::joined(&unresolved).map_or(Ok(()), Err),
        warnings: pull_warnings,
    }
}

/// The same of a Filter, whose module may be a bundled one.
fn held_body_of(object: &api::Filter, config: &Config) -> Option<usize> {
    let api::ModuleSource::Builtin(name) = &object.spec.module else {
        return None;
    };
    let bundled = tidegate_filters::get(name).filter(|bundled| bundled.holds_head.is_some())?;
    held_body(bundled, &serde_json::from_slice(&config.bytes).ok()?)
}

/// Reason of condition `ResolvedRefs` for Secrets and ConfigMaps that are missing or lack a key.
const REFERENCE: &str = "InvalidReference";
