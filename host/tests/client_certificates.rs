//! Certificates of clients (Gateway `tls.frontend`): who is let in, what filters learn of them, and what resumed sessions may do.

use tidegate_testing::{Certificate, Client, Gateway, Reply, Tls, Upstream, manifests};

/// A Gateway `test` that asks clients for certificates as `frontend` says (YAML in flow style), with HTTPS on 443 and 8080, and a
/// route past the bundled filter that passes on what it learns.
fn manifest(frontend: &str, upstream: &Upstream) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: test}}
spec:
  gatewayClassName: tidegate
  tls: {{frontend: {frontend}}}
  listeners:
  - {{name: https, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: server}}]}}}}
  - {{name: second, port: 8080, protocol: HTTPS, tls: {{certificateRefs: [{{name: server}}]}}}}
---
apiVersion: tidegate.dev/v1alpha1
kind: Filter
metadata: {{name: f}}
spec:
  module: {{builtin: client-cert}}
  config: {{required: false, forward: {{x-verify: verify, x-dns: dnsSan, x-print: fingerprint, x-subject: subject}}}}
  limits: {{startTimeout: 60s, callTimeout: 1s}}
{}{}",
        manifests::service("up", &[upstream.address()]),
        manifests::route("all", &[], &manifests::rule(&manifests::filters(&["f"])))
    )
}

/// The server's, and those of two clients.
fn certificates() -> (Certificate, Certificate, Certificate) {
    let of = |name| Certificate::new(&[name]);
    (of("a.test"), of("ann.test"), of("eve.test"))
}

fn validation(authority: &str, mode: &str) -> String {
    format!(
        "{{validation: {{mode: {mode}, caCertificateRefs: [{{group: '', kind: ConfigMap, name: {authority}}}]}}}}"
    )
}

async fn upstream() -> Upstream {
    Upstream::start(|seen| {
        Reply::text(format!(
            "{} {} {}",
            seen.header("x-verify"),
            seen.header("x-dns"),
            seen.header("x-subject")
        ))
    })
    .await
}

/// What the upstream hears of the client; `None` where the client is not let in. With TLS 1.3 a client learns that with its first
/// answer.
async fn ask(gateway: &Gateway, port: u16, tls: &Tls) -> Option<String> {
    let mut client = Client::tls(gateway.address(port), tls, "a.test")
        .await
        .ok()?;
    let request = client
        .request(http::Method::GET, "a.test", "/")
        // What a client says of itself is not what the host found out.
        .header("x-verify", "SUCCESS")
        .body(tidegate_testing::empty())
        .expect("a request");
    let answer = client.send(request).await.ok()?;
    assert_eq!(answer.status, 200);
    Some(answer.text().to_owned())
}

const KNOWN: &str = "SUCCESS ann.test CN=rcgen self signed cert";

#[tokio::test]
async fn only_valid_certificates_are_let_in() {
    let (server, ann, eve) = certificates();
    let upstream = upstream().await;
    let frontend = format!("{{default: {}}}", validation("clients", "AllowValidOnly"));
    let gateway = Gateway::start(&format!(
        "{}{}{}",
        manifest(&frontend, &upstream),
        server.secret("server"),
        ann.authority("clients")
    ))
    .await;
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let plain = || Tls::with_versions(&[&server], &["http/1.1"], versions);
        for port in [443, 8080] {
            let known = ask(&gateway, port, &plain().presenting(&ann)).await;
            assert_eq!(known.as_deref(), Some(KNOWN), "{versions:?}");
            assert_eq!(ask(&gateway, port, &plain().presenting(&eve)).await, None);
            assert_eq!(ask(&gateway, port, &plain()).await, None);
        }
    }
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.header("x-dns") == "ann.test")
    );
}

