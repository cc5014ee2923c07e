//! Filters in the data plane: the order of a chain, local replies, bodies, calls, shared data, the life of a stream.

use std::sync::atomic::Ordering;

use http::Method;
use tidegate_testing::{
    Client, Gateway, Listener, Recorder, Reply, Upstream, empty, eventually, guest, manifests,
};

use crate::components::{Form, on_both_forms};

const ALWAYS: &str = "(param i32 i32 i32) (result i32)";

/// Marks requests and responses with its name, in the order in which filters see them; answers itself if it is told to.
fn marker(name: &str) -> Vec<u8> {
    guest(&format!(
        r#"(func (export "proxy_on_request_headers") {ALWAYS}
             (call $mark (i32.const 0) @"x-order" @"{name}")
             (if (call $has (i32.const 0) @"x-answer-{name}") (then (call $reply (i32.const 418) @"I am {name}")))
             (i32.const 0))
           (func (export "proxy_on_response_headers") {ALWAYS}
             (call $mark (i32.const 2) @"x-order" @"{name}") (i32.const 0))"#
    ))
}

fn all<'a>(headers: &'a http::HeaderMap, name: &str) -> Vec<&'a str> {
    headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().expect("text"))
        .collect()
}

#[tokio::test]
async fn requests_pass_in_order_and_responses_in_reverse() {
    let upstream = Upstream::named("up").await;
    let mut builder = Gateway::builder();
    for name in ["a", "b", "c"] {
        builder = builder.file(&format!("{name}.wasm"), marker(name));
    }
    let gateway = builder
        .start(&manifests::past(upstream.address(), &["a", "b", "c"], ""))
        .await;
    let answer = gateway.get("a.test", "/").await;
    assert_eq!(answer.text(), "up");
    assert_eq!(all(&upstream.only().headers, "x-order"), ["a", "b", "c"]);
    assert_eq!(all(&answer.headers, "x-order"), ["c", "b", "a"]);
    // A local reply passes the filters that have seen the request, and nobody else sees anything.
    let answer = gateway
        .send("GET / HTTP/1.1\r\nHost: a\r\nX-Answer-B: 1\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!((answer.status.as_u16(), answer.text()), (418, "I am b"));
    assert_eq!(all(&answer.headers, "x-order"), ["b", "a"]);
    assert_eq!(upstream.count(), 1);
    for name in ["a", "b", "c"] {
        eventually!(gateway.contexts(name) == 0, "{name} has no context left");
    }
}

/// Asks a cluster whether the request may pass; the answer's `x-allow` says so.
const ASKS: &str = r#"
    (global $waits (mut i32) (i32.const 0))
    (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
      (global.set $waits (local.get $id))
      (if (call $ask @"authz") (then (call $reply (i32.const 500) @"no such cluster")))
      (i32.const 1))
    (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) (local $allowed i32)
      (local.set $allowed (call $has (i32.const 6) @"x-allow"))
      (drop (call $as (global.get $waits)))
      (if (local.get $allowed)
        (then (call $set (i32.const 0) @"x-user" @"alice") (drop (call $continue (i32.const 0))))
        (else (call $reply (i32.const 403) @"not allowed"))))"#;

fn asks(upstream: std::net::SocketAddr, authz: std::net::SocketAddr) -> String {
    let clusters = ", config: asks, clusters: [{name: authz, backendRef: {name: authz, port: 80}}]";
    format!(
        "{}{}",
        manifests::past(upstream, &["f"], clusters),
        manifests::service("authz", &[authz])
    )
}

async fn a_request_waits_for_a_call_of_its_filter(form: Form) {
    let (upstream, authz) = (Upstream::named("up").await, Listener::bind().await);
    let gateway = Gateway::builder()
        .file("f.wasm", form.guest(ASKS))
        .start(&asks(upstream.address(), authz.address()))
        .await;
    let mut client = gateway.connect().await;
    let post = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    client.send(post).await;
    let mut asked = authz.accept().await;
    let head = asked.head().await;
    assert_eq!(
        (head.line.as_str(), head.field("host")),
        ("GET / HTTP/1.1", "asked.test")
    );
    assert_eq!(upstream.count(), 0, "nothing goes on before the answer");
    asked
        .send("HTTP/1.1 200 OK\r\nX-Allow: 1\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.text(), "up");
    let seen = upstream.only();
    assert_eq!(
        (seen.header("x-user"), &seen.body[..]),
        ("alice", &b"body"[..])
    );
    client.send(post).await;
    asked.head().await;
    asked
        .send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status.as_u16(), answer.text()),
        (403, "not allowed")
    );
    // Broken off, and never answered: the filter hears of both.
    client.send(post).await;
    asked.head().await;
    drop(asked);
    assert_eq!(client.answer().await.status, 403);
    client.send(post).await;
    let mut silent = authz.accept().await;
    silent.head().await;
    assert_eq!(client.answer().await.status, 403);
    assert_eq!(upstream.count(), 1);
}

