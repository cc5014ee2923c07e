//! What is said about an Ingress. Its API has no conditions; these are what a route would say.

use std::collections::BTreeSet;

use super::Entry;
use super::tls::HostCertificates;
use crate::status::{Address, AddressKind, Condition};
use crate::translate::context::Context;
use crate::translate::problem::Problem;

/// Writes the status.
pub(super) fn write(context: &mut Context<'_>, entry: &Entry<'_>, certificates: &HostCertificates) {
    let generation = entry.object.meta.generation;
    let refused = Problem::joined(&entry.refused);
    let accepted = match (&entry.unusable, refused) {
        (Some(problem), _) => problem.condition("Accepted", generation),
        (None, Some(problem)) if entry.plans.is_empty() => {
            problem.condition("Accepted", generation)
        }
        (None, Some(problem)) => {
            let message = format!("{}, but: {}", served(entry, certificates), problem.message);
            Condition::no("Accepted", "PartiallyInvalid", message, generation)
        }
        (None, None) => Condition::yes(
            "Accepted",
            "Accepted",
            served(entry, certificates),
            generation,
        ),
    };
    let resolved = match Problem::joined(&entry.unresolved) {
        None => Condition::yes(
            "ResolvedRefs",
            "ResolvedRefs",
            "every reference leads somewhere",
            generation,
        ),
        Some(problem) => problem.condition("ResolvedRefs", generation),
    };
    let addresses = if entry.unusable.is_none() {
        addresses(context)
    } else {
        Vec::new()
    };
    let status = context.statuses.of(entry.object);
    status.set(accepted);
    if entry.unusable.is_none() {
        status.set(resolved);
    }
    status.addresses = addresses;
    for warning in &entry.warnings {
        status.warn(warning.clone());
    }
}

fn served(entry: &Entry<'_>, certificates: &HostCertificates) -> String {
    let hosts = |wanted: &dyn Fn(&tidegate_model::HostPattern) -> bool| {
        let hosts: BTreeSet<String> = entry
            .plans
            .iter()
            .filter(|plan| wanted(&plan.host))
            .map(|plan| plan.host.to_string())
            .collect();
        hosts.into_iter().collect::<Vec<_>>().join(", ")
    };
    let clear = hosts(&|_| true);
    let secure = hosts(&|host| certificates.serve(host));
    match (clear.is_empty(), secure.is_empty()) {
        (true, _) => "nothing to serve".to_owned(),
        (false, true) => format!("served for host {clear} over HTTP"),
        (false, false) => format!("served for host {clear} over HTTP, {secure} over HTTPS"),
    }
}

/// Where Ingresses are reached.
fn addresses(context: &Context<'_>) -> Vec<Address> {
    let options = context.options;
    if !options.addresses.is_empty() {
        return options.addresses.clone();
    }
    let numeric = options
        .bind
        .iter()
        .filter(|address| !address.is_unspecified());
    numeric
        .map(|address| Address {
            kind: AddressKind::IpAddress,
            value: address.to_string(),
        })
        .collect()
}
