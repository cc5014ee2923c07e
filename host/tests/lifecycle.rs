//! The life of a VM, sentence by sentence: which filters meet in one, how long it lives, and what is left when it goes.
//! What takes a [`Form`] is run on a module and on a component.
//!
//! | What is promised | Held to it by |
//! |---|---|
//! | an engine is made when the first filter appears | `tidegate-modules`: `an_engine_is_made_for_the_first_filter` |
//! | compiling off the data threads, bounded, once for each digest; a snapshot once for each configuration | `tidegate-modules`: `limits`, `equal_modules_are_compiled_once…`, `the_code_of_a_snapshot_outlives_the_process` |
//! | one VM for a key; each part of the key parts filters; a new key makes a new VM | [`equal_keys_share_a_vm_and_each_part_of_a_key_parts_them`] |
//! | a new configuration is a new root context in the living VM, and neighbours are left alone | the same, [`streams_end_where_they_began`] |
//! | nothing crosses a namespace | [`nothing_crosses_a_namespace`], `tidegate-wasm`: `scopes_follow_namespace…`, `memory_of_a_namespace_is_capped` |
//! | a slow configuration gets a VM of its own, beside the worker | `births`: `a_slow_start_stalls_nobody_and_fails_nobody` |
//! | made on first use, ended when idle; not those with a tick, a queue or a call, which run before any request | `births`: `idle_vms_end…`; [`a_call_of_the_configuration_goes_out_before_any_request`], [`ticks_run_for_each_root_context_on_each_worker`], `queues` |
//! | hostcalls do not block; costly ones have caps | `http_calls`, `grpc_calls`; `tidegate-wasm`: `results_are_capped_and_charged`, `caps` |
//! | a deadline is CPU time, not time on the wall, in every callback | `tidegate-wasm`: `a_deadline_ends_every_callback`, `cpu_time_counts_and_not_the_clock_on_the_wall` |
//! | the ticker sleeps while nothing is in flight | `tidegate-wasm`: `rests_when_nothing_runs_and_wakes_on_entry` |
//! | long calls run beside the workers; so many wait, no more | `isolation`: `a_worker_goes_on…`, `long_calls_of_one_filter…`; [`calls_beyond_those_that_may_wait_fail_by_policy`] |
//! | three deadlines in a minute, eleven traps in ten seconds: quarantine; ten clean minutes: back | `isolation`: `three_deadlines…`, `eleven_traps…`; [`a_quarantined_filter_comes_back_after_ten_clean_minutes`], [`the_page_of_filters_says_quarantined`] |
//! | a failure takes the VM and its streams along: by policy, counted, without `on_log`; on that worker and key only | `failures`, `isolation`: `failures_are_…`; [`collateral_stays_on_its_worker`] |
//! | with `Request` failures are the faulted ones | `isolation`: `with_request_isolation_…` |
//! | failures to load, start and configure are tried again, last good kept | `tidegate-modules`: `loader`; [`a_version_that_does_not_start_leaves_its_place_to_the_one_before`], [`a_filter_that_does_not_start_is_tried_again`] |
//! | a new version builds first; streams end where they began; old VMs go with their last stream; counters survive | [`streams_end_where_they_began`], `births`: `a_thousand_swaps…` |
//! | ticks, queues beside instances; so many instances, no more; nothing is left | `births`: `ticks_run_beside_request_instances`; [`instances_beyond_the_cap_fail_by_policy`]; `tidegate-wasm`: `snapshot` |
//! | trying a version out leaves no trace | `tidegate-modules`: `trying_out_leaves_no_trace` |
//! | shadow mode | `shadow` |

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tidegate_testing::{Gateway, Listener, Port, Process, Upstream, Wire, eventually, manifests};
use tokio::time::Instant;

use crate::components::{Form, on_both_forms};

