//! Every kind of reference that may cross namespaces × no grant, wrong grants, the right one, the right one removed; against
//! a real API server.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_testing::{Client, Process};

use super::api::{Cluster, Site, backend, until_async};
use super::{http, ready};

/// The namespace that is referred to.
const THERE: &str = "references-there";
/// A namespace that a wrong grant speaks of.
const ELSEWHERE: &str = "references-elsewhere";
/// How soon a grant that is gone counts no longer.
const SOON: Duration = Duration::from_secs(1);

/// A kind of reference.
struct Row {
    /// Of the object that refers; also the name of what it refers to.
    name: &'static str,
    from: (&'static str, &'static str),
    to: (&'static str, &'static str),
}

const GATEWAY: &str = "gateway.networking.k8s.io";
const OWN: &str = "tidegate.dev";
const ROWS: &[Row] = &[
    row("route-to-service", (GATEWAY, "HTTPRoute"), ("", "Service")),
    row("mirror-to-service", (GATEWAY, "HTTPRoute"), ("", "Service")),
    row("grpc-to-service", (GATEWAY, "GRPCRoute"), ("", "Service")),
    row("auth-to-service", (GATEWAY, "HTTPRoute"), ("", "Service")),
    row("tls-to-service", (GATEWAY, "TLSRoute"), ("", "Service")),
    row("tcp-to-service", (GATEWAY, "TCPRoute"), ("", "Service")),
    row("udp-to-service", (GATEWAY, "UDPRoute"), ("", "Service")),
    row(
        "frontend-to-config-map",
        (GATEWAY, "Gateway"),
        ("", "ConfigMap"),
    ),
    row("gateway-to-secret", (GATEWAY, "Gateway"), ("", "Secret")),
    row("client-to-secret", (GATEWAY, "Gateway"), ("", "Secret")),
    row("set-to-secret", (GATEWAY, "ListenerSet"), ("", "Secret")),
    row("filter-to-service", (OWN, "Filter"), ("", "Service")),
    row("config-to-filter", (OWN, "GatewayConfig"), (OWN, "Filter")),
    row(
        "ingress-to-filter",
        ("networking.k8s.io", "Ingress"),
        (OWN, "Filter"),
    ),
    row(
        "users-by-annotation",
        ("networking.k8s.io", "Ingress"),
        ("", "Secret"),
    ),
    row(
        "headers-by-annotation",
        ("networking.k8s.io", "Ingress"),
        ("", "ConfigMap"),
    ),
    row(
        THERE, // A policy's target is the namespace itself.
        (OWN, "FilterPolicy"),
        ("", "Namespace"),
    ),
];

const fn row(
    name: &'static str,
    from: (&'static str, &'static str),
    to: (&'static str, &'static str),
) -> Row {
    Row { name, from, to }
}

impl Row {
    fn grant(&self, name: &str, namespace: &str, from: (&str, &str, &str), to: &Value) -> Value {
        let (group, kind, source) = from;
        json!({"apiVersion": format!("{GATEWAY}/v1beta1"), "kind": "ReferenceGrant",
            "metadata": {"name": format!("{}-{name}", self.name), "namespace": namespace},
            "spec": {"from": [{"group": group, "kind": kind, "namespace": source}], "to": [to]}})
    }

    fn right(&self, site: &Site) -> Value {
        let (group, kind) = self.from;
        let to = json!({"group": self.to.0, "kind": self.to.1, "name": self.name});
        self.grant("right", THERE, (group, kind, &site.name), &to)
    }

    /// Each differs from the right one in one thing.
    fn wrong(&self, site: &Site) -> Vec<Value> {
        let (group, kind) = self.from;
        let here = site.name.as_str();
        let to = json!({"group": self.to.0, "kind": self.to.1, "name": self.name});
        let with = |field: &str, value: &str| {
            let mut to = to.clone();
            to[field] = value.into();
            to
        };
        let other_kind = if kind == "TLSRoute" {
            "TCPRoute"
        } else {
            "TLSRoute"
        };
        let other_target = if self.to.1 == "ConfigMap" {
            "Secret"
        } else {
            "ConfigMap"
        };
        vec![
            self.grant("from-kind", THERE, (GATEWAY, other_kind, here), &to),
            self.grant("from-group", THERE, ("example.com", kind, here), &to),
            self.grant("from-namespace", THERE, (group, kind, ELSEWHERE), &to),
            self.grant(
                "to-kind",
                THERE,
                (group, kind, here),
                &with("kind", other_target),
            ),
            self.grant(
                "to-group",
                THERE,
                (group, kind, here),
                &with("group", "example.com"),
            ),
            self.grant(
                "to-name",
                THERE,
                (group, kind, here),
                &with("name", "other"),
            ),
            // In the namespace of whoever refers: it would give itself the right.
            self.grant("place", here, (group, kind, here), &to),
        ]
    }

