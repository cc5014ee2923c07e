//! A Service for each Gateway.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::fake::{Fake, until};
use super::{GATEWAY, apply, gateway, settings, shop};
use crate::api::{Key, Kind};
use crate::cluster::{Cluster, ServiceType, Settings};

const SERVICE: &str = "/api/v1/namespaces/shop/services/web-tidegate";
const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/web-tidegate-ipv4";

fn with_services() -> Settings {
    let mut settings = settings("one");
    settings.address_pool = None;
    settings.publish_service = Some(Key::new("system", "tidegate"));
    settings.fleet = Some(Key::new("system", "tidegate"));
    settings.gateway_services = Some(ServiceType::LoadBalancer);
    settings
}

fn web(labels: &Value) -> Value {
    let mut object = gateway(&json!([{"name": "http", "port": 80, "protocol": "HTTP"}]));
    object["metadata"]["uid"] = "7".into();
    object["spec"]["infrastructure"] = json!({"labels": labels});
    object
}

fn fleet(address: &str) -> Value {
    json!({"metadata": {"name": "tidegate-x", "namespace": "system", "labels": {"kubernetes.io/service-name": "tidegate"}},
        "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": [{"addresses": [address], "conditions": {"ready": true}}]})
}

fn fake() -> Fake {
    let fake = shop();
    fake.put(GATEWAY, web(&json!({"team": "edge"})));
    fake.put(
        "/api/v1/namespaces/system/services/tidegate",
        json!({"metadata": {"name": "tidegate", "namespace": "system"}, "spec": {"type": "LoadBalancer"},
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}}),
    );
    fake.put(
        "/apis/discovery.k8s.io/v1/namespaces/system/endpointslices/tidegate-x",
        fleet("10.1.0.1"),
    );
    fake
}

fn addresses(cluster: &mut Cluster) -> Vec<String> {
    let statuses = &apply(cluster).1.statuses;
    let status = statuses.get(Kind::Gateway, "shop", "web").unwrap();
    let addresses = status.addresses.iter();
    addresses.map(|address| address.value.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn each_gateway_gets_one_and_its_address_from_it() {
    let fake = fake();
    let mut cluster = Cluster::start(fake.client(), with_services());
    until("synchronised", || cluster.is_synced()).await;
    assert!(
        addresses(&mut cluster).is_empty(),
        "that of the whole fleet is not its own"
    );
    until("the Service is made", || fake.get(SLICE).is_some()).await;
    let service = fake.get(SERVICE).unwrap();
    assert_eq!(service["metadata"]["labels"]["team"], "edge");
    assert_eq!(
        fake.get(SLICE).unwrap()["endpoints"][0]["addresses"][0],
        "10.1.0.1"
    );

    // A load balancer comes.
    let mut balanced = service.clone();
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}});
    fake.put(SERVICE, balanced);
    until("its address is published", || {
        addresses(&mut cluster) == ["lb.example"]
    })
    .await;

    // The fleet moves, and the Gateway says something else.
    fake.put(
        "/apis/discovery.k8s.io/v1/namespaces/system/endpointslices/tidegate-x",
        fleet("10.1.0.2"),
    );
    until("the endpoints follow", || {
        fake.get(SLICE).unwrap()["endpoints"][0]["addresses"][0] == "10.1.0.2"
    })
    .await;
    fake.put(GATEWAY, web(&json!({"tier": "1"})));
    until("the labels follow", || {
        apply(&mut cluster);
        fake.get(SERVICE).unwrap()["metadata"]["labels"]
            == json!({"tier": "1", "tidegate.dev/controller": "tidegate.dev-controller",
                "gateway.networking.k8s.io/gateway-name": "web"})
    })
    .await;
    assert_eq!(
        fake.get(SERVICE).unwrap()["status"]["loadBalancer"]["ingress"][0]["hostname"],
        "lb.example"
    );

    // It goes with its Gateway; what has not our label stays, whatever it is called.
    fake.put(
        "/api/v1/namespaces/shop/services/other",
        json!({"metadata": {"name": "other", "namespace": "shop"}}),
    );
    fake.delete(GATEWAY);
    until("gone", || {
        apply(&mut cluster);
        fake.get(SERVICE).is_none() && fake.get(SLICE).is_none()
    })
    .await;
    assert!(fake.get("/api/v1/namespaces/shop/services/other").is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ours_is_not_touched() {
    let fake = fake();
    let theirs = json!({"metadata": {"name": "web-tidegate", "namespace": "shop"}, "spec": {"type": "ClusterIP"}});
    fake.put(SERVICE, theirs);
    let before = fake.get(SERVICE);
    let mut cluster = Cluster::start(fake.client(), with_services());
    until("synchronised", || cluster.is_synced()).await;
    assert!(addresses(&mut cluster).is_empty());
    until("it was tried", || {
        fake.asked("POST /api/v1/namespaces/shop/services") > 1
    })
    .await;
    assert_eq!(fake.get(SERVICE), before);
    assert_eq!(fake.asked("PATCH /api/v1/namespaces/shop/services"), 0);
    // The name becomes free.
    fake.delete(SERVICE);
    until("made", || {
        fake.get(SERVICE)
            .is_some_and(|made| made != *before.as_ref().unwrap())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_lead_makes_none() {
    let fake = fake();
    for _ in 0..1000 {
        fake.fail(Method::POST, "/apis/coordination.k8s.io", 403);
    }
    let mut cluster = Cluster::start(fake.client(), with_services());
    until("synchronised", || cluster.is_synced()).await;
    apply(&mut cluster);
    until("it cannot lead", || {
        fake.asked("POST /apis/coordination.k8s.io") > 5
    })
    .await;
    assert!(!cluster.is_leading());
    assert_eq!(fake.asked("POST /api/v1/namespaces/shop/services"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_the_answer_to_our_own_write_brings_is_told_of() {
    let fake = fake();
    fake.give("services", json!({"spec": {"clusterIPs": ["10.96.0.7"]}}));
    let settings = Settings {
        gateway_services: Some(ServiceType::ClusterIp),
        ..with_services()
    };
    let mut cluster = Cluster::start(fake.client(), settings);
    until("synchronised", || cluster.is_synced()).await;
    // The watches say nothing from now on.
    for (path, plural) in [
        ("/api/v1/services", "services"),
        ("/apis/discovery.k8s.io/v1/endpointslices", "endpointslices"),
    ] {
        fake.stall(path);
        fake.end_watches(plural, "");
    }
    while timeout(Duration::from_secs(5), cluster.changed())
        .await
        .is_ok()
    {}
    assert!(addresses(&mut cluster).is_empty());
    let told = timeout(Duration::from_secs(60), cluster.changed()).await;
    assert!(fake.get(SERVICE).is_some(), "it was made");
    assert!(told.is_ok(), "nobody heard of it");
    assert_eq!(addresses(&mut cluster), ["10.96.0.7"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_too_old_lists_anew() {
    let fake = fake();
    let mut cluster = Cluster::start(fake.client(), with_services());
    until("synchronised", || cluster.is_synced()).await;
    apply(&mut cluster);
    until("made", || fake.get(SLICE).is_some()).await;
    // Nobody is told that it is gone, and only a listing can show it.
    fake.delete_unseen(SLICE);
    let path = "/apis/discovery.k8s.io/v1/endpointslices";
    for _ in 0..2 {
        fake.fail(Method::GET, path, 410);
    }
    fake.end_watches("endpointslices", "");
    until("made again", || fake.get(SLICE).is_some()).await;
}