async fn an_answer_for_a_client_that_has_gone_hurts_nobody(form: Form) {
    let (upstream, authz) = (Upstream::named("up").await, Listener::bind().await);
    let gateway = Gateway::builder()
        .file("f.wasm", form.guest(ASKS))
        .start(&asks(upstream.address(), authz.address()))
        .await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut asked = authz.accept().await;
    asked.head().await;
    client.reset();
    eventually!(
        gateway.contexts("f") == 0,
        "the context ends with its client"
    );
    // Nobody may be there any more to hear it.
    let _ = asked
        .try_send("HTTP/1.1 200 OK\r\nX-Allow: 1\r\nContent-Length: 0\r\n\r\n")
        .await;
    drop(asked);
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut asked = authz.accept().await;
    asked.head().await;
    asked
        .send("HTTP/1.1 200 OK\r\nX-Allow: 1\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.text(), "up");
    assert_eq!(gateway.filter("f").traps.load(Ordering::Relaxed), 0);
}

async fn ticks_and_shared_data_reach_requests(form: Form) {
    let upstream = Upstream::named("up").await;
    let ticks = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 10))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32) (drop (call $share @"ticked" @"yes" (i32.const 0))))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (if (i32.eqz (call $shared @"ticked" (i32.const 16) (i32.const 20) (i32.const 24)))
               (then (call $set (i32.const 0) @"x-ticked" (i32.load (i32.const 16)) (i32.load (i32.const 20)))))
             (i32.const 0))"#;
    let gateway = Gateway::builder()
        .file("f.wasm", form.guest(ticks))
        .start(&manifests::past(
            upstream.address(),
            &["f"],
            ", config: tick",
        ))
        .await;
    eventually!(
        gateway.get("a", "/").await.status == 200
            && upstream
                .seen()
                .last()
                .is_some_and(|seen| seen.header("x-ticked") == "yes"),
        "a request sees what a tick has written"
    );
}

const COUNTS: &str = r#"
    (global $log (mut i32) (i32.const 0)) (global $done (mut i32) (i32.const 0)) (global $delete (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
      (global.set $log (call $counter @"logged")) (global.set $done (call $counter @"done"))
      (global.set $delete (call $counter @"ended")) (i32.const 1))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (if (call $has (i32.const 0) @"x-answer") (then (call $reply (i32.const 418) @"no")))
      (call $has (i32.const 0) @"x-pause"))
    (func (export "proxy_on_log") (param i32) (drop (call $increment (global.get $log) (i64.const 1))))
    (func (export "proxy_on_done") (param i32) (result i32) (drop (call $increment (global.get $done) (i64.const 1))) (i32.const 1))
    (func (export "proxy_on_delete") (param i32) (drop (call $increment (global.get $delete) (i64.const 1))))"#;

