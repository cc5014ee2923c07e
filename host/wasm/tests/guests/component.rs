//! A component for the world of `wit/`: each function, and the limits that hold for it as for a module.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tidegate_model::ResponseHead;
use tidegate_wasm::{
    AbiVersion, Action, Callback, Capabilities, CodeKey, Direction, Effect, Failure,
    HttpCallResponse, Limits, LoadError, MetricValue, Module, PluginConfig, Pool, Shared, Snapshot,
    SnapshotError, Vm, VmConfig,
};
use tidegate_wasm_guests::{COMPONENT, DIRECTED};

use crate::run::{RESPONSE_HEADERS, Run, compile, engine, fields, plugin, vm_config};

/// What the guest told after its request headers' callback.
fn told(path: &'static str) -> String {
    let mut run = Run::on(COMPONENT, path);
    assert_eq!(run.request(), Action::Continue);
    run.header("x-told")
}

#[test]
pub(crate) fn component() {
    let module = compile(COMPONENT);
    assert!(module.is_component());
    assert_eq!(module.abi(), AbiVersion::Filter0_1_0);
    assert_eq!(module.abi().to_string(), "tidegate:filter@0.1.0");
    let callbacks = module.callbacks();
    assert!(callbacks.request_headers && callbacks.response_body && callbacks.log);
    assert!(!callbacks.queue_ready);
    assert_eq!(
        told("/headers"),
        ":authority=shop.test :path=/headers :method=POST :scheme=https x-one=1 x-one=2 x-two=two"
    );
    assert_eq!(told("/shared"), "1");
    assert_eq!(told("/properties"), "guest");
    assert_eq!(told("/system"), "true shop");
}

/// The gateway's tests ask it for everything else.
#[test]
pub(crate) fn directed() {
    let mut run = Run::of(DIRECTED);
    assert_eq!(run.request(), Action::Continue);
    assert_eq!(run.header("x-filtered"), "1");
    assert_eq!(run.call(RESPONSE_HEADERS), Action::Continue);
    let headers = &run.io().response.as_ref().unwrap().headers;
    let said = ["x-count", "x-stamp", "x-version"].map(|name| headers[name].to_str().unwrap());
    assert_eq!(said, ["1", "original", "c"]);
}

#[test]
fn metrics_are_the_hosts() {
    let mut run = Run::on(COMPONENT, "/metrics");
    run.request();
    assert_eq!(run.header("x-told"), "2 7");
    let samples = run.shared.metrics();
    let counter = samples.iter().find(|sample| sample.name.ends_with("seen"));
    assert!(
        matches!(counter.unwrap().value, MetricValue::Counter(2)),
        "{samples:?}"
    );
}

#[test]
fn bodies_and_trailers_are_changed() {
    let mut run = Run::on(COMPONENT, "/body");
    run.request();
    let more = Callback::RequestBody {
        end_of_stream: false,
    };
    assert_eq!(run.call(more), Action::Pause);
    let end = Callback::RequestBody {
        end_of_stream: true,
    };
    assert_eq!(run.call(end), Action::Continue);
    assert_eq!(&run.io().request_body[..], b"HELLO");
    run.io().request_trailers = Some(HeaderMap::new());
    assert_eq!(run.call(Callback::RequestTrailers), Action::Continue);
    assert_eq!(run.io().request_trailers.as_ref().unwrap()["x-end"], "1");
    assert_eq!(run.call(RESPONSE_HEADERS), Action::Continue);
    assert_eq!(
        run.io().response.as_ref().unwrap().headers["x-status"],
        "200"
    );
    let end = Callback::ResponseBody {
        end_of_stream: true,
    };
    assert_eq!(run.call(end), Action::Continue);
    assert_eq!(&run.io().response_body[..], b"WORLD");
    assert_eq!(run.call(Callback::Log), Action::Continue);
    assert_eq!(run.call(Callback::Done), Action::Continue);
    assert!(run.vm.delete_stream(run.stream).unwrap().is_some());
    assert_eq!(run.vm.contexts(), 1);
}

