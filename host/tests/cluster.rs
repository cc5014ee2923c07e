//! The gateway of a real cluster: etcd, kube-apiserver and controller manager, started by `host/tests/cluster/up`. They are
//! built once, from their Go modules; so these tests run on demand: `cargo test --test gateway -- --ignored cluster::`.

#![expect(
    clippy::unwrap_used,
    reason = "what the test cluster does not do ends the test, and the line tells what it was"
)]

mod api;
mod faults;
mod ingress;
mod proxy;
mod references;
mod services;

use std::net::SocketAddr;

use serde_json::{Value, json};
use tidegate_testing::{Answer, Certificate, Client, Process, Tls};

use api::{Cluster, Site, backend, holds, root, until, until_async};

async fn get(at: SocketAddr, host: &str, path: &str) -> Answer {
    Client::http1(at).await.get(host, path).await
}

/// Waits until a path is answered by a backend.
async fn served(at: SocketAddr, host: &str, path: &str, backend: &str) {
    until_async(
        &format!("{host}{path} at {at} is served by {backend}"),
        async || {
            if tidegate_testing::Wire::try_connect(at).await.is_err() {
                return false;
            }
            let answer = get(at, host, path).await;
            answer.status == 200 && answer.header("x-backend") == backend
        },
    )
    .await;
}

async fn ready(process: &Process) {
    until_async("ready", async || {
        process
            .try_admin("/readyz")
            .await
            .is_ok_and(|answer| answer.status == 200)
    })
    .await;
}

async fn leads(process: &Process) -> bool {
    let page = process.admin("/metrics").await;
    page.text().contains("\ntidegate_cluster_leader 1\n")
}

fn http() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "HTTP"}])
}

