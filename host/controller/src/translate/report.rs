//! The statuses of Gateways, ListenerSets and their listeners, once routes are attached.

use tidegate_model::Protocol;

use super::client_validation;
use super::context::Context;
use super::gateways::{GatewayEntry, Gateways, SetEntry, published};
use super::listeners::Entry;
use super::options::Bind;
use super::problem::Problem;
use crate::status::{Condition, ListenerStatus};

/// Writes all of them.
pub(super) fn write(context: &mut Context<'_>, gateways: &Gateways<'_>) {
    for (index, set) in gateways.sets.iter().enumerate() {
        let listeners: Vec<usize> = gateways.of_set(index).collect();
        report_set(context, gateways, set, &listeners);
    }
    for (index, gateway) in gateways.gateways.iter().enumerate() {
        let own: Vec<usize> = gateways.own(index).collect();
        report_gateway(context, gateways, index, gateway, &own);
    }
}

fn report_gateway(
    context: &mut Context<'_>,
    gateways: &Gateways<'_>,
    index: usize,
    gateway: &GatewayEntry<'_>,
    own: &[usize],
) {
    let object = gateway.object;
    let generation = object.meta.generation;
    let entries: Vec<&Entry<'_>> = own
        .iter()
        .map(|index| &gateways.listeners[*index])
        .collect();
    let accepted = accepted(gateway, &entries, generation);
    let addresses = published(context, gateway);
    let programmed = match programmed(
        context,
        gateways,
        gateway,
        &entries,
        accepted.is_true(),
        addresses.is_empty(),
    ) {
        Ok(message) => Condition::yes("Programmed", "Programmed", message, generation),
        Err(problem) => problem.condition("Programmed", generation),
    };
    let resolved = match (
        &gateway.resolved,
        entries
            .iter()
            .find_map(|entry| entry.resolved.as_ref().err()),
    ) {
        (Err(problem), _) => problem.condition("ResolvedRefs", generation),
        (Ok(()), Some(problem)) => Condition::no(
            "ResolvedRefs",
            "ListenersNotResolved",
            &problem.message,
            generation,
        ),
        (Ok(()), None) => Condition::yes(
            "ResolvedRefs",
            "ResolvedRefs",
            "every reference leads somewhere",
            generation,
        ),
    };
    let listeners = entries
        .iter()
        .map(|entry| listener(context, gateways, gateway, entry))
        .collect();
    let sets = gateways
        .sets
        .iter()
        .enumerate()
        .filter(|(_, set)| set.gateway == index);
    let attached = sets
        .filter(|(at, set)| {
            set_outcome(gateways, set, &gateways.of_set(*at).collect::<Vec<_>>())
                .0
                .is_ok()
        })
        .count();
    let status = context.statuses.of(object);
    status.set(accepted);
    status.set(programmed);
    status.set(resolved);
    let insecure = client_validation::insecure_places(object);
    if !insecure.is_empty() {
        status.set(Condition::yes(
            "InsecureFrontendValidationMode",
            "ConfigurationChanged",
            format!(
                "clients without a valid certificate are let in by {}: whoever serves them has to tell them apart; set mode AllowValidOnly as soon as you can",
                insecure.join(" and ")
            ),
            generation,
        ));
    }
    status.listeners = listeners;
    status.addresses = addresses;
    status.attached_listener_sets = u32::try_from(attached).ok();
}

fn accepted(gateway: &GatewayEntry<'_>, entries: &[&Entry<'_>], generation: i64) -> Condition {
    if let Err(problem) = &gateway.accepted {
        return problem.condition("Accepted", generation);
    }
    let problems: Vec<Problem> = entries
        .iter()
        .filter_map(|entry| not_accepted(entry))
        .collect();
    match Problem::joined(&problems) {
        None => Condition::yes(
            "Accepted",
            "Accepted",
            "every listener is valid",
            generation,
        ),
        Some(problem) if problems.len() == entries.len() => {
            Condition::no("Accepted", "ListenersNotValid", problem.message, generation)
        }
        Some(problem) => {
            let good: Vec<&str> = entries
                .iter()
                .filter(|entry| not_accepted(entry).is_none())
                .map(|entry| entry.spec.name.as_str())
                .collect();
            let message = format!(
                "listener {} is accepted, but: {}",
                good.join(", "),
                problem.message
            );
            Condition::yes("Accepted", "ListenersNotValid", message, generation)
        }
    }
}

