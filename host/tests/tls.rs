//! TLS on both sides: which certificate, which version, which session, which host.

use std::sync::Arc;

use http::{Method, Version};
use tidegate_testing::{
    Certificate, Client, Gateway, Reply, Tls, Upstream, Wire, empty, eventually, manifests,
};

const BOTH: [&str; 2] = ["h2", "http/1.1"];

/// A Gateway `test` with an HTTPS listener on port 443 for each hostname and its Secrets, and a route to the Service `up`.
fn listeners(listeners: &[(&str, &[&str])], upstream: &Upstream) -> String {
    let mut gateway = manifests::GATEWAY.to_owned();
    for (at, (hostname, secrets)) in listeners.iter().enumerate() {
        let references: Vec<_> = secrets
            .iter()
            .map(|name| format!("{{name: {name}}}"))
            .collect();
        let hostname = if hostname.is_empty() {
            String::new()
        } else {
            format!(", hostname: '{hostname}'")
        };
        gateway += &format!(
            "  - {{name: https-{at}, port: 443, protocol: HTTPS{hostname}, tls: {{certificateRefs: [{}]}}}}\n",
            references.join(", ")
        );
    }
    format!(
        "{gateway}{}{}",
        manifests::service("up", &[upstream.address()]),
        manifests::route("all", &[], &manifests::rule(""))
    )
}

async fn upstream() -> Upstream {
    Upstream::start(|seen| {
        let header = |name| seen.header(name).to_owned();
        Reply::text(format!(
            "{} {} {}",
            header("host"),
            header("x-forwarded-proto"),
            header("x-forwarded-port")
        ))
    })
    .await
}

#[tokio::test]
async fn the_server_name_chooses_listener_and_certificate() {
    let upstream = upstream().await;
    let (a, b, c) = (
        Certificate::new(&["a.test"]),
        Certificate::new(&["b.test"]),
        Certificate::new(&["c.test"]),
    );
    let secrets = [a.secret("a"), b.secret("b"), c.secret("c")].concat();
    let manifest = format!(
        "{}{secrets}",
        listeners(&[("a.test", &["a"]), ("*.test", &["b", "c"])], &upstream)
    );
    let gateway = Gateway::start(&manifest).await;
    let tls = Tls::trusting(&[&a, &b, &c], &BOTH);
    for (name, certificate) in [("a.test", &a), ("b.test", &b), ("c.test", &c)] {
        let mut client = Client::tls(gateway.https(), &tls, name)
            .await
            .expect("a handshake");
        assert_eq!(
            client.certificate.as_ref(),
            Some(&certificate.der),
            "{name}"
        );
        assert_eq!(client.version(), Version::HTTP_2);
        assert_eq!(
            client.get(name, "/").await.text(),
            format!("{name} https 443")
        );
    }
    let nobody = Client::tls(gateway.https(), &tls, "a.example").await;
    assert!(nobody.is_err(), "no listener has this name");
}

#[tokio::test]
async fn every_version_and_protocol_is_spoken() {
    let upstream = upstream().await;
    let certificate = Certificate::new(&["a.test"]);
    let gateway = Gateway::start(&format!(
        "{}{}",
        listeners(&[("", &["a"])], &upstream),
        certificate.secret("a")
    ))
    .await;
    for (versions, expected) in [
        (
            vec![&rustls::version::TLS12],
            rustls::ProtocolVersion::TLSv1_2,
        ),
        (
            vec![&rustls::version::TLS13],
            rustls::ProtocolVersion::TLSv1_3,
        ),
    ] {
        for (alpn, version) in [
            (&["h2"][..], Version::HTTP_2),
            (&["http/1.1"], Version::HTTP_11),
            (&[], Version::HTTP_11),
            (&["http/1.1", "h2"], Version::HTTP_2),
        ] {
            let tls = Tls::with_versions(&[&certificate], alpn, &versions);
            let mut client = Client::tls(gateway.https(), &tls, "a.test")
                .await
                .expect("a handshake");
            assert_eq!(
                (client.tls, client.version()),
                (Some(expected), version),
                "{alpn:?}"
            );
            assert_eq!(client.get("a.test", "/").await.text(), "a.test https 443");
        }
    }
}

