//! Shared queues across workers: an item wakes its consumer wherever that lives.

use std::sync::atomic::Ordering;

use tidegate_testing::{Gateway, Upstream, eventually, guest, manifests};

/// Counts what it takes out of queue `q`, and apart from that what it did not put in itself.
const BOTH: &str = r#"
    (global $queue (mut i32) (i32.const 0)) (global $own (mut i32) (i32.const 0))
    (global $put (mut i32) (i32.const 0)) (global $taken (mut i32) (i32.const 0)) (global $crossed (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
      (drop (call $register @"q" (i32.const 32))) (global.set $queue (i32.load (i32.const 32)))
      (global.set $put (call $counter @"put")) (global.set $taken (call $counter @"taken"))
      (global.set $crossed (call $counter @"crossed"))
      (i32.const 1))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (if (i32.eqz (call $enqueue (global.get $queue) @"item"))
        (then (drop (call $increment (global.get $put) (i64.const 1)))
          (global.set $own (i32.add (global.get $own) (i32.const 1)))))
      (i32.const 0))
    (func (export "proxy_on_queue_ready") (param i32) (param $token i32)
      (if (i32.ne (local.get $token) (global.get $queue)) (then unreachable))
      (if (i32.eqz (call $dequeue (local.get $token) (i32.const 16) (i32.const 20)))
        (then (drop (call $increment (global.get $taken) (i64.const 1)))
          (if (global.get $own)
            (then (global.set $own (i32.sub (global.get $own) (i32.const 1))))
            (else (drop (call $increment (global.get $crossed) (i64.const 1))))))))"#;

const PRODUCER: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (if (call $resolve @"team" @"q" (i32.const 32)) (then (call $reply (i32.const 404) @"no queue"))
        (else (if (call $enqueue (i32.load (i32.const 32)) @"item") (then (call $reply (i32.const 500) @"refused")))))
      (i32.const 0))"#;

fn through(filter: &str, host: &str) -> String {
    manifests::route(
        filter,
        &[host],
        &manifests::rule(&manifests::filters(&[filter])),
    )
}

#[tokio::test]
async fn an_item_wakes_its_consumer_on_another_worker() {
    let up = Upstream::named("up").await;
    let manifest = format!(
        "{}{}{}{}",
        manifests::GATEWAY,
        manifests::service("up", &[up.address()]),
        manifests::filter("both", "both.wasm", ""),
        through("both", "a.test")
    );
    let gateway = Gateway::builder()
        .workers(2)
        .file("both.wasm", guest(BOTH))
        .start(&manifest)
        .await;
    // The kernel spreads connections over the workers; each makes its VM at its first request.
    eventually!(
        gateway.get("a.test", "/").await.status == 200
            && gateway.filter("both").vms.load(Ordering::Relaxed) == 2
            && gateway.guest_counter("crossed") > 0,
        "an item crosses from one worker to the other"
    );
    for _ in 0..30 {
        assert_eq!(gateway.get("a.test", "/").await.status, 200);
    }
    let put = gateway.guest_counter("put");
    eventually!(
        gateway.guest_counter("taken") == put,
        "each of {put} items is told of"
    );
    assert_eq!(gateway.filter("both").traps.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn filters_with_one_vm_id_share_queues() {
    let up = Upstream::named("up").await;
    let team = ", vm: {id: team}";
    let manifest = format!(
        "{}{}{}{}{}{}",
        manifests::GATEWAY,
        manifests::service("up", &[up.address()]),
        manifests::filter("both", "both.wasm", team),
        manifests::filter("producer", "producer.wasm", ""),
        through("both", "consumer.test"),
        through("producer", "producer.test"),
    );
    let gateway = Gateway::builder()
        .workers(2)
        .file("both.wasm", guest(BOTH))
        .file("producer.wasm", guest(PRODUCER))
        .start(&manifest)
        .await;
    // A consumer's VM is there by then, and an item of its own is the first.
    assert_eq!(gateway.get("consumer.test", "/").await.status, 200);
    eventually!(gateway.guest_counter("taken") == 1, "its own");
    for _ in 0..20 {
        assert_eq!(gateway.get("producer.test", "/").await.status, 200);
    }
    eventually!(
        gateway.guest_counter("taken") == 21,
        "each item is told of, from whichever worker"
    );
    for filter in ["both", "producer"] {
        assert_eq!(gateway.filter(filter).traps.load(Ordering::Relaxed), 0);
    }
}
