//! The cluster as a whole, against an API server in memory that fails as real ones do. The clock is paused: what waits for
//! seconds here takes none.

mod fake;
mod merging;
mod pins;
mod services;
mod watching;
mod writing;

use serde_json::{Value, json};

use self::fake::Fake;
use super::{Cluster, Settings};
use crate::resources::Resources;
use crate::translate::{Options, Translation, translate};
use std::sync::Arc;
use tidegate_model::FilterVerdicts;

const GROUP: &str = "gateway.networking.k8s.io";
const ROUTE: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/cart";
const GATEWAY: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways/web";

fn settings(identity: &str) -> Settings {
    Settings {
        controller_name: "tidegate.dev/controller".to_owned(),
        namespaces: Vec::new(),
        class_selector: None,
        publish_service: None,
        publish_addresses: Vec::new(),
        address_pool: Some("10.0.0.0/24".parse().unwrap()),
        gateway_services: None,
        fleet: None,
        state: None,
        lease_namespace: "system".to_owned(),
        identity: identity.to_owned(),
    }
}

/// An API server with the Gateway API, a class, a Gateway and a route.
fn shop() -> Fake {
    let fake = Fake::default();
    for plural in [
        "gatewayclasses",
        "gateways",
        "httproutes",
        "backendtlspolicies",
    ] {
        fake.serve(GROUP, "v1", plural);
    }
    fake.put(
        "/apis/gateway.networking.k8s.io/v1/gatewayclasses/tidegate",
        json!({"metadata": {"name": "tidegate", "generation": 1}, "spec": {"controllerName": "tidegate.dev/controller"}}),
    );
    fake.put(
        GATEWAY,
        gateway(&json!([{"name": "http", "port": 80, "protocol": "HTTP"}])),
    );
    fake.put(ROUTE, route("/"));
    fake
}

fn gateway(listeners: &Value) -> Value {
    json!({"metadata": {"name": "web", "namespace": "shop", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"gatewayClassName": "tidegate", "listeners": listeners}})
}

fn route(path: &str) -> Value {
    json!({"metadata": {"name": "cart", "namespace": "shop", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"parentRefs": [{"group": GROUP, "kind": "Gateway", "name": "web"}],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": path}}]}]}})
}

/// What the control loop of the process does with a change.
fn apply(cluster: &mut Cluster) -> (Arc<Resources>, Arc<Translation>) {
    let resources = cluster.resources();
    let mut options = Options::default();
    cluster.tune(&resources, &mut options);
    let translation = Arc::new(translate(&resources, &FilterVerdicts::default(), &options));
    cluster.want(&translation);
    cluster.report(translation.clone());
    (resources, translation)
}
