//! `isolation: Request`: instances begin as the snapshot says, whatever happened to the ones before.

use std::sync::Arc;

use super::guest::{compile, engine, exchange, plugin, vm_config};
use crate::vm::Vm;
use crate::{
    Callback, Cause, Failure, PluginConfig, Pool, Shared, SharedLimits, Snapshot, SnapshotError,
    VmConfig,
};

const HEAD: &str = r#"
    (import "env" "proxy_get_buffer_bytes" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
    (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
    (import "env" "proxy_http_call" (func $http_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 4096))
"#;

fn wasm(body: &str) -> Vec<u8> {
    let text = format!("(module {HEAD} {body})");
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn take(body: &str) -> Result<Snapshot, SnapshotError> {
    take_with(body, vm_config(), plugin(), Shared::new(), Pool::default())
}

fn take_with(
    body: &str,
    vm: VmConfig,
    plugin: PluginConfig,
    shared: Arc<Shared>,
    pool: Pool,
) -> Result<Snapshot, SnapshotError> {
    let wasm = wasm(body);
    let module = engine().compile(&wasm).unwrap();
    Snapshot::take(&module, &wasm, Arc::new(vm), Arc::new(plugin), shared, pool)
}

/// One request; what its callback returned is in the first 4 bytes of the memory, left there for the test.
fn request(vm: &mut Vm, snapshot: &Snapshot) -> Result<u32, Failure> {
    let stream = vm.create_stream(snapshot.root())?;
    vm.attach(stream, Box::new(exchange()));
    vm.call(
        stream,
        Callback::RequestHeaders {
            end_of_stream: true,
        },
    )?;
    let seen = u32::from_le_bytes(vm.memory()[..4].try_into().unwrap());
    vm.call(stream, Callback::Log)?;
    vm.call(stream, Callback::Done)?;
    vm.delete_stream(stream)?;
    Ok(seen)
}

/// Counts what it finds of an earlier request in memory, in each kind of global and in a second page range, then writes to all.
const CURIOUS: &str = r#"
    (memory (export "memory") 17 64)
    (global $i32 (mut i32) (i32.const 1))
    (global $i64 (mut i64) (i64.const 2))
    (global $f32 (mut f32) (f32.const 3.5))
    (global $f64 (mut f64) (f64.const 4.5))
    (global $v128 (mut v128) (v128.const i64x2 5 6))
    (global $seen (export "visible") (mut i32) (i32.const 0))
    (global $constant i32 (i32.const 77))
    (data (i32.const 65536) "initial")
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        ;; The configuration goes to 8192, and all globals change.
        (drop (call $get_buffer (i32.const 7) (i32.const 0) (i32.const 100) (i32.const 16) (i32.const 20)))
        (memory.copy (i32.const 8192) (i32.load (i32.const 16)) (i32.load (i32.const 20)))
        (global.set $i32 (i32.const 11)) (global.set $i64 (i64.const 12)) (global.set $f32 (f32.const nan:0x200001))
        (global.set $f64 (f64.const -0)) (global.set $v128 (v128.const i64x2 15 16))
        (i32.const 1))
    (func $trace (param $n i32) (i32.store (i32.const 0) (i32.or (i32.load (i32.const 0)) (local.get $n))))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (if (i32.ne (i32.load (i32.const 8192)) (i32.const 0x67756c70)) (then (call $trace (i32.const 1)))) ;; "plug"
        (if (i32.ne (i32.load (i32.const 65536)) (i32.const 0x74696e69)) (then (call $trace (i32.const 2)))) ;; "init"
        (if (i32.load (i32.const 1000000)) (then (call $trace (i32.const 4))))
        (if (i32.ne (global.get $i32) (i32.const 11)) (then (call $trace (i32.const 8))))
        (if (i64.ne (global.get $i64) (i64.const 12)) (then (call $trace (i32.const 16))))
        (if (i32.ne (i32.reinterpret_f32 (global.get $f32)) (i32.const 0x7fa00001)) (then (call $trace (i32.const 32))))
        (if (i64.ne (i64.reinterpret_f64 (global.get $f64)) (i64.const 0x8000000000000000)) (then (call $trace (i32.const 64))))
        (if (i64.ne (i64x2.extract_lane 1 (global.get $v128)) (i64.const 16)) (then (call $trace (i32.const 128))))
        (if (global.get $seen) (then (call $trace (i32.const 256))))
        (if (i32.ne (global.get $constant) (i32.const 77)) (then (call $trace (i32.const 512))))
        (memory.fill (i32.const 4) (i32.const 0x5a) (i32.const 1114000))
        (global.set $i32 (i32.const -1)) (global.set $i64 (i64.const -1)) (global.set $f32 (f32.const 0))
        (global.set $f64 (f64.const 0)) (global.set $v128 (v128.const i64x2 0 0)) (global.set $seen (i32.const 1))
        (i32.const 0))
"#;

#[test]
fn nothing_is_left_from_the_request_before() {
    let snapshot = take(CURIOUS).unwrap();
    // Long enough to learn which pages are hot, and to go on with that knowledge.
    for n in 0..40 {
        let mut vm = snapshot.instantiate().unwrap();
        assert_eq!(request(&mut vm, &snapshot).unwrap(), 0, "request {n}");
        assert_ne!(vm.memory()[1_000_000], 0, "it did write");
        snapshot.recycle(vm);
        assert_eq!(snapshot.idle(), 1);
        let vm = snapshot.instantiate().unwrap();
        assert!(vm.memory()[65_543..].iter().all(|byte| *byte == 0));
        assert_eq!(&vm.memory()[65_536..65_543], b"initial");
        snapshot.recycle(vm);
    }
    // Dropped ones leave nothing either, nor do new ones that begin beside used ones.
    let mut many: Vec<Vm> = (0..5).map(|_| snapshot.instantiate().unwrap()).collect();
    for vm in &mut many {
        assert_eq!(request(vm, &snapshot).unwrap(), 0);
    }
    assert_eq!(snapshot.in_flight(), 5);
    drop(many);
    assert_eq!(snapshot.in_flight(), 0);
}

#[test]
fn the_counter_example_a_shared_vm_does_remember() {
    let module = engine().compile(&wasm(CURIOUS)).unwrap();
    let mut vm = Vm::start(&module, Arc::new(vm_config()), Shared::new()).unwrap();
    let root = vm.add_root(Arc::new(plugin())).unwrap();
    let stream = vm.create_stream(root).unwrap();
    let call = Callback::RequestHeaders {
        end_of_stream: true,
    };
    vm.call(stream, call).unwrap();
    assert_eq!(vm.memory()[..4], [0; 4]);
    vm.call(stream, call).unwrap();
    assert_eq!(
        u32::from_le_bytes(vm.memory()[..4].try_into().unwrap()),
        511,
        "the guest can tell, so that it finds nothing above means something"
    );
}

#[test]
fn the_host_side_begins_anew_too() {
    let snapshot = take(
        r#"(memory (export "memory") 1)
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                ;; The context's id.
                (i32.store (i32.const 0) (local.get 0)) (i32.const 0))"#,
    )
    .unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let mut vm = snapshot.instantiate().unwrap();
        ids.push(vm.id());
        assert_eq!(
            request(&mut vm, &snapshot).unwrap(),
            2,
            "the first stream of each"
        );
        assert!(vm.calls() > 0);
        snapshot.recycle(vm);
        let vm = snapshot.instantiate().unwrap();
        assert_eq!((vm.calls(), vm.contexts()), (0, 1));
        assert!(vm.cpu().is_zero());
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "an answer to an old instance finds nobody");
}