/// `x-count` of a response tells how many requests its VM has seen, `x-version` the first byte of the configuration of the root
/// context in which the stream began. `x-break` makes its like refuse every configuration from then on, `x-mend` no longer.
pub(crate) const LIVES: &str = r#"
    (global $count (mut i32) (i32.const 0))
    (func (export "proxy_on_context_create") (param $id i32) (param $root i32)
      (i32.store (i32.add (i32.const 600000) (i32.shl (local.get $id) (i32.const 2))) (local.get $root)))
    (func (export "proxy_on_configure") (param $id i32) (param $size i32) (result i32)
      (if (local.get $size)
        (then
          (drop (call $read (i32.const 7) (i32.const 0) (i32.const 1) (i32.const 16) (i32.const 20)))
          (i32.store8 (i32.add (i32.const 620000) (local.get $id)) (i32.load8_u (i32.load (i32.const 16))))))
      (if (i32.eqz (call $shared @"broken" (i32.const 16) (i32.const 20) (i32.const 24)))
        (then (return (i32.ne (i32.load8_u (i32.load (i32.const 16))) (i32.const 0x31)))))
      (i32.const 1))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (drop (call $increment (call $counter @"requests") (i64.const 1)))
      (if (call $has (i32.const 0) @"x-break") (then (drop (call $share @"broken" @"1" (i32.const 0)))))
      (if (call $has (i32.const 0) @"x-mend") (then (drop (call $share @"broken" @"0" (i32.const 0)))))
      (if (call $has (i32.const 0) @"x-trap") (then (unreachable)))
      (if (call $has (i32.const 0) @"x-loop") (then (loop $for-ever (br $for-ever))))
      (i32.const 0))
    (func (export "proxy_on_response_headers") (param $id i32) (param i32 i32) (result i32)
      (call $set (i32.const 2) @"x-stamp" @"STAMP")
      (i32.store8 (i32.const 40) (i32.add (i32.const 48) (global.get $count)))
      (call $set (i32.const 2) @"x-count" (i32.const 40) (i32.const 1))
      (call $set (i32.const 2) @"x-version"
        (i32.add (i32.const 620000)
          (i32.load (i32.add (i32.const 600000) (i32.shl (local.get $id) (i32.const 2)))))
        (i32.const 1))
      (i32.const 0))"#;

/// Hosts `f` and `g` past the filters of that name; each with its module's file and more of its spec.
fn manifest(upstream: SocketAddr, f: (&str, &str), g: (&str, &str)) -> String {
    let mut text = manifests::GATEWAY.to_owned() + &manifests::service("up", &[upstream]);
    for (name, (file, spec)) in [("f", f), ("g", g)] {
        let rule = manifests::rule(&manifests::filters(&[name]));
        text += &manifests::filter(name, file, spec);
        text += &manifests::route(name, &[name], &rule);
    }
    text
}

async fn serving(form: Form, builder: tidegate_testing::Builder, manifest: &str) -> Gateway {
    builder
        .file("f.wasm", form.guest(LIVES))
        .file("other.wasm", form.stamped(LIVES, "other"))
        .start(manifest)
        .await
}

fn ask(host: &str, field: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n{field}Connection: close\r\n\r\n")
}

async fn count(gateway: &Gateway, host: &str) -> String {
    let answer = gateway.get(host, "/").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("x-count").to_owned()
}

