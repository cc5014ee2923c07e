//! Filters that fail: what the client gets by policy and cause, and what it costs the others.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use tidegate_testing::{Gateway, Reply, Upstream, eventually, manifests};

use crate::components::{Form, on_both_forms};

/// Fails in the callback that the request names: `x-trap: request` and so on.
const FAILS: &str = r#"
    (global $request-body (mut i32) (i32.const 0)) (global $response-body (mut i32) (i32.const 0))
    (func $fail (param $map i32) (param $key i32) (param $size i32)
      (if (call $has (local.get $map) (local.get $key) (local.get $size)) (then (unreachable))))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (call $fail (i32.const 0) @"x-trap-request")
      (if (call $has (i32.const 0) @"x-loop") (then (loop $for-ever (br $for-ever))))
      (if (call $has (i32.const 0) @"x-grow")
        (then (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)))
      (global.set $request-body (call $has (i32.const 0) @"x-trap-request-body"))
      (call $set (i32.const 0) @"x-filtered" @"1")
      (i32.const 0))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
      (call $fail (i32.const 2) @"x-trap-response")
      (global.set $response-body (call $has (i32.const 2) @"x-trap-response-body"))
      (call $set (i32.const 2) @"x-filtered" @"1")
      (i32.const 0))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
      (if (global.get $request-body) (then (unreachable))) (i32.const 0))
    (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
      (if (global.get $response-body) (then (unreachable))) (i32.const 0))
    (func (export "proxy_on_log") (param i32)
      (call $fail (i32.const 0) @"x-trap-log"))"#;

fn manifest(upstream: SocketAddr, spec: &str) -> String {
    manifests::past(upstream, &["f"], spec)
}

async fn upstream() -> Upstream {
    Upstream::start(|seen| match seen.target() {
        "/response" => Reply::text("up").header("x-trap-response", "1"),
        "/response-body" => Reply::text("up").header("x-trap-response-body", "1"),
        _ => Reply::text("up"),
    })
    .await
}

fn ask(path: &str, fields: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 4\r\nConnection: close\r\n\r\nbody"
    )
}

async fn a_filter_that_traps_closes(form: Form) {
    let upstream = upstream().await;
    let gateway = Gateway::builder()
        .file("f.wasm", form.guest(FAILS))
        .start(&manifest(upstream.address(), ""))
        .await;
    for (request, status) in [
        (ask("/", "X-Trap-Request: 1\r\n"), 503),
        (ask("/", "X-Loop: 1\r\n"), 503),
        (ask("/", "X-Grow: 1\r\n"), 503),
    ] {
        assert_eq!(gateway.send(&request).await.status, status, "{request}");
        assert_eq!(
            upstream.count(),
            0,
            "it never reaches the upstream: {request}"
        );
    }
    assert_eq!(
        gateway
            .send(ask("/", "X-Trap-Request-Body: 1\r\n"))
            .await
            .status,
        503
    );
    assert!(upstream.seen().iter().all(|seen| !seen.complete));
    let answer = gateway.send(ask("/response", "")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-trap-response")),
        (503, "")
    );
    // Too late for another answer: the stream ends broken, perhaps before its head was written.
    let mut client = gateway.connect().await;
    client.send(ask("/response-body", "")).await;
    if let Some(head) = client.head_or_end().await {
        let answer = client.answer_after(&head, "POST").await;
        assert!(!answer.complete && answer.body.is_empty(), "{answer:?}");
    }
    // The VM is another one each time, and nobody else has noticed.
    let answer = gateway.send(ask("/", "X-Trap-Log: 1\r\n")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-filtered")),
        (200, "1")
    );
    let answer = gateway.send(ask("/", "")).await;
    assert_eq!(
        (
            answer.status.as_u16(),
            answer.text(),
            answer.header("x-filtered")
        ),
        (200, "up", "1")
    );
    let stats = gateway.filter("f");
    eventually!(
        stats.contexts.load(Ordering::Relaxed) == 0,
        "no context is left"
    );
    // The memory is no trap of the guest's own.
    assert_eq!(
        (
            stats.traps.load(Ordering::Relaxed),
            stats.deadlines.load(Ordering::Relaxed)
        ),
        (5, 1)
    );
    assert_eq!(stats.vms.load(Ordering::Relaxed), 1);
}

async fn a_filter_that_traps_is_left_out_where_its_policy_says_so(form: Form) {
    let upstream = upstream().await;
    let gateway = Gateway::builder()
        .file("f.wasm", form.guest(FAILS))
        .start(&manifest(upstream.address(), ", failurePolicy: Open"))
        .await;
    for field in [
        "X-Trap-Request: 1\r\n",
        "X-Loop: 1\r\n",
        "X-Grow: 1\r\n",
        "X-Trap-Request-Body: 1\r\n",
        "X-Trap-Log: 1\r\n",
    ] {
        let answer = gateway.send(ask("/", field)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (200, "up"),
            "{field}"
        );
        let seen = upstream.seen().pop().expect("it was sent on");
        assert_eq!(seen.body, "body", "{field}");
    }
    for path in ["/response", "/response-body"] {
        let answer = gateway.send(ask(path, "")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text(), answer.complete),
            (200, "up", true),
            "{path}"
        );
    }
    eventually!(gateway.contexts("f") == 0, "no context is left");
}

