//! A guest that fails in every way takes its VM along, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tidegate_wasm::{Cause, Failure, Limits, Pool, Shared, Snapshot, SnapshotError, Vm};
use tidegate_wasm_guests as guests;

use crate::run::{REQUEST_HEADERS, Run, compile, engine, exchange, plugin, vm_config};

const FAULTS: [(&str, Cause, &str); 8] = [
    ("/loop", Cause::Deadline, "CPU time"),
    ("/trap", Cause::Trap, "unreachable"),
    ("/memory", Cause::Memory, "bytes of memory"),
    ("/big-table", Cause::Memory, "bytes of memory"),
    ("/recursion", Cause::Trap, "stack"),
    ("/division", Cause::Trap, "divide by zero"),
    ("/address", Cause::Trap, "out of bounds"),
    ("/o-allocator", Cause::Trap, "unreachable"),
];

#[test]
pub(crate) fn faults() {
    let mut config = vm_config();
    config.limits = Limits {
        call_timeout: Duration::from_millis(5),
        memory: 8 << 20,
        ..Limits::default()
    };
    let shared = Shared::new();
    let module = compile(guests::FAULTS);
    let start = || {
        let mut vm = Vm::start(&module, Arc::new(config.clone()), Arc::clone(&shared)).unwrap();
        let root = vm.add_root(Arc::new(plugin())).unwrap();
        (vm, root)
    };
    let (mut neighbour, neighbours_root) = start();
    for (path, cause, text) in FAULTS {
        let (mut vm, root) = start();
        let beside = vm.create_stream(root).unwrap();
        vm.attach(beside, exchange("/fine"));
        let stream = vm.create_stream(root).unwrap();
        vm.attach(stream, exchange(path));
        let failure = vm.call(stream, REQUEST_HEADERS).unwrap_err();
        assert_eq!(failure.cause(), cause, "{path}: {failure}");
        assert!(failure.to_string().contains(text), "{path}: {failure}");
        assert!(vm.is_dead());
        // The other request of that VM falls too, and gets its exchange back.
        assert!(vm.call(beside, REQUEST_HEADERS).is_err());
        assert!(vm.detach(beside).is_some());

        let stream = neighbour.create_stream(neighbours_root).unwrap();
        neighbour.attach(stream, exchange("/fine"));
        neighbour.call(stream, REQUEST_HEADERS).unwrap();
        neighbour.delete_stream(stream).unwrap();
    }
    drop(neighbour);
    assert_eq!(shared.memory("shop"), 0, "all of it is given back");
}

#[test]
fn memory_of_a_namespace_is_capped() {
    let shared = Shared::with_limits(tidegate_wasm::SharedLimits {
        memory: 10 << 20,
        ..tidegate_wasm::SharedLimits::default()
    });
    let module = compile(guests::FAULTS);
    let mut vm = Vm::start(&module, Arc::new(vm_config()), Arc::clone(&shared)).unwrap();
    let root = vm.add_root(Arc::new(plugin())).unwrap();
    let stream = vm.create_stream(root).unwrap();
    vm.attach(stream, exchange("/memory"));
    let failure = vm.call(stream, REQUEST_HEADERS).unwrap_err();
    assert!(
        matches!(&failure, Failure::NamespaceMemory { limit, .. } if *limit == 10 << 20),
        "{failure}"
    );
    // While it is there, nobody in the namespace gets more; another namespace does.
    let mut other = vm_config();
    other.namespace = "bank".into();
    assert!(Vm::start(&module, Arc::new(other), Arc::clone(&shared)).is_ok());
    drop(vm);
    assert!(Vm::start(&module, Arc::new(vm_config()), shared).is_ok());
}

/// This guest changes tables, so each request boots a VM of its own instead.
#[test]
fn a_guest_that_no_snapshot_suits() {
    let error = Snapshot::take(
        &engine().compile(guests::FAULTS).unwrap(),
        guests::FAULTS,
        Arc::new(vm_config()),
        Arc::new(plugin()),
        Shared::new(),
        Pool::default(),
    )
    .unwrap_err();
    assert!(
        matches!(&error, SnapshotError::Unsuitable(reason) if reason.contains("table.grow")),
        "{error}"
    );
    for _ in 0..2 {
        let mut run = Run::on(guests::FAULTS, "/fine");
        run.request();
        assert_eq!(run.header("x-served"), "1");
    }
}