async fn equal_keys_share_a_vm_and_each_part_of_a_key_parts_them(form: Form) {
    let upstream = Upstream::named("up").await;
    let version = |f, g| manifest(upstream.address(), f, g);
    let plain = ("f.wasm", ", config: a");
    let gateway = serving(
        form,
        Gateway::builder(),
        &version(plain, ("f.wasm", ", config: b")),
    )
    .await;
    assert_eq!(count(&gateway, "f").await, "1");
    let of_g = gateway.get("g", "/").await;
    assert_eq!(
        (of_g.header("x-count"), of_g.header("x-version")),
        ("2", "b")
    );
    for (at, g) in [
        ("other.wasm", ""),
        ("f.wasm", ", vm: {id: x}"),
        ("f.wasm", ", vm: {config: x}"),
        ("f.wasm", ", vm: {env: {K: v}}"),
        ("f.wasm", ", vm: {isolation: Dedicated}"),
        ("f.wasm", ", limits: {calls: 999}"),
    ]
    .into_iter()
    .enumerate()
    {
        gateway.write("test.yaml", &version(plain, g)).await;
        assert_eq!(count(&gateway, "g").await, "1", "{g:?}");
        // The neighbour's edit has left this one alone.
        assert_eq!(count(&gateway, "f").await, (at + 3).to_string(), "{g:?}");
    }
    // A new configuration moves into the living VM, a new key makes a new one.
    let g = ("f.wasm", "");
    let edited = version(("f.wasm", ", config: c"), g);
    gateway.write("test.yaml", &edited).await;
    let answer = gateway.get("f", "/").await;
    assert_eq!(
        (answer.header("x-count"), answer.header("x-version")),
        ("9", "c")
    );
    let limited = version(("f.wasm", ", config: c, limits: {memory: 32Mi}"), g);
    gateway.write("test.yaml", &limited).await;
    assert_eq!(count(&gateway, "f").await, "1");
}

async fn nothing_crosses_a_namespace(form: Form) {
    let upstream = Upstream::named("up").await;
    let team = ("f.wasm", ", vm: {id: team}");
    let here = manifest(upstream.address(), team, team).replace(
        "protocol: HTTP}",
        "protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}",
    );
    // The same, to the `vm.id`, for another tenant.
    let there: String = here
        .split_inclusive("---\n")
        .filter(|document| !document.contains("kind: Gateway\n"))
        .collect();
    let there = there
        .replace("metadata: {name: ", "metadata: {namespace: other, name: ")
        .replace("metadata:\n", "metadata:\n  namespace: other\n")
        .replace(
            "parentRefs: [{name: test}]",
            "parentRefs: [{name: test, namespace: default}]",
        )
        .replace("hostnames: [\"", "hostnames: [\"other-");
    assert!(there.contains("namespace: other, name: f}") && there.contains("other-f"));
    let gateway = serving(form, Gateway::builder(), &format!("{here}---\n{there}")).await;
    assert_eq!(count(&gateway, "f").await, "1");
    assert_eq!(count(&gateway, "g").await, "2", "one key");
    assert_eq!(count(&gateway, "other-f").await, "1", "another VM");
    // What one tenant breaks, the other cannot even read.
    assert_eq!(gateway.send(ask("f", "X-Break: 1\r\n")).await.status, 200);
    let broken = format!("{here}---\n{there}").replace("{id: team}}", "{id: team}, config: x}");
    gateway.write("test.yaml", &broken).await;
    for (host, version) in [("f", ""), ("g", ""), ("other-f", "x"), ("other-g", "x")] {
        let answer = gateway.get(host, "/").await;
        let said = (answer.status.as_u16(), answer.header("x-version"));
        assert_eq!(said, (200, version), "{host}");
    }
    assert_eq!(gateway.shared().bytes("other"), 0);
    assert!(gateway.shared().bytes("default") > 0);
    let samples = gateway.shared().metrics();
    let of = |namespace: &str| {
        samples
            .iter()
            .filter(|s| *s.namespace == *namespace && s.name == "requests")
            .count()
    };
    assert_eq!((of("default"), of("other")), (1, 1), "series of each");
}

/// A request on the way to its upstream.
async fn in_flight(gateway: &Gateway, upstream: &Listener, host: &str) -> (Wire, Wire) {
    let mut client = gateway.connect().await;
    client.send(ask(host, "")).await;
    let mut wire = upstream.accept().await;
    wire.head().await;
    (client, wire)
}

async fn answered((mut client, mut upstream): (Wire, Wire)) -> tidegate_testing::Answer {
    // A stream that fell is answered already, and its upstream is let go.
    let _ = upstream
        .try_send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nup")
        .await;
    client.answer().await
}

