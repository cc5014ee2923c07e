//! What a filter may cost its neighbours: long calls, failures, births and deaths of VMs.

use std::sync::atomic::Ordering::Relaxed;

use tidegate_proxy::PluginStats;
use tidegate_testing::{Gateway, Listener, Upstream, eventually, manifests};

use crate::components::{Form, on_both_forms};

/// `x-wait` makes it spin until somebody has sent `x-go` to the same shared data; `x-loop` for ever; `x-trap` traps. `x-late` traps
/// once there is a body, `x-grow` wants too much memory then.
/// `x-count` of a response tells how many requests its memory has seen.
const SPINS: &str = r#"
    (global $count (mut i32) (i32.const 0))
    (global $late (mut i32) (i32.const 0))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (if (call $has (i32.const 0) @"x-go") (then (drop (call $share @"go" @"1" (i32.const 0)))))
      (if (call $has (i32.const 0) @"x-wait")
        (then (loop $again
          (br_if $again (call $shared @"go" (i32.const 16) (i32.const 20) (i32.const 24))))))
      (if (call $has (i32.const 0) @"x-loop") (then (loop $for-ever (br $for-ever))))
      (if (call $has (i32.const 0) @"x-trap") (then (unreachable)))
      (global.set $late (call $has (i32.const 0) @"x-late"))
      (if (call $has (i32.const 0) @"x-grow") (then (global.set $late (i32.const 2))))
      (i32.const 0))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
      (if (i32.eq (global.get $late) (i32.const 2)) (then (drop (memory.grow (i32.const 60000)))))
      (if (global.get $late) (then (unreachable)))
      (i32.const 0))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
      (i32.store8 (i32.const 40) (i32.add (i32.const 48) (global.get $count)))
      (call $set (i32.const 2) @"x-count" (i32.const 40) (i32.const 1))
      (i32.const 0))
    (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (i32.const 0))
    (func (export "proxy_on_log") (param i32)
      (drop (call $increment (call $counter @"logged") (i64.const 1))))"#;

/// Host `a` past filter `f`, host `b` past filter `g`, both of these specs; `plain` past none.
async fn gateway(form: Form, upstream: &Upstream, f: &str, g: &str) -> Gateway {
    let rule = |name| manifests::rule(&manifests::filters(&[name]));
    let manifest = [
        manifests::GATEWAY.to_owned(),
        manifests::service("up", &[upstream.address()]),
        manifests::filter("f", "f.wasm", f),
        manifests::filter("g", "f.wasm", g),
        manifests::route("a", &["a"], &rule("f")),
        manifests::route("b", &["b"], &rule("g")),
        manifests::route("plain", &["plain"], &manifests::rule("")),
    ];
    Gateway::builder()
        .file("f.wasm", form.guest(SPINS))
        .start(&manifest.concat())
        .await
}

fn ask(host: &str, fields: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\n{fields}Content-Length: 4\r\nConnection: close\r\n\r\nbody"
    )
}

fn failures(stats: &PluginStats) -> (u64, u64, u64) {
    (
        stats.traps.load(Relaxed),
        stats.deadlines.load(Relaxed),
        stats.collateral.load(Relaxed),
    )
}

const LONG: &str = ", limits: {callTimeout: 10s}, vm: {id: shared}";

async fn a_worker_goes_on_while_a_long_call_runs_beside_it(form: Form) {
    let upstream = Upstream::named("up").await;
    let gateway = gateway(form, &upstream, LONG, ", vm: {id: shared}").await;
    let mut waiting = gateway.connect().await;
    waiting.send(ask("a", "X-Wait: 1\r\n")).await;
    eventually!(gateway.contexts("f") == 1, "it has begun");
    // The only worker answers others, one of which sets free what spins.
    assert_eq!(gateway.get("plain", "/").await.text(), "up");
    assert_eq!(gateway.send(ask("b", "")).await.header("x-count"), "1");
    assert_eq!(gateway.send(ask("b", "X-Go: 1\r\n")).await.status, 200);
    let answer = waiting.answer_to("POST").await;
    assert_eq!(
        (answer.text(), answer.header("x-count")),
        ("up", "1"),
        "{answer:?}"
    );
    let seen = upstream.seen();
    assert!(seen.iter().filter(|seen| seen.body == "body").count() >= 3);
    eventually!(gateway.contexts("f") == 0, "no context is left");
    assert_eq!(failures(&gateway.filter("f")), (0, 0, 0));
    assert!(!gateway.filter("f").is_quarantined());
}

