//! TLSRoutes against real sockets: passed on by name, ended here, and both beside HTTPS on one port.

use http::Version;
use tidegate_testing::{
    Certificate, Client, Gateway, Listener, Reply, Tls, Upstream, Wire, eventually, manifests,
};

const BOTH: [&str; 2] = ["h2", "http/1.1"];
const PASSTHROUGH: &str = "{name: tls, port: 443, protocol: TLS, tls: {mode: Passthrough}}";

fn tls_route(name: &str, hostnames: &[&str], backends: &str) -> String {
    let hostnames = format!("  hostnames: {hostnames:?}\n");
    manifests::stream_route("TLSRoute", name, &hostnames, backends)
}

async fn tls_upstream(certificate: &Certificate, name: &'static str) -> Upstream {
    Upstream::tls(certificate, move |_| Reply::text(name)).await
}

#[tokio::test]
async fn connections_are_passed_on_by_the_name_that_is_asked_for() {
    let (a, b) = (
        Certificate::new(&["a.test"]),
        Certificate::new(&["x.b.test"]),
    );
    let (first, second) = (
        tls_upstream(&a, "first").await,
        tls_upstream(&b, "second").await,
    );
    let gateway = Gateway::start(&format!(
        "{}{}{}{}{}",
        manifests::gateway(&[PASSTHROUGH]),
        manifests::service("first", &[first.address()]),
        manifests::service("second", &[second.address()]),
        tls_route("one", &["a.test"], "[{name: first, port: 80}]"),
        tls_route("two", &["*.b.test"], "[{name: second, port: 80}]"),
    ))
    .await;
    let tls = Tls::trusting(&[&a, &b], &BOTH);
    for (name, certificate, answer) in [("a.test", &a, "first"), ("x.b.test", &b, "second")] {
        let mut client = Client::tls(gateway.https(), &tls, name)
            .await
            .expect("the backend's own handshake");
        assert_eq!(
            client.certificate.as_ref(),
            Some(&certificate.der),
            "{name}"
        );
        assert_eq!(
            client.version(),
            Version::HTTP_2,
            "the backend agrees on it"
        );
        assert_eq!(client.get(name, "/").await.text(), answer);
    }
    eventually!(gateway.log().len() >= 2, "a line for each connection");
    let line = gateway
        .log()
        .into_iter()
        .find(|line| line["requested_server_name"] == "a.test")
        .expect("the line of the first");
    assert_eq!(line["protocol"], "TLS");
    assert_eq!(line["route"], "TLSRoute default/one rule 0");
    assert_eq!(line["upstream_cluster"], "default/first:80+tcp");
    assert_eq!(line["upstream_host"], first.address().to_string());
    assert!(line["bytes_received"].as_u64() > Some(100), "{line}");
    assert!(line["bytes_sent"].as_u64() > Some(100), "{line}");
    assert_eq!(
        gateway.metric("tidegate_streams_total{protocol=\"tls\"}"),
        2.0
    );
    assert_eq!(
        gateway.metric("tidegate_streams_active{protocol=\"tls\"}"),
        0.0
    );
}

#[tokio::test]
async fn names_that_no_route_has_are_refused() {
    let a = Certificate::new(&["a.test", "b.test", "c.test"]);
    let upstream = tls_upstream(&a, "up").await;
    let gateway = Gateway::start(&format!(
        "{}{}{}{}",
        manifests::gateway(&[
            "{name: tls, port: 443, protocol: TLS, hostname: '*.test', tls: {mode: Passthrough}}"
        ]),
        manifests::service("up", &[upstream.address()]),
        tls_route("one", &["a.test"], "[{name: up, port: 80}]"),
        tls_route("lost", &["c.test"], "[{name: absent, port: 80}]"),
    ))
    .await;
    let tls = Tls::trusting(&[&a], &BOTH);
    for name in ["b.test", "c.test", "a.example", "127.0.0.1"] {
        let refused = Client::tls(gateway.https(), &tls, name).await;
        assert!(refused.is_err(), "{name}");
    }
    let mut no_tls = Wire::connect(gateway.https()).await;
    no_tls.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let (answer, _) = no_tls.rest().await;
    assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
    assert_eq!(upstream.connections(), 0);
    let failures = |reason| {
        gateway.metric(&format!(
            "tidegate_stream_failures_total{{protocol=\"tls\",reason=\"{reason}\"}}"
        ))
    };
    assert_eq!(failures("no_route"), 1.0);
    assert_eq!(failures("cluster_not_found"), 1.0);
    assert!(Client::tls(gateway.https(), &tls, "a.test").await.is_ok());
}

