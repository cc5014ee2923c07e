//! Shared data, queues and metrics through hostcalls, between VMs.

use std::sync::Arc;

use super::guest::{Arg, Guest, Running, exchange, plugin, vm_config};
use crate::vm::Vm;
use crate::{Effect, MetricValue, Shared, VmConfig};
use Arg::{Bytes, Int, Out, Result};

const ON_REQUEST: &str = "proxy_on_request_headers";

/// The same guest in another VM beside `shared`.
fn beside(guest: &Guest, shared: &Arc<Shared>, config: VmConfig) -> Running {
    let mut vm = Vm::start(
        &guest.module().unwrap(),
        Arc::new(config),
        Arc::clone(shared),
    )
    .unwrap();
    let root = vm.add_root(Arc::new(plugin())).unwrap();
    let stream = vm.create_stream(root).unwrap();
    vm.attach(stream, Box::new(exchange()));
    Running { vm, root, stream }
}

#[test]
fn data_with_compare_and_swap_between_vms() {
    let mut guest = Guest::new();
    let (get, set) = ("proxy_get_shared_data", "proxy_set_shared_data");
    let absent = guest.call(ON_REQUEST, get, &[Bytes(b"k"), Out, Out, Out]);
    let new = guest.call(ON_REQUEST, set, &[Bytes(b"k"), Bytes(b"1"), Int(0)]);
    let first = guest.call(ON_REQUEST, get, &[Bytes(b"k"), Out, Out, Out]);
    let stale = guest.call(ON_REQUEST, set, &[Bytes(b"k"), Bytes(b"2"), Int(999)]);
    let read = guest.call("proxy_on_tick", get, &[Bytes(b"k"), Out, Out, Out]);
    let swap = guest.call("proxy_on_tick", set, &[Bytes(b"k"), Bytes(b"3"), Int(1)]);
    let empty = guest.call("proxy_on_tick", set, &[Bytes(b"e"), Bytes(b""), Int(0)]);
    let read_empty = guest.call("proxy_on_tick", get, &[Bytes(b"e"), Out, Out, Out]);
    let shared = Shared::new();
    let mut one = beside(&guest, &shared, vm_config());
    one.request_headers();
    assert_eq!(
        [&absent, &new, &first, &stale].map(|call| one.status(call)),
        [1, 0, 0, 8]
    );
    assert_eq!(
        (one.text(&first), one.out(&first, 2)),
        (Ok("1".to_owned()), 1)
    );
    let mut two = beside(&guest, &shared, vm_config());
    two.vm.on_tick(two.root).unwrap();
    assert_eq!(
        (two.text(&read), two.status(&swap)),
        (Ok("1".to_owned()), 0)
    );
    assert_eq!(
        (two.status(&empty), two.text(&read_empty)),
        (0, Ok(String::new()))
    );
    one.vm.on_tick(one.root).unwrap();
    assert_eq!(
        (one.text(&read), one.status(&swap)),
        (Ok("3".to_owned()), 8)
    );
    let mut elsewhere = vm_config();
    elsewhere.namespace = "other".into();
    let mut three = beside(&guest, &shared, elsewhere);
    three.vm.on_tick(three.root).unwrap();
    assert_eq!(three.status(&read), 1, "another namespace");
}