#[test]
fn what_traps_grows_or_has_calls_under_way_is_not_used_again() {
    let cases = [
        ("unreachable", true),
        ("(drop (memory.grow (i32.const 1))) (i32.const 0)", false),
        (
            "(call $http_call (i32.const 1024) (i32.const 3) (i32.const 1040) (i32.const 63) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2048))",
            false,
        ),
    ];
    for (body, traps) in cases {
        let snapshot = take(&format!(
            r#"(memory (export "memory") 1)
               (data (i32.const 1024) "idp")
               (data (i32.const 1040) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\03\00\00\00:method\00GET\00:path\00/\00:authority\00idp\00")
               (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {body})"#
        ))
        .unwrap();
        assert_eq!(snapshot.idle(), 1, "the one that was tried out");
        let mut vm = snapshot.instantiate().unwrap();
        assert_eq!(request(&mut vm, &snapshot).is_err(), traps, "{body}");
        snapshot.recycle(vm);
        assert_eq!((snapshot.idle(), snapshot.in_flight()), (0, 0), "{body}");
        let vm = snapshot.instantiate().unwrap();
        assert_eq!(vm.memory_bytes(), 1 << 16);
        snapshot.recycle(vm);
        assert_eq!(snapshot.idle(), 1);
    }
}

#[test]
fn instances_in_flight_are_capped() {
    let pool = Pool {
        in_flight: 2,
        idle: 1,
    };
    let body = r#"(memory (export "memory") 1)"#;
    let snapshot = take_with(body, vm_config(), plugin(), Shared::new(), pool).unwrap();
    let one = snapshot.instantiate().unwrap();
    let two = snapshot.instantiate().unwrap();
    let failure = snapshot.instantiate().unwrap_err();
    assert!(
        matches!(failure, Failure::Instances { limit: 2 }),
        "{failure}"
    );
    assert_eq!(failure.cause(), Cause::Memory);
    snapshot.recycle(one);
    let three = snapshot.instantiate().unwrap();
    snapshot.recycle(two);
    snapshot.recycle(three);
    assert_eq!(
        (snapshot.idle(), snapshot.in_flight()),
        (1, 0),
        "no more are kept than wanted"
    );
}

#[test]
fn state_elsewhere_is_refused_with_its_reason() {
    let table =
        "(memory (export \"memory\") 1) (table $t 4 10 funcref) (elem (i32.const 0) $f) (func $f)";
    let cases = [
        (
            "(func (table.set $t (i32.const 0) (ref.null func)))",
            "table.set",
        ),
        (
            "(func (drop (table.grow $t (ref.null func) (i32.const 1))))",
            "table.grow",
        ),
        (
            "(func (table.fill $t (i32.const 0) (ref.null func) (i32.const 1)))",
            "table.fill",
        ),
        (
            "(func (table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 1)))",
            "table.copy",
        ),
        (
            "(elem $e func $f) (func (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1)))",
            "table.init",
        ),
        ("(elem $e func $f) (func (elem.drop $e))", "elem.drop"),
        (
            "(data $d \"x\") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)))",
            "memory.init",
        ),
        ("(data $d \"x\") (func (data.drop $d))", "data.drop"),
        (
            "(global (mut funcref) (ref.null func))",
            "holds a reference",
        ),
        (
            "(global (export \"tidegate:global:0\") (mut i32) (i32.const 0))",
            "named tidegate:global:",
        ),
    ];
    for (body, reason) in cases {
        let error = take(&format!("{table} {body}")).unwrap_err();
        assert!(
            matches!(&error, SnapshotError::Unsuitable(text) if text.contains(reason)),
            "{body}: {error}"
        );
    }
    // Tables that nobody changes are fine, and work.
    let snapshot = take(&format!(
        "{table} (func $g (result i32) (i32.const 42)) (elem (i32.const 1) $g)
         (func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32)
            (i32.store (i32.const 0) (call_indirect (result i32) (i32.const 1))) (i32.const 0))"
    ))
    .unwrap();
    for _ in 0..3 {
        let mut vm = snapshot.instantiate().unwrap();
        assert_eq!(request(&mut vm, &snapshot).unwrap(), 42);
        snapshot.recycle(vm);
    }
}

