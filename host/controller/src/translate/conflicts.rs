//! What several listeners mean together: which exclude each other, and which TLS names overlap.
//!
//! Between the objects of one Gateway the Gateway goes first, then its ListenerSets by age (`ListenerSet.spec.listeners`). Of what
//! is left of one object all listeners that collide lose ("MUST NOT pick one conflicting Listener as the winner",
//! `Gateway.spec.listeners`).

use tidegate_model::Protocol;

use super::gateways::Gateways;
use super::listeners::Entry;
use super::problem::Problem;

/// Marks every listener that conflicts with another or overlaps another's TLS names.
pub(super) fn mark(gateways: &mut Gateways<'_>) {
    for gateway in 0..gateways.gateways.len() {
        let all: Vec<usize> = (0..gateways.listeners.len())
            .filter(|index| gateways.listeners[*index].gateway == gateway)
            .collect();
        let set = |index: &usize| gateways.listeners[*index].set;
        let objects: Vec<&[usize]> = all.chunk_by(|one, other| set(one) == set(other)).collect();
        let mut at = 0;
        for object in objects {
            for index in object {
                let conflict = before(&gateways.listeners, &all[..at], *index);
                gateways.listeners[*index].conflict = conflict;
            }
            let collide: Vec<_> = object
                .iter()
                .filter_map(|index| Some((*index, within(&gateways.listeners, object, *index)?)))
                .collect();
            for (index, conflict) in collide {
                gateways.listeners[index].conflict = Some(conflict);
            }
            at += object.len();
        }
        for index in &all {
            let overlap = overlap(&gateways.listeners, &all, *index);
            gateways.listeners[*index].overlap = overlap;
        }
    }
}

/// A conflict with a listener of the same `object`.
fn within(listeners: &[Entry<'_>], object: &[usize], index: usize) -> Option<Problem> {
    // What is not served anyway excludes nobody (`Gateway.spec.listeners` on TCP).
    let stands = |entry: &&Entry<'_>| entry.protocol.is_some() && entry.conflict.is_none();
    let entry = Some(&listeners[index]).filter(stands)?;
    object
        .iter()
        .filter(|other| **other != index)
        .map(|other| &listeners[*other])
        .filter(stands)
        .find_map(|other| collision(entry, other))
}

/// A conflict with a listener of an object that goes first.
fn before(listeners: &[Entry<'_>], earlier: &[usize], index: usize) -> Option<Problem> {
    let entry = &listeners[index];
    earlier
        .iter()
        .map(|other| &listeners[*other])
        .filter(|other| {
            other.set != entry.set && other.protocol.is_some() && other.conflict.is_none()
        })
        .find_map(|other| collision(entry, other))
}

fn collision(entry: &Entry<'_>, other: &Entry<'_>) -> Option<Problem> {
    let (name, port) = (&entry.spec.name, entry.spec.port);
    if port != other.spec.port {
        return None;
    }
    // Another team's listener is not described beyond its place: only the port and hostname both know.
    let theirs = if entry.set == other.set {
        format!("listener {}", other.spec.name)
    } else {
        "a listener of the Gateway or of an older ListenerSet".to_owned()
    };
    let (Some(ours), Some(others)) = (entry.protocol, other.protocol) else {
        return None;
    };
    // Datagrams have ports of their own.
    if (ours == Protocol::Udp) != (others == Protocol::Udp) {
        return None;
    }
    if matches!(ours, Protocol::Tcp | Protocol::Udp) && ours == others {
        return Some(Problem::new(
            "ProtocolConflict",
            format!(
                "listener {name}: port {port} is used by {theirs} too, and nothing tells their traffic apart; choose another port"
            ),
        ));
    }
    // A client of HTTPS and one of TLS both name the host that they want, so other hostnames make listeners distinct.
    let told_apart = ours.is_tls() && others.is_tls() && entry.hostname != other.hostname;
    if ours != others && !told_apart {
        return Some(Problem::new(
            "ProtocolConflict",
            format!(
                "listener {name}: port {port} is used with another protocol by {theirs}; choose another port"
            ),
        ));
    }
    (entry.hostname == other.hostname).then(|| {
        Problem::new(
            "HostnameConflict",
            format!(
                "listener {name}: hostname {} on port {port} is used by {theirs} too; choose another hostname or port",
                entry.hostname
            ),
        )
    })
}

/// Another listener of the port that has certificates for names of this one: a client may reuse a connection across them.
fn overlap(listeners: &[Entry<'_>], all: &[usize], index: usize) -> Option<String> {
    let entry = &listeners[index];
    let https =
        |entry: &Entry<'_>| entry.protocol == Some(Protocol::Https) && entry.conflict.is_none();
    if !https(entry) {
        return None;
    }
    all.iter()
        .filter(|other| **other != index)
        .map(|other| &listeners[*other])
        .find(|other| https(other) && other.spec.port == entry.spec.port && other.hostname.intersects(&entry.hostname))
        .map(|other| {
            // Another team's hostnames are not for everybody's eyes.
            let theirs = if other.set == entry.set {
                format!("hostname {} of listener {}", other.hostname, other.spec.name)
            } else {
                "that of a listener of another object".to_owned()
            };
            format!(
                "hostname {} overlaps {theirs} on port {}: clients that reuse connections may meet the certificate of either",
                entry.hostname, entry.spec.port
            )
        })
}