async fn streams_end_where_they_began(form: Form) {
    let upstream = Listener::bind().await;
    let version = |f| manifest(upstream.address(), f, ("f.wasm", ", vm: {id: g}"));
    let gateway = serving(
        form,
        Gateway::builder(),
        &version(("f.wasm", ", config: a, vm: {id: f}")),
    )
    .await;
    let first = in_flight(&gateway, &upstream, "f").await;
    // Another configuration in the same VM, then another module in a VM of its own.
    gateway
        .write(
            "test.yaml",
            &version(("f.wasm", ", config: b, vm: {id: f}")),
        )
        .await;
    let second = in_flight(&gateway, &upstream, "f").await;
    gateway
        .write(
            "test.yaml",
            &version(("other.wasm", ", config: c, vm: {id: f}")),
        )
        .await;
    let third = in_flight(&gateway, &upstream, "f").await;
    let stats = gateway.filter("f");
    assert_eq!(
        stats.vms.load(Relaxed),
        3,
        "three root contexts, in two VMs"
    );
    for (stream, version, seen, left) in [
        (first, "a", "2", 2),
        (second, "b", "2", 1),
        (third, "c", "1", 1),
    ] {
        let answer = answered(stream).await;
        assert_eq!(
            (
                answer.text(),
                answer.header("x-version"),
                answer.header("x-count")
            ),
            ("up", version, seen)
        );
        eventually!(
            stats.vms.load(Relaxed) == left,
            "what {version} lived in goes with its last stream"
        );
    }
    assert_eq!(
        gateway.guest_counter("requests"),
        3,
        "one series over all versions"
    );
    eventually!(gateway.contexts("f") == 0, "no context is left");
}

async fn a_call_of_the_configuration_goes_out_before_any_request(form: Form) {
    let there = Upstream::named("there").await;
    let calls = r#"
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.eqz (call $ask @"there")))
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
          (drop (call $increment (call $counter @"answered") (i64.const 1))))"#;
    let spec = ", config: call, clusters: [{name: there, backendRef: {name: up, port: 80}}]";
    let gateway = Gateway::builder()
        .file("f.wasm", form.guest(calls))
        .start(&manifests::past(there.address(), &["f"], spec))
        .await;
    eventually!(gateway.guest_counter("answered") == 1, "it was made");
    // Trying the filter out has made none.
    assert_eq!(there.count(), 1);
    assert_eq!(gateway.filter("f").streams.load(Relaxed), 0);
}

async fn ticks_run_for_each_root_context_on_each_worker(form: Form) {
    let once = r#"
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $tick (i32.const 5))) (i32.const 1))
        (func (export "proxy_on_tick") (param i32)
          (drop (call $tick (i32.const 0)))
          (drop (call $increment (call $counter @"ticks") (i64.const 1))))"#;
    let upstream = Upstream::named("up").await;
    let both = ("f.wasm", ", config: tick");
    let gateway = Gateway::builder()
        .workers(2)
        .file("f.wasm", form.guest(once))
        .start(&manifest(upstream.address(), both, both))
        .await;
    eventually!(
        gateway.guest_counter("ticks") == 4,
        "two filters on two workers, {} ticks",
        gateway.guest_counter("ticks")
    );
    for _ in 0..20 {
        assert_eq!(gateway.get("f", "/").await.text(), "up");
    }
    assert_eq!(
        gateway.guest_counter("ticks"),
        4,
        "each has stopped its own"
    );
}

async fn a_version_that_does_not_start_leaves_its_place_to_the_one_before(form: Form) {
    let upstream = Upstream::named("up").await;
    let team = |config: &str| format!(", config: {config}, vm: {{id: team}}");
    let g = team("g");
    let version = |config: &str| {
        manifest(
            upstream.address(),
            ("f.wasm", &team(config)),
            ("f.wasm", &g),
        )
    };
    let gateway = serving(form, Gateway::builder(), &version("a")).await;
    let said = async || {
        let answer = gateway.get("f", "/").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.header("x-version").to_owned()
    };
    assert_eq!(said().await, "a");
    // It was tried out with success, and does not start when a request comes.
    gateway.write("test.yaml", &version("b")).await;
    assert_eq!(gateway.send(ask("g", "X-Break: 1\r\n")).await.status, 200);
    for _ in 0..3 {
        assert_eq!(said().await, "a", "the version before serves meanwhile");
    }
    let error = gateway
        .filter("f")
        .last_error
        .lock()
        .expect("no panic")
        .clone();
    assert!(error.is_some_and(|error| error.contains("refused its configuration")));
    assert_eq!(gateway.send(ask("g", "X-Mend: 1\r\n")).await.status, 200);
    eventually!(said().await == "b", "it is tried again");
    eventually!(
        gateway.filter("f").vms.load(Relaxed) == 1,
        "and the one before is gone"
    );
}