#[test]
fn start_functions_and_growth_at_start_are_part_of_the_snapshot() {
    let snapshot = take(
        r#"(memory (export "memory") 1 9)
           (global $n (mut i32) (i32.const 0))
           (func $first (global.set $n (i32.add (global.get $n) (i32.const 1)))) (start $first)
           (func (export "_initialize") (drop (memory.grow (i32.const 2))) (i32.store (i32.const 131072) (i32.const 9)))
           (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
                (global.set $n (i32.add (global.get $n) (i32.const 100))) (i32.const 1))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                (i32.store (i32.const 0) (i32.add (global.get $n) (i32.add
                    (i32.mul (memory.size) (i32.const 1000)) (i32.mul (i32.load (i32.const 131072)) (i32.const 10000)))))
                (i32.const 0))"#,
    )
    .unwrap();
    for _ in 0..2 {
        let mut vm = snapshot.instantiate().unwrap();
        assert_eq!(
            request(&mut vm, &snapshot).unwrap(),
            93_101,
            "started once, not again"
        );
        snapshot.recycle(vm);
    }
}

#[test]
fn a_filter_that_refuses_or_traps_fails_as_ever() {
    let refuses = r#"(memory (export "memory") 1)
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 0))"#;
    let traps = r#"(memory (export "memory") 1) (func (export "_initialize") unreachable)"#;
    for (body, cause) in [(refuses, Cause::Configure), (traps, Cause::Load)] {
        let error = take(body).unwrap_err();
        assert!(
            matches!(&error, SnapshotError::Failed(failure) if failure.cause() == cause),
            "{error}"
        );
    }
    // Bytes that the module did not come from would give a snapshot of another filter.
    let module = compile(&format!("(module {HEAD} (memory (export \"memory\") 1))")).unwrap();
    let error = Snapshot::take(
        &module,
        &wasm(CURIOUS),
        Arc::new(vm_config()),
        Arc::new(plugin()),
        Shared::new(),
        Pool::default(),
    )
    .unwrap_err();
    assert!(matches!(error, SnapshotError::Unsuitable(_)), "{error}");
}

