//! `--gateway-services` against a real API server, whose defaults and garbage collector are part of it.

use serde_json::{Value, json};

use super::api::{Cluster, Site, root, until};
use super::{http, ready};

/// Where the chart's objects are.
const SYSTEM: &str = "tidegate-system";

fn gateway(site: &Site, name: &str, labels: &Value) -> Value {
    let mut gateway = site.gateway(name, &http());
    gateway["spec"]["gatewayClassName"] = "tidegate".into();
    gateway["spec"]["infrastructure"] =
        json!({"labels": labels, "annotations": {"balancer": "internal"}});
    gateway
}

/// Endpoints of the chart's Service, as the control plane makes them of pods.
fn fleet(address: &str) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "fleet", "namespace": SYSTEM, "labels": {"kubernetes.io/service-name": "tidegate"}},
        "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": [{"addresses": [address]}]})
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn each_gateway_has_a_service_and_its_address_from_it() {
    // With the rights that the chart gives, and no others.
    let cluster = std::sync::Arc::new(Cluster::start("services", "experimental"));
    let mut site = Site::new(cluster.clone(), "shop", 13);
    cluster
        .apply(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})]);
    cluster.apply_file(&root().join("deploy/golden/gateway-services.yaml"));
    cluster.apply(&[fleet("192.0.2.10")]);
    let mut objects = vec![gateway(&site, "web", &json!({"team": "edge"}))];
    // A Service of the name that the second Gateway's would have.
    objects.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "taken-tidegate", "namespace": site.name},
        "spec": {"ports": [{"port": 9}]}}));
    objects.push(gateway(&site, "taken", &json!({})));
    cluster.apply(&objects);
    let kubeconfig = cluster.account(SYSTEM, "tidegate");
    // The Lease is in the installation's own namespace.
    let namespace = std::mem::replace(&mut site.name, SYSTEM.to_owned());
    let fleet_service = format!("{SYSTEM}/tidegate");
    let more = [
        "--gateway-services",
        "LoadBalancer",
        "--fleet-service",
        &fleet_service,
    ];
    let process = site.start_without_pool(&kubeconfig, &more);
    site.name = namespace;
    ready(&process).await;
    let service = || site.get("service", "web-tidegate").unwrap_or_default();
    let slice = || {
        site.get("endpointslice", "web-tidegate-ipv4")
            .unwrap_or_default()
    };
    until("the Service and its endpoints are there", || {
        !service().is_null() && slice()["endpoints"][0]["addresses"][0] == "192.0.2.10"
    })
    .await;
    let made = service();
    assert_eq!(made["metadata"]["labels"]["team"], "edge");
    assert_eq!(
        made["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"],
        "web"
    );
    assert_eq!(made["metadata"]["annotations"]["balancer"], "internal");
    assert_eq!(made["spec"]["type"], "LoadBalancer");
    assert!(made["spec"]["selector"].is_null());
    assert_eq!(made["spec"]["ports"][0]["targetPort"], 8080);
    let programmed = || {
        let object = site.get("gateway", "web").unwrap_or_default();
        let conditions = object["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = conditions
            .into_iter()
            .find(|condition| condition["type"] == "Programmed");
        (
            found.unwrap_or_default()["reason"].clone(),
            object["status"]["addresses"].clone(),
        )
    };
    until("the status waits for an address", || {
        programmed() == (json!("AddressNotAssigned"), Value::Null)
    })
    .await;

    let balancer =
        json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.20"}]}}}).to_string();
    site.cluster
        .kubectl(&[
            "patch",
            "service",
            "web-tidegate",
            "-n",
            &site.name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &balancer,
        ])
        .unwrap();
    until("the address of the Service is the Gateway's", || {
        let (reason, addresses) = programmed();
        reason == "Programmed"
            && addresses == json!([{"type": "IPAddress", "value": "203.0.113.20"}])
    })
    .await;

    // What the Gateway says changes; what others put there stays, and so do ports of nodes.
    let theirs = [
        "annotate",
        "service",
        "web-tidegate",
        "-n",
        &site.name,
        "cloud=id-1",
    ];
    site.cluster.kubectl(&theirs).unwrap();
    site.cluster
        .apply(&[gateway(&site, "web", &json!({"tier": "1"}))]);
    until("the labels follow", || {
        let labels = service()["metadata"]["labels"].clone();
        labels["tier"] == "1" && labels["team"].is_null()
    })
    .await;
    let changed = service();
    assert_eq!(changed["metadata"]["annotations"]["cloud"], "id-1");
    assert_eq!(
        changed["spec"]["ports"][0]["nodePort"],
        made["spec"]["ports"][0]["nodePort"]
    );
    // The second change is the last: nothing is written again and again.
    site.cluster
        .apply(&[gateway(&site, "web", &json!({"tier": "2"}))]);
    until("the labels follow again", || {
        service()["metadata"]["labels"]["tier"] == "2"
    })
    .await;
    assert_eq!(
        service()["metadata"]["generation"],
        changed["metadata"]["generation"]
    );
    let version = service()["metadata"]["resourceVersion"].clone();
    site.cluster.apply(&[fleet("192.0.2.11")]);
    until("the endpoints follow", || {
        slice()["endpoints"][0]["addresses"][0] == "192.0.2.11"
    })
    .await;
    assert_eq!(service()["metadata"]["resourceVersion"], version);

    // That of somebody else is as it was.
    let foreign = site.get("service", "taken-tidegate").unwrap();
    assert!(foreign["metadata"]["labels"]["tidegate.dev/controller"].is_null());
    assert_eq!(foreign["spec"]["ports"][0]["port"], 9);

    site.cluster
        .kubectl(&["delete", "gateway", "web", "-n", &site.name])
        .unwrap();
    until("it goes with its Gateway", || {
        service().is_null() && slice().is_null()
    })
    .await;
}
