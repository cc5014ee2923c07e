use std::path::PathBuf;

use tidegate_model::{
    Capability, Compatibility, Config, FailureCause, FailurePolicies, FilterLimits, FilterMode,
    ModuleSource, VmSpec,
};

use super::*;

mod faults;
mod refused;
mod remote;
mod trial;

/// A filter that accepts every configuration but `no`.
const GUEST: &str = r#"(module
  (import "env" "proxy_get_buffer_bytes" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get $size))))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $get (i32.const 7) (i32.const 0) (i32.const 16) (i32.const 0) (i32.const 4)))
    (i32.ne (i32.load16_u (i32.load (i32.const 0))) (i32.const 0x6f6e))))"#;

fn spec(name: &str, module: ModuleSource, config: &str) -> Arc<FilterSpec> {
    Arc::new(FilterSpec {
        slot: 0,
        id: FilterId {
            namespace: "shop".into(),
            name: name.into(),
        },
        module,
        pinned: None,
        sha256: None,
        config: Config {
            bytes: config.to_owned().into(),
            ..Config::default()
        },
        root_id: "".into(),
        vm: VmSpec::default(),
        failure_policy: FailurePolicies::default(),
        limits: FilterLimits::default(),
        clusters: std::collections::BTreeMap::new(),
        capabilities: Capability::ALL.into(),
        headers_wait_for_body: false,
        compatibility: Compatibility::default(),
        mode: FilterMode::Enforce,
    })
}

fn file(folder: &tempfile::TempDir, wat: &str) -> PathBuf {
    let path = folder.path().join("guest.wasm");
    std::fs::write(&path, wat::parse_str(wat).expect("a module")).expect("written");
    path
}

/// Waits for the next verdict.
async fn settle(loader: &Loader, changes: &mut watch::Receiver<u64>) {
    let all = async {
        while loader.entries().values().any(|entry| entry.loading) {
            changes.changed().await.expect("the loader lives");
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("a verdict within a minute");
}

async fn load_one(spec: &Arc<FilterSpec>) -> (Arc<Loader>, FilterVerdict) {
    let loader = Loader::new(Shared::new());
    let mut changes = loader.changes();
    loader.want(std::slice::from_ref(spec));
    settle(&loader, &mut changes).await;
    let verdict = loader.verdicts().remove(&spec.id).expect("a verdict");
    (loader, verdict)
}

fn failure(verdict: FilterVerdict) -> (FailureCause, String, bool) {
    match verdict {
        FilterVerdict::Failed {
            cause,
            message,
            last_good,
        } => (cause, message.to_string(), last_good),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_good_filter_becomes_ready() {
    let folder = tempfile::tempdir().expect("a folder");
    let (loader, verdict) = load_one(&spec(
        "good",
        ModuleSource::File(file(&folder, GUEST)),
        "yes",
    ))
    .await;
    let FilterVerdict::Ready { digest, abi, .. } = verdict else {
        panic!("{verdict:?}")
    };
    assert!(digest.starts_with("sha256:"), "{digest}");
    assert_eq!(&*abi, "0.2.1");
    assert!(loader.is_settled());
}

#[tokio::test]
async fn what_is_wrong_is_said_by_cause() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, GUEST);
    let (_, verdict) = load_one(&spec("refuses", ModuleSource::File(path.clone()), "no")).await;
    assert_eq!(failure(verdict).0, FailureCause::Configure);

    let (_, verdict) = load_one(&spec(
        "gone",
        ModuleSource::File("/nowhere/at/all.wasm".into()),
        "",
    ))
    .await;
    let (cause, message, _) = failure(verdict);
    assert_eq!(cause, FailureCause::Load);
    assert!(
        message.contains("spec.module.file: /nowhere/at/all.wasm"),
        "{message}"
    );

    let pipe = folder.path().join("pipe.wasm");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|made| made.success()));
    for no_file in [pipe, folder.path().to_owned()] {
        let (_, verdict) = load_one(&spec("pipe", ModuleSource::File(no_file), "")).await;
        let (cause, message, _) = failure(verdict);
        assert_eq!(cause, FailureCause::Load);
        assert!(
            message.contains("is no regular file; put the module there"),
            "{message}"
        );
    }

    let (_, verdict) = load_one(&spec("unknown", ModuleSource::Builtin("corse".into()), "")).await;
    let (_, message, _) = failure(verdict);
    let known = tidegate_filters::all().iter().map(|bundled| bundled.name);
    let known: Vec<_> = known.collect();
    assert!(message.ends_with(&known.join(", ")), "{message}");

    let pinned = FilterSpec {
        sha256: Some("00".into()),
        ..FilterSpec::clone(&spec("pin", ModuleSource::File(path), ""))
    };
    let (_, verdict) = load_one(&Arc::new(pinned)).await;
    let (_, message, _) = failure(verdict);
    assert!(
        message.starts_with("spec.sha256 is sha256:00, but the module is sha256:"),
        "{message}"
    );

    std::fs::write(folder.path().join("text.wasm"), "no module").expect("written");
    let (_, verdict) = load_one(&spec(
        "text",
        ModuleSource::File(folder.path().join("text.wasm")),
        "",
    ))
    .await;
    assert_eq!(failure(verdict).0, FailureCause::Load);
}

