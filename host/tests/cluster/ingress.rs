//! Ingresses against a real API server: whose they are, what becomes of their statuses, which certificate is shown.

use serde_json::{Value, json};
use tidegate_testing::{Certificate, Client, Port, Tls};

use super::api::{Cluster, Site, backend, until, until_async};
use super::{get, ready, served};

fn class(name: &str, controller: &str, default: bool) -> Value {
    let annotations = json!({"ingressclass.kubernetes.io/is-default-class": default.to_string()});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name, "annotations": annotations},
        "spec": {"controller": controller}})
}

fn ingress(site: &Site, name: &str, class: Option<&str>) -> Value {
    let mut object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "namespace": site.name},
        "spec": {"rules": [{"host": format!("{name}.example"), "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "one", "port": {"number": 80}}}}]}}]}});
    if let Some(class) = class {
        object["spec"]["ingressClassName"] = class.into();
    }
    object
}

fn points(site: &Site, name: &str) -> Value {
    let object = site.get("ingress", name).unwrap_or_default();
    object["status"]["loadBalancer"]["ingress"].clone()
}

async fn status(site: &Site, name: &str) -> u16 {
    get(site.ingress(), &format!("{name}.example"), "/")
        .await
        .status
        .as_u16()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn ingresses_belong_to_the_controller_of_their_class() {
    // Default classes are the whole cluster's business, so it is one of its own.
    let cluster = std::sync::Arc::new(Cluster::start("classes", "none"));
    let site = Site::new(cluster.clone(), "classes", 9);
    let (at, _backend) = backend("one").await;
    let ours = site.controller();
    let mut objects = site.service("one", at);
    objects.extend([
        class("ours", &ours, false),
        class("also-ours", &ours, false),
        class("theirs", "example.com/other", false),
    ]);
    cluster.apply(&objects);
    let mut legacy = ingress(&site, "legacy", None);
    legacy["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "ours"});
    cluster.apply(&[
        ingress(&site, "first", Some("ours")),
        ingress(&site, "second", Some("also-ours")),
        ingress(&site, "foreign", Some("theirs")),
        ingress(&site, "absent", Some("nowhere")),
        ingress(&site, "classless", None),
        legacy,
    ]);
    // What the other controller says about its own stays.
    let theirs =
        json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}).to_string();
    let patch = |name: &str, patch: &str| {
        let arguments = [
            "patch",
            "ingress",
            name,
            "-n",
            &site.name,
            "--subresource=status",
            "--type=merge",
            "-p",
            patch,
        ];
        cluster.kubectl(&arguments).unwrap();
    };
    patch("foreign", &theirs);
    let process = site.start(&["--publish-address", "203.0.113.9"]);
    ready(&process).await;
    for name in ["first", "second", "legacy"] {
        served(site.ingress(), &format!("{name}.example"), "/", "one").await;
        until(&format!("the status of {name}"), || {
            points(&site, name) == json!([{"ip": "203.0.113.9"}])
        })
        .await;
    }
    for name in ["foreign", "absent", "classless"] {
        assert_eq!(status(&site, name).await, 404, "{name}");
    }
    assert_eq!(points(&site, "foreign"), json!([{"ip": "192.0.2.7"}]));
    assert!(points(&site, "classless").is_null() && points(&site, "absent").is_null());

    // A default class of the other controller, with the annotation that the API server's admission copies: what is created
    // from now on without a class is theirs.
    cluster.apply(&[class("theirs", "example.com/other", true)]);
    cluster.apply(&[ingress(&site, "later", None)]);
    until("admission wrote the class", || {
        site.get("ingress", "later").unwrap_or_default()["spec"]["ingressClassName"] == "theirs"
    })
    .await;
    assert_eq!(status(&site, "later").await, 404);
    // Ours becomes the default in its place.
    cluster.apply(&[
        class("theirs", "example.com/other", false),
        class("ours", &ours, true),
    ]);
    cluster.apply(&[ingress(&site, "latest", None)]);
    served(site.ingress(), "latest.example", "/", "one").await;
    // One without a class that is older than the default is served too, as the default class says.
    served(site.ingress(), "classless.example", "/", "one").await;

    // It changes hands, both ways.
    cluster.apply(&[ingress(&site, "first", Some("theirs"))]);
    until_async("given away", async || status(&site, "first").await == 404).await;
    cluster.apply(&[ingress(&site, "foreign", Some("ours"))]);
    served(site.ingress(), "foreign.example", "/", "one").await;
    until("its status is ours now", || {
        points(&site, "foreign") == json!([{"ip": "203.0.113.9"}])
    })
    .await;
    // The class itself changes hands: it goes and comes as the other's.
    cluster
        .kubectl(&["delete", "ingressclass", "also-ours"])
        .unwrap();
    until_async("without a class", async || {
        status(&site, "second").await == 404
    })
    .await;
    cluster.apply(&[class("also-ours", &ours, false)]);
    served(site.ingress(), "second.example", "/", "one").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn the_certificate_of_an_ingress_rotates() {
    let site = Site::new(Cluster::shared(), "ingress-tls", 10);
    let (at, _backend) = backend("one").await;
    let https = Port::reserve();
    let certificates: Vec<Certificate> = (0..3)
        .map(|_| Certificate::new(&["shop.example"]))
        .collect();
    let secret = |certificate: &Certificate| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cert", "namespace": site.name}, "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": certificate.chain, "tls.key": certificate.key}})
    };
    let mut object = ingress(&site, "shop", Some(&site.name));
    object["spec"]["tls"] = json!([{"hosts": ["shop.example"], "secretName": "cert"}]);
    let mut objects = vec![site.classes().remove(1)];
    objects.extend(site.service("one", at));
    // The Secret comes after what names it.
    objects.push(object.clone());
    site.cluster.apply(&objects);
    let port = https.number().to_string();
    let process = site.start(&["--https-port", &port]);
    ready(&process).await;
    site.cluster.apply(&[secret(&certificates[0])]);
    let tls = Tls::trusting(&certificates.iter().collect::<Vec<_>>(), &["http/1.1"]);
    let shown = async || {
        let client = Client::tls(https.address(), &tls, "shop.example")
            .await
            .ok()?;
        client.certificate
    };
    for (index, certificate) in certificates.iter().enumerate() {
        if index > 0 {
            site.cluster.apply(&[secret(certificate)]);
        }
        if index == 2 {
            // What names the Secret changes: it is read at once.
            object["metadata"]["annotations"] = json!({"rotated": "yes"});
            site.cluster.apply(&[object.clone()]);
        }
        until_async(&format!("certificate {index} is shown"), async || {
            shown().await.as_ref() == Some(&certificate.der)
        })
        .await;
    }
}