async fn long_calls_of_one_filter_run_side_by_side(form: Form) {
    let upstream = Upstream::named("up").await;
    let gateway = gateway(form, &upstream, LONG, "").await;
    let mut waiting = gateway.connect().await;
    waiting.send(ask("a", "X-Wait: 1\r\n")).await;
    eventually!(gateway.contexts("f") == 1, "it has begun");
    // The VM is busy until another one has been called. Until that is born, streams wait for the first.
    let mut others = Vec::new();
    while gateway.filter("f").vms.load(Relaxed) < 2 {
        let mut other = gateway.connect().await;
        other.send(ask("a", "X-Go: 1\r\n")).await;
        others.push(other);
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.send(ask("a", "X-Go: 1\r\n")).await.status, 200);
    assert_eq!(waiting.answer_to("POST").await.status, 200);
    for mut other in others {
        assert_eq!(other.answer_to("POST").await.status, 200);
    }
    eventually!(gateway.contexts("f") == 0, "no context is left");
}

async fn a_client_that_leaves_during_a_long_call_costs_nobody_the_vm(form: Form) {
    let upstream = Upstream::named("up").await;
    let gateway = gateway(form, &upstream, LONG, ", vm: {id: shared}").await;
    let mut leaving = gateway.connect().await;
    leaving.send(ask("a", "X-Wait: 1\r\n")).await;
    eventually!(gateway.contexts("f") == 1, "it has begun");
    leaving.reset();
    assert_eq!(gateway.send(ask("b", "X-Go: 1\r\n")).await.status, 200);
    eventually!(
        gateway.contexts("f") == 0,
        "the context ends with its client"
    );
    assert_eq!(gateway.send(ask("a", "")).await.header("x-count"), "2");
    eventually!(
        gateway.guest_counter("logged") == 3,
        "each stream has had its on_log"
    );
    assert_eq!(failures(&gateway.filter("f")), (0, 0, 0));
}

async fn three_deadlines_quarantine_a_filter_and_it_still_serves(form: Form) {
    let upstream = Upstream::named("up").await;
    let gateway = gateway(form, &upstream, "", "").await;
    let stats = gateway.filter("f");
    for at in 0..3 {
        assert!(!stats.is_quarantined(), "{at}");
        assert_eq!(gateway.send(ask("a", "X-Loop: 1\r\n")).await.status, 503);
    }
    assert!(stats.is_quarantined() && !gateway.filter("g").is_quarantined());
    assert_eq!(gateway.send(ask("a", "")).await.header("x-count"), "1");
    assert_eq!(gateway.send(ask("a", "X-Loop: 1\r\n")).await.status, 503);
    assert_eq!(gateway.send(ask("a", "")).await.header("x-count"), "1");
    assert_eq!(failures(&stats), (0, 4, 0));
    // Another configuration is another version, which is judged anew.
    let changed = manifests::filter("f", "f.wasm", ", config: other");
    let route = manifests::rule(&manifests::filters(&["f"]));
    let service = manifests::service("up", &[upstream.address()]);
    let manifest = [
        manifests::GATEWAY,
        &service,
        &changed,
        &manifests::route("a", &["a"], &route),
    ];
    gateway.write("test.yaml", &manifest.concat()).await;
    assert_eq!(gateway.send(ask("a", "")).await.header("x-count"), "1");
    assert!(!stats.is_quarantined());
    eventually!(
        (gateway.contexts("f"), stats.vms.load(Relaxed)) == (0, 1),
        "the VMs of the version before are gone"
    );
}

async fn eleven_traps_quarantine_a_filter_and_it_still_serves(form: Form) {
    let upstream = Upstream::named("up").await;
    let gateway = gateway(form, &upstream, "", "").await;
    for at in 0..15 {
        let quarantined = gateway.filter("f").is_quarantined();
        assert_eq!(quarantined, at >= 11, "{at}");
        assert_eq!(gateway.send(ask("a", "X-Trap: 1\r\n")).await.status, 503);
        assert_eq!(gateway.send(ask("a", "")).await.header("x-count"), "1");
    }
    assert_eq!(failures(&gateway.filter("f")), (15, 0, 0));
    assert_eq!(failures(&gateway.filter("g")), (0, 0, 0));
}