#[tokio::test]
async fn a_new_certificate_serves_new_handshakes_and_the_old_connection_goes_on() {
    let upstream = upstream().await;
    let (old, new) = (Certificate::new(&["a.test"]), Certificate::new(&["a.test"]));
    let gateway = Gateway::start(&listeners(&[("a.test", &["a"])], &upstream)).await;
    gateway.write("secret.yaml", &old.secret("a")).await;
    let tls = Tls::trusting(&[&old, &new], &BOTH);
    let mut kept = Client::tls(gateway.https(), &tls, "a.test")
        .await
        .expect("a handshake");
    kept.get("a.test", "/").await;
    gateway.write("secret.yaml", &new.secret("a")).await;
    let mut fresh = Client::tls(gateway.https(), &tls, "a.test")
        .await
        .expect("a handshake");
    assert_eq!(fresh.certificate.as_ref(), Some(&new.der));
    assert!(
        !fresh.resumed,
        "a ticket of the old configuration opens nothing"
    );
    for client in [&mut kept, &mut fresh] {
        assert_eq!(client.get("a.test", "/").await.text(), "a.test https 443");
    }
    assert_eq!(kept.certificate.as_ref(), Some(&old.der));
}

#[tokio::test]
async fn sessions_resume_under_their_own_configuration_only() {
    let upstream = upstream().await;
    let (a, b) = (Certificate::new(&["a.test"]), Certificate::new(&["b.test"]));
    let manifest = format!(
        "{}{}{}",
        listeners(&[("a.test", &["a"]), ("b.test", &["b"])], &upstream),
        a.secret("a"),
        b.secret("b")
    );
    // The workers share the tickets of a configuration.
    let gateway = Gateway::builder().workers(2).start(&manifest).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tls = Tls::with_versions(&[&a, &b], &BOTH, &[version]).confusing_names();
        let connect = async |name: &str| {
            let mut client = Client::tls(gateway.https(), &tls, name)
                .await
                .expect("a handshake");
            // Tickets come with or before the first answer.
            client.get(name, "/").await;
            client
        };
        assert!(!connect("a.test").await.resumed);
        for _ in 0..4 {
            assert!(connect("a.test").await.resumed, "{version:?}");
        }
        let other = connect("b.test").await;
        assert!(
            !other.resumed,
            "{version:?}: a session of one listener opened another"
        );
        assert_eq!(other.certificate.as_ref(), Some(&b.der));
        // An edit that concerns no certificate costs no session.
        connect("b.test").await;
        gateway
            .write(
                "more.yaml",
                &manifests::route(
                    &format!("more-{}", u16::from(version.version)),
                    &["x.test"],
                    &manifests::rule(""),
                ),
            )
            .await;
        assert!(connect("b.test").await.resumed, "{version:?}");
    }
}

#[tokio::test]
async fn a_host_of_another_listener_is_misdirected() {
    let upstream = upstream().await;
    let (a, b) = (
        Certificate::new(&["a.test", "c.test"]),
        Certificate::new(&["b.test"]),
    );
    let manifest = format!(
        "{}{}{}",
        listeners(
            &[("a.test", &["a"]), ("b.test", &["b"]), ("c.test", &["a"])],
            &upstream
        ),
        a.secret("a"),
        b.secret("b")
    );
    let gateway = Gateway::start(&manifest).await;
    for alpn in BOTH {
        let tls = Tls::trusting(&[&a, &b], &[alpn]);
        let mut client = Client::tls(gateway.https(), &tls, "a.test")
            .await
            .expect("a handshake");
        assert_eq!(client.get("a.test", "/").await.status, 200);
        assert_eq!(client.get("b.test", "/").await.status, 421);
        assert_eq!(
            client.get("c.test", "/").await.status,
            421,
            "even with the same certificate"
        );
        assert_eq!(client.get("A.TEST:443", "/").await.status, 200);
    }
    let foreign = upstream
        .seen()
        .into_iter()
        .filter(|seen| seen.header("host") != "a.test")
        .filter(|seen| seen.header("host") != "A.TEST:443")
        .count();
    assert_eq!(foreign, 0);
}