#[test]
fn metrics_defined_at_configuration_are_known_and_queues_keep_their_consumer() {
    let body = r#"(memory (export "memory") 1)
        (data (i32.const 64) "hits")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $define (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 80)))
            (drop (call $register (i32.const 64) (i32.const 4) (i32.const 84)))
            (i32.const 1))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (i32.store (i32.const 0) (call $increment (i32.load (i32.const 80)) (i64.const 1)))
            (drop (call $register (i32.const 64) (i32.const 4) (i32.const 84)))
            (i32.const 0))"#;
    let shared = Shared::new();
    let module = engine().compile(&wasm(body)).unwrap();
    // The VM beside the snapshot, which consumes.
    let mut beside = Vm::start(&module, Arc::new(vm_config()), Arc::clone(&shared)).unwrap();
    let root = beside.add_root(Arc::new(plugin())).unwrap();
    let snapshot = take_with(
        body,
        vm_config(),
        plugin(),
        Arc::clone(&shared),
        Pool::default(),
    )
    .unwrap();
    for _ in 0..3 {
        let mut vm = snapshot.instantiate().unwrap();
        assert_eq!(request(&mut vm, &snapshot).unwrap(), 0);
        snapshot.recycle(vm);
    }
    assert_eq!(shared.metrics()[0].value, crate::MetricValue::Counter(3));
    let scope = shared.scope(&vm_config());
    let token = crate::shared::locked(&scope.queue_names)[&b"hits"[..]];
    let consumer = shared.queues.enqueue(&scope, token, b"x");
    assert!(matches!(consumer, Ok(Some((vm, consumer))) if vm == beside.id() && consumer == root));
}

#[test]
fn idle_instances_count_for_their_namespace() {
    let shared = Shared::with_limits(SharedLimits {
        memory: 3 << 16,
        ..SharedLimits::default()
    });
    let body = r#"(memory (export "memory") 1)"#;
    let snapshot = take_with(
        body,
        vm_config(),
        plugin(),
        Arc::clone(&shared),
        Pool::default(),
    )
    .unwrap();
    assert_eq!(shared.memory("shop"), 1 << 16);
    let mut vms: Vec<Vm> = (0..3).map(|_| snapshot.instantiate().unwrap()).collect();
    assert_eq!(shared.memory("shop"), 3 << 16);
    let failure = snapshot.instantiate().unwrap_err();
    assert!(
        matches!(&failure, Failure::NamespaceMemory { namespace, limit } if &**namespace == "shop" && *limit == 3 << 16),
        "{failure}"
    );
    snapshot.recycle(vms.pop().unwrap());
    assert_eq!(shared.memory("shop"), 3 << 16);
    drop(vms);
    drop(snapshot);
    assert_eq!(shared.memory("shop"), 0);
}