async fn policies_differ_by_cause(form: Form) {
    let upstream = upstream().await;
    let spec = ", failurePolicy: Closed, failurePolicyByCause: {deadline: Open}";
    let gateway = Gateway::builder()
        .file("f.wasm", form.guest(FAILS))
        .start(&manifest(upstream.address(), spec))
        .await;
    assert_eq!(gateway.send(ask("/", "X-Loop: 1\r\n")).await.status, 200);
    assert_eq!(
        gateway.send(ask("/", "X-Trap-Request: 1\r\n")).await.status,
        503
    );
}

#[tokio::test]
async fn a_filter_that_is_not_there_closes_opens_or_is_unresolved() {
    let upstream = upstream().await;
    let gateway = Gateway::start(&manifest(upstream.address(), "")).await;
    assert_eq!(
        gateway.get("a", "/").await.status,
        503,
        "its file is absent"
    );
    gateway
        .write(
            "test.yaml",
            &manifest(upstream.address(), ", failurePolicy: Open"),
        )
        .await;
    assert_eq!(gateway.get("a", "/").await.text(), "up");
    gateway
        .write(
            "test.yaml",
            &manifest(upstream.address(), ", failurePolicyByCause: {load: Open}"),
        )
        .await;
    assert_eq!(gateway.get("a", "/").await.text(), "up");
    let absent = manifests::route(
        "all",
        &[],
        &manifests::rule(&manifests::filters(&["absent"])),
    );
    let service = manifests::service("up", &[upstream.address()]);
    gateway
        .write(
            "test.yaml",
            &format!("{}{service}{absent}", manifests::GATEWAY),
        )
        .await;
    let before = upstream.count();
    assert_eq!(
        gateway.get("a", "/").await.status,
        500,
        "a reference that leads nowhere is never skipped"
    );
    assert_eq!(upstream.count(), before);
}

/// Refuses its configuration, and quotes it.
const QUOTES: &str = r#"
    (func (export "proxy_on_configure") (param $id i32) (param $size i32) (result i32)
      (drop (call $read (i32.const 7) (i32.const 0) (local.get $size) (i32.const 16) (i32.const 20)))
      (drop (call $log (i32.const 4) (i32.load (i32.const 16)) (i32.load (i32.const 20))))
      (i32.const 0))"#;

#[tokio::test]
async fn what_a_filter_says_of_its_configuration_shows_no_secret() {
    let upstream = upstream().await;
    let secret =
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {token: hunter2}\n";
    let spec =
        ", config: {user: alice}, configFrom: [{path: /token, secretRef: {name: s, key: token}}]";
    let gateway = Gateway::builder()
        .file("f.wasm", tidegate_testing::guest(QUOTES))
        .start(&(manifest(upstream.address(), spec) + secret))
        .await;
    let status = gateway.status().to_string();
    assert!(
        status.contains("alice") && status.contains("<redacted>") && !status.contains("hunter2"),
        "{status}"
    );
    assert_eq!(gateway.get("a", "/").await.status, 503);
}

/// Refuses a configuration of three letters, and says which one it has.
const CONFIGURED: &str = r#"
    (func (export "proxy_on_configure") (param $id i32) (param $size i32) (result i32)
      (i32.ne (local.get $size) (i32.const 3)))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
      (call $set (i32.const 2) @"x-stamp" @"STAMP") (i32.const 0))"#;

async fn a_bad_new_version_leaves_the_good_one_in_place(form: Form) {
    let upstream = upstream().await;
    let files = |builder: tidegate_testing::Builder| {
        builder
            .file("f.wasm", form.stamped(CONFIGURED, "one"))
            .file("two.wasm", form.stamped(CONFIGURED, "two"))
            .file("garbage.wasm", "garbage")
    };
    let at = upstream.address();
    let gateway = files(Gateway::builder())
        .start(&manifest(at, ", config: bad"))
        .await;
    assert_eq!(
        gateway.get("a", "/").await.status,
        503,
        "no version was ever good"
    );
    let version = async || gateway.get("a", "/").await.header("x-stamp").to_owned();
    gateway
        .write("test.yaml", &manifest(at, ", config: good"))
        .await;
    assert_eq!(version().await, "one");
    gateway
        .write("test.yaml", &manifest(at, ", config: bad"))
        .await;
    assert_eq!(
        version().await,
        "one",
        "the last good configuration goes on"
    );
    gateway
        .write(
            "test.yaml",
            &manifest(at, ", config: good").replace("f.wasm", "garbage.wasm"),
        )
        .await;
    assert_eq!(version().await, "one", "the last good module goes on");
    gateway
        .write(
            "test.yaml",
            &manifest(at, ", config: good").replace("f.wasm", "two.wasm"),
        )
        .await;
    assert_eq!(version().await, "two");
}

