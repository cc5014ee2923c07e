//! What is written back: by one process, only what differs, and never over what others said.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::fake::{Fake, pass, until};
use super::{GATEWAY, ROUTE, apply, settings, shop};
use crate::cluster::Cluster;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases/tidegate.dev-controller";

async fn leading(fake: &Fake, identity: &str) -> Cluster {
    let cluster = Cluster::start(fake.client(), settings(identity));
    until("synchronised", || cluster.is_synced()).await;
    until("leads", || cluster.is_leading()).await;
    cluster
}

fn accepted(fake: &Fake, path: &str) -> bool {
    let object = fake.get(path).unwrap();
    let mut lists = vec![object["status"]["conditions"].clone()];
    lists.extend(
        object["status"]["parents"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|p| p["conditions"].clone()),
    );
    let conditions = lists
        .iter()
        .flat_map(|list| list.as_array().cloned().unwrap_or_default());
    conditions
        .into_iter()
        .any(|c| c["type"] == "Accepted" && c["status"] == "True")
}

#[tokio::test(start_paused = true)]
async fn statuses_are_written_once_and_then_left_alone() {
    let fake = shop();
    let mut cluster = leading(&fake, "one").await;
    apply(&mut cluster);
    until("written", || {
        accepted(&fake, ROUTE) && accepted(&fake, GATEWAY)
    })
    .await;
    assert_eq!(
        fake.get(GATEWAY).unwrap()["status"]["addresses"],
        json!([{"type": "IPAddress", "value": "10.0.0.1"}])
    );
    // Classes, Gateway and route: once each, and never again while nothing changes.
    pass(Duration::from_secs(60)).await;
    apply(&mut cluster);
    pass(Duration::from_secs(60)).await;
    assert_eq!(
        fake.asked("PATCH"),
        3,
        "one write for each of three objects"
    );
    // Somebody takes ours away: it is put back.
    let mut object = fake.get(ROUTE).unwrap();
    object["status"] = json!({"parents": []});
    fake.put(ROUTE, object);
    until("put back", || accepted(&fake, ROUTE)).await;
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_merged_anew_over_what_others_wrote() {
    let fake = shop();
    let mut cluster = leading(&fake, "one").await;
    // The watch is silent while another controller writes, so that ours is made for an older version.
    fake.end_watches("httproutes", "");
    for _ in 0..1000 {
        fake.fail(
            Method::GET,
            "/apis/gateway.networking.k8s.io/v1/httproutes",
            500,
        );
    }
    until("the watch is broken", || fake.watching("httproutes") == 0).await;
    let theirs = json!({"controllerName": "example.com/other", "parentRef": {"name": "web"}, "conditions": []});
    let mut object = fake.get(ROUTE).unwrap();
    object["status"] = json!({"parents": [theirs]});
    fake.put(ROUTE, object);
    apply(&mut cluster);
    until("written", || accepted(&fake, ROUTE)).await;
    let parents = fake.get(ROUTE).unwrap()["status"]["parents"].clone();
    assert_eq!(parents[0], theirs);
    assert_eq!(parents[1]["controllerName"], "tidegate.dev/controller");
    assert_eq!(parents.as_array().unwrap().len(), 2);
    let mut page = String::new();
    cluster.metrics().write(&mut page);
    assert!(page.contains("tidegate_status_conflicts_total 1"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_are_waited_for() {
    let fake = shop();
    let mut cluster = leading(&fake, "one").await;
    for _ in 0..3 {
        fake.fail(Method::PATCH, "/apis/gateway.networking.k8s.io", 429);
    }
    let since = tokio::time::Instant::now();
    apply(&mut cluster);
    until("written", || {
        accepted(&fake, ROUTE) && accepted(&fake, GATEWAY)
    })
    .await;
    assert!(
        since.elapsed() >= Duration::from_secs(3),
        "as long as the server said"
    );
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_being_installed_anew_is_tried_again() {
    let fake = shop();
    let mut cluster = leading(&fake, "one").await;
    for _ in 0..8 {
        fake.fail(Method::PATCH, "/apis/gateway.networking.k8s.io", 404);
    }
    apply(&mut cluster);
    until("written", || {
        accepted(&fake, ROUTE) && accepted(&fake, GATEWAY)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_field_that_the_server_drops_is_not_sent_for_ever() {
    let fake = shop();
    fake.prune("supportedFeatures");
    let mut cluster = leading(&fake, "one").await;
    apply(&mut cluster);
    until("written", || accepted(&fake, ROUTE)).await;
    pass(Duration::from_secs(120)).await;
    let writes = fake.asked("PATCH /apis/gateway.networking.k8s.io/v1/gatewayclasses");
    assert_eq!(writes, 1, "once, since sending it again changes nothing");
}

#[tokio::test(start_paused = true)]
async fn what_is_ours_no_longer_is_taken_back() {
    let fake = shop();
    let mut cluster = leading(&fake, "one").await;
    apply(&mut cluster);
    until("written", || accepted(&fake, ROUTE)).await;
    let mut object = fake.get(ROUTE).unwrap();
    object["spec"]["parentRefs"] = json!([{"name": "elsewhere"}]);
    fake.put(ROUTE, object);
    until("the route changed", || {
        let resources = cluster.resources();
        resources
            .http_routes
            .values()
            .all(|route| format!("{:?}", route.spec).contains("elsewhere"))
    })
    .await;
    apply(&mut cluster);
    until("taken back", || {
        fake.get(ROUTE).unwrap()["status"]["parents"] == json!([])
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_hands_over_at_its_end() {
    let fake = shop();
    let one = leading(&fake, "one").await;
    let mut two = Cluster::start(fake.client(), settings("two"));
    until("synchronised", || two.is_synced()).await;
    pass(Duration::from_secs(60)).await;
    assert!(one.is_leading() && !two.is_leading());
    let writes = fake.asked("PATCH");
    apply(&mut two);
    pass(Duration::from_secs(10)).await;
    assert_eq!(
        fake.asked("PATCH"),
        writes,
        "who does not lead writes nothing"
    );
    let since = tokio::time::Instant::now();
    one.end().await;
    until("the other leads", || two.is_leading()).await;
    assert!(
        since.elapsed() < Duration::from_secs(7),
        "without waiting for the Lease to expire"
    );
    // It writes without waiting for a change.
    until("written", || accepted(&fake, ROUTE)).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_vanishes_is_followed_when_its_lease_expired() {
    let fake = shop();
    let one = leading(&fake, "one").await;
    drop(one);
    let two = Cluster::start(fake.client(), settings("two"));
    let since = tokio::time::Instant::now();
    until("the other leads", || two.is_leading()).await;
    assert!(since.elapsed() >= Duration::from_secs(15), "not before");
    let lease = fake.get(LEASE).unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "two");
    assert_eq!(lease["spec"]["leaseTransitions"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_steps_down() {
    let fake = shop();
    let cluster = leading(&fake, "one").await;
    for _ in 0..1000 {
        fake.fail(Method::PUT, LEASE, 500);
    }
    let since = tokio::time::Instant::now();
    until("it steps down", || !cluster.is_leading()).await;
    assert!(
        since.elapsed() <= Duration::from_secs(16),
        "before others take over"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_an_event_once() {
    let fake = shop();
    let mut object = fake.get(ROUTE).unwrap();
    object["spec"]["rules"][0]["backendRefs"] =
        json!([{"group": "", "kind": "Service", "name": "nowhere", "port": 80}]);
    fake.put(ROUTE, object);
    let mut cluster = leading(&fake, "one").await;
    apply(&mut cluster);
    let events = |fake: &Fake| fake.asked("POST /apis/events.k8s.io/v1/namespaces/shop/events");
    until("told", || events(&fake) > 0).await;
    apply(&mut cluster);
    pass(Duration::from_secs(30)).await;
    assert_eq!(events(&fake), 1);
    let event: Value = fake
        .objects("/apis/events.k8s.io/v1/namespaces/shop/events")
        .remove(0);
    assert_eq!(event["regarding"]["name"], "cart");
    assert_eq!(event["reason"], "BackendNotFound");
    assert!(event["note"].as_str().unwrap().contains("shop/nowhere"));
}
