//! What is said about an Ingress. Its API has no conditions; these are what a route would say.

use std::collections::BTreeSet;

use tidegate_model::HostPattern;

use super::Entry;
use super::tls::HostCertificates;
use crate::status::{Address, AddressKind, Condition};
use crate::translate::context::Context;
use crate::translate::problem::Problem;

/// What is spoken where Ingresses are served at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spoken {
    pub(super) http: bool,
    pub(super) https: bool,
}

/// Writes the status.
pub(super) fn write(
    context: &mut Context<'_>,
    entry: &Entry<'_>,
    certificates: &HostCertificates,
    spoken: Spoken,
) {
    let generation = entry.object.meta.generation;
    let refused = Problem::joined(&entry.refused);
    let closed = Problem::joined(&entry.closed);
    let accepted = match (entry.unusable.as_ref().or(closed.as_ref()), &refused) {
        (Some(problem), _) => problem.condition("Accepted", generation),
        (None, Some(problem)) if entry.plans.is_empty() => {
            problem.condition("Accepted", generation)
        }
        (None, _) => match served(entry, certificates, spoken) {
            Ok(message) => Condition::yes("Accepted", "Accepted", message, generation),
            Err(problem) => problem.condition("Accepted", generation),
        },
    };
    let partial = refused.filter(|_| accepted.is_true()).map(|problem| {
        let message = format!("left out: {}", problem.message);
        Condition::yes("PartiallyInvalid", "UnsupportedValue", message, generation)
    });
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
    if let Some(partial) = partial {
        status.set(partial);
    }
    status.addresses = addresses;
    for warning in &entry.warnings {
        status.warn(warning.clone());
    }
}

/// Which hosts are served how; a problem if there are some and nothing listens for them.
fn served(
    entry: &Entry<'_>,
    certificates: &HostCertificates,
    spoken: Spoken,
) -> Result<String, Problem> {
    let hosts = |wanted: &dyn Fn(&HostPattern) -> bool| {
        let plans = entry.plans.iter().filter(|plan| wanted(&plan.host));
        let hosts: BTreeSet<String> = plans.map(|plan| plan.host.to_string()).collect();
        hosts.into_iter().collect::<Vec<_>>().join(", ")
    };
    let clear = hosts(&|_| spoken.http);
    let secure = hosts(&|host| spoken.https && certificates.serve(host));
    match (clear.is_empty(), secure.is_empty()) {
        (false, true) => Ok(format!("served for host {clear} over HTTP")),
        (true, false) => Ok(format!("served for host {secure} over HTTPS")),
        (false, false) => Ok(format!(
            "served for host {clear} over HTTP, {secure} over HTTPS"
        )),
        (true, true) if !entry.canary_of.is_empty() => {
            let main: Vec<&str> = entry.canary_of.iter().map(String::as_str).collect();
            Ok(format!("canary beside {}", main.join(", ")))
        }
        (true, true) if entry.plans.is_empty() => Ok("nothing to serve".to_owned()),
        (true, true) => Err(Problem::new(
            "PortUnavailable",
            "nothing listens for it: see the warnings",
        )),
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