#[tokio::test]
async fn a_bad_version_leaves_the_last_good_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, GUEST);
    let good = spec("filter", ModuleSource::File(path.clone()), "yes");
    let (loader, _) = load_one(&good).await;
    let mut changes = loader.changes();
    let bad = spec("filter", ModuleSource::File(path), "no");
    loader.want(std::slice::from_ref(&bad));
    settle(&loader, &mut changes).await;
    let (cause, _, last_good) = failure(loader.verdicts().remove(&bad.id).expect("a verdict"));
    assert!(cause == FailureCause::Configure && last_good);
    let states = loader.states(std::slice::from_ref(&bad));
    let State::Ready(loaded) = &states[0] else {
        panic!("the last good version is gone")
    };
    assert!(loaded.spec.same(&good));
}

#[tokio::test]
async fn a_file_that_changes_is_loaded_anew_and_a_missing_one_when_it_comes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("guest.wasm");
    let spec = spec("late", ModuleSource::File(path), "");
    let (loader, verdict) = load_one(&spec).await;
    assert_eq!(failure(verdict).0, FailureCause::Load);
    let keep = tokio::spawn(loader.clone().keep());
    file(&folder, GUEST);
    let first = ready_digest(&loader, &spec, "").await;
    file(&folder, &GUEST.replace("1024", "2048"));
    let second = ready_digest(&loader, &spec, &first).await;
    assert_ne!(first, second);
    keep.abort();
}

/// Waits until the filter runs with another digest than `before`.
async fn ready_digest(loader: &Loader, spec: &Arc<FilterSpec>, before: &str) -> String {
    let mut changes = loader.changes();
    let ready = async {
        loop {
            if let Some(FilterVerdict::Ready { digest, .. }) = loader.verdicts().remove(&spec.id)
                && *digest != *before
            {
                return digest.to_string();
            }
            changes.changed().await.expect("the loader lives");
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ready)
        .await
        .expect("ready within a minute")
}

#[tokio::test]
async fn equal_modules_are_compiled_once_and_forgotten_with_their_last_filter() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, GUEST);
    let pair = [
        spec("a", ModuleSource::File(path.clone()), ""),
        spec("b", ModuleSource::File(path), ""),
    ];
    let loader = Loader::new(Shared::new());
    let mut changes = loader.changes();
    loader.want(&pair);
    settle(&loader, &mut changes).await;
    let states = loader.states(&pair);
    let [State::Ready(a), State::Ready(b)] = &states[..] else {
        panic!("not ready")
    };
    assert_eq!(a.digest, b.digest);
    assert_eq!(loader.compiled.len(), 1);
    loader.want(&[]);
    assert_eq!(loader.compiled.len(), 0);
}