#[tokio::test]
async fn a_port_may_ask_for_something_else() {
    let (server, ann, eve) = certificates();
    let upstream = upstream().await;
    let second = |tls: &str| {
        let default = validation("clients", "AllowValidOnly");
        let frontend = format!("{{default: {default}, perPort: [{{port: 8080, tls: {tls}}}]}}");
        format!(
            "{}{}{}{}",
            manifest(&frontend, &upstream),
            server.secret("server"),
            ann.authority("clients"),
            eve.authority("others")
        )
    };
    let gateway = Gateway::start(&second(&validation("others", "AllowValidOnly"))).await;
    let plain = || Tls::trusting(&[&server], &["http/1.1"]);
    let (as_ann, as_eve) = (plain().presenting(&ann), plain().presenting(&eve));
    assert!(ask(&gateway, 443, &as_ann).await.is_some());
    assert!(ask(&gateway, 443, &as_eve).await.is_none());
    assert!(ask(&gateway, 8080, &as_ann).await.is_none());
    assert!(ask(&gateway, 8080, &as_eve).await.is_some());
    gateway.write("test.yaml", &second("{}")).await;
    assert_eq!(
        ask(&gateway, 8080, &plain()).await.as_deref(),
        Some("NONE  ")
    );
    assert!(ask(&gateway, 443, &plain()).await.is_none());
}

#[tokio::test]
async fn with_a_fallback_everybody_is_let_in_and_only_valid_certificates_count() {
    let (server, ann, eve) = certificates();
    let upstream = upstream().await;
    let frontend = format!(
        "{{default: {}}}",
        validation("clients", "AllowInsecureFallback")
    );
    let gateway = Gateway::start(&format!(
        "{}{}{}",
        manifest(&frontend, &upstream),
        server.secret("server"),
        ann.authority("clients")
    ))
    .await;
    let plain = || Tls::trusting(&[&server], &["h2"]);
    assert_eq!(
        ask(&gateway, 443, &plain().presenting(&ann))
            .await
            .as_deref(),
        Some(KNOWN)
    );
    assert_eq!(
        ask(&gateway, 443, &plain().presenting(&eve))
            .await
            .as_deref(),
        Some("NONE  ")
    );
    assert_eq!(
        ask(&gateway, 443, &plain()).await.as_deref(),
        Some("NONE  ")
    );
    let status = gateway.status().to_string();
    assert!(
        status.contains("InsecureFrontendValidationMode"),
        "{status}"
    );
}

#[tokio::test]
async fn a_resumed_session_keeps_its_certificate_until_the_authorities_change() {
    let (server, ann, eve) = certificates();
    let upstream = upstream().await;
    let trusting = |authority: &Certificate| {
        let frontend = format!("{{default: {}}}", validation("clients", "AllowValidOnly"));
        format!(
            "{}{}{}",
            manifest(&frontend, &upstream),
            server.secret("server"),
            authority.authority("clients")
        )
    };
    let gateway = Gateway::start(&trusting(&ann)).await;
    let tls = Tls::trusting(&[&server], &["http/1.1"]).presenting(&ann);
    assert_eq!(ask(&gateway, 443, &tls).await.as_deref(), Some(KNOWN));
    let again = Client::tls(gateway.https(), &tls, "a.test").await;
    assert!(again.expect("a handshake").resumed, "tickets are given");
    assert_eq!(ask(&gateway, 443, &tls).await.as_deref(), Some(KNOWN));
    gateway.write("test.yaml", &trusting(&eve)).await;
    assert_eq!(
        ask(&gateway, 443, &tls).await,
        None,
        "a ticket opens nothing any more"
    );
}

#[tokio::test]
async fn without_an_authority_nothing_is_served() {
    let (server, ann) = (
        Certificate::new(&["a.test"]),
        Certificate::new(&["ann.test"]),
    );
    let upstream = upstream().await;
    let default = validation("absent", "AllowInsecureFallback");
    let frontend = format!("{{default: {default}, perPort: [{{port: 8080, tls: {{}}}}]}}");
    let gateway = Gateway::start(&format!(
        "{}{}",
        manifest(&frontend, &upstream),
        server.secret("server"),
    ))
    .await;
    let tls = Tls::trusting(&[&server], &["http/1.1"]).presenting(&ann);
    assert!(
        tidegate_testing::Wire::try_connect(gateway.https())
            .await
            .is_err(),
        "the port is not open"
    );
    assert_eq!(ask(&gateway, 8080, &tls).await.as_deref(), Some("NONE  "));
}
