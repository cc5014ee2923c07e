//! Filters that no host could run, or that need what their Filter does not grant: each says so, and what to do.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::{Backend, BackendProtocol, LoadBalancer};

use super::remote::{image, ready, verdict};
use super::*;
use crate::publish::{Access, Layout, push};
use crate::testing::{Content, Server};

/// What is said of this module or component.
async fn refusal(wat: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let source = ModuleSource::File(file(&folder, wat));
    let (_, verdict) = load_one(&spec("filter", source, "")).await;
    let (cause, message, last_good) = failure(verdict);
    assert!(cause == FailureCause::Load && !last_good);
    message
}

#[tokio::test]
async fn what_is_for_another_host_is_refused() {
    for (wat, said) in [
        (
            r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.6" (instance $i)))"#,
            "this component is for another world, wasi:http/proxy@0.2.6: it exports wasi:http/incoming-handler@0.2.6; this host runs tidegate:filter/filter@0.1.0, which exports tidegate:filter/on-plugin@0.1.0: build it against that",
        ),
        (
            r#"(component (instance $i) (export "tidegate:filter/on-plugin@0.2.0" (instance $i)))"#,
            "for another world, tidegate:filter/filter@0.2.0",
        ),
        (
            r#"(component (import "tidegate:filter/files@0.1.0" (instance))
                (instance $i) (export "tidegate:filter/on-plugin@0.1.0" (instance $i)))"#,
            "the component imports tidegate:filter/files@0.1.0; tidegate:filter/filter@0.1.0, which this host runs, has the interfaces clock, http, log, metrics, shared-data, types: build it against that version",
        ),
        (
            r#"(component (import "acme:secrets/vault@1.0.0" (instance))
                (instance $i) (export "tidegate:filter/on-plugin@0.1.0" (instance $i)))"#,
            "the component imports acme:secrets/vault@1.0.0; a filter may import interfaces of tidegate:filter and of WASI 0.2 alone: rebuild it without",
        ),
        (
            r#"(module (memory (export "memory") 1) (func (export "_start")))"#,
            "missing or unknown proxy-wasm ABI version: the module must export one of proxy_abi_version_0_1_0, _0_2_0 or _0_2_1",
        ),
        (
            r#"(module (import "env" "proxy_open_socket" (func (param i32) (result i32)))
                (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
                (func (export "malloc") (param i32) (result i32) (i32.const 8)))"#,
            "unknown import `env.proxy_open_socket`: proxy-wasm 0.2.1 has no such function; rebuild the filter without it",
        ),
    ] {
        let message = refusal(wat).await;
        assert!(message.contains(said), "{said:?} is not in {message:?}");
    }
}

/// Asks for a metric, a tick and a call to `idp`, and goes on whatever the host says; but for `strict`, which then refuses.
const NEEDY: &str = r#"(module
  (import "env" "proxy_define_metric" (func $metric (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "idp")
  (data (i32.const 128) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/\00:authority\00a\00")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $metric (i32.const 0) (i32.const 64) (i32.const 3) (i32.const 32)))
    (drop (call $tick (i32.const 1000)))
    (i32.or
      (i32.eqz (call $call (i32.const 64) (i32.const 3) (i32.const 128) (i32.const 61)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 32)))
      (i32.ne (local.get 1) (i32.const 6)))))"#;

fn idp() -> BTreeMap<Arc<str>, Arc<Backend>> {
    let backend = Backend {
        slot: 0,
        key: "shop/idp:80".into(),
        protocol: BackendProtocol::Http1,
        tls: None,
        endpoints: Vec::new(),
        load_balancer: LoadBalancer::RoundRobin,
        connect_timeout: None,
    };
    BTreeMap::from([("idp".into(), Arc::new(backend))])
}

#[tokio::test]
async fn what_the_filter_does_not_grant_is_named_with_its_field() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, NEEDY);
    let with = |config: &str, capabilities: &[Capability], declared: bool| {
        let spec = spec("needy", ModuleSource::File(path.clone()), config);
        Arc::new(FilterSpec {
            capabilities: capabilities.iter().copied().collect::<BTreeSet<_>>(),
            clusters: if declared { idp() } else { BTreeMap::new() },
            ..FilterSpec::clone(&spec)
        })
    };
    let capabilities = "spec.capabilities does not grant metrics, timers, which the module asks for when it is configured: add metrics, timers there, or use a module that does without";
    let clusters = r#"spec.clusters does not declare "idp", which the module calls when it is configured: add {name: idp, url: …} or {name: idp, backendRef: …} there, or correct its configuration"#;
    for (config, granted, declared, said) in [
        (
            "",
            &[Capability::SharedData][..],
            true,
            capabilities.to_owned(),
        ),
        ("", &Capability::ALL, false, clusters.to_owned()),
        ("", &[], false, format!("{capabilities}; {clusters}")),
        (
            "strict",
            &Capability::ALL,
            false,
            format!("{clusters}; the filter refused its configuration: "),
        ),
    ] {
        let (_, verdict) = load_one(&with(config, granted, declared)).await;
        let (cause, message, _) = failure(verdict);
        assert_eq!(cause, FailureCause::Configure);
        assert!(
            message.starts_with(&said),
            "{said:?} does not begin {message:?}"
        );
    }
    // What it asks for suffices. That it imports more is no need: SDKs import whatever they know.
    let enough = with("strict", &[Capability::Metrics, Capability::Timers], true);
    let (_, verdict) = load_one(&enough).await;
    assert!(
        matches!(verdict, FilterVerdict::Ready { .. }),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn a_component_needs_its_grants_as_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("component.wasm");
    std::fs::write(&path, tidegate_wasm_guests::COMPONENT).expect("written");
    // It sets a tick with this configuration.
    let spec = spec("component", ModuleSource::File(path), "tick");
    let with = |granted: &[Capability]| {
        Arc::new(FilterSpec {
            capabilities: granted.iter().copied().collect::<BTreeSet<_>>(),
            ..FilterSpec::clone(&spec)
        })
    };
    let (_, verdict) = load_one(&with(&[Capability::SharedData])).await;
    let (_, message, _) = failure(verdict);
    assert!(
        message.starts_with("spec.capabilities does not grant timers, which"),
        "{message}"
    );
    let (_, verdict) = load_one(&with(&[Capability::Timers])).await;
    assert!(
        matches!(verdict, FilterVerdict::Ready { .. }),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn what_was_pushed_is_loaded() {
    let content = Content::default();
    let server = Server::plain(move |asked| content.answer(asked)).await;
    let access = Access {
        plain_http: true,
        ..Access::default()
    };
    let wasm: Bytes = wat::parse_str(GUEST).expect("a module").into();
    for layout in [Layout::Compat, Layout::Cncf] {
        let name = format!("team/{}:1", layout.as_str());
        let source = image(&server, &name);
        let ModuleSource::Image { image, .. } = &source else {
            panic!("an image")
        };
        let pushed = push(image, wasm.clone(), layout, &access)
            .await
            .expect("pushed");
        let loader = super::remote::loader(&Settings::default());
        let (module, pinned) =
            ready(verdict(&loader, &spec("filter", source.clone(), "yes")).await);
        assert_eq!(module, *pushed.module);
        assert_eq!(pinned, Some(image.resolved(&pushed.manifest).to_string()));
    }
}