    fn object<'p>(&self, page: &'p Value, site: &Site) -> Option<&'p Value> {
        page["objects"].as_array()?.iter().find(|object| {
            object["kind"] == self.from.1
                && object["namespace"] == site.name.as_str()
                && object["name"] == self.name
        })
    }

    /// Whether the reference is followed; `None` while nothing is said about the object.
    fn permitted(&self, page: &Value, site: &Site) -> Option<bool> {
        let object = self.object(page, site)?;
        let mut conditions: Vec<&Value> = list(&object["conditions"]);
        for part in ["parents", "listeners"] {
            let parts = list(&object[part]).into_iter();
            conditions.extend(parts.flat_map(|part| list(&part["conditions"])));
        }
        let resolved = |condition: &&&Value| condition["type"] == "ResolvedRefs";
        conditions.iter().find(resolved)?;
        let refused = conditions.iter().any(|condition| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["status"] == "False" && message.contains("no ReferenceGrant")
        });
        let whole = conditions.iter().filter(resolved);
        let whole = whole
            .into_iter()
            .all(|condition| condition["status"] == "True");
        match (refused, whole) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            // Something else is wrong with it still, such as a certificate that is yet to be read.
            (false, false) => None,
        }
    }
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().into_iter().flatten().collect()
}

/// The objects that refer, and what they refer to.
fn objects(site: &Site, at: std::net::SocketAddr) -> Vec<Value> {
    let secret = |name: &str| {
        let certificate = tidegate_testing::Certificate::new(&["shop.example"]);
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": THERE}, "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": certificate.chain, "tls.key": certificate.key}})
    };
    let there = |name: &str| json!({"name": name, "namespace": THERE});
    let to = |name: &str| json!({"name": name, "namespace": THERE, "port": 80});
    let mut all = site.classes();
    let class = all.len() - 1;
    all[class]["spec"]["parameters"] = json!({"apiGroup": OWN, "kind": "GatewayConfig", "name": "config-to-filter",
        "namespace": site.name, "scope": "Namespace"});
    let cors = |name: &str, namespace: &str| {
        json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "Filter", "metadata": {"name": name, "namespace": namespace},
            "spec": {"module": {"builtin": "cors"}}})
    };
    let https = |port: u16, secret: &str| json!([{"name": "https", "port": port, "protocol": "HTTPS", "tls": {"certificateRefs": [there(secret)]}}]);
    let mut there_too = Vec::new();
    for name in [
        "route-to-service",
        "mirror-to-service",
        "grpc-to-service",
        "filter-to-service",
        "auth-to-service",
        "tls-to-service",
        "tcp-to-service",
    ] {
        let mut service = site.service(name, at);
        service
            .iter_mut()
            .for_each(|object| object["metadata"]["namespace"] = THERE.into());
        there_too.extend(service);
    }
    all.extend(there_too);
    all.extend(["gateway-to-secret", "client-to-secret", "set-to-secret"].map(secret));
    all.extend(["config-to-filter", "ingress-to-filter"].map(|name| cors(name, THERE)));
    all.extend(site.service("own", at));

    let mut web = site.gateway("web", &http());
    web["spec"]["allowedListeners"] = json!({"namespaces": {"from": "Same"}});
    let mut client = site.gateway("client-to-secret", &http());
    client["spec"]["tls"] = json!({"backend": {"clientCertificateRef": there("client-to-secret")}});
    let mut route = site.route(
        "route-to-service",
        "web",
        &json!([{"backendRefs": [to("route-to-service")]}]),
    );
    route["spec"]["hostnames"] = json!(["route.example"]);
    let mirror = json!([{"backendRefs": [{"name": "own", "port": 80}],
        "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": to("mirror-to-service")}}]}]);
    let mut mirror = site.route("mirror-to-service", "web", &mirror);
    mirror["spec"]["hostnames"] = json!(["mirror.example"]);
    let mut grpc = site.route(
        "grpc-to-service",
        "web",
        &json!([{"backendRefs": [to("grpc-to-service")]}]),
    );
    grpc["kind"] = "GRPCRoute".into();
    grpc["spec"]["hostnames"] = json!(["grpc.example"]);
    let mut filter = cors("filter-to-service", &site.name);
    filter["spec"]["clusters"] = json!([{"name": "a", "backendRef": to("filter-to-service")}]);
    all.extend([web, client, route, mirror, grpc, filter]);
    all.extend(streams(site, at));
    all.extend(authorities(site));
    all.push(site.gateway("gateway-to-secret", &https(8443, "gateway-to-secret")));
    all.push(json!({"apiVersion": format!("{GATEWAY}/v1"), "kind": "ListenerSet", "metadata": {"name": "set-to-secret", "namespace": site.name},
        "spec": {"parentRef": {"name": "web"}, "listeners": https(9443, "set-to-secret")}}));
    all.push(json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "GatewayConfig", "metadata": {"name": "config-to-filter", "namespace": site.name},
        "spec": {"ingressNginxAnnotations": true, "filters": {"before": [there("config-to-filter")]}}}));
    all.extend(annotated(site));
    all.push(json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "ingress-to-filter", "namespace": site.name, "annotations": {"tidegate.dev/filters": format!("{THERE}/ingress-to-filter")}},
        "spec": {"ingressClassName": site.name, "defaultBackend": {"service": {"name": "own", "port": {"number": 80}}}}}));
    all.push(json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "FilterPolicy", "metadata": {"name": THERE, "namespace": site.name},
        "spec": {"targetRefs": [{"group": "", "kind": "Namespace", "name": THERE}], "stage": "Before", "filters": [{"name": "filter-to-service"}]}}));
    all
}