#[tokio::test]
async fn tls_ends_here_and_what_it_carried_goes_on_in_the_clear() {
    let listener = Listener::bind().await;
    let a = Certificate::new(&["a.test"]);
    let gateway = Gateway::start(&format!(
        "{}{}{}{}",
        manifests::gateway(&[
            "{name: tls, port: 443, protocol: TLS, tls: {mode: Terminate, certificateRefs: [{name: a}]}}"
        ]),
        manifests::service("up", &[listener.address()]),
        tls_route("one", &["a.test"], "[{name: up, port: 80}]"),
        a.secret("a"),
    ))
    .await;
    let tls = Tls::trusting(&[&a], &[]);
    let mut client = Client::tls(gateway.https(), &tls, "a.test")
        .await
        .expect("a handshake");
    assert_eq!(client.certificate.as_ref(), Some(&a.der));
    let backend = async {
        let mut wire = listener.accept().await;
        let head = wire.head().await;
        assert_eq!(head.field("host"), "a.test");
        assert!(
            !head.has("x-forwarded-for"),
            "nobody reads or changes what is passed on"
        );
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
            .await;
        wire
    };
    let (answer, _wire) = tokio::join!(client.get("a.test", "/"), backend);
    assert_eq!(answer.text(), "hi");
}

#[tokio::test]
async fn one_port_for_requests_and_for_streams() {
    let (a, p) = (
        Certificate::new(&["a.test", "h.test"]),
        Certificate::new(&["p.test"]),
    );
    let passed = tls_upstream(&p, "passed").await;
    let plain = Upstream::named("plain").await;
    let web = Upstream::named("web").await;
    let gateway = Gateway::start(&format!(
        "{}{}{}{}{}{}{}{}",
        manifests::gateway(&[
            "{name: passthrough, port: 443, protocol: TLS, hostname: p.test, tls: {mode: Passthrough}}",
            "{name: terminate, port: 443, protocol: TLS, hostname: a.test, tls: {mode: Terminate, certificateRefs: [{name: a}]}}",
            "{name: https, port: 443, protocol: HTTPS, hostname: h.test, tls: {certificateRefs: [{name: a}]}}",
        ]),
        manifests::service("passed", &[passed.address()]),
        manifests::service("plain", &[plain.address()]),
        manifests::service("up", &[web.address()]),
        tls_route("p", &["p.test"], "[{name: passed, port: 80}]"),
        tls_route("a", &["a.test"], "[{name: plain, port: 80}]"),
        manifests::route("h", &[], &manifests::rule("")),
        a.secret("a"),
    ))
    .await;
    let tls = Tls::trusting(&[&a, &p], &BOTH);
    for (name, answer, version) in [
        ("p.test", "passed", Version::HTTP_2),
        ("a.test", "plain", Version::HTTP_11),
        ("h.test", "web", Version::HTTP_2),
    ] {
        let mut client = Client::tls(gateway.https(), &tls, name)
            .await
            .expect("a handshake");
        assert_eq!(client.version(), version, "{name}");
        assert_eq!(client.get(name, "/").await.text(), answer, "{name}");
    }
    let mut client = Client::tls(gateway.https(), &tls, "h.test")
        .await
        .expect("a handshake");
    for other in ["a.test", "p.test"] {
        assert_eq!(
            client.get(other, "/").await.status,
            421,
            "{other} is another listener's"
        );
    }
}

#[tokio::test]
async fn a_backend_tls_policy_encrypts_anew() {
    let (a, b) = (Certificate::new(&["a.test"]), Certificate::new(&["b.test"]));
    let upstream = tls_upstream(&b, "encrypted").await;
    let policy = "---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: p}
spec:
  targetRefs: [{group: '', kind: Service, name: up}]
  validation: {hostname: b.test, caCertificateRefs: [{group: '', kind: ConfigMap, name: authority}]}
";
    let gateway = Gateway::start(&format!(
        "{}{}{}{}{}{policy}",
        manifests::gateway(&[
            "{name: tls, port: 443, protocol: TLS, tls: {mode: Terminate, certificateRefs: [{name: a}]}}"
        ]),
        manifests::service("up", &[upstream.address()]),
        tls_route("one", &["a.test"], "[{name: up, port: 80}]"),
        a.secret("a"),
        b.authority("authority"),
    ))
    .await;
    let mut client = Client::tls(gateway.https(), &Tls::trusting(&[&a], &[]), "a.test")
        .await
        .expect("a handshake");
    assert_eq!(client.get("a.test", "/").await.text(), "encrypted");
}

#[tokio::test]
async fn a_change_is_for_new_connections() {
    let a = Certificate::new(&["a.test"]);
    let (old, new) = (tls_upstream(&a, "old").await, tls_upstream(&a, "new").await);
    let manifest = |service: &str| {
        format!(
            "{}{}{}{}",
            manifests::gateway(&[PASSTHROUGH]),
            manifests::service("old", &[old.address()]),
            manifests::service("new", &[new.address()]),
            tls_route(
                "one",
                &["a.test"],
                &format!("[{{name: {service}, port: 80}}]")
            ),
        )
    };
    let gateway = Gateway::start(&manifest("old")).await;
    let tls = Tls::trusting(&[&a], &BOTH);
    let mut before = Client::tls(gateway.https(), &tls, "a.test")
        .await
        .expect("a handshake");
    assert_eq!(before.get("a.test", "/").await.text(), "old");
    gateway.write("test.yaml", &manifest("new")).await;
    let mut after = Client::tls(gateway.https(), &tls, "a.test")
        .await
        .expect("a handshake");
    assert_eq!(after.get("a.test", "/").await.text(), "new");
    assert_eq!(
        before.get("a.test", "/").await.text(),
        "old",
        "its stream stays"
    );
}
