//! `--address-pool`: each Gateway an address of its own.
//!
//! Which one a Gateway has stands in its status, where every replica and every restart finds it. One that has none gets
//! the lowest that is free, the oldest Gateway first; replicas that decide at the same time decide alike.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::api::Key;
use crate::api::gateway::Gateway;
use crate::resources::Resources;

/// Gives each Gateway of ours without `spec.addresses` an address. `known` are those in the statuses, `before` those of
/// the last time. Gateways past the end of the pool get none.
pub(super) fn assign(
    resources: &Resources,
    controller_name: &str,
    pool: IpNet,
    known: &BTreeMap<Key, Vec<IpAddr>>,
    before: &BTreeMap<Key, IpAddr>,
) -> BTreeMap<Key, IpAddr> {
    let mut gateways: Vec<&Gateway> = resources
        .gateways
        .values()
        .map(|gateway| &**gateway)
        .filter(|gateway| is_ours(resources, controller_name, gateway))
        .collect();
    gateways.sort_by_key(|gateway| {
        (
            &gateway.meta.age,
            &gateway.meta.namespace,
            &gateway.meta.name,
        )
    });
    let mut taken: BTreeSet<IpAddr> = resources
        .gateways
        .values()
        .flat_map(|gateway| &gateway.spec.addresses)
        .filter_map(|address| address.value.parse().ok())
        .collect();
    gateways.retain(|gateway| gateway.spec.addresses.is_empty());
    let mut assigned = BTreeMap::new();
    // Those that have one first, so that a newcomer never takes an address that is in use.
    for gateway in &gateways {
        let key = gateway.key();
        let stands = known.get(&key).into_iter().flatten().copied();
        let kept = stands
            .chain(before.get(&key).copied())
            .find(|address| pool.contains(address) && !taken.contains(address));
        if let Some(address) = kept {
            taken.insert(address);
            assigned.insert(key, address);
        }
    }
    let mut free = pool.hosts().filter(|address| !taken.contains(address));
    for gateway in gateways {
        let key = gateway.key();
        if assigned.contains_key(&key) {
            continue;
        }
        let Some(address) = free.next() else {
            tracing::warn!(gateway = %key, %pool, "no address is left in --address-pool");
            continue;
        };
        assigned.insert(key, address);
    }
    assigned
}

fn is_ours(resources: &Resources, controller_name: &str, gateway: &Gateway) -> bool {
    let class = Key::new("", gateway.spec.gateway_class_name.as_str());
    // A class that we may not read is taken for ours by translation; an address too many does no harm.
    resources
        .gateway_classes
        .get(&class)
        .is_none_or(|class| class.spec.controller_name == controller_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Age, Source};
    use crate::resources::decode;
    use serde_json::json;

    fn gateways(list: &[(&str, &str, Option<&str>)]) -> Resources {
        let mut resources = Resources::default();
        let class = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": "theirs"}, "spec": {"controllerName": "example.com/other"}});
        let objects = list.iter().map(|(name, created, address)| {
            let addresses: Vec<_> = address
                .iter()
                .map(|value| json!({"type": "IPAddress", "value": value}))
                .collect();
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "metadata": {"name": name, "namespace": "n", "creationTimestamp": created},
                "spec": {"gatewayClassName": if *name == "theirs" { "theirs" } else { "tidegate" },
                    "addresses": addresses, "listeners": []}})
        });
        for object in objects.chain([class]) {
            let decoded = decode(&object, Source::Cluster, Age::Unknown)
                .unwrap()
                .unwrap();
            resources.apply(decoded);
        }
        resources
    }

    fn run(
        resources: &Resources,
        known: &[(&str, &str)],
        before: &BTreeMap<Key, IpAddr>,
    ) -> Vec<(String, String)> {
        let known = known
            .iter()
            .map(|(name, address)| (Key::new("n", *name), vec![address.parse().unwrap()]))
            .collect();
        let assigned = assign(
            resources,
            "us",
            "10.0.0.0/29".parse().unwrap(),
            &known,
            before,
        );
        let rows = assigned.into_iter();
        rows.map(|(key, address)| (key.name, address.to_string()))
            .collect()
    }

    fn rows(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let rows = expected.iter();
        rows.map(|(name, address)| ((*name).to_owned(), (*address).to_owned()))
            .collect()
    }

    #[test]
    fn the_oldest_gets_the_lowest_and_keeps_it() {
        let none = BTreeMap::new();
        let first = gateways(&[
            ("b", "2026-01-01T00:00:00Z", None),
            ("a", "2026-01-02T00:00:00Z", None),
        ]);
        assert_eq!(
            run(&first, &[], &none),
            rows(&[("a", "10.0.0.2"), ("b", "10.0.0.1")])
        );
        // An older one appears; what has an address keeps it.
        let more = gateways(&[
            ("b", "2026-01-01T00:00:00Z", None),
            ("a", "2026-01-02T00:00:00Z", None),
            ("c", "2025-01-02T00:00:00Z", None),
        ]);
        let known = [("a", "10.0.0.2"), ("b", "10.0.0.1")];
        assert_eq!(
            run(&more, &known, &none),
            rows(&[("a", "10.0.0.2"), ("b", "10.0.0.1"), ("c", "10.0.0.3")])
        );
    }

    #[test]
    fn asked_for_foreign_and_outside_addresses() {
        let none = BTreeMap::new();
        let resources = gateways(&[
            ("asks", "2026-01-01T00:00:00Z", Some("10.0.0.1")),
            ("theirs", "2026-01-01T00:00:00Z", None),
            ("x", "2026-01-02T00:00:00Z", None),
        ]);
        // An address in the status that is not of the pool was published some other way.
        assert_eq!(
            run(&resources, &[("x", "192.0.2.1")], &none),
            rows(&[("x", "10.0.0.2")])
        );
        let before = BTreeMap::from([(Key::new("n", "x"), "10.0.0.5".parse().unwrap())]);
        assert_eq!(run(&resources, &[], &before), rows(&[("x", "10.0.0.5")]));
    }

    #[test]
    fn a_pool_ends() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let list: Vec<_> = names
            .iter()
            .map(|name| (*name, "2026-01-01T00:00:00Z", None))
            .collect();
        assert_eq!(run(&gateways(&list), &[], &BTreeMap::new()).len(), 6);
    }
}
