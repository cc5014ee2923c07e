//! How VMs come and go: births that take long, VMs that nobody uses, versions that follow each other.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use tidegate_testing::{Gateway, Upstream, eventually, guest, manifests};

/// Takes some hundred million steps to configure; traps on request.
const SLOW: &str = r#"
    (func (export "proxy_on_configure") (param i32 i32) (result i32) (local $left i32)
      (local.set $left (i32.const 300000000))
      (loop $more
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $more (local.get $left)))
      (i32.const 1))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (if (call $has (i32.const 0) @"x-trap") (then (unreachable)))
      (i32.const 0))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
      (call $set (i32.const 2) @"x-filtered" @"1") (i32.const 0))"#;

fn manifest(upstream: SocketAddr, filters: &[(&str, &str)]) -> String {
    let mut text = manifests::GATEWAY.to_owned() + &manifests::service("up", &[upstream]);
    for (name, spec) in filters {
        let rule = manifests::rule(&manifests::filters(&[name]));
        text += &manifests::filter(name, "f.wasm", spec);
        text += &manifests::route(name, &[name], &rule);
    }
    text + &manifests::route("plain", &["plain"], &manifests::rule(""))
}

#[tokio::test]
async fn a_slow_start_stalls_nobody_and_fails_nobody() {
    let upstream = Upstream::named("up").await;
    let spec = ", limits: {startTimeout: 60s}";
    let gateway = Gateway::builder()
        .file("f.wasm", guest(SLOW))
        .start(&manifest(upstream.address(), &[("f", spec), ("g", spec)]))
        .await;
    for _ in 0..2 {
        let (one, two, other, plain) = tokio::join!(
            gateway.get("f", "/"),
            gateway.get("f", "/"),
            gateway.get("g", "/"),
            gateway.get("plain", "/")
        );
        for answer in [one, two, other] {
            assert_eq!((answer.text(), answer.header("x-filtered")), ("up", "1"));
        }
        assert_eq!(plain.text(), "up");
        let trapped = gateway
            .send("GET / HTTP/1.1\r\nHost: f\r\nX-Trap: 1\r\nConnection: close\r\n\r\n")
            .await;
        assert_eq!(trapped.status, 503);
    }
    let stats = gateway.filter("f");
    assert_eq!(
        (
            stats.deadlines.load(Relaxed),
            stats.traps.load(Relaxed),
            gateway.filter("g").collateral.load(Relaxed)
        ),
        (0, 2, 0),
        "configuring may take its time, and each has a VM of its own"
    );
}

/// Counts its requests in shared data, four bytes.
const COUNTS: &str = r#"
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
      (if (i32.eq (local.get 1) (i32.const 5)) (then (drop (call $tick (i32.const 5)))))
      (i32.const 1))
    (func (export "proxy_on_tick") (param i32)
      (drop (call $increment (call $counter @"ticks") (i64.const 1))))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (i32.store (i32.const 40) (i32.const 0))
      (if (i32.eqz (call $shared @"n" (i32.const 16) (i32.const 20) (i32.const 24)))
        (then (i32.store (i32.const 40) (i32.load (i32.load (i32.const 16))))))
      (i32.store (i32.const 40) (i32.add (i32.load (i32.const 40)) (i32.const 1)))
      (drop (call $share @"n" (i32.const 40) (i32.const 4) (i32.const 0)))
      (if (i32.eq (i32.load (i32.const 40)) (i32.const 1001)) (then (call $reply (i32.const 429) @"enough")))
      (i32.const 0))"#;

#[tokio::test]
async fn a_thousand_swaps_leave_nothing_behind_but_the_counters() {
    let upstream = Upstream::named("up").await;
    let version = |n: usize| {
        manifest(
            upstream.address(),
            &[("f", &format!(", config: version-{n}"))],
        )
    };
    let gateway = Gateway::builder()
        .file("f.wasm", guest(COUNTS))
        .start(&version(0))
        .await;
    let stats = gateway.filter("f");
    assert_eq!(gateway.get("f", "/").await.status, 200);
    eventually!(stats.memory_bytes.load(Relaxed) > 0, "it is measured");
    let level = || {
        let (vms, contexts) = (stats.vms.load(Relaxed), stats.contexts.load(Relaxed));
        let shared = gateway.shared().bytes("default");
        let guests = gateway.shared().memory("default");
        (
            vms,
            contexts,
            stats.memory_bytes.load(Relaxed),
            shared,
            guests,
        )
    };
    eventually!(level().1 == 0, "no context is left");
    let before = level();
    for at in 1..1000 {
        gateway.write("test.yaml", &version(at)).await;
        assert_eq!(gateway.get("f", "/").await.status, 200, "{at}");
    }
    eventually!(level() == before, "{before:?} it was, {:?} it is", level());
    assert_eq!(
        gateway.get("f", "/").await.status,
        429,
        "a thousand were counted, over a thousand versions"
    );
    // What is gone leaves nothing at all.
    gateway
        .write("test.yaml", &manifest(upstream.address(), &[]))
        .await;
    eventually!(
        level() == (0, 0, 0, 0, 0),
        "nothing is left of a filter that is gone"
    );
}

#[tokio::test]
async fn idle_vms_end_where_there_are_many_and_those_with_ticks_stay() {
    let upstream = Upstream::named("up").await;
    let names: Vec<String> = (0..8).map(|at| format!("f{at}")).collect();
    let dedicated = ", vm: {isolation: Dedicated}";
    let filters: Vec<(&str, &str)> = names
        .iter()
        .map(|name| (name.as_str(), dedicated))
        .chain([("ticks", ", config: ticks, vm: {isolation: Dedicated}")])
        .collect();
    let gateway = Gateway::builder()
        .limits(|limits| limits.vms = 3)
        .file("f.wasm", guest(COUNTS))
        .start(&manifest(upstream.address(), &filters))
        .await;
    eventually!(
        gateway.guest_counter("ticks") > 1,
        "a filter with a tick runs before any request"
    );
    let vms = || -> i64 {
        let each = names
            .iter()
            .map(|name| gateway.filter(name).vms.load(Relaxed));
        each.sum()
    };
    assert_eq!(vms(), 0, "the others are made on first use");
    for name in &names {
        assert_eq!(gateway.get(name, "/").await.status, 200);
    }
    eventually!(vms() == 2, "idle ones end, down to the bound");
    assert_eq!(gateway.filter("ticks").vms.load(Relaxed), 1);
    for name in &names {
        assert_eq!(gateway.get(name, "/").await.status, 200, "they come back");
    }
}

#[tokio::test]
async fn ticks_run_beside_request_instances() {
    let upstream = Upstream::named("up").await;
    let spec = ", config: ticks, vm: {isolation: Request}";
    let gateway = Gateway::builder()
        .file("f.wasm", guest(COUNTS))
        .start(&manifest(upstream.address(), &[("f", spec)]))
        .await;
    eventually!(gateway.guest_counter("ticks") > 1, "its VM beside ticks");
    for _ in 0..3 {
        assert_eq!(gateway.get("f", "/").await.status, 200);
    }
    let stats = gateway.filter("f");
    eventually!(
        (stats.vms.load(Relaxed), stats.contexts.load(Relaxed)) == (1, 0),
        "the VM beside is the only one left"
    );
    let before = gateway.guest_counter("ticks");
    eventually!(gateway.guest_counter("ticks") > before, "it goes on");
}
