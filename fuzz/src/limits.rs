//! The engine, and configurations with small bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use tidegate_wasm::{Capabilities, Engine, Limits, PluginConfig, VmConfig};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new().expect("the engine's settings"));

/// The only cluster that guests may call.
pub(crate) const CLUSTER: &str = "idp";
/// Linear memory that a guest may have.
pub(crate) const MEMORY: usize = 4 << 20;
/// Contexts that it may have.
pub(crate) const CONTEXTS: usize = 16;

pub(crate) fn engine() -> &'static Engine {
    &ENGINE
}

pub(crate) fn vm_config() -> VmConfig {
    VmConfig {
        namespace: "shop".into(),
        vm_id: "team".to_owned(),
        scope: "hostile".into(),
        vm_config: Bytes::from_static(b"vm config"),
        env: BTreeMap::from([("KEY".to_owned(), "value".to_owned())]),
        limits: Limits {
            call_timeout: Duration::from_millis(20),
            start_timeout: Duration::from_millis(100),
            memory: MEMORY,
            contexts: CONTEXTS,
            calls: 8,
        },
    }
}

pub(crate) fn plugin(config: Bytes) -> PluginConfig {
    PluginConfig {
        namespace: "shop".into(),
        name: "hostile".into(),
        root_id: "root".to_owned(),
        config,
        secrets: Default::default(),
        capabilities: Capabilities::ALL,
        clusters: BTreeSet::from([CLUSTER.to_owned()]),
        headers_wait_for_body: false,
        buffered_body: 64 << 10,
        old_property_names: true,
    }
}
