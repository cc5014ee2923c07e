//! The choice of a backend: turns, weights, mirrors, filters of one backend, endpoints that fail.

use tidegate_testing::{Gateway, Listener, Port, Upstream, eventually, manifests};

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn everything(endpoints: &[std::net::SocketAddr], rule: &str) -> String {
    let (gateway, service) = (manifests::GATEWAY, manifests::service("up", endpoints));
    format!(
        "{gateway}{service}{}",
        manifests::route("all", &[], &manifests::rule(rule))
    )
}

#[tokio::test]
async fn a_refused_connection_is_tried_at_another_endpoint() {
    let (dead, upstream) = (Port::reserve(), Upstream::named("up").await);
    let gateway = Gateway::start(&everything(&[dead.address(), upstream.address()], "")).await;
    for _ in 0..20 {
        let answer = gateway
            .send(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody",
            )
            .await;
        assert_eq!(answer.status, 200);
    }
    assert!(upstream.seen().iter().all(|seen| seen.body == "body"));
    let failures = gateway.metric("tidegate_upstream_connect_failures_total");
    assert!(
        failures > 0.0 && failures < 20.0,
        "an endpoint that keeps failing is left out for a while: {failures}"
    );
}

#[tokio::test]
async fn no_connection_at_all_is_502_and_no_endpoint_503_and_no_backend_500() {
    let dead = Port::reserve();
    let gateway = Gateway::start(&everything(&[dead.address()], "")).await;
    assert_eq!(gateway.get("a", "/").await.status, 502);
    gateway.write("test.yaml", &everything(&[], "")).await;
    assert_eq!(gateway.get("a", "/").await.status, 503);
    let absent = manifests::route("all", &[], "[{backendRefs: [{name: absent, port: 80}]}]");
    gateway
        .write("test.yaml", &format!("{}{absent}", manifests::GATEWAY))
        .await;
    assert_eq!(gateway.get("a", "/").await.status, 500);
    gateway
        .write(
            "test.yaml",
            &format!(
                "{}{}",
                manifests::GATEWAY,
                manifests::route("all", &[], "[{}]")
            ),
        )
        .await;
    assert_eq!(gateway.get("a", "/").await.status, 500);
    gateway.write("test.yaml", manifests::GATEWAY).await;
    assert_eq!(gateway.get("a", "/").await.status, 404);
}

#[tokio::test]
async fn turns_are_even_and_weights_count() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let gateway = Gateway::start(&everything(&[a.address(), b.address()], "")).await;
    let mut client = gateway.connect().await;
    for _ in 0..40 {
        client.send(ASK).await;
        client.answer().await;
    }
    assert_eq!((a.count(), b.count()), (20, 20));
    let services = [("a", &a), ("b", &b)]
        .map(|(name, upstream)| manifests::service(name, &[upstream.address()]))
        .concat();
    for (weights, expected) in [((3, 1), 240..=360), ((1, 0), 400..=400), ((0, 1), 0..=0)] {
        let rules = format!(
            "[{{backendRefs: [{{name: a, port: 80, weight: {}}}, {{name: b, port: 80, weight: {}}}]}}]",
            weights.0, weights.1
        );
        gateway
            .write(
                "test.yaml",
                &format!(
                    "{}{services}{}",
                    manifests::GATEWAY,
                    manifests::route("all", &[], &rules)
                ),
            )
            .await;
        let before = a.count();
        for _ in 0..400 {
            client.send(ASK).await;
            client.answer().await;
        }
        // Seven standard deviations around three quarters of 400.
        assert!(
            expected.contains(&(a.count() - before)),
            "{weights:?}: {}",
            a.count() - before
        );
    }
}

#[tokio::test]
async fn a_mirror_gets_copies_and_its_failure_is_not_seen() {
    let (upstream, mirror, dead) = (
        Upstream::named("up").await,
        Upstream::named("mirror").await,
        Port::reserve(),
    );
    let services = [
        manifests::service("up", &[upstream.address()]),
        manifests::service("mirror", &[mirror.address()]),
        manifests::service("dead", &[dead.address()]),
    ];
    let to = |name: &str| {
        format!(
            "{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: 80}}}}}}"
        )
    };
    let rule = manifests::rule(&format!(", filters: [{}, {}]", to("mirror"), to("dead")));
    let gateway = Gateway::start(&format!(
        "{}{}{}",
        manifests::GATEWAY,
        services.concat(),
        manifests::route("all", &[], &rule)
    ))
    .await;
    let body = "x".repeat(20 << 10);
    let answer = gateway
        .send(format!(
            "POST /m HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "up"));
    eventually!(mirror.count() == 1, "the copy arrives");
    let copy = mirror.only();
    assert_eq!(
        (copy.target(), copy.header("x-a"), copy.header("host")),
        ("/m", "1", "a")
    );
    assert!(copy.body == body && copy.complete);
    assert_eq!(upstream.only().body, body);
}

#[tokio::test]
async fn a_mirror_that_never_answers_holds_nobody_up() {
    let (upstream, mirror) = (Upstream::named("up").await, Listener::bind().await);
    let services = [
        manifests::service("up", &[upstream.address()]),
        manifests::service("mirror", &[mirror.address()]),
    ]
    .concat();
    let rule = manifests::rule(
        ", filters: [{type: RequestMirror, requestMirror: {backendRef: {name: mirror, port: 80}}}]",
    );
    let gateway = Gateway::start(&format!(
        "{}{services}{}",
        manifests::GATEWAY,
        manifests::route("all", &[], &rule)
    ))
    .await;
    let body = "x".repeat(4 << 20);
    for _ in 0..3 {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(gateway.send(request).await.text(), "up");
    }
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.body.len() == body.len())
    );
}

#[tokio::test]
async fn filters_of_a_backend_are_for_its_share_alone() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let services = [("a", &a), ("b", &b)]
        .map(|(name, upstream)| manifests::service(name, &[upstream.address()]))
        .concat();
    let rules = "[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-rule, value: '1'}]}}], backendRefs: [
      {name: a, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: '1'}]}},
        {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-from, value: a}]}}]},
      {name: b, port: 80}]}]";
    let gateway = Gateway::start(&format!(
        "{}{services}{}",
        manifests::GATEWAY,
        manifests::route("all", &[], rules)
    ))
    .await;
    for _ in 0..40 {
        let answer = gateway
            .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await;
        assert_eq!(
            answer.header("x-from"),
            if answer.text() == "a" { "a" } else { "" }
        );
    }
    assert!(a.count() > 0 && b.count() > 0);
    assert!(
        a.seen()
            .iter()
            .all(|seen| (seen.header("x-rule"), seen.header("x-a")) == ("1", "1"))
    );
    assert!(
        b.seen()
            .iter()
            .all(|seen| (seen.header("x-rule"), seen.header("x-a")) == ("1", ""))
    );
}

/// Whoever breaks off uploads could otherwise have healthy endpoints left out.
#[tokio::test]
async fn clients_that_break_off_are_not_held_against_the_endpoint() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let gateway = Gateway::start(&everything(&[a.address(), b.address()], "")).await;
    for _ in 0..24 {
        let mut client = gateway.connect().await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nonly this")
            .await;
        client.finish().await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 400);
    }
    for _ in 0..20 {
        assert_eq!(gateway.get("a", "/").await.status, 200);
    }
    let whole = |upstream: &Upstream| upstream.seen().iter().filter(|seen| seen.complete).count();
    assert_eq!((whole(&a), whole(&b)), (10, 10));
}