async fn a_filter_that_does_not_start_is_tried_again(form: Form) {
    let upstream = Upstream::named("up").await;
    for (policy, status) in [("Closed", 503), ("Open", 200)] {
        let spec =
            format!(", config: a, vm: {{id: team}}, failurePolicyByCause: {{configure: {policy}}}");
        let g = ("f.wasm", ", vm: {id: team}");
        let text = manifest(upstream.address(), ("f.wasm", &spec), g);
        let gateway = serving(form, Gateway::builder(), &text).await;
        assert_eq!(gateway.send(ask("g", "X-Break: 1\r\n")).await.status, 200);
        let answer = gateway.get("f", "/").await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-version")),
            (status, ""),
            "there is no version before"
        );
        assert_eq!(gateway.send(ask("g", "X-Mend: 1\r\n")).await.status, 200);
        eventually!(
            gateway.get("f", "/").await.header("x-version") == "a",
            "{policy}: it starts at last"
        );
    }
}

async fn collateral_stays_on_its_worker(form: Form) {
    let upstream = Listener::bind().await;
    let both = ("f.wasm", "");
    let text = manifest(upstream.address(), both, both);
    let gateway = serving(form, Gateway::builder().workers(2), &text).await;
    // The kernel spreads connections over the workers.
    let mut streams = Vec::new();
    while streams.len() < 24 || gateway.filter("f").vms.load(Relaxed) < 2 {
        streams.push(in_flight(&gateway, &upstream, "f").await);
    }
    assert_eq!(gateway.send(ask("f", "X-Trap: 1\r\n")).await.status, 503);
    let all = streams.len();
    let mut fell = 0;
    for stream in streams {
        let answer = answered(stream).await;
        match answer.status.as_u16() {
            503 => fell += 1,
            _ => assert_eq!(
                (answer.text(), answer.header("x-count").is_empty()),
                ("up", false)
            ),
        }
    }
    assert!(0 < fell && fell < all, "the other worker's VM lives");
    let stats = gateway.filter("f");
    let counted = (stats.traps.load(Relaxed), stats.collateral.load(Relaxed));
    assert_eq!(counted, (1, fell as u64));
    eventually!(gateway.contexts("f") == 0, "no context is left");
}

async fn instances_beyond_the_cap_fail_by_policy(form: Form) {
    let upstream = Listener::bind().await;
    let request = "vm: {isolation: Request}";
    let text = manifest(
        upstream.address(),
        ("f.wasm", &format!(", {request}")),
        (
            "f.wasm",
            &format!(", {request}, failurePolicyByCause: {{memory: Open}}"),
        ),
    );
    let gateway = serving(form, Gateway::builder().instances(2), &text).await;
    let one = in_flight(&gateway, &upstream, "f").await;
    let two = in_flight(&gateway, &upstream, "f").await;
    assert_eq!(gateway.get("f", "/").await.status, 503);
    // Each filter has instances of its own.
    let other = in_flight(&gateway, &upstream, "g").await;
    assert_eq!(answered(one).await.header("x-count"), "1");
    eventually!(gateway.contexts("f") == 1, "its instance is free");
    let three = in_flight(&gateway, &upstream, "f").await;
    for stream in [two, three, other] {
        let answer = answered(stream).await;
        assert_eq!((answer.text(), answer.header("x-count")), ("up", "1"));
    }
    // Where the policy says so, a request passes without its filter.
    eventually!(gateway.contexts("g") == 0, "both instances are free");
    let first = in_flight(&gateway, &upstream, "g").await;
    let second = in_flight(&gateway, &upstream, "g").await;
    let unfiltered = in_flight(&gateway, &upstream, "g").await;
    let answer = answered(unfiltered).await;
    assert_eq!((answer.text(), answer.header("x-count")), ("up", ""));
    for stream in [first, second] {
        assert_eq!(answered(stream).await.header("x-count"), "1");
    }
    let stats = gateway.filter("f");
    let failures = [&stats.traps, &stats.deadlines, &stats.collateral];
    assert!(failures.iter().all(|count| count.load(Relaxed) == 0));
    eventually!(gateway.contexts("f") == 0, "no context is left");
}