#[test]
fn replies_and_resets_are_effects() {
    let mut run = Run::on(COMPONENT, "/reply");
    assert_eq!(run.request(), Action::PauseWatermark);
    match &run.effects()[..] {
        [Effect::LocalReply { context, reply }] => {
            assert_eq!(*context, run.stream);
            assert_eq!(reply.status, StatusCode::FORBIDDEN);
            assert_eq!(
                (&reply.body[..], reply.details.as_str()),
                (&b"denied"[..], "no")
            );
            assert_eq!(reply.headers["x-why"], "so");
            assert_eq!(reply.grpc_status, Some(7));
        }
        other => panic!("{other:?}"),
    }
    run.again("/reset");
    run.request();
    assert!(matches!(
        &run.effects()[..],
        [Effect::CloseStream {
            direction: Direction::Request,
            ..
        }]
    ));
}

#[test]
fn http_calls_are_answered() {
    let mut run = Run::on(COMPONENT, "/call");
    assert_eq!(run.request(), Action::PauseWatermark);
    let token = match &run.effects()[..] {
        [
            Effect::HttpCall {
                token,
                cluster,
                head,
                body,
                timeout,
                ..
            },
        ] => {
            assert_eq!((cluster.as_str(), head.path.as_str()), ("idp", "/check"));
            assert_eq!(&body[..], b"who");
            assert_eq!(*timeout, Some(Duration::from_secs(2)));
            *token
        }
        other => panic!("{other:?}"),
    };
    let response = HttpCallResponse {
        head: ResponseHead {
            status: StatusCode::OK,
            headers: fields(&[("x-a", "1")]),
        },
        body: Bytes::from_static(b"me"),
        trailers: fields(&[("x-t", "t")]),
    };
    run.vm.on_http_call_response(token, response).unwrap();
    assert_eq!(run.header("x-told"), format!("{token} 200 2 me 1"));
    assert!(matches!(
        &run.effects()[..],
        [Effect::Resume {
            direction: Direction::Request,
            ..
        }]
    ));
    // One that breaks off.
    run.again("/call");
    run.request();
    let token = token + 1;
    run.effects();
    run.vm.on_http_call_failed(token).unwrap();
    assert_eq!(run.header("x-told"), format!("{token}  0  0"));
}

#[test]
fn grpc_calls_are_answered() {
    let mut run = Run::on(COMPONENT, "/grpc");
    run.request();
    let token = match &run.effects()[..] {
        [
            Effect::GrpcCall {
                target, message, ..
            },
        ] => {
            assert_eq!(
                (target.service.as_str(), &message[..]),
                ("pkg.Service", &b"ask"[..])
            );
            assert_eq!(target.metadata["x-a"], "1");
            target.token
        }
        other => panic!("{other:?}"),
    };
    run.vm
        .on_grpc_receive(token, Bytes::from_static(b"answer"))
        .unwrap();
    assert_eq!(run.header("x-told"), "answer");
    run.effects();
    run.again("/grpc");
    run.request();
    let token = match &run.effects()[..] {
        [Effect::GrpcCall { target, .. }] => target.token,
        other => panic!("{other:?}"),
    };
    run.vm.on_grpc_close(token, 14, "away".to_owned()).unwrap();
    assert_eq!(run.header("x-told"), "14 away");
}

#[test]
fn ticks_come() {
    let config = PluginConfig {
        config: Bytes::from_static(b"tick"),
        ..plugin()
    };
    let mut run = Run::with(COMPONENT, "/call", vm_config(), config);
    run.request();
    let root = run.root;
    run.effects();
    run.vm.on_tick(root).unwrap();
    assert_eq!(run.header("x-told"), "tick 1");
}

#[test]
fn a_configuration_is_refused_with_its_reason() {
    let config = PluginConfig {
        config: Bytes::from_static(b"wrong"),
        ..plugin()
    };
    let mut vm = Vm::start(&compile(COMPONENT), Arc::new(vm_config()), Shared::new()).unwrap();
    let failure = vm.add_root(Arc::new(config)).unwrap_err();
    assert!(
        failure
            .to_string()
            .contains("field `a`: it is wrong; leave it out"),
        "{failure}"
    );
    // The VM and a plugin with another configuration live.
    let root = vm.add_root(Arc::new(plugin())).unwrap();
    assert!(vm.remove_root(root).unwrap());
}