/// Routes of streams, and a route that asks a Service whether requests may pass.
fn streams(site: &Site, at: std::net::SocketAddr) -> Vec<Value> {
    let to = |name: &str| json!([{"name": name, "namespace": THERE, "port": 80}]);
    let mut datagrams = site.service("udp-to-service", at);
    for object in &mut datagrams {
        object["metadata"]["namespace"] = THERE.into();
        let ports = match object["kind"].as_str() {
            Some("Service") => &mut object["spec"]["ports"],
            _ => &mut object["ports"],
        };
        ports[0]["protocol"] = "UDP".into();
    }
    let mut all = datagrams;
    all.push(site.gateway(
        "streams",
        &json!([
            {"name": "tls", "port": 9000, "protocol": "TLS", "tls": {"mode": "Passthrough"}},
            {"name": "tcp", "port": 9001, "protocol": "TCP"},
            {"name": "udp", "port": 9002, "protocol": "UDP"}]),
    ));
    for (kind, name) in [
        ("TLSRoute", "tls-to-service"),
        ("TCPRoute", "tcp-to-service"),
        ("UDPRoute", "udp-to-service"),
    ] {
        let mut route = site.route(name, "streams", &json!([{"backendRefs": to(name)}]));
        route["kind"] = kind.into();
        if kind == "TLSRoute" {
            route["spec"]["hostnames"] = json!(["tls.example"]);
        }
        all.push(route);
    }
    let auth = json!({"protocol": "HTTP", "backendRef": to("auth-to-service")[0], "http": {"path": "/check"}});
    let mut route = site.route(
        "auth-to-service",
        "web",
        &json!([{"backendRefs": [{"name": "own", "port": 80}],
            "filters": [{"type": "ExternalAuth", "externalAuth": auth}]}]),
    );
    route["spec"]["hostnames"] = json!(["auth.example"]);
    all.push(route);
    all
}

