//! What is made, and what is changed of what others had a hand in.

use serde_json::json;

use super::objects::*;
use crate::api::gateway::Gateway;
use crate::api::{Age, Source};
use crate::cluster::ServiceType;
use crate::resources::{AnyObject, decode};
use crate::translate::Exposed;
use std::collections::BTreeSet;
use std::sync::Arc;

fn gateway(name: &str, labels: &serde_json::Value) -> Arc<Gateway> {
    let object = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": name, "namespace": "shop", "uid": "7"},
        "spec": {"gatewayClassName": "tidegate", "listeners": [],
            "infrastructure": {"labels": labels, "annotations": {"balancer": "internal"}}}});
    match decode(&object, Source::Cluster, Age::Unknown) {
        Some(Ok(AnyObject::Gateway(gateway))) => gateway,
        other => panic!("{other:?}"),
    }
}

fn ports(ports: &[(u16, u16, bool)]) -> BTreeSet<Exposed> {
    let ports = ports.iter();
    ports
        .map(|(port, bound, udp)| Exposed {
            port: *port,
            bound: *bound,
            udp: *udp,
        })
        .collect()
}

fn service(gateway: &Gateway, open: &[(u16, u16, bool)]) -> serde_json::Value {
    let fleet = Fleet::default();
    made(
        gateway,
        &ports(open),
        &fleet,
        ServiceType::LoadBalancer,
        "us",
        true,
    )
    .service
}

#[test]
fn names_fit_and_differ() {
    let name_of = |text: &str| name(&gateway(text, &json!({})));
    assert_eq!(name_of("web"), "web-tidegate");
    assert!(name_of("7").starts_with("gw-7-tidegate-"));
    let (dotted, dashed) = (name_of("a.b"), name_of("a-b"));
    assert_eq!(dashed, "a-b-tidegate");
    assert!(dotted.starts_with("a-b-tidegate-") && dotted.len() < 30);
    let (long, longer) = (name_of(&"x".repeat(100)), name_of(&"x".repeat(101)));
    assert!(long.len() <= 63 && longer.len() <= 63 && long != longer);
}

#[test]
fn marks_are_values_of_labels() {
    assert_eq!(mark("tidegate.dev/controller"), "tidegate.dev-controller");
    let long = mark(&format!("example.com/{}", "x".repeat(80)));
    assert_eq!(long.len(), 63);
}

#[test]
fn a_service_has_the_ports_and_the_infrastructure_of_its_gateway() {
    let gateway = gateway(
        "web",
        &json!({"team": "edge", "tidegate.dev/controller": "theirs"}),
    );
    let slices = [
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.2"], "nodeName": "b"}]}),
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "a"}]}),
        json!({"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"]}]}),
    ];
    let fleet = Fleet::of(slices.iter());
    let open = ports(&[(80, 8080, false), (53, 5353, true)]);
    let made = made(
        &gateway,
        &open,
        &fleet,
        ServiceType::LoadBalancer,
        "us",
        true,
    );
    let labels = &made.service["metadata"]["labels"];
    assert_eq!(
        *labels,
        json!({"team": "edge", "tidegate.dev/controller": "us", "gateway.networking.k8s.io/gateway-name": "web"}),
        "nobody takes our label over"
    );
    assert_eq!(
        made.service["metadata"]["annotations"]["balancer"],
        "internal"
    );
    assert_eq!(
        made.service["spec"],
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [
            {"name": "udp-53", "port": 53, "targetPort": 5353, "protocol": "UDP"},
            {"name": "tcp-80", "port": 80, "targetPort": 8080, "protocol": "TCP"}]})
    );
    let names: Vec<_> = made.slices.keys().map(String::as_str).collect();
    assert_eq!(names, ["web-tidegate-ipv4", "web-tidegate-ipv6"]);
    let slice = &made.slices["web-tidegate-ipv4"];
    assert_eq!(slice["endpoints"][0]["addresses"][0], "10.0.0.1");
    assert_eq!(slice["endpoints"].as_array().unwrap().len(), 2);
    assert_eq!(
        slice["ports"][1],
        json!({"name": "tcp-80", "port": 8080, "protocol": "TCP"})
    );
    assert_eq!(gateway_of(&made.service).unwrap().to_string(), "shop/web");
}

#[test]
fn only_what_is_ours_changes() {
    let before = gateway("web", &json!({"team": "edge", "tier": "1"}));
    let mut seen = service(&before, &[(80, 8080, false)]);
    // What the API server and a cloud's controller put there.
    seen["metadata"]["annotations"]["cloud"] = "id-1".into();
    seen["metadata"]["labels"]["theirs"] = "x".into();
    seen["spec"]["clusterIP"] = "10.96.0.1".into();
    seen["spec"]["ports"][0]["nodePort"] = 30080.into();
    assert_eq!(change(&seen, &service(&before, &[(80, 8080, false)])), None);

    let after = gateway("web", &json!({"tier": "2"}));
    let wanted = service(&after, &[(80, 8080, false), (443, 8443, false)]);
    let patch = change(&seen, &wanted).unwrap();
    let labels = &patch["metadata"]["labels"];
    assert_eq!(*labels, json!({"tier": "2", "team": null}));
    assert_eq!(
        patch["spec"],
        json!({"ports": [
            {"name": "tcp-80", "port": 80, "targetPort": 8080, "protocol": "TCP", "nodePort": 30080},
            {"name": "tcp-443", "port": 443, "targetPort": 8443, "protocol": "TCP"}]})
    );
    assert_eq!(
        patch["metadata"]["annotations"].as_object().unwrap().len(),
        1
    );
}