/// With streams in flight on the same VM: every failure is one that was made, or collateral.
async fn failures_are_faulted_plus_collateral(form: Form, spec: &str, collateral: bool) {
    let listener = Listener::bind().await;
    let manifest = [
        manifests::GATEWAY.to_owned(),
        manifests::service("up", &[listener.address()]),
        manifests::filter("f", "f.wasm", spec),
        manifests::route("a", &[], &manifests::rule(&manifests::filters(&["f"]))),
    ];
    let gateway = Gateway::builder()
        .file("f.wasm", form.guest(SPINS))
        .start(&manifest.concat())
        .await;
    let (mut faulted, mut failed, mut served) = (0, 0, 0);
    for round in 0..4 {
        let mut streams = Vec::new();
        for _ in 0..5 {
            let mut client = gateway.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let mut up = listener.accept().await;
            up.head().await;
            streams.push((client, up));
        }
        assert_eq!(gateway.contexts("f"), 5, "{round}");
        let trapped = gateway.send(ask("a", "X-Trap: 1\r\n")).await;
        assert_eq!(trapped.status, 503);
        faulted += 1;
        failed += 1;
        for (mut client, mut up) in streams {
            // A stream that fell is answered already, and its upstream is let go.
            let _ = up
                .try_send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nup")
                .await;
            let answer = client.answer().await;
            if answer.status == 503 {
                failed += 1;
            } else {
                assert_eq!((answer.status.as_u16(), answer.text()), (200, "up"));
                served += 1;
            }
        }
        eventually!(gateway.contexts("f") == 0, "no context is left");
    }
    let stats = gateway.filter("f");
    let (traps, deadlines, others) = failures(&stats);
    assert_eq!((traps, deadlines), (faulted, 0));
    assert_eq!(failed, faulted + others);
    assert_eq!(others > 0, collateral, "{others}");
    eventually!(
        gateway.guest_counter("logged") == served,
        "on_log of those that went well, and of no other"
    );
}

async fn failures_are_the_faulted_ones_and_those_of_their_vm(form: Form) {
    failures_are_faulted_plus_collateral(form, "", true).await;
}

async fn failures_beside_the_worker_are_counted_likewise(form: Form) {
    failures_are_faulted_plus_collateral(form, ", limits: {callTimeout: 1s}", true).await;
}

async fn with_request_isolation_failures_are_the_faulted_ones(form: Form) {
    failures_are_faulted_plus_collateral(form, ", vm: {isolation: Request}", false).await;
}

async fn with_request_isolation_beside_the_worker_too(form: Form) {
    let spec = ", vm: {isolation: Request}, limits: {callTimeout: 1s}";
    failures_are_faulted_plus_collateral(form, spec, false).await;
}

/// Both halves of the exchange hear of such a fault. (The component of these tests has no fault of this kind.)
#[tokio::test]
async fn a_fault_in_a_body_is_counted_once() {
    let upstream = Upstream::named("up").await;
    for spec in [
        "",
        ", vm: {isolation: Request}",
        ", limits: {callTimeout: 1s}",
        ", vm: {isolation: Request}, limits: {callTimeout: 1s}",
    ] {
        let gateway = gateway(Form::Module, &upstream, spec, "").await;
        for at in 1..=10 {
            assert_eq!(gateway.send(ask("a", "X-Late: 1\r\n")).await.status, 503);
            assert_eq!(gateway.send(ask("a", "X-Grow: 1\r\n")).await.status, 503);
            assert_eq!(failures(&gateway.filter("f")), (at, 0, 0), "{spec}");
            assert_eq!(gateway.send(ask("a", "")).await.text(), "up");
        }
        eventually!(gateway.contexts("f") == 0, "no context is left");
        assert_eq!(failures(&gateway.filter("f")), (10, 0, 0), "{spec}");
    }
}

async fn a_request_instance_remembers_nothing_and_is_counted_while_it_lives(form: Form) {
    let upstream = Upstream::named("up").await;
    let request = ", vm: {isolation: Request}";
    let gateway = gateway(form, &upstream, request, "").await;
    for at in 1..=5 {
        assert_eq!(gateway.send(ask("a", "")).await.header("x-count"), "1");
        let shared = gateway.send(ask("b", "")).await;
        assert_eq!(shared.header("x-count"), at.to_string());
    }
    let stats = gateway.filter("f");
    eventually!(
        (stats.contexts.load(Relaxed), stats.vms.load(Relaxed)) == (0, 0),
        "no instance is left"
    );
    assert_eq!(stats.memory_bytes.load(Relaxed), 0);
    assert!(stats.calls.load(Relaxed) >= 25);
    assert_eq!(gateway.guest_counter("logged"), 10);
}

on_both_forms! {
    a_worker_goes_on_while_a_long_call_runs_beside_it,
    long_calls_of_one_filter_run_side_by_side,
    a_client_that_leaves_during_a_long_call_costs_nobody_the_vm,
    three_deadlines_quarantine_a_filter_and_it_still_serves,
    eleven_traps_quarantine_a_filter_and_it_still_serves,
    failures_are_the_faulted_ones_and_those_of_their_vm,
    failures_beside_the_worker_are_counted_likewise,
    with_request_isolation_failures_are_the_faulted_ones,
    with_request_isolation_beside_the_worker_too,
    a_request_instance_remembers_nothing_and_is_counted_while_it_lives,
}
