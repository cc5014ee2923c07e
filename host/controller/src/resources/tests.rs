//! The store as a translation sees it.

#![allow(
    clippy::needless_pass_by_value,
    reason = "cases read better when they are built in place"
)]

use serde_json::json;

use super::*;

fn read(value: Value) -> AnyObject {
    decode(&value, Source::Cluster, Age::Unknown)
        .unwrap()
        .unwrap()
}

fn service(name: &str, port: u16) -> AnyObject {
    read(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "a"}, "spec": {"ports": [{"port": port}]}}),
    )
}

#[test]
fn objects_come_and_go() {
    let mut resources = Resources::default();
    resources.apply(service("s", 80));
    let before = resources.clone();
    let id = service("s", 80).id();
    assert_eq!(service("s", 80).to_string(), "Service a/s");
    resources.apply(service("s", 80));
    assert_eq!(resources, before, "an equal object changes nothing");
    resources.apply(service("s", 81));
    assert_ne!(resources, before);
    assert_eq!(
        (resources.len(), resources.contains(Kind::Service, &id.key)),
        (1, true)
    );
    resources
        .warnings
        .insert(id.clone(), vec!["old".to_owned()]);
    assert!(resources.remove(Kind::Service, &id.key));
    assert!(!resources.remove(Kind::Service, &id.key));
    assert_eq!(resources, Resources::default(), "its warnings go with it");
}

#[test]
fn every_kind_has_a_place() {
    let specs = [
        (Kind::GatewayClass, json!({"controllerName": "a/b"})),
        (
            Kind::Gateway,
            json!({"gatewayClassName": "c", "listeners": []}),
        ),
        (
            Kind::ListenerSet,
            json!({"parentRef": {"name": "g"}, "listeners": []}),
        ),
        (Kind::ReferenceGrant, json!({"from": [], "to": []})),
        (
            Kind::BackendTlsPolicy,
            json!({"validation": {"hostname": "a"}}),
        ),
        (Kind::Filter, json!({"module": {"builtin": "cors"}})),
        (Kind::FilterPolicy, json!({"targetRefs": [], "filters": []})),
    ];
    let mut resources = Resources::default();
    for (expected, kind) in Kind::all().enumerate() {
        assert_eq!(resources.iter().count(), expected);
        let spec = specs
            .iter()
            .find(|(k, _)| *k == kind)
            .map_or(json!({}), |(_, spec)| spec.clone());
        resources.apply(read(json!({"apiVersion": kind.api_version(), "kind": kind.name(), "metadata": {"name": "x"}, "spec": spec})));
        assert!(resources.contains(kind, &Key::new("", "x")), "{kind}");
    }
    assert!(resources.iter().map(|object| object.kind()).eq(Kind::all()));
}

#[test]
fn namespaces_are_labelled_with_their_name() {
    let mut resources = Resources::default();
    assert_eq!(
        resources.namespace_labels("shop")["kubernetes.io/metadata.name"],
        "shop"
    );
    resources.apply(read(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"env": "prod"}}})));
    assert_eq!(resources.namespace_labels("shop")["env"], "prod");
}

#[test]
fn other_kinds_are_not_decoded() {
    for (api_version, kind) in [("apps/v1", "Deployment"), ("extensions/v1beta1", "Ingress")] {
        assert!(
            decode(
                &json!({"apiVersion": api_version, "kind": kind}),
                Source::Cluster,
                Age::Unknown
            )
            .is_none()
        );
    }
    let wrong = decode(
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": 1}}),
        Source::Cluster,
        Age::Unknown,
    );
    assert!(
        wrong
            .unwrap()
            .unwrap_err()
            .to_string()
            .starts_with("spec.ports: invalid type")
    );
}