/// The table of the conformance suite: 421 wherever another listener takes the host, 404 where none does.
#[tokio::test]
async fn misdirected_requests_are_told_from_those_that_nobody_serves() {
    let upstream = upstream().await;
    let names = [
        "*.wild.test",
        "four.wild.test",
        "second.test",
        "one.test",
        "x.test",
    ];
    let certificate = Certificate::new(&names);
    let listener = |name: &str, hostname: &str| {
        format!(
            "  - {{name: {name}, port: 443, protocol: HTTPS{hostname}, tls: {{certificateRefs: [{{name: all}}]}}}}\n"
        )
    };
    let gateway = format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: test}}\nspec:\n  gatewayClassName: tidegate\n  listeners:\n{}{}{}{}",
        listener("any", ""),
        listener("second", ", hostname: second.test"),
        listener("wild", ", hostname: \"*.wild.test\""),
        listener("four", ", hostname: four.wild.test"),
    );
    let to = |name: &str, section: &str, hosts: &[&str]| {
        manifests::route(name, hosts, &manifests::rule("")).replace(
            "[{name: test}]",
            &format!("[{{name: test, sectionName: {section}}}]"),
        )
    };
    let manifest = [
        gateway,
        manifests::service("up", &[upstream.address()]),
        to("one", "any", &["one.test"]),
        to("two", "second", &[]),
        to("three", "wild", &[]),
        to("four", "four", &[]),
        certificate.secret("all"),
    ]
    .concat();
    let gateway = Gateway::start(&manifest).await;
    let tls = Tls::trusting(&[&certificate], &["h2"]);
    for (name, host, status) in [
        ("one.test", "one.test", 200),
        ("one.test", "second.test", 421),
        ("one.test", "unknown.test", 404),
        ("second.test", "second.test", 200),
        ("second.test", "one.test", 421),
        ("second.test", "unknown.test", 421),
        ("three.wild.test", "three.wild.test", 200),
        ("three.wild.test", "five.wild.test", 200),
        ("three.wild.test", "four.wild.test", 421),
        ("three.wild.test", "second.test", 421),
        ("three.wild.test", "unknown.test", 421),
        ("four.wild.test", "four.wild.test", 200),
        ("four.wild.test", "five.wild.test", 421),
        ("x.test", "one.test", 200),
        ("x.test", "unknown.test", 404),
    ] {
        let client = Client::tls(gateway.https(), &tls, name).await;
        let answer = client.expect("a handshake").get(host, "/").await;
        assert_eq!(answer.status, status, "{host} on {name}");
    }
}

