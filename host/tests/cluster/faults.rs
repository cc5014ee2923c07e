//! What a gateway does while its API server is away, silent, busy, or takes it for somebody else; and that nothing is
//! missed by it.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tidegate_testing::{Answer, Client, Process};

use super::api::{Cluster, Site, backend, until, until_async};
use super::proxy::{Fault, Proxy};
use super::{http, leads, ready, served, to};

async fn status(at: SocketAddr, path: &str) -> u16 {
    Client::http1(at)
        .await
        .get("any.example", path)
        .await
        .status
        .as_u16()
}

fn configuration(page: &Answer) -> Value {
    let mut page = page.json();
    page.as_object_mut().unwrap().remove("generation");
    page
}

fn route(site: &Site, name: &str) -> Value {
    let rules = json!([{"matches": [{"path": {"value": format!("/{name}")}}], "backendRefs": [{"name": "one", "port": 80}]}]);
    site.route(name, "web", &rules)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn whatever_the_api_server_does_traffic_flows_and_nothing_is_missed() {
    let site = Site::new(Cluster::shared(), "faults", 11);
    let (at, _backend) = backend("one").await;
    let mut objects = site.classes();
    objects.extend(site.service("one", at));
    objects.extend([site.gateway("web", &http()), route(&site, "r0")]);
    site.cluster.apply(&objects);
    let proxy = Proxy::start(&site.cluster).await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, proxy.kubeconfig()).unwrap();
    let class = ["--controller-name", &site.controller()];
    let process = site.start_as(&kubeconfig.display().to_string(), &class, &[]);
    ready(&process).await;
    let web = SocketAddr::new(site.programmed("web").await, 8080);
    served(web, "any.example", "/r0", "one").await;

    let faults = [
        Fault::Away,
        Fault::Silence,
        Fault::Status(401),
        Fault::Status(429),
        Fault::Status(503),
        Fault::Gone,
        Fault::GoneAtOnce,
    ];
    for (index, fault) in faults.into_iter().enumerate() {
        let (old, new) = (format!("r{index}"), format!("r{}", index + 1));
        proxy.set(fault);
        until(&format!("{fault:?} is noticed"), || {
            !proxy.asked().is_empty()
        })
        .await;
        // One route goes and another comes, and no watch tells.
        site.cluster
            .kubectl(&["delete", "httproute", &old, "-n", &site.name])
            .unwrap();
        site.cluster.apply(&[route(&site, &new)]);
        let asked = proxy.asked().len();
        until(&format!("{fault:?}: it is tried again"), || {
            fault == Fault::Silence || proxy.asked().len() > asked
        })
        .await;
        // Where only watches fail, listing shows the change all the same.
        if !matches!(fault, Fault::Gone | Fault::GoneAtOnce) {
            assert_eq!(
                status(web, &format!("/{old}")).await,
                200,
                "{fault:?}: the last state serves"
            );
            assert_eq!(
                process.admin("/readyz").await.status,
                200,
                "{fault:?}: and is ready"
            );
        }
        proxy.set(Fault::Nothing);
        served(web, "any.example", &format!("/{new}"), "one").await;
        until_async(&format!("{fault:?}: what went is gone"), async || {
            status(web, &format!("/{old}")).await == 404
        })
        .await;
    }
    // It leads again and writes again.
    until_async("it leads", async || leads(&process).await).await;
    until("the status of the last route is written", || {
        let route = site
            .get("httproute", &format!("r{}", faults.len()))
            .unwrap_or_default();
        !route["status"]["parents"][0].is_null()
    })
    .await;
    let fresh: Process = site.start(&[]);
    ready(&fresh).await;
    until_async("the same as a rebuild from nothing", async || {
        let (long, fresh) = (process.admin("/config").await, fresh.admin("/config").await);
        configuration(&long) == configuration(&fresh)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn an_account_that_is_made_anew_gets_in_again() {
    let site = Site::new(Cluster::shared(), "token", 12);
    let (at, _backend) = backend("one").await;
    let account = |kind: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "gate", "namespace": site.name}});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "token-gate"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "gate", "namespace": site.name}]});
    let mut objects = site.classes();
    objects.extend([account("ServiceAccount"), role]);
    objects.extend(site.service("one", at));
    objects.extend([
        site.gateway("web", &http()),
        site.route("web", "web", &to("one")),
    ]);
    site.cluster.apply(&objects);
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let kubeconfig = site.cluster.account_with_file(&site.name, "gate", &token);
    let class = ["--controller-name", &site.controller()];
    let process = site.start_as(&kubeconfig, &class, &[]);
    ready(&process).await;
    let web = SocketAddr::new(site.programmed("web").await, 8080);
    served(web, "any.example", "/", "one").await;

    // The token is worth nothing any more: the API server says 401.
    site.cluster
        .kubectl(&["delete", "serviceaccount", "gate", "-n", &site.name])
        .unwrap();
    until_async("it is no longer let in", async || {
        let page = process.admin("/metrics").await;
        !page.text().contains("\ntidegate_cluster_leader 1\n")
    })
    .await;
    assert_eq!(status(web, "/").await, 200);
    assert_eq!(process.admin("/readyz").await.status, 200);

    // The account is made anew, and the file has another token, as a kubelet writes it.
    site.cluster.apply(&[account("ServiceAccount")]);
    site.cluster.account_with_file(&site.name, "gate", &token);
    until_async("it leads again", async || leads(&process).await).await;
    site.cluster.apply(&[route(&site, "later")]);
    served(web, "any.example", "/later", "one").await;
}