#[test]
fn what_the_filter_does_not_grant_is_refused() {
    let config = PluginConfig {
        capabilities: Capabilities::NONE,
        clusters: std::collections::BTreeSet::new(),
        ..plugin()
    };
    for (path, error) in [
        ("/shared", "refused"),
        ("/metrics", "refused"),
        ("/properties", "refused"),
        ("/call", "bad-argument"),
        ("/grpc", "bad-argument"),
    ] {
        let mut run = Run::with(COMPONENT, path, vm_config(), config.clone());
        // Asserting on an error is the guest's own trap.
        match run.vm.call(run.stream, crate::run::REQUEST_HEADERS) {
            Ok(_) => assert_eq!(run.header("x-told"), error, "{path}"),
            Err(failure) => {
                assert!(path == "/shared" && matches!(failure, Failure::Trap { .. }));
            }
        }
    }
}

#[test]
fn limits_hold() {
    let bounded = |path| VmConfig {
        limits: Limits {
            memory: 16 << 20,
            // Else what a guest may take when the machine is busy with other tests.
            call_timeout: match path {
                "/loop" => Duration::from_millis(20),
                _ => Duration::from_secs(60),
            },
            ..vm_config().limits
        },
        ..vm_config()
    };
    let failed = |path| {
        let mut run = Run::with(COMPONENT, path, bounded(path), plugin());
        let failure = run.vm.call(run.stream, crate::run::REQUEST_HEADERS);
        assert!(run.vm.is_dead());
        failure.unwrap_err()
    };
    assert!(matches!(failed("/loop"), Failure::Deadline { .. }));
    assert!(matches!(failed("/memory"), Failure::Memory { .. }));
    assert!(matches!(failed("/trap"), Failure::Trap { .. }));
    assert!(matches!(failed("/stack"), Failure::Trap { .. }));
    // Files are not there: what little of WASI there is does not lead to them.
    match failed("/files") {
        Failure::Trap { message } => assert!(message.contains("wasi:filesystem"), "{message}"),
        other => panic!("{other}"),
    }
}

#[test]
fn code_is_kept_under_seal() {
    let (key, _) = CodeKey::random().unwrap();
    let module = compile(COMPONENT);
    let sealed = module.serialize(&key).unwrap();
    let again = Module::deserialize(engine(), COMPONENT, &sealed, &key).unwrap();
    assert!(again.is_component() && again.callbacks() == module.callbacks());
    let mut spoilt = sealed;
    *spoilt.last_mut().unwrap() ^= 1;
    Module::deserialize(engine(), COMPONENT, &spoilt, &key).unwrap_err();
}

#[test]
fn there_are_no_snapshots_of_components() {
    let taken = Snapshot::take(
        &compile(COMPONENT),
        COMPONENT,
        Arc::new(vm_config()),
        Arc::new(plugin()),
        Shared::new(),
        Pool::default(),
    );
    match taken {
        Err(SnapshotError::Unsuitable(why)) => assert_eq!(why, "it is a component"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn components_that_are_no_filters_are_refused() {
    let refused = |wat: &str| engine().compile(&wat::parse_str(wat).unwrap()).unwrap_err();
    assert!(matches!(
        refused("(component)"),
        LoadError::OtherWorld { exports } if exports.is_empty()
    ));
    let other =
        r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#;
    let error = refused(other).to_string();
    assert!(
        error.contains("for another world") && error.contains("wasi:http/incoming-handler@0.2.0"),
        "{error}"
    );
    let foreign = r#"(component
        (import "acme:secrets/vault@1.0.0" (instance))
        (instance $i) (export "tidegate:filter/on-plugin@0.1.0" (instance $i)))"#;
    assert_eq!(
        refused(foreign),
        LoadError::ForeignImport {
            name: "acme:secrets/vault@1.0.0".into()
        }
    );
    let empty =
        r#"(component (instance $i) (export "tidegate:filter/on-plugin@0.1.0" (instance $i)))"#;
    assert!(matches!(refused(empty), LoadError::WorldType(_)));
}