#[tokio::test]
async fn clients_that_do_not_speak_tls_hurt_nobody() {
    let upstream = upstream().await;
    let certificate = Certificate::new(&["a.test"]);
    let manifest = format!(
        "{}{}",
        listeners(&[("", &["a"])], &upstream),
        certificate.secret("a")
    );
    let handshake = |limits: &mut tidegate_proxy::Limits| {
        limits.handshake_timeout = std::time::Duration::from_secs(1)
    };
    let gateway = Gateway::builder().limits(handshake).start(&manifest).await;
    let mut silent = Wire::connect(gateway.https()).await;
    let mut plain = Wire::connect(gateway.https()).await;
    plain.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let tls = Tls::trusting(&[&certificate], &BOTH);
    let mut client = Client::tls(gateway.https(), &tls, "a.test")
        .await
        .expect("a handshake");
    assert_eq!(client.get("a.test", "/").await.status, 200);
    let (rest, _) = plain.rest().await;
    assert!(!rest.starts_with(b"HTTP/"), "an alert or nothing: {rest:?}");
    let (rest, _) = silent.rest().await;
    assert!(!rest.starts_with(b"HTTP/"));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_bad_secret_takes_down_its_own_listener_alone() {
    let upstream = upstream().await;
    let (good, bad) = (Certificate::new(&["a.test"]), Certificate::new(&["b.test"]));
    let manifest = listeners(&[("a.test", &["good"]), ("b.test", &["bad"])], &upstream);
    let gateway = Gateway::start(&format!("{manifest}{}", good.secret("good"))).await;
    let tls = Tls::trusting(&[&good, &bad], &BOTH);
    let mismatch = Certificate {
        key: good.key.clone(),
        ..bad.clone()
    };
    let garbage = Certificate {
        chain: "garbage".to_owned(),
        ..bad.clone()
    };
    for secret in [String::new(), garbage.secret("bad"), mismatch.secret("bad")] {
        gateway.write("bad.yaml", &secret).await;
        let mut client = Client::tls(gateway.https(), &tls, "a.test")
            .await
            .expect("a handshake");
        assert_eq!(client.get("a.test", "/").await.status, 200);
        assert!(Client::tls(gateway.https(), &tls, "b.test").await.is_err());
    }
    gateway.write("bad.yaml", &bad.secret("bad")).await;
    let mut client = Client::tls(gateway.https(), &tls, "b.test")
        .await
        .expect("a handshake");
    assert_eq!(client.get("b.test", "/").await.status, 200);
}

#[tokio::test]
async fn a_backend_is_spoken_to_in_tls_where_a_policy_says_so() {
    let (certificate, other) = (
        Certificate::new(&["backend.test"]),
        Certificate::new(&["backend.test"]),
    );
    let upstream = Upstream::tls(&certificate, |seen| {
        Reply::text(format!("{:?} {}", seen.version, seen.header("host")))
    })
    .await;
    let policy = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: up}\nspec:
  targetRefs: [{group: '', kind: Service, name: up}]
  validation: {hostname: backend.test, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}\n";
    let gateway = Gateway::start(&format!(
        "{}{policy}",
        manifests::everything_to(upstream.address())
    ))
    .await;
    gateway.write("ca.yaml", &certificate.authority("ca")).await;
    assert_eq!(gateway.get("a.test", "/").await.text(), "HTTP/1.1 a.test");
    gateway.write("ca.yaml", &other.authority("ca")).await;
    assert_eq!(
        gateway.get("a.test", "/").await.status,
        502,
        "a certificate of another authority"
    );
    assert_eq!(upstream.count(), 1);
    gateway.write("ca.yaml", &certificate.authority("ca")).await;
    eventually!(
        gateway.get("a.test", "/").await.status == 200,
        "trust comes back"
    );
    let renamed = policy.replace("backend.test", "another.test");
    gateway
        .write(
            "test.yaml",
            &format!("{}{renamed}", manifests::everything_to(upstream.address())),
        )
        .await;
    assert_eq!(
        gateway.get("a.test", "/").await.status,
        502,
        "a certificate for another name"
    );
}

#[tokio::test]
async fn many_handshakes_at_once_all_succeed() {
    let upstream = upstream().await;
    let certificate = Certificate::new(&["a.test"]);
    let gateway = Arc::new(
        Gateway::start(&format!(
            "{}{}",
            listeners(&[("", &["a"])], &upstream),
            certificate.secret("a")
        ))
        .await,
    );
    let tls = Tls::trusting(&[&certificate], &BOTH);
    let all = (0..50).map(|_| {
        let (gateway, tls) = (gateway.clone(), tls.clone());
        tokio::spawn(async move {
            let mut client = Client::tls(gateway.https(), &tls, "a.test")
                .await
                .expect("a handshake");
            let request = client
                .request(Method::GET, "a.test", "/")
                .body(empty())
                .expect("a request");
            client.send(request).await.expect("an answer").status
        })
    });
    for status in all.collect::<Vec<_>>() {
        assert_eq!(status.await.expect("ran"), 200);
    }
}
