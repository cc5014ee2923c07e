//! Merging what we say into what is there.

use serde_json::{Map, Value, json};

use crate::api::reference::ParentReference;
use crate::api::{Kind, Meta, Source};
use crate::cluster::merge::{Voice, patch};
use crate::status::{
    Address, AddressKind, Condition, ListenerStatus, ObjectStatus, ParentStatus, Statuses,
};

const OURS: &str = "tidegate.dev/controller";
const NOW: &str = "2026-11-21T00:00:00Z";
const BEFORE: &str = "2025-01-01T00:00:00Z";

fn said(kind: Kind) -> ObjectStatus {
    let mut statuses = Statuses::default();
    statuses
        .entry(kind, &Meta::default(), &Source::Cluster)
        .clone()
}

fn merge(current: &Value, wanted: &ObjectStatus) -> Map<String, Value> {
    let voice = Voice {
        controller_name: OURS,
        now: NOW,
    };
    voice.merge(current.as_object().unwrap(), wanted)
}

fn parent(name: &str) -> ParentReference {
    ParentReference {
        group: "gateway.networking.k8s.io".to_owned(),
        kind: "Gateway".to_owned(),
        namespace: None,
        name: name.to_owned(),
        section_name: None,
        port: None,
    }
}

#[test]
fn a_time_changes_when_the_status_does() {
    let condition = |status: &str, since: &str| {
        json!({"type": "Accepted", "status": status, "reason": "Accepted", "message": "", "observedGeneration": 1,
            "lastTransitionTime": since})
    };
    let mut wanted = said(Kind::GatewayClass);
    wanted.set(Condition::yes("Accepted", "Accepted", "", 1));
    let same = json!({"conditions": [condition("True", BEFORE)]});
    assert_eq!(
        Value::Object(merge(&same, &wanted)),
        same,
        "nothing to write"
    );
    let other = json!({"conditions": [condition("False", BEFORE)]});
    assert_eq!(
        merge(&other, &wanted)["conditions"][0],
        condition("True", NOW)
    );
    wanted.set(Condition::yes("Accepted", "Accepted", "new words", 2));
    let written = merge(&same, &wanted);
    assert_eq!(written["conditions"][0]["lastTransitionTime"], BEFORE);
    assert_eq!(written["conditions"][0]["observedGeneration"], 2);
}

#[test]
fn conditions_of_others_stay_and_ours_that_are_unsaid_go() {
    let mut wanted = said(Kind::Gateway);
    wanted.set(Condition::yes("Programmed", "Programmed", "", 1));
    let theirs = json!({"type": "example.com/Watched", "status": "True", "reason": "R", "message": "", "lastTransitionTime": BEFORE});
    let stale = json!({"type": "ResolvedRefs", "status": "False", "reason": "R", "message": "", "lastTransitionTime": BEFORE});
    let merged = merge(&json!({"conditions": [theirs, stale]}), &wanted);
    let kinds: Vec<_> = merged["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["type"].clone())
        .collect();
    assert_eq!(kinds, ["example.com/Watched", "Programmed"]);
}

#[test]
fn parents_of_others_keep_their_places() {
    let entry = |controller: &str, name: &str| {
        json!({"controllerName": controller, "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name},
            "conditions": []})
    };
    let current = json!({"parents": [entry(OURS, "left"), entry("other", "x"), entry(OURS, "a"), entry("other", "y")]});
    let mut wanted = said(Kind::HttpRoute);
    wanted.parents = ["a", "new"]
        .map(|name| ParentStatus {
            parent_ref: parent(name),
            conditions: vec![Condition::yes("Accepted", "Accepted", "", 1)],
        })
        .to_vec();
    let merged = merge(&current, &wanted);
    let rows: Vec<_> = merged["parents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            format!(
                "{} {}",
                p["controllerName"].as_str().unwrap(),
                p["parentRef"]["name"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            "other x",
            &format!("{OURS} a"),
            "other y",
            &format!("{OURS} new")
        ]
    );
    // Nothing said where nothing is: nothing is written.
    wanted.parents.clear();
    assert!(merge(&json!({}), &wanted).is_empty());
}

#[test]
fn listeners_and_addresses_are_ours_alone() {
    let mut wanted = said(Kind::Gateway);
    wanted.listeners = vec![ListenerStatus {
        name: "http".to_owned(),
        attached_routes: 2,
        supported_kinds: Vec::new(),
        conditions: vec![Condition::yes("Accepted", "Accepted", "", 1)],
    }];
    wanted.addresses = vec![Address {
        kind: AddressKind::IpAddress,
        value: "10.0.0.1".to_owned(),
    }];
    let current = json!({
        "addresses": [{"type": "IPAddress", "value": "10.0.0.9"}],
        "listeners": [
            {"name": "gone", "attachedRoutes": 1, "supportedKinds": [], "conditions": []},
            {"name": "http", "attachedRoutes": 1, "supportedKinds": [], "conditions": [
                {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "observedGeneration": 1, "lastTransitionTime": BEFORE}]}
        ]
    });
    let merged = merge(&current, &wanted);
    assert_eq!(
        merged["addresses"],
        json!([{"type": "IPAddress", "value": "10.0.0.1"}])
    );
    assert_eq!(merged["listeners"].as_array().unwrap().len(), 1);
    assert_eq!(merged["listeners"][0]["attachedRoutes"], 2);
    assert_eq!(
        merged["listeners"][0]["conditions"][0]["lastTransitionTime"],
        BEFORE
    );
}

#[test]
fn an_ingress_gets_its_load_balancer() {
    let mut wanted = said(Kind::Ingress);
    assert!(
        merge(&json!({"loadBalancer": {}}), &wanted)
            == json!({"loadBalancer": {}}).as_object().unwrap().clone()
    );
    wanted.addresses = vec![
        Address {
            kind: AddressKind::IpAddress,
            value: "203.0.113.7".to_owned(),
        },
        Address {
            kind: AddressKind::Hostname,
            value: "lb.example".to_owned(),
        },
    ];
    let merged = merge(&json!({"loadBalancer": {}}), &wanted);
    assert_eq!(
        merged["loadBalancer"]["ingress"],
        json!([{"ip": "203.0.113.7"}, {"hostname": "lb.example"}])
    );
}

#[test]
fn a_patch_names_what_differs_and_the_version() {
    let current = json!({"a": 1, "b": [1], "c": 3});
    let new = json!({"a": 1, "b": [2], "d": 4});
    let of = |current: &Value, new: &Value| {
        patch(current.as_object().unwrap(), new.as_object().unwrap(), "7")
    };
    assert_eq!(
        of(&current, &new),
        Some(
            json!({"metadata": {"resourceVersion": "7"}, "status": {"b": [2], "d": 4, "c": null}})
        )
    );
    assert_eq!(of(&current, &json!({"c": 3, "a": 1, "b": [1]})), None);
}