#[test]
fn queues_between_vms() {
    let mut guest = Guest::new();
    let register = guest.call(
        "proxy_on_configure",
        "proxy_register_shared_queue",
        &[Bytes(b"q"), Out],
    );
    let resolve = guest.call(
        ON_REQUEST,
        "proxy_resolve_shared_queue",
        &[Bytes(b""), Bytes(b"q"), Out],
    );
    let by_id = guest.call(
        ON_REQUEST,
        "proxy_resolve_shared_queue",
        &[Bytes(b"team"), Bytes(b"q"), Out],
    );
    let unknown = guest.call(
        ON_REQUEST,
        "proxy_resolve_shared_queue",
        &[Bytes(b""), Bytes(b"x"), Out],
    );
    let enqueue = guest.call(
        ON_REQUEST,
        "proxy_enqueue_shared_queue",
        &[Result(&resolve), Bytes(b"item")],
    );
    let bad = guest.call(
        ON_REQUEST,
        "proxy_enqueue_shared_queue",
        &[Int(0), Bytes(b"item")],
    );
    let take = guest.call(
        "proxy_on_queue_ready",
        "proxy_dequeue_shared_queue",
        &[Result(&register), Out, Out],
    );
    let again = guest.call(
        "proxy_on_tick",
        "proxy_dequeue_shared_queue",
        &[Result(&register), Out, Out],
    );
    let none = guest.call(
        "proxy_on_tick",
        "proxy_dequeue_shared_queue",
        &[Int(0), Out, Out],
    );
    let shared = Shared::new();
    let mut one = beside(&guest, &shared, vm_config());
    let mut two = beside(&guest, &shared, vm_config());
    assert_eq!(one.out(&register, 0), two.out(&register, 0));
    one.request_headers();
    assert_eq!(
        [&resolve, &by_id, &unknown, &enqueue, &bad].map(|call| one.status(call)),
        [0, 1, 1, 0, 1]
    );
    let effects = one.effects();
    let [Effect::QueueReady { token, vm, root }] = effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        (vm, root),
        (two.vm.id(), two.root),
        "the last to register consumes"
    );
    two.vm.on_queue_ready(root, token).unwrap();
    assert_eq!(two.text(&take), Ok("item".to_owned()));
    two.vm.on_tick(two.root).unwrap();
    assert_eq!([two.status(&again), two.status(&none)], [7, 1]);

    let mut team = vm_config();
    team.vm_id = "team".to_owned();
    let _team = beside(&guest, &shared, team);
    one.request_headers();
    assert_eq!(one.status(&by_id), 0, "a queue of another vm.id");

    one.effects();
    drop(two);
    one.request_headers();
    let effects = one.effects();
    let [Effect::QueueReady { vm, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(vm, one.vm.id(), "who is gone leaves it to the one before");
}

#[test]
fn metrics() {
    let mut guest = Guest::new();
    let define = |guest: &mut Guest, kind: i64, name: &[u8]| {
        guest.call(
            "proxy_on_configure",
            "proxy_define_metric",
            &[Int(kind), Bytes(name), Out],
        )
    };
    let [counter, gauge, histogram] = [(0, &b"hits"[..]), (1, b"level"), (2, b"size")]
        .map(|(kind, name)| define(&mut guest, kind, name));
    let same = define(&mut guest, 0, b"hits");
    let unknown_kind = define(&mut guest, 3, b"hits");
    let mut step = |function: &str, args: &[Arg<'_>]| guest.call(ON_REQUEST, function, args);
    let (increment, record, get) = (
        "proxy_increment_metric",
        "proxy_record_metric",
        "proxy_get_metric",
    );
    let steps = [
        (step(increment, &[Result(&counter), Int(2)]), 0),
        (step(increment, &[Result(&counter), Int(0)]), 2),
        (step(increment, &[Result(&counter), Int(-1)]), 2),
        (step(record, &[Result(&counter), Int(3)]), 0),
        (step(record, &[Result(&gauge), Int(7)]), 0),
        (step(increment, &[Result(&gauge), Int(-3)]), 0),
        (step(increment, &[Result(&histogram), Int(1)]), 2),
        (step(record, &[Result(&histogram), Int(40)]), 0),
        (step(increment, &[Int(4000), Int(1)]), 1),
        (step(record, &[Int(4000), Int(1)]), 1),
    ];
    let read_counter = step(get, &[Result(&counter), Out]);
    let read_gauge = step(get, &[Result(&gauge), Out]);
    let read_histogram = step(get, &[Result(&histogram), Out]);
    let read_unknown = step(get, &[Int(4000), Out]);
    let shared = Shared::new();
    let mut run = beside(&guest, &shared, vm_config());
    run.request_headers();
    assert_eq!(
        [&counter, &gauge, &histogram].map(|call| run.out(call, 0) & 3),
        [0, 1, 2]
    );
    assert_eq!(
        (run.out(&same, 0), run.status(&unknown_kind)),
        (run.out(&counter, 0), 2)
    );
    for (index, (call, expected)) in steps.iter().enumerate() {
        assert_eq!(run.status(call), *expected, "{index}");
    }
    assert_eq!(
        [&read_counter, &read_gauge, &read_histogram, &read_unknown].map(|call| run.status(call)),
        [0, 0, 2, 1]
    );
    assert_eq!(
        (run.out_u64(&read_counter, 0), run.out_u64(&read_gauge, 0)),
        (5, 4)
    );
    let samples = shared.metrics();
    let found: Vec<_> = samples
        .iter()
        .map(|sample| (&*sample.namespace, &*sample.scope, &*sample.name))
        .collect();
    assert_eq!(
        found,
        [
            ("shop", "hello", "hits"),
            ("shop", "hello", "level"),
            ("shop", "hello", "size")
        ]
    );
    assert_eq!(samples[0].value, MetricValue::Counter(5));
    assert!(
        matches!(&samples[2].value, MetricValue::Histogram(found) if (found.count, found.sum) == (1, 40))
    );
}