fn not_accepted(entry: &Entry<'_>) -> Option<Problem> {
    entry
        .conflict
        .clone()
        .or_else(|| entry.accepted.clone().err())
}

/// Whether the Gateway serves anything, where it is meant to.
fn programmed(
    context: &Context<'_>,
    gateways: &Gateways<'_>,
    gateway: &GatewayEntry<'_>,
    entries: &[&Entry<'_>],
    accepted: bool,
    unpublished: bool,
) -> Result<String, Problem> {
    if !accepted {
        return Err(Problem::new(
            "Invalid",
            "the Gateway is not accepted; see condition Accepted",
        ));
    }
    let failures: Vec<String> = gateway
        .bind
        .iter()
        .filter(|_| gateway.asked)
        .flat_map(|address| {
            let errors = &context.options.bind_errors;
            errors
                .iter()
                .filter(move |(at, _)| at.address.ip() == *address)
        })
        .map(|(at, why)| {
            format!("cannot listen on {at}: {why}; give an address of this host in spec.addresses")
        })
        .collect();
    if !failures.is_empty() {
        return Err(Problem::new("AddressNotUsable", failures.join("; ")));
    }
    let bad: Vec<Problem> = entries
        .iter()
        .filter_map(|entry| listener_programmed(context, gateways, gateway, entry).err())
        .collect();
    if let Some(problem) = Problem::joined(&bad).filter(|_| bad.len() == entries.len()) {
        return Err(Problem::new(
            "Invalid",
            format!("no listener can serve: {}", problem.message),
        ));
    }
    if unpublished && context.options.gateway_addresses.is_some() {
        return Err(Problem::new(
            "AddressNotAssigned",
            "the Service of this Gateway has no address yet: kubectl describe service, in the Gateway's namespace, tells why",
        ));
    }
    if unpublished && !context.options.standalone {
        return Err(Problem::new(
            "AddressNotAssigned",
            "nobody said where this Gateway is reached: start the gateway with --publish-service, --publish-address or --address-pool, or set spec.addresses",
        ));
    }
    let good = entries.len() - bad.len();
    Ok(format!("{good} of {} listeners serve", entries.len()))
}

fn listener_programmed(
    context: &Context<'_>,
    gateways: &Gateways<'_>,
    gateway: &GatewayEntry<'_>,
    entry: &Entry<'_>,
) -> Result<(), Problem> {
    if gateway.accepted.is_err() {
        return Err(Problem::new("Invalid", "the Gateway is not accepted"));
    }
    entry.programmed()?;
    bound(context, gateways, gateway, entry)
}

/// Whether some address of the listener is bound.
fn bound(
    context: &Context<'_>,
    gateways: &Gateways<'_>,
    gateway: &GatewayEntry<'_>,
    entry: &Entry<'_>,
) -> Result<(), Problem> {
    let binds = gateways.binds(context, entry);
    let errors = &context.options.bind_errors;
    let failures: Vec<String> = binds
        .iter()
        .map(|address| Bind {
            address: *address,
            udp: entry.protocol == Some(Protocol::Udp),
        })
        .filter_map(|bind| Some(format!("cannot listen on {bind}: {}", errors.get(&bind)?)))
        .collect();
    if failures.is_empty() || failures.len() < binds.len() || gateway.asked {
        return Ok(());
    }
    Err(Problem::new(
        "PortUnavailable",
        format!(
            "listener {}: {}; free the port, or map it to another one with --port-map",
            entry.spec.name,
            failures.join("; ")
        ),
    ))
}

fn listener(
    context: &Context<'_>,
    gateways: &Gateways<'_>,
    gateway: &GatewayEntry<'_>,
    entry: &Entry<'_>,
) -> ListenerStatus {
    let generation = entry.owner.generation();
    let ours = entry.protocol.is_some();
    let unavailable = if ours {
        bound(context, gateways, gateway, entry).err()
    } else {
        None
    };
    let accepted = match not_accepted(entry).or_else(|| unavailable.clone()) {
        None => Condition::yes("Accepted", "Accepted", "the listener is valid", generation),
        Some(problem) => problem.condition("Accepted", generation),
    };
    let programmed = match listener_programmed(context, gateways, gateway, entry) {
        Ok(()) => Condition::yes(
            "Programmed",
            "Programmed",
            "the listener serves",
            generation,
        ),
        Err(problem) => problem.condition("Programmed", generation),
    };
    let resolved = match &entry.resolved {
        Ok(()) => Condition::yes(
            "ResolvedRefs",
            "ResolvedRefs",
            "every reference leads somewhere",
            generation,
        ),
        Err(problem) => problem.condition("ResolvedRefs", generation),
    };
    let conflicted = match &entry.conflict {
        None => Condition::no(
            "Conflicted",
            "NoConflicts",
            "no other listener is in the way",
            generation,
        ),
        Some(problem) => Condition::yes("Conflicted", problem.reason, &problem.message, generation),
    };
    let mut conditions = vec![accepted, programmed, resolved, conflicted];
    if let Some(overlap) = &entry.overlap {
        conditions.push(Condition::yes(
            "OverlappingTLSConfig",
            "OverlappingHostnames",
            overlap,
            generation,
        ));
    }
    ListenerStatus {
        name: entry.spec.name.clone(),
        attached_routes: u32::try_from(entry.attached.len()).unwrap_or(u32::MAX),
        supported_kinds: entry.kinds.clone(),
        conditions,
    }
}

/// Conditions `Accepted` and `Programmed` of a ListenerSet; the message of the first says what is left out.
fn set_outcome(
    gateways: &Gateways<'_>,
    set: &SetEntry<'_>,
    listeners: &[usize],
) -> (Result<Option<String>, Problem>, Option<Problem>) {
    if let Err(problem) = &set.allowed {
        return (Err(problem.clone()), Some(problem.clone()));
    }
    let gateway = &gateways.gateways[set.gateway];
    if gateway.accepted.is_err() {
        // Why is the Gateway's owner's business.
        let message = format!(
            "{} is not accepted: its owner has to mend it",
            gateway.object
        );
        return (
            Err(Problem::new("ParentNotAccepted", &message)),
            Some(Problem::new("ParentNotProgrammed", message)),
        );
    }
    let entries: Vec<&Entry<'_>> = listeners
        .iter()
        .map(|index| &gateways.listeners[*index])
        .collect();
    // A listener that cannot serve, for want of a certificate too, is none that a set could be accepted for.
    let problems: Vec<Problem> = entries
        .iter()
        .filter_map(|entry| entry.programmed().err())
        .collect();
    let joined = Problem::joined(&problems).map(|problem| problem.message);
    if problems.len() == entries.len() {
        let problem = Problem::new("ListenersNotValid", joined.unwrap_or_default());
        return (Err(problem.clone()), Some(problem));
    }
    (Ok(joined), None)
}

fn report_set(
    context: &mut Context<'_>,
    gateways: &Gateways<'_>,
    set: &SetEntry<'_>,
    listeners: &[usize],
) {
    let generation = set.object.meta.generation;
    let gateway = &gateways.gateways[set.gateway];
    let (accepted, programmed) = set_outcome(gateways, set, listeners);
    let accepted = match accepted {
        Ok(None) => Condition::yes(
            "Accepted",
            "Accepted",
            "every listener is valid",
            generation,
        ),
        Ok(Some(message)) => Condition::yes("Accepted", "ListenersNotValid", message, generation),
        Err(problem) => problem.condition("Accepted", generation),
    };
    let programmed = match programmed {
        None => Condition::yes(
            "Programmed",
            "Programmed",
            "the listeners serve",
            generation,
        ),
        Some(problem) => problem.condition("Programmed", generation),
    };
    let statuses = listeners
        .iter()
        .map(|index| listener(context, gateways, gateway, &gateways.listeners[*index]))
        .collect();
    let status = context.statuses.of(set.object);
    status.set(accepted);
    status.set(programmed);
    status.listeners = statuses;
}
