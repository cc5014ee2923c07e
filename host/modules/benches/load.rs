//! How long 1, 10 and 100 modules take until they are ready: cold, compiled anew; and by a new process that finds their code in
//! the cache. Prints a table. Each module is the bundled `headers` filter with a number in it, so that no two are the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_model::{
    Capability, Compatibility, Config, FailurePolicies, FilterId, FilterLimits, FilterMode,
    FilterSpec, FilterVerdict, ModuleSource, VmSpec,
};
use tidegate_modules::{Loader, Settings};
use tidegate_wasm::Shared;
use wasm_encoder::{CustomSection, Encode, Section};

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(8 << 20)
        .enable_all()
        .build()
        .expect("a runtime");
    println!("modules  cold ms  cached ms");
    for count in [1, 10, 100] {
        let folder = tempfile::tempdir().expect("a folder");
        let specs: Vec<_> = (0..count).map(|at| spec(folder.path(), at)).collect();
        let cache = Some(folder.path().join("cache"));
        let settings = Settings {
            cache,
            ..Settings::default()
        };
        let cold = runtime.block_on(load(&settings, &specs));
        let cached = runtime.block_on(load(&settings, &specs));
        println!(
            "{count:>7}  {:>7}  {:>9}",
            cold.as_millis(),
            cached.as_millis()
        );
    }
}

/// Time until every filter is ready, the engine included.
async fn load(settings: &Settings, specs: &[Arc<FilterSpec>]) -> Duration {
    let start = Instant::now();
    let loader = Loader::with(Shared::new(), settings);
    let mut changes = loader.changes();
    loader.want(specs);
    while loader.is_loading(specs) {
        changes.changed().await.expect("the loader lives");
    }
    let took = start.elapsed();
    for verdict in loader.verdicts().into_values() {
        assert!(
            matches!(verdict, FilterVerdict::Ready { .. }),
            "{verdict:?}"
        );
    }
    took
}

fn spec(folder: &Path, at: usize) -> Arc<FilterSpec> {
    let mut module = tidegate_filters::get("headers")
        .expect("a bundled filter")
        .module
        .to_vec();
    let section = CustomSection {
        name: "number".into(),
        data: at.to_string().into_bytes().into(),
    };
    module.push(section.id());
    section.encode(&mut module);
    let path = folder.join(format!("{at}.wasm"));
    std::fs::write(&path, module).expect("written");
    Arc::new(FilterSpec {
        slot: 0,
        id: FilterId {
            namespace: "bench".into(),
            name: at.to_string().into(),
        },
        module: ModuleSource::File(path),
        pinned: None,
        sha256: None,
        config: Config {
            bytes: "{}".into(),
            ..Config::default()
        },
        root_id: "".into(),
        vm: VmSpec::default(),
        failure_policy: FailurePolicies::default(),
        limits: FilterLimits::default(),
        clusters: BTreeMap::new(),
        capabilities: Capability::ALL.into(),
        headers_wait_for_body: false,
        compatibility: Compatibility::default(),
        mode: FilterMode::Enforce,
    })
}