fn to(service: &str) -> Value {
    json!([{"backendRefs": [{"name": service, "port": 80}]}])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn plain_manifests_make_it_the_controller_of_both_classes() {
    let cluster = Cluster::shared();
    cluster.apply_file(&root().join("deploy/tidegate.yaml"));
    let mut site = Site::new(cluster.clone(), "tidegate", 1);
    let kubeconfig = cluster.account("tidegate-system", "tidegate");
    let (at, _backend) = backend("shop").await;
    // The Lease stands in the installation's own namespace, where alone it may write one.
    let namespace = std::mem::replace(&mut site.name, "tidegate-system".to_owned());
    let process = site.start_as(&kubeconfig, &[], &[]);
    site.name = namespace;
    let mut objects = site.service("shop", at);
    objects.push(site.gateway("web", &http()));
    objects.push(json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "Filter", "metadata": {"name": "cors", "namespace": site.name},
        "spec": {"module": {"builtin": "cors"}}}));
    let filters = json!([{"type": "ExtensionRef", "extensionRef": {"group": "tidegate.dev", "kind": "Filter", "name": "cors"}}]);
    let rules = json!([{"filters": filters, "backendRefs": [{"name": "shop", "port": 80}]}]);
    objects.push(site.route("web", "web", &rules));
    objects.push(json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "shop", "namespace": site.name},
        "spec": {"ingressClassName": "tidegate", "rules": [{"host": "shop.example", "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "shop", "port": {"number": 80}}}}]}}]}}));
    cluster.apply(&objects);
    ready(&process).await;
    let address = site.programmed("web").await;
    served(SocketAddr::new(address, 8080), "any.example", "/", "shop").await;
    served(site.ingress(), "shop.example", "/", "shop").await;
    until("every status is written", || {
        let class = cluster
            .get("gatewayclass", "", "tidegate")
            .unwrap_or_default();
        let filter = site.get("filter", "cors").unwrap_or_default();
        let route = site.get("httproute", "web").unwrap_or_default();
        let ingress = site.get("ingress", "shop").unwrap_or_default();
        let parent = &route["status"]["parents"][0]["conditions"];
        let features = class["status"]["supportedFeatures"].as_array();
        let digest = filter["status"]["digest"].as_str();
        let point = &ingress["status"]["loadBalancer"]["ingress"][0]["ip"];
        let parts = [
            holds(&class["status"]["conditions"], "Accepted"),
            holds(&class["status"]["conditions"], "SupportedVersion"),
            features.is_some_and(|features| features.len() > 30),
            holds(&filter["status"]["conditions"], "Loaded"),
            digest.is_some_and(|digest| digest.starts_with("sha256:")),
            holds(parent, "Accepted") && holds(parent, "ResolvedRefs"),
            *point == "127.0.0.1",
        ];
        let written = parts.iter().all(|part| *part);
        if !written {
            // Shown where the test fails.
            println!(
                "{parts:?}: {} {} {} {}",
                class["status"]["conditions"], filter["status"], route["status"], ingress["status"]
            );
        }
        written
    })
    .await;
    // What it must not be able to do.
    let account = "--as=system:serviceaccount:tidegate-system:tidegate";
    for (verb, kind) in [
        ("list", "secrets"),
        ("watch", "secrets"),
        ("list", "configmaps"),
        ("watch", "configmaps"),
        ("create", "deployments.apps"),
        ("delete", "pods"),
        ("create", "services"),
        ("create", "endpointslices.discovery.k8s.io"),
    ] {
        let answer = cluster.kubectl(&["auth", "can-i", verb, kind, "-n", &site.name, account]);
        assert!(answer.is_err(), "{verb} {kind} is allowed");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn roles_in_some_namespaces_are_enough() {
    // An installation of the same name and Lease as that of the plain manifests, so not beside it.
    let cluster = std::sync::Arc::new(Cluster::start("roles", "experimental"));
    let namespace =
        |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    cluster.apply(&[namespace("tidegate-system"), namespace("pay")]);
    let mut site = Site::new(cluster.clone(), "shop", 2);
    cluster.apply_file(&root().join("deploy/golden/namespaced.yaml"));
    let kubeconfig = cluster.account("tidegate-system", "tidegate");
    let (at, _backend) = backend("shop").await;
    site.name = "tidegate-system".to_owned();
    let process = site.start_as(
        &kubeconfig,
        &[],
        &["--namespace", "shop", "--namespace", "pay"],
    );
    site.name = "shop".to_owned();
    let mut gateway = site.gateway("web", &http());
    gateway["spec"]["gatewayClassName"] = "tidegate".into();
    let mut objects = site.service("shop", at);
    objects.extend([gateway, site.route("web", "web", &to("shop"))]);
    cluster.apply(&objects);
    ready(&process).await;
    let address = site.programmed("web").await;
    served(SocketAddr::new(address, 8080), "any.example", "/", "shop").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn the_api_server_says_what_the_status_page_says() {
    let site = Site::new(Cluster::shared(), "truth", 3);
    let (at, _backend) = backend("one").await;
    let mut objects = site.classes();
    objects.extend(site.service("one", at));
    objects.push(site.gateway(
        "web",
        &json!([{"name": "http", "port": 8080, "protocol": "HTTP"},
            {"name": "https", "port": 8443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "absent"}]}}]),
    ));
    objects.push(site.route("good", "web", &to("one")));
    objects.push(site.route("no-service", "web", &to("nowhere")));
    objects.push(site.route("no-gateway", "other", &to("one")));
    objects.push(json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "Filter", "metadata": {"name": "bad", "namespace": site.name},
        "spec": {"module": {"builtin": "no-such"}}}));
    site.cluster.apply(&objects);
    // Another controller has its say about a route of ours.
    let theirs = json!({"status": {"parents": [{"controllerName": "example.com/other", "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "web"},
        "conditions": [{"type": "Accepted", "status": "False", "reason": "Other", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}]}});
    site.cluster
        .kubectl(&[
            "patch",
            "httproute",
            "good",
            "-n",
            &site.name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &theirs.to_string(),
        ])
        .unwrap();
    let process = site.start(&[]);
    ready(&process).await;
    site.programmed("web").await;
    until_async("the two agree", async || {
        let page = process.admin("/status").await.json();
        let rows = page["objects"].as_array().unwrap().iter();
        let ours: Vec<&Value> = rows
            .filter(|row| row["ignored"].is_null() && row["namespace"] == site.name.as_str())
            .collect();
        assert!(ours.len() >= 4, "{page}");
        ours.iter().all(|row| {
            let (kind, name) = (row["kind"].as_str().unwrap(), row["name"].as_str().unwrap());
            let object = site.get(kind, name).unwrap_or_default();
            agrees(row, &object["status"], &site.controller())
        })
    })
    .await;
    let good = site.get("httproute", "good").unwrap();
    let parents = good["status"]["parents"].as_array().unwrap();
    assert_eq!(parents.len(), 2);
    assert_eq!(
        parents[0], theirs["status"]["parents"][0],
        "what others said stays as it was"
    );
    assert!(
        site.get("httproute", "no-gateway").unwrap()["status"]["parents"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );
    // An Event says it too.
    until("an Event about the route", || {
        let events = site
            .cluster
            .kubectl(&["get", "events", "-n", &site.name, "-o", "json"])
            .unwrap_or_default();
        events.contains("BackendNotFound") && events.contains("no-service")
    })
    .await;
}

/// Whether a status holds the conditions of a row of the page.
fn agrees(row: &Value, status: &Value, controller: &str) -> bool {
    let same = |page: &Value, object: &Value| {
        let mut page = page.as_array().cloned().unwrap_or_default();
        let mut object = object.as_array().cloned().unwrap_or_default();
        for condition in &mut object {
            condition
                .as_object_mut()
                .unwrap()
                .remove("lastTransitionTime");
        }
        let by_type = |condition: &Value| condition["type"].as_str().unwrap_or_default().to_owned();
        page.sort_by_key(by_type);
        object.sort_by_key(by_type);
        page == object
    };
    let empty = Vec::new();
    let list = |value: &Value| value.as_array().unwrap_or(&empty).clone();
    let parents: Vec<Value> = list(&status["parents"])
        .into_iter()
        .filter(|parent| parent["controllerName"] == controller)
        .collect();
    let pairs = |page: &Value, object: &[Value]| {
        let page = list(page);
        page.len() == object.len()
            && page
                .iter()
                .zip(object)
                .all(|(page, object)| same(&page["conditions"], &object["conditions"]))
    };
    same(&row["conditions"], &status["conditions"])
        && pairs(&row["parents"], &parents)
        && pairs(&row["listeners"], &list(&status["listeners"]))
        && list(&row["addresses"]) == list(&status["addresses"])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn one_of_two_writes_and_the_other_takes_over() {
    let site = Site::new(Cluster::shared(), "leaders", 4);
    let mut objects = site.classes();
    objects.push(site.gateway("web", &http()));
    site.cluster.apply(&objects);
    let mut one = site.start(&[]);
    ready(&one).await;
    until_async("the first leads", async || leads(&one).await).await;
    let two = site.start(&[]);
    ready(&two).await;
    assert!(!leads(&two).await);
    site.programmed("web").await;
    one.terminate();
    one.wait().await;
    site.cluster.apply(&[site.gateway("second", &http())]);
    site.programmed("second").await;
    assert!(leads(&two).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn a_rotated_secret_is_served() {
    let site = Site::new(Cluster::shared(), "rotation", 5);
    let (at, _backend) = backend("one").await;
    let (first, second) = (
        Certificate::new(&["shop.example"]),
        Certificate::new(&["shop.example"]),
    );
    let secret = |certificate: &Certificate| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cert", "namespace": site.name}, "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": certificate.chain, "tls.key": certificate.key}})
    };
    let mut objects = site.classes();
    objects.extend(site.service("one", at));
    objects.push(secret(&first));
    let https = json!([{"name": "https", "port": 8443, "protocol": "HTTPS", "hostname": "shop.example",
        "tls": {"certificateRefs": [{"name": "cert"}]}}]);
    objects.extend([
        site.gateway("web", &https),
        site.route("web", "web", &to("one")),
    ]);
    site.cluster.apply(&objects);
    let process = site.start(&[]);
    ready(&process).await;
    let address = SocketAddr::new(site.programmed("web").await, 8443);
    let tls = Tls::trusting(&[&first, &second], &["http/1.1"]);
    let shown = async || {
        let client = Client::tls(address, &tls, "shop.example").await.ok()?;
        client.certificate
    };
    until_async("the first certificate", async || {
        shown().await.as_ref() == Some(&first.der)
    })
    .await;
    site.cluster.apply(&[secret(&second)]);
    until_async("the second certificate", async || {
        shown().await.as_ref() == Some(&second.der)
    })
    .await;
    // Nobody listed Secrets for that.
    site.cluster
        .kubectl(&["delete", "secret", "cert", "-n", &site.name])
        .unwrap();
    until("the status tells that it is gone", || {
        let gateway = site.get("gateway", "web").unwrap_or_default();
        !holds(
            &gateway["status"]["listeners"][0]["conditions"],
            "ResolvedRefs",
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn any_sequence_ends_where_a_rebuild_ends() {
    let site = Site::new(Cluster::shared(), "sequence", 6);
    let (at, _backend) = backend("one").await;
    let mut objects = site.classes();
    objects.extend(site.service("one", at));
    objects.push(site.gateway("web", &http()));
    site.cluster.apply(&objects);
    let long = site.start(&[]);
    ready(&long).await;
    site.programmed("web").await;
    for step in 0..12 {
        let name = format!("r{}", step % 4);
        if step % 5 == 4 {
            site.cluster
                .kubectl(&["delete", "httproute", &name, "-n", &site.name])
                .unwrap();
        } else {
            let rules = json!([{"matches": [{"path": {"value": format!("/{step}")}}], "backendRefs": [{"name": "one", "port": 80}]}]);
            site.cluster.apply(&[site.route(&name, "web", &rules)]);
        }
        if step == 6 {
            site.cluster
                .kubectl(&["delete", "gateway", "web", "-n", &site.name])
                .unwrap();
            site.cluster.apply(&[site.gateway("web", &http())]);
        }
    }
    let address = SocketAddr::new(site.programmed("web").await, 8080);
    served(address, "any.example", "/11", "one").await;
    let fresh = site.start(&[]);
    ready(&fresh).await;
    until_async("both have the same configuration", async || {
        let (long, fresh) = (long.admin("/config").await, fresh.admin("/config").await);
        let without = |page: &Answer| {
            let mut page = page.json();
            page.as_object_mut().unwrap().remove("generation");
            page
        };
        without(&long) == without(&fresh)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn crds_may_come_later_and_the_api_server_may_go() {
    let cluster = std::sync::Arc::new(Cluster::start("alone", "none"));
    let site = Site::new(cluster.clone(), "alone", 7);
    let (at, _backend) = backend("one").await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state").display().to_string();
    let mut objects = vec![site.classes().remove(1)];
    objects.extend(site.service("one", at));
    objects.push(json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "shop", "namespace": site.name},
        "spec": {"ingressClassName": site.name, "rules": [{"host": "shop.example", "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "one", "port": {"number": 80}}}}]}}]}}));
    cluster.apply(&objects);
    let mut process = site.start(&["--state-dir", &state]);
    ready(&process).await;
    served(site.ingress(), "shop.example", "/", "one").await;

    // The Gateway API comes.
    cluster.script("crds", &["standard"]);
    let mut objects = site.classes();
    objects.extend([
        site.gateway("web", &http()),
        site.route("web", "web", &to("one")),
    ]);
    cluster.apply(&objects);
    let address = SocketAddr::new(site.programmed("web").await, 8080);
    served(address, "any.example", "/", "one").await;
    until("the state file holds it", || {
        let text =
            std::fs::read_to_string(folder.path().join("state/state.json")).unwrap_or_default();
        text.contains("HTTPRoute")
    })
    .await;

    // The API server goes. What is served stays, also across a restart.
    cluster.script("server", &["stop", "apiserver"]);
    assert_eq!(get(address, "any.example", "/").await.status, 200);
    process.terminate();
    process.wait().await;
    let process = site.start(&["--state-dir", &state]);
    served(address, "any.example", "/", "one").await;
    served(site.ingress(), "shop.example", "/", "one").await;
    ready(&process).await;

    // It comes back, and changes arrive.
    cluster.script("server", &["start", "apiserver"]);
    let rules = json!([{"matches": [{"path": {"value": "/new"}}], "backendRefs": [{"name": "one", "port": 80}]}]);
    cluster.apply(&[site.route("web", "web", &rules)]);
    until_async("the new rules count", async || {
        get(address, "any.example", "/").await.status == 404
    })
    .await;
    served(address, "any.example", "/new", "one").await;
}