/// `x-wait` makes it spin until somebody has sent `x-go` to the same shared data.
const HOLDS: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (if (call $has (i32.const 0) @"x-go") (then (drop (call $share @"go" @"1" (i32.const 0)))))
      (if (call $has (i32.const 0) @"x-wait")
        (then
          (drop (call $share @"spins" @"1" (i32.const 0)))
          (loop $again (br_if $again (call $shared @"go" (i32.const 16) (i32.const 20) (i32.const 24))))))
      (i32.const 0))"#;

async fn calls_beyond_those_that_may_wait_fail_by_policy(form: Form) {
    let upstream = Upstream::named("up").await;
    let long = ("f.wasm", ", limits: {callTimeout: 60s}, vm: {id: team}");
    let gateway = Gateway::builder()
        .limits(|limits| limits.waiting_calls = 1)
        .file("f.wasm", form.guest(HOLDS))
        .start(&manifest(
            upstream.address(),
            long,
            ("f.wasm", ", vm: {id: team}"),
        ))
        .await;
    let wait = async || {
        let mut client = gateway.connect().await;
        client.send(ask("f", "X-Wait: 1\r\n")).await;
        client
    };
    let mut first = wait().await;
    eventually!(gateway.shared().bytes("default") > 0, "it spins");
    // In each VM beside the worker one may run and one wait.
    let side = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let mut waiting = Vec::new();
    for _ in 0..side * 2 + 3 {
        waiting.push(wait().await);
    }
    let refused = || {
        let log = gateway.log();
        log.iter()
            .filter(|line| line["response_code"] == 503)
            .count()
    };
    eventually!(refused() >= 3, "too many wait");
    assert_eq!(gateway.send(ask("g", "X-Go: 1\r\n")).await.text(), "up");
    assert_eq!(first.answer().await.text(), "up", "what ran is served");
    for mut client in waiting {
        let status = client.answer().await.status.as_u16();
        assert!(matches!(status, 200 | 503), "{status}");
    }
    eventually!(gateway.contexts("f") == 0, "no context is left");
    let stats = gateway.filter("f");
    assert_eq!(
        (stats.traps.load(Relaxed), stats.deadlines.load(Relaxed)),
        (0, 0)
    );
}

async fn a_quarantined_filter_comes_back_after_ten_clean_minutes(form: Form) {
    let upstream = Upstream::named("up").await;
    let both = ("f.wasm", ", vm: {isolation: Dedicated}");
    let gateway = serving(
        form,
        Gateway::builder(),
        &manifest(upstream.address(), both, both),
    )
    .await;
    let stats = gateway.filter("f");
    for round in 0..2 {
        for _ in 0..3 {
            assert!(!stats.is_quarantined(), "{round}");
            assert_eq!(gateway.send(ask("f", "X-Loop: 1\r\n")).await.status, 503);
        }
        let fell = Instant::now();
        assert!(stats.is_quarantined());
        assert_eq!(count(&gateway, "f").await, "1", "a VM beside the worker");
        assert_eq!(count(&gateway, "f").await, "2");
        // The workers ask once a second; this is what they would ask then.
        assert!(!stats.look(fell + Duration::from_secs(590)) && stats.is_quarantined());
        assert!(stats.look(fell + Duration::from_secs(600)) && !stats.is_quarantined());
        assert_eq!(count(&gateway, "f").await, "1", "one on the worker again");
        eventually!(stats.vms.load(Relaxed) == 1, "the one beside has gone");
    }
    assert_eq!(stats.deadlines.load(Relaxed), 6);
    assert_eq!(
        gateway.filter("g").vms.load(Relaxed),
        0,
        "it was never asked"
    );
}