/// A Gateway whose clients show certificates, and whom it trusts to issue them.
fn authorities(site: &Site) -> Vec<Value> {
    let name = "frontend-to-config-map";
    let certificate = tidegate_testing::Certificate::new(&["frontend.example"]);
    let mut gateway = site.gateway(
        name,
        &json!([{"name": "https", "port": 8443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "frontend"}]}}]),
    );
    let trusted = json!([{"group": "", "kind": "ConfigMap", "name": name, "namespace": THERE}]);
    gateway["spec"]["tls"] =
        json!({"frontend": {"default": {"validation": {"caCertificateRefs": trusted}}}});
    vec![
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "frontend", "namespace": site.name}, "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": certificate.chain, "tls.key": certificate.key}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": THERE},
            "data": {"ca.crt": certificate.chain}}),
        gateway,
    ]
}

/// Ingresses whose annotations name what belongs to another namespace.
fn annotated(site: &Site) -> Vec<Value> {
    let ingress = |name: &str, annotations: &Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": name, "namespace": site.name, "annotations": annotations},
            "spec": {"ingressClassName": site.name, "rules": [{"host": format!("{name}.example"), "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "own", "port": {"number": 80}}}}]}}]}})
    };
    let (users, headers) = ("users-by-annotation", "headers-by-annotation");
    vec![
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": users, "namespace": THERE},
            "stringData": {"auth": "ann:{SHA}2LnFCCVmUUdhqo4HKKTmYlELFpI="}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": headers, "namespace": THERE},
            "data": {"X-Team": "edge"}}),
        ingress(
            users,
            &json!({"nginx.ingress.kubernetes.io/auth-type": "basic",
                "nginx.ingress.kubernetes.io/auth-secret": format!("{THERE}/{users}")}),
        ),
        ingress(
            headers,
            &json!({"nginx.ingress.kubernetes.io/custom-headers": format!("{THERE}/{headers}")}),
        ),
    ]
}

/// Waits until every row says the same.
async fn all_are(process: &Process, site: &Site, wanted: bool, when: &str) {
    let mut odd = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let page = process.admin("/status").await.json();
        odd.clear();
        for row in ROWS {
            if row.permitted(&page, site) != Some(wanted) {
                odd.push(format!("{}: {:?}", row.name, row.object(&page, site)));
            }
        }
        if odd.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{when}, permitted shall be {wanted}, and is not: {odd:#?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn references_cross_namespaces_with_the_right_grant_alone() {
    let site = Site::new(Cluster::shared(), "references", 8);
    let namespaces = [THERE, ELSEWHERE]
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    site.cluster.apply(&namespaces);
    let (at, _backend) = backend("there").await;
    site.cluster.apply(&objects(&site, at));
    let process = site.start(&[]);
    ready(&process).await;
    all_are(&process, &site, false, "without a grant").await;

    // What is written later is seen later: where the right grants count, the wrong ones were seen.
    let wrong: Vec<Value> = ROWS.iter().flat_map(|row| row.wrong(&site)).collect();
    site.cluster.apply(&wrong);
    let right: Vec<Value> = ROWS.iter().map(|row| row.right(&site)).collect();
    site.cluster.apply(&right);
    all_are(&process, &site, true, "with the right grant").await;
    let web = std::net::SocketAddr::new(site.programmed("web").await, 8080);
    let status = async || {
        Client::http1(web)
            .await
            .get("route.example", "/")
            .await
            .status
    };
    until_async("the route serves", async || status().await == 200).await;

    // One after the other goes, and nothing else with it.
    let mut took = Vec::new();
    for (index, row) in ROWS.iter().enumerate() {
        let started = Instant::now();
        let name = format!("{}-right", row.name);
        site.cluster
            .kubectl(&[
                "delete",
                "referencegrant",
                &name,
                "-n",
                THERE,
                "--wait=false",
            ])
            .unwrap();
        until_async(&format!("{} is revoked", row.name), async || {
            let page = process.admin("/status").await.json();
            row.permitted(&page, &site) == Some(false)
        })
        .await;
        took.push((started.elapsed(), row.name));
        let page = process.admin("/status").await.json();
        for other in &ROWS[index + 1..] {
            assert_eq!(other.permitted(&page, &site), Some(true), "{}", other.name);
        }
    }
    assert_eq!(status().await, 500, "what is refused is not forwarded");
    all_are(&process, &site, false, "with wrong grants alone").await;
    took.sort();
    println!("revoked after (kubectl's own start included): {took:?}");
    // The median: a busy machine may hold one up.
    assert!(took[took.len() / 2].0 < SOON, "revoked too late: {took:?}");
}