/// With one VM for all, a trap takes the streams along that the filter had seen; others do not notice.
async fn a_trap_costs_the_streams_of_its_vm_and_no_others(form: Form) {
    let listener = tidegate_testing::Listener::bind().await;
    let other = Upstream::named("other").await;
    let (service, second) = (
        manifests::service("other", &[other.address()]),
        manifests::filter("g", "f.wasm", ", vm: {isolation: Dedicated}"),
    );
    let route = manifests::route(
        "other",
        &["other.test"],
        "[{filters: [{type: ExtensionRef, extensionRef: {group: tidegate.dev, kind: Filter, name: g}}], backendRefs: [{name: other, port: 80}]}]",
    );
    let gateway = Gateway::builder()
        .file("f.wasm", form.guest(FAILS))
        .start(&format!(
            "{}{service}{second}{route}",
            manifest(listener.address(), "")
        ))
        .await;
    let mut waiting = gateway.connect().await;
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    let trapped = gateway.send(ask("/", "X-Trap-Request: 1\r\n")).await;
    assert_eq!(trapped.status, 503);
    assert_eq!(
        waiting.answer().await.status,
        503,
        "its filter can no longer see the response"
    );
    let stats = gateway.filter("f");
    assert_eq!(
        (
            stats.traps.load(Ordering::Relaxed),
            stats.collateral.load(Ordering::Relaxed)
        ),
        (1, 1)
    );
    let answer = gateway.get("other.test", "/").await;
    assert_eq!((answer.text(), answer.header("x-filtered")), ("other", "1"));
    assert_eq!(gateway.filter("g").collateral.load(Ordering::Relaxed), 0);
    eventually!(gateway.contexts("f") == 0, "no context is left");
}

/// The same under a policy that lets requests pass: what the filter has done to them stays, and it does no more.
async fn collateral_follows_the_failure_policy(form: Form) {
    let listener = tidegate_testing::Listener::bind().await;
    let gateway = Gateway::builder()
        .file("f.wasm", form.guest(FAILS))
        .start(&manifest(listener.address(), ", failurePolicy: Open"))
        .await;
    let mut waiting = gateway.connect().await;
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = listener.accept().await;
    assert_eq!(upstream.head().await.field("x-filtered"), "1");
    let mut trapped = gateway.connect().await;
    trapped.send(ask("/", "X-Trap-Request: 1\r\n")).await;
    let mut unfiltered = listener.accept().await;
    assert!(!unfiltered.head().await.has("x-filtered"));
    for (client, wire) in [
        (&mut waiting, &mut upstream),
        (&mut trapped, &mut unfiltered),
    ] {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup")
            .await;
        let answer = client.answer().await;
        assert_eq!(
            (
                answer.status.as_u16(),
                answer.text(),
                answer.header("x-filtered")
            ),
            (200, "up", "")
        );
    }
    let stats = gateway.filter("f");
    assert_eq!(
        (
            stats.traps.load(Ordering::Relaxed),
            stats.collateral.load(Ordering::Relaxed)
        ),
        (1, 1)
    );
    eventually!(gateway.contexts("f") == 0, "no context is left");
}

async fn neighbours_are_answered_while_a_filter_traps_again_and_again(form: Form) {
    let upstream = upstream().await;
    let (filter, rule) = (
        manifests::filter("f", "f.wasm", ""),
        manifests::rule(&manifests::filters(&["f"])),
    );
    let service = manifests::service("up", &[upstream.address()]);
    let plain = manifests::route("plain", &["plain.test"], &manifests::rule(""));
    let manifest = format!(
        "{}{service}{filter}{plain}{}",
        manifests::GATEWAY,
        manifests::route("all", &["a"], &rule)
    );
    let gateway = Gateway::builder()
        .file("f.wasm", form.guest(FAILS))
        .start(&manifest)
        .await;
    for at in 0..40 {
        let request = ask(
            "/",
            if at % 2 == 0 {
                "X-Trap-Request: 1\r\n"
            } else {
                "X-Loop: 1\r\n"
            },
        );
        let (failed, fine) = tokio::join!(gateway.send(&request), gateway.get("plain.test", "/"));
        assert_eq!(
            (failed.status.as_u16(), fine.status.as_u16()),
            (503, 200),
            "{at}"
        );
    }
    let answer = gateway.send(ask("/", "")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-filtered")),
        (200, "1")
    );
}

on_both_forms! {
    a_filter_that_traps_closes,
    a_filter_that_traps_is_left_out_where_its_policy_says_so,
    policies_differ_by_cause,
    a_bad_new_version_leaves_the_good_one_in_place,
    a_trap_costs_the_streams_of_its_vm_and_no_others,
    collateral_follows_the_failure_policy,
    neighbours_are_answered_while_a_filter_traps_again_and_again,
}
