//! Bodies past filters: held back, changed, bounded, or passed on as they come.

use http::Method;
use tidegate_testing::{Client, Gateway, Listener, Reply, Upstream, eventually};

/// Holds the request back to its end, and replaces it.
const WHOLE_REQUEST: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (drop (call $remove (i32.const 0) @"content-length")) (i32.const 0))
    (func (export "proxy_on_request_body") (param $id i32) (param $size i32) (param $end i32) (result i32)
      (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
      (drop (call $write (i32.const 0) (i32.const 0) (local.get $size) @"changed"))
      (i32.const 0))"#;

#[tokio::test]
async fn a_request_body_is_held_back_and_changed() {
    let upstream = Upstream::start(|seen| Reply::text(seen.body.clone())).await;
    let gateway = Gateway::past(upstream.address(), WHOLE_REQUEST, "").await;
    let mut wire = gateway.connect().await;
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
    ] {
        wire.send(request).await;
        assert_eq!(wire.answer().await.text(), "changed", "{request}");
    }
    let mut client = Client::http2(gateway.http()).await;
    let request = client
        .request(Method::POST, "a.test", "/")
        .body(tidegate_testing::full("xyz"))
        .expect("a request");
    assert_eq!(
        client.send(request).await.expect("an answer").text(),
        "changed"
    );
}

#[tokio::test]
async fn a_body_beyond_what_a_filter_may_hold_back_is_413() {
    let upstream = Upstream::named("up").await;
    let gateway = Gateway::past(
        upstream.address(),
        WHOLE_REQUEST,
        ", limits: {bufferedBody: 1Ki}",
    )
    .await;
    for (length, status) in [(1 << 10, 200), (10 << 10, 413)] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}",
            "x".repeat(length)
        );
        assert_eq!(gateway.send(request).await.status, status);
    }
    let complete = upstream
        .seen()
        .into_iter()
        .filter(|seen| seen.complete)
        .count();
    assert_eq!(
        complete, 1,
        "the upstream never takes the cut one for a whole one"
    );
    eventually!(gateway.contexts("f") == 0, "no context is left");
}

#[tokio::test]
async fn a_response_body_is_held_back_and_changed_and_bounded() {
    let upstream = Upstream::start(|seen| {
        Reply::status(200)
            .piece("ab")
            .piece("x".repeat(seen.target().len()))
    })
    .await;
    let gateway = Gateway::past(
        upstream.address(),
        r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
             (drop (call $remove (i32.const 2) @"content-length")) (i32.const 0))
           (func (export "proxy_on_response_body") (param $id i32) (param $size i32) (param $end i32) (result i32)
             (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
             (drop (call $write (i32.const 1) (i32.const 0) (local.get $size) @"changed"))
             (i32.const 0))"#,
        ", limits: {bufferedBody: 1Ki}",
    )
    .await;
    let answer = gateway.get("a", "/").await;
    assert_eq!((answer.text(), answer.complete), ("changed", true));
    let answer = gateway.get("a", &format!("/{}", "x".repeat(4 << 10))).await;
    assert!(!answer.complete || answer.status == 500, "{answer:?}");
    eventually!(gateway.contexts("f") == 0, "no context is left");
}

#[tokio::test]
async fn a_body_passes_piece_by_piece_where_no_filter_holds_it_back() {
    let listener = Listener::bind().await;
    let wat = r#"(func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (i32.const 0))"#;
    let gateway = Gateway::past(listener.address(), wat, "").await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    upstream
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.head().await;
    for piece in ["one", "two"] {
        upstream.send(format!("3\r\n{piece}\r\n")).await;
        assert_eq!(client.chunk().await, piece);
    }
}