async fn a_stream_ends_once_however_it_ends(form: Form) {
    let upstream = Upstream::start(|seen| match seen.target() {
        "/broken" => Reply::status(200).piece("begun").broken(),
        "/hangs" => Reply::status(200).piece("begun").hanging(),
        _ => Reply::text("up"),
    })
    .await;
    let manifest = manifests::past(upstream.address(), &["f"], "")
        .replace("]}]\n", "], timeouts: {request: 1s}}]\n");
    assert!(manifest.contains("request: 1s"), "{manifest}");
    let gateway = Gateway::builder()
        .file("f.wasm", form.guest(COUNTS))
        .start(&manifest)
        .await;
    let ask = |path: &str, field: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n{field}Connection: close\r\n\r\n")
    };
    for (request, status) in [
        (ask("/", ""), 200),
        (ask("/", "X-Answer: 1\r\n"), 418),
        (ask("/broken", ""), 200),
        (ask("/hangs", ""), 200),
        // It pauses for ever, and nothing but time ends it.
        (ask("/", "X-Pause: 1\r\n"), 504),
    ] {
        assert_eq!(gateway.send(&request).await.status, status, "{request}");
    }
    let mut gone = gateway.connect().await;
    gone.send(ask("/", "X-Pause: 1\r\n")).await;
    eventually!(gateway.contexts("f") == 1, "it waits");
    gone.reset();
    let mut client = Client::http2(gateway.http()).await;
    assert_eq!(client.get("a.test", "/").await.status, 200);
    let request = client
        .request(Method::GET, "a.test", "/")
        .header("x-answer", "1")
        .body(empty())
        .expect("a request");
    assert_eq!(client.send(request).await.expect("an answer").status, 418);
    eventually!(gateway.contexts("f") == 0, "no context is left");
    assert_eq!(gateway.filter("f").streams.load(Ordering::Relaxed), 8);
    // A component hears of the end in one word.
    let words = match form {
        Form::Module => &["logged", "done", "ended"][..],
        Form::Component => &["logged", "ended"][..],
    };
    for name in words {
        assert_eq!(gateway.guest_counter(name), 8, "{name}");
    }
}

#[tokio::test]
async fn whatever_a_filter_writes_the_upstream_sees_a_canonical_request() {
    let recorder = Recorder::start().await;
    for (name, value) in [
        ("content-length", "99"),
        ("content-length", "x"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "gzip"),
        ("connection", "close, host"),
        ("upgrade", "h2c"),
        ("expect", "100-continue"),
        ("host", "a@b"),
        ("te", "gzip"),
        ("x", "a\\0d\\0ab: c"),
        ("x y", "z"),
        ("x\\0d\\0ay", "z"),
        ("", "z"),
        (":path", "no-slash"),
        (":path", "/a b"),
        (":path", "/a\\0d\\0aX: y"),
        (":path", ""),
        (":path", "//evil.test/"),
        (":method", "G T"),
        (":method", ""),
        (":method", "CONNECT"),
        (":authority", "a@b"),
        (":authority", ""),
        (":authority", "a b"),
        (":scheme", "gopher"),
        (":status", "200"),
        (":odd", "1"),
    ] {
        // The text goes into a WAT string as it stands.
        let text = |text: &str| text.replace("\\0d", "\r").replace("\\0a", "\n");
        let wat = format!(
            r#"(func (export "proxy_on_request_headers") {ALWAYS}
                 (call $set (i32.const 0) @"{}" @"{}") (i32.const 0))"#,
            text(name),
            text(value)
        );
        let gateway = Gateway::past(recorder.address(), &wat, "").await;
        for request in [
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        ] {
            let mut wire = gateway.connect().await;
            wire.send(request).await;
            let answer = wire.answer().await;
            let records = recorder.take();
            assert!(
                records.violations.is_empty() && records.unfinished.is_empty(),
                "{name:?}: {value:?}: {records:?}"
            );
            assert!(
                records.requests.len() <= 1,
                "{name:?}: {value:?}: {records:?}"
            );
            assert!(
                records.requests.len() == 1 || answer.status.is_server_error(),
                "{name:?}: {value:?}: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_upgrade_passes_filters() {
    let listener = Listener::bind().await;
    let gateway = Gateway::builder()
        .file("a.wasm", marker("a"))
        .start(&manifests::past(listener.address(), &["a"], ""))
        .await;
    let mut client = gateway.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    let mut upstream = listener.accept().await;
    assert_eq!(upstream.head().await.field("x-order"), "a");
    upstream
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .await;
    let head = client.head().await;
    assert_eq!(
        (head.status(), head.field("x-order"), head.field("upgrade")),
        (101, "a", "websocket")
    );
    client.send("ping").await;
    assert_eq!(upstream.exact(4).await, "ping");
}

on_both_forms! {
    a_request_waits_for_a_call_of_its_filter,
    an_answer_for_a_client_that_has_gone_hurts_nobody,
    ticks_and_shared_data_reach_requests,
    a_stream_ends_once_however_it_ends,
}
