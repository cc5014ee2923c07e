//! Where a Service's port runs: EndpointSlices, merged.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tidegate_model::Endpoint;

use crate::api::core::{Endpoint as SliceEndpoint, EndpointSlice};

/// What the slices of a Service say about one of its ports.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// Ordered, without duplicates.
    pub(super) endpoints: Vec<Endpoint>,
    /// Addresses that may not be used, for a warning.
    pub(super) refused: Vec<String>,
}

/// How fit an endpoint is; the greater is taken where slices disagree, as they do for a moment while an endpoint moves
/// from one slice to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    Unfit,
    /// Serving while it terminates: better than nothing when nothing else is left (KEP-1669).
    Leaving,
    Ready,
}

/// The endpoints of the port called `port` (`""` for the unnamed port of a Service with one port).
///
/// `any_address` lifts the ban on addresses that a cluster's tenant must not reach through the gateway: loopback and
/// link-local ones, the latter being where clouds keep their metadata.
pub(super) fn find(slices: &[&EndpointSlice], port: &str, any_address: bool) -> Found {
    let mut fitness: BTreeMap<Endpoint, Fitness> = BTreeMap::new();
    let mut refused = Vec::new();
    for slice in slices {
        let number = slice
            .spec
            .ports
            .iter()
            .find(|p| p.name.as_deref().unwrap_or_default() == port)
            .and_then(|p| u16::try_from(p.port?).ok());
        let Some(number) = number else { continue };
        for endpoint in &slice.spec.endpoints {
            let fit = fit(endpoint);
            for address in &endpoint.addresses {
                match resolve(&slice.spec.address_type, address, number, any_address) {
                    Ok(found) => {
                        let known = fitness.entry(found).or_insert(Fitness::Unfit);
                        *known = fit.max(*known);
                    }
                    Err(why) => refused.push(format!("EndpointSlice {}: {why}", slice.key())),
                }
            }
        }
    }
    let best = fitness.values().copied().max().unwrap_or(Fitness::Unfit);
    let endpoints = fitness
        .into_iter()
        .filter(|(_, fit)| *fit == best && *fit > Fitness::Unfit)
        .map(|(endpoint, _)| endpoint)
        .collect();
    refused.sort();
    refused.dedup();
    Found { endpoints, refused }
}

/// A name or a literal address outside the cluster (ExternalName).
///
/// # Errors
/// Why the address may not be used.
pub(super) fn external(name: &str, port: u16, any_address: bool) -> Result<Endpoint, String> {
    match name.parse() {
        Ok(address) => checked(address, port, any_address),
        Err(_) => Ok(Endpoint::Name(
            name.trim_end_matches('.').to_ascii_lowercase().into(),
            port,
        )),
    }
}

fn fit(endpoint: &SliceEndpoint) -> Fitness {
    let conditions = endpoint.conditions.as_ref();
    // Absent means unknown, to be read as ready and not terminating (`EndpointConditions`).
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
    match (ready, serving, terminating) {
        (true, _, _) => Fitness::Ready,
        (false, true, true) => Fitness::Leaving,
        _ => Fitness::Unfit,
    }
}

fn resolve(kind: &str, address: &str, port: u16, any_address: bool) -> Result<Endpoint, String> {
    if kind == "FQDN" {
        if any_address {
            return external(address, port, any_address);
        }
        return Err(format!(
            "address {address} is a name; endpoints in a cluster must be IPv4 or IPv6"
        ));
    }
    let parsed: IpAddr = address
        .parse()
        .map_err(|_| format!("{address:?} is not an address of type {kind}"))?;
    checked(parsed, port, any_address)
}

fn checked(address: IpAddr, port: u16, any_address: bool) -> Result<Endpoint, String> {
    if !any_address && let Some(what) = forbidden(address.to_canonical()) {
        return Err(format!(
            "address {address} is {what}, which a gateway in a cluster does not connect to"
        ));
    }
    Ok(Endpoint::Address(SocketAddr::new(address, port)))
}

fn forbidden(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_loopback() {
        Some("a loopback address")
    } else if link_local {
        Some("a link-local address")
    } else if address.is_unspecified() || address.is_multicast() {
        Some("no address of one machine")
    } else {
        None
    }
}
