//! Leaving HTTP: only when both sides want it, and only after the upstream's 101.

use tidegate_testing::{Gateway, Listener, Reply, Upstream, Wire};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

async fn asked() -> (Gateway, Wire, Wire, Listener) {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = listener.accept().await;
    let head = upstream.head().await;
    assert_eq!(head.field("upgrade"), "websocket");
    assert!(
        head.field("connection").eq_ignore_ascii_case("upgrade"),
        "{}",
        head.text
    );
    assert_eq!(head.field("sec-websocket-key"), "dGhlIHNhbXBsZSBub25jZQ==");
    (gateway, client, upstream, listener)
}

#[tokio::test]
async fn bytes_flow_both_ways_after_the_101() {
    let (_gateway, mut client, mut upstream, _listener) = asked().await;
    upstream.send(SWITCH).await;
    let head = client.head().await;
    assert_eq!((head.status(), head.field("upgrade")), (101, "websocket"));
    assert!(
        head.field("connection").eq_ignore_ascii_case("upgrade"),
        "{}",
        head.text
    );
    assert_eq!(
        head.field("sec-websocket-accept"),
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    for round in 0..3 {
        client.send(format!("ping {round}")).await;
        assert_eq!(upstream.exact(6).await, format!("ping {round}"));
        upstream.send(format!("pong {round}")).await;
        assert_eq!(client.exact(6).await, format!("pong {round}"));
    }
    client.finish().await;
    let (rest, ended) = upstream.rest().await;
    assert!(
        rest.is_empty() && ended.is_ok(),
        "the end of one side is told to the other"
    );
    upstream.send("last words").await;
    assert_eq!(
        client.exact(10).await,
        "last words",
        "and the other side may still speak"
    );
}

#[tokio::test]
async fn bytes_that_come_along_with_the_101_are_not_lost() {
    let (_gateway, mut client, mut upstream, _listener) = asked().await;
    upstream.send(format!("{SWITCH}hello")).await;
    assert_eq!(client.head().await.status(), 101);
    assert_eq!(client.exact(5).await, "hello");
}

/// CVE-2026-2833's shape: what a client sends early is the tunnel's only once there is a tunnel.
#[tokio::test]
async fn nothing_is_tunnelled_before_the_101() {
    let (_gateway, mut client, mut upstream, _listener) = asked().await;
    client
        .send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), "no");
    assert!(answer.headers.get("upgrade").is_none());
    // What came early is a request like any other: it passes the route and its filters.
    let head = upstream.head_or_end().await;
    let head = head.expect("the kept connection carries the next request");
    assert!(
        head.line.starts_with("GET /smuggled ") && head.has("x-request-id"),
        "{}",
        head.text
    );
    upstream
        .send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 404);
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_502() {
    for ask in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c, HTTP/2.0\r\nHTTP2-Settings: x\r\n\r\n",
    ] {
        let listener = Listener::bind().await;
        let gateway = Gateway::to(listener.address()).await;
        let mut client = gateway.connect().await;
        client.send(ask).await;
        let mut upstream = listener.accept().await;
        let head = upstream.head().await;
        assert!(
            !head.has("upgrade") && !head.has("http2-settings"),
            "{}",
            head.text
        );
        upstream.send(SWITCH).await;
        assert_eq!(client.answer().await.status, 502, "{ask}");
    }
}

#[tokio::test]
async fn an_upstream_leaves_http_for_nothing_else_than_what_is_asked_for() {
    for (switched, status) in [
        ("Upgrade: WebSocket\r\n", 101),
        ("", 101),
        ("Upgrade: h2c\r\n", 502),
        ("Upgrade: other\r\n", 502),
        ("Upgrade: websocket\r\nUpgrade: other\r\n", 502),
    ] {
        let listener = Listener::bind().await;
        let gateway = Gateway::to(listener.address()).await;
        let mut client = gateway.connect().await;
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c, websocket\r\n\r\n")
            .await;
        let mut upstream = listener.accept().await;
        assert_eq!(upstream.head().await.field("upgrade"), "websocket");
        let answer =
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n{switched}\r\n");
        upstream.send(answer).await;
        assert_eq!(client.head().await.status(), status, "{switched}");
    }
}

#[tokio::test]
async fn an_upgrade_in_a_request_with_a_body_stays_http() {
    let upstream = Upstream::start(|seen| Reply::text(seen.body.clone())).await;
    let gateway = Gateway::to(upstream.address()).await;
    let answer = gateway
        .send("POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n\r\nbody")
        .await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "body"));
}

#[tokio::test]
async fn a_tunnel_ends_for_both_when_one_side_breaks_off() {
    let (gateway, mut client, mut upstream, _listener) = asked().await;
    upstream.send(SWITCH).await;
    client.head().await;
    upstream.send("x").await;
    client.exact(1).await;
    upstream.reset();
    let (_, _) = client.rest().await;
    drop(gateway);
}