async fn the_page_of_filters_says_quarantined(form: Form) {
    let folder = tempfile::tempdir().expect("a folder");
    let (upstream, port) = (Upstream::named("up").await, Port::reserve());
    let both = ("f.wasm", ", vm: {isolation: Dedicated}");
    let text = manifest(upstream.address(), both, both);
    std::fs::write(folder.path().join("f.wasm"), form.guest(LIVES)).expect("written");
    std::fs::write(folder.path().join("all.yaml"), text).expect("written");
    let map = format!("80:{}", port.number());
    let process = Process::serve(
        env!("CARGO_BIN_EXE_tidegate"),
        &[
            "--manifests",
            folder.path().to_str().expect("a path"),
            "--port-map",
            &map,
        ],
    )
    .await;
    let state = async |name: &str| {
        let page: serde_json::Value = process.admin("/filters").await.json();
        let rows = page.as_array().expect("rows").clone();
        let row = rows.into_iter().find(|row| row["name"] == *name);
        row.expect("a row")["state"].clone()
    };
    for _ in 0..3 {
        assert_eq!(state("f").await, "Ready");
        let mut client = Wire::connect(port.address()).await;
        client.send(ask("f", "X-Loop: 1\r\n")).await;
        assert_eq!(client.answer().await.status, 503);
    }
    assert_eq!(state("f").await, "Quarantined");
    assert_eq!(state("g").await, "Ready");
}

async fn the_page_of_filters_tells_what_is_wrong_with_a_newer_version(form: Form) {
    let folder = tempfile::tempdir().expect("a folder");
    let (upstream, port) = (Upstream::named("up").await, Port::reserve());
    let module = |bytes: &[u8]| {
        let draft = folder.path().join(".f.wasm");
        std::fs::write(&draft, bytes).expect("written");
        std::fs::rename(draft, folder.path().join("f.wasm")).expect("renamed");
    };
    module(&form.guest(LIVES));
    let text = manifests::past(upstream.address(), &["f"], "");
    std::fs::write(folder.path().join("all.yaml"), text).expect("written");
    let map = format!("80:{}", port.number());
    let process = Process::serve(
        env!("CARGO_BIN_EXE_tidegate"),
        &[
            "--manifests",
            folder.path().to_str().expect("a path"),
            "--port-map",
            &map,
        ],
    )
    .await;
    let row = async || process.admin("/filters").await.json()[0].clone();
    let good = row().await;
    assert_eq!(good["state"], "Ready");
    assert!(good["lastError"].is_null(), "{good}");
    module(b"garbage");
    eventually!(!row().await["lastError"].is_null(), "it is told");
    let kept = row().await;
    assert_eq!(kept["state"], "Ready", "the one before serves");
    assert_eq!(kept["digest"], good["digest"]);
    module(&form.guest(LIVES));
    eventually!(row().await["lastError"].is_null(), "it is over");
}

on_both_forms! {
    equal_keys_share_a_vm_and_each_part_of_a_key_parts_them,
    nothing_crosses_a_namespace,
    streams_end_where_they_began,
    a_call_of_the_configuration_goes_out_before_any_request,
    ticks_run_for_each_root_context_on_each_worker,
    a_version_that_does_not_start_leaves_its_place_to_the_one_before,
    a_filter_that_does_not_start_is_tried_again,
    collateral_stays_on_its_worker,
    instances_beyond_the_cap_fail_by_policy,
    calls_beyond_those_that_may_wait_fail_by_policy,
    a_quarantined_filter_comes_back_after_ten_clean_minutes,
    the_page_of_filters_says_quarantined,
    the_page_of_filters_tells_what_is_wrong_with_a_newer_version,
}
