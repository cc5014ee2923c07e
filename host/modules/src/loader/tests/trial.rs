//! Trying a filter out: what it may see, what it leaves behind, and what is kept of a snapshot.

use std::os::unix::fs::MetadataExt;

use tidegate_model::{Isolation, VmSpec};

use super::*;

/// Writes shared data, a metric and a queue's item while it is configured; refuses to be configured with `no`, and where
/// what it has written before is still there.
const WRITES: &str = r#"(module
  (import "env" "proxy_get_buffer_bytes" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_shared_data" (func $shared (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $share (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $metric (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "name")
  (global $next (mut i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get $size))))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (if (i32.eqz (call $shared (i32.const 64) (i32.const 4) (i32.const 16) (i32.const 20) (i32.const 24)))
      (then (return (i32.const 0))))
    (if (call $share (i32.const 64) (i32.const 4) (i32.const 64) (i32.const 4) (i32.const 0)) (then (unreachable)))
    (if (call $metric (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 28)) (then (unreachable)))
    (if (call $increment (i32.load (i32.const 28)) (i64.const 1)) (then (unreachable)))
    (if (call $register (i32.const 64) (i32.const 4) (i32.const 32)) (then (unreachable)))
    (if (call $enqueue (i32.load (i32.const 32)) (i32.const 64) (i32.const 4)) (then (unreachable)))
    (drop (call $get (i32.const 7) (i32.const 0) (i32.const 16) (i32.const 0) (i32.const 4)))
    (i32.ne (i32.load16_u (i32.load (i32.const 0))) (i32.const 0x6f6e))))"#;

#[tokio::test]
async fn trying_out_leaves_no_trace() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, WRITES);
    let good = spec("writes", ModuleSource::File(path.clone()), "yes");
    let (loader, verdict) = load_one(&good).await;
    assert!(
        matches!(verdict, FilterVerdict::Ready { .. }),
        "{verdict:?}"
    );
    let states = loader.states(std::slice::from_ref(&good));
    let State::Ready(loaded) = &states[0] else {
        panic!("not ready")
    };
    assert!(loaded.trial.resident, "it consumes a queue");
    let shared = loader.shared();
    let left = || {
        (
            shared.bytes("shop"),
            shared.metrics().len(),
            shared.memory("shop"),
        )
    };
    assert_eq!(left(), (0, 0, 0));

    // Again and again, also where it is refused in the end.
    let mut changes = loader.changes();
    for config in ["no", "yes again"] {
        let next = spec("writes", ModuleSource::File(path.clone()), config);
        loader.want(std::slice::from_ref(&next));
        settle(&loader, &mut changes).await;
        let verdict = loader.verdicts().remove(&next.id).expect("a verdict");
        assert_eq!(
            matches!(verdict, FilterVerdict::Ready { .. }),
            config != "no",
            "{verdict:?}"
        );
        assert_eq!(left(), (0, 0, 0), "{config}");
    }
}

/// `config` is part of what a snapshot begins with.
fn instances(path: PathBuf, config: &str) -> Arc<FilterSpec> {
    let plain = spec("instances", ModuleSource::File(path), config);
    Arc::new(FilterSpec {
        vm: VmSpec {
            isolation: Isolation::Request,
            ..VmSpec::default()
        },
        ..FilterSpec::clone(&plain)
    })
}

#[tokio::test]
async fn the_code_of_a_snapshot_outlives_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, GUEST);
    let settings = Settings {
        cache: Some(folder.path().join("cache")),
        ..Settings::default()
    };
    let snapshots = || {
        let code = std::fs::read_dir(folder.path().join("cache/code")).expect("a folder");
        let mut found: Vec<_> = code
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "snapshot"))
            .map(|entry| (entry.path(), std::fs::read(entry.path()).expect("read")))
            .collect();
        assert!(found.len() <= 1, "one for each filter");
        found.pop()
    };
    let load = async |spec: &Arc<FilterSpec>| {
        let loader = Loader::with(Shared::new(), &settings);
        let mut changes = loader.changes();
        loader.want(std::slice::from_ref(spec));
        settle(&loader, &mut changes).await;
        let states = loader.states(std::slice::from_ref(spec));
        let State::Ready(loaded) = &states[0] else {
            panic!("not ready")
        };
        assert!(loaded.trial.snapshot.is_some());
    };
    load(&instances(path.clone(), "one")).await;
    let (place, first) = snapshots().expect("it is kept");
    // A file that is written is another one, in the place of the one before.
    let number = || std::fs::metadata(&place).expect("it is there").ino();
    let before = number();
    load(&instances(path.clone(), "one")).await;
    assert_eq!(number(), before, "it was not compiled again");

    load(&instances(path.clone(), "another")).await;
    let (_, second) = snapshots().expect("it is kept");
    assert_ne!(first, second, "another configuration, another state");

    // What is foreign is not run, but replaced.
    let mut flipped = second.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    std::fs::write(&place, &flipped).expect("written");
    load(&instances(path, "another")).await;
    assert_eq!(snapshots().expect("it is kept").1, second);
}

#[tokio::test]
async fn an_engine_is_made_for_the_first_filter() {
    let folder = tempfile::tempdir().expect("a folder");
    let loader = Loader::new(Shared::new());
    loader.want(&[]);
    assert!(!loader.compiled.has_engine(), "nobody pays for none");
    let mut changes = loader.changes();
    let one = spec("one", ModuleSource::File(file(&folder, GUEST)), "");
    loader.want(std::slice::from_ref(&one));
    settle(&loader, &mut changes).await;
    assert!(loader.compiled.has_engine());
}
