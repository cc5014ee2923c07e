//! What SDKs do not do: every hostcall by hand, every callback, all action values, old and foreign ABI versions.

use bytes::Bytes;
use http::StatusCode;
use tidegate_model::ResponseHead;
use tidegate_wasm::{AbiVersion, Action, Callback, Direction, Effect, HttpCallResponse};
use tidegate_wasm_guests as guests;

use crate::run::{REQUEST_HEADERS, RESPONSE_HEADERS, Run, compile, fields, plugin, vm_config};

#[test]
pub(crate) fn hostcalls() {
    let mut run = Run::of(guests::HOSTCALLS);
    run.effects();
    run.request();
    // In the order of the guest's calls; 2: no body there, 1: not asked to leave, 12: not here.
    let expected = [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0,
        12, 0, 0, 0, 0,
    ];
    assert_eq!(run.property("statuses"), expected);
    let effects = run.effects();
    let count =
        |wanted: fn(&Effect) -> bool| effects.iter().filter(|effect| wanted(effect)).count();
    assert_eq!(count(|effect| matches!(effect, Effect::HttpCall { .. })), 1);
    assert_eq!(count(|effect| matches!(effect, Effect::GrpcSend { .. })), 1);
    assert_eq!(
        count(|effect| matches!(effect, Effect::GrpcClose { .. })),
        1
    );
    assert_eq!(
        count(|effect| matches!(effect, Effect::GrpcCancel { .. })),
        1
    );
    assert_eq!(
        count(|effect| matches!(effect, Effect::SetTickPeriod { period: None, .. })),
        1
    );
    assert_eq!(
        count(|effect| matches!(effect, Effect::QueueReady { .. })),
        1
    );
    assert_eq!(
        count(|effect| matches!(effect, Effect::LocalReply { .. })),
        1
    );
    assert_eq!(
        count(|effect| matches!(effect, Effect::CloseStream { .. })),
        1
    );
    assert!(count(|effect| matches!(effect, Effect::ClearRouteCache { .. })) >= 1);
    assert_eq!(
        count(|effect| matches!(effect, Effect::Resume { .. })),
        0,
        "what was answered does not go on"
    );
}

/// The guests in WAT import each function that a filter can link, but for WASI.
#[test]
fn every_hostcall_has_a_guest() {
    let mut imported = std::collections::BTreeSet::new();
    for (name, wasm) in guests::ALL {
        // The SDK links everything, so its guests prove nothing.
        if !["hostcalls", "abi_0_1_0", "higress"].contains(name) {
            continue;
        }
        for payload in wasmparser::Parser::new(0).parse_all(wasm) {
            if let wasmparser::Payload::ImportSection(section) = payload.unwrap() {
                imported.extend(
                    section
                        .into_imports()
                        .map(|import| import.unwrap().name.to_owned()),
                );
            }
        }
    }
    let rust = ["noop"].map(|name| {
        guests::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap()
            .1
    });
    for payload in wasmparser::Parser::new(0).parse_all(rust[0]) {
        if let wasmparser::Payload::ImportSection(section) = payload.unwrap() {
            for import in section.into_imports() {
                let import = import.unwrap();
                if import.module == "env" {
                    assert!(
                        imported.contains(import.name),
                        "{} has no guest",
                        import.name
                    );
                }
            }
        }
    }
    assert_eq!(imported.len(), 48, "{imported:?}");
}

#[test]
pub(crate) fn abi_0_1_0() {
    assert_eq!(compile(guests::ABI_0_1_0).abi(), AbiVersion::V0_1_0);
    let mut run = Run::of(guests::ABI_0_1_0);
    assert_ne!(run.request(), Action::Continue);
    assert_eq!(
        run.property("config"),
        b"config",
        "the plugin's, in on_configure"
    );
    assert_eq!(run.property("statuses"), [0, 0, 0]);
    run.call(RESPONSE_HEADERS);
    assert_eq!(run.property("statuses"), [0, 0, 0, 0]);
    let effects = run.effects();
    assert!(
        matches!(
            &effects[..],
            [
                Effect::ClearRouteCache { .. },
                Effect::Resume {
                    direction: Direction::Request,
                    ..
                },
                Effect::Resume {
                    direction: Direction::Response,
                    ..
                },
            ]
        ),
        "{effects:?}"
    );
}

#[test]
pub(crate) fn callbacks() {
    let mut run = Run::of(guests::CALLBACKS);
    run.effects();
    run.request();
    let end_of_stream = true;
    run.call(Callback::RequestBody { end_of_stream });
    run.io().request_trailers = Some(fields(&[]));
    run.call(Callback::RequestTrailers);
    run.call(RESPONSE_HEADERS);
    run.call(Callback::ResponseBody { end_of_stream });
    run.io().response_trailers = Some(fields(&[]));
    run.call(Callback::ResponseTrailers);
    run.vm.on_tick(run.root).unwrap();
    run.vm.on_queue_ready(run.root, 1).unwrap();
    let head = || ResponseHead {
        status: StatusCode::OK,
        headers: fields(&[]),
    };
    let response = HttpCallResponse {
        head: head(),
        body: Bytes::new(),
        trailers: fields(&[]),
    };
    run.vm.on_http_call_response(1, response).unwrap();
    run.vm.on_grpc_initial_metadata(2, Some(head())).unwrap();
    run.vm.on_grpc_receive(2, Bytes::new()).unwrap();
    run.vm.on_grpc_trailing_metadata(2, fields(&[])).unwrap();
    run.vm.on_grpc_close(2, 0, String::new()).unwrap();
    run.call(Callback::Log);
    run.call(Callback::Done);
    run.vm.delete_stream(run.stream).unwrap();
    run.vm.remove_root(run.root).unwrap();
    // Read by the guest that writes down its own steps there, in the same scope.
    assert_eq!(steps(&run), "cvfcHBThbrtqaimexldzdz");
}

/// What `callbacks` left in shared data.
fn steps(run: &Run) -> String {
    let module = compile(guests::LIFECYCLE);
    let shared = std::sync::Arc::clone(&run.shared);
    let mut vm =
        tidegate_wasm::Vm::start(&module, std::sync::Arc::new(vm_config()), shared).unwrap();
    let root = vm.add_root(std::sync::Arc::new(plugin())).unwrap();
    let stream = vm.create_stream(root).unwrap();
    vm.attach(stream, crate::run::exchange("/p"));
    vm.call(stream, REQUEST_HEADERS).unwrap();
    let io = vm.detach(stream).unwrap();
    let all = String::from_utf8(io.request.headers["x-steps"].as_bytes().to_vec()).unwrap();
    all.split_once("vm-start").unwrap().0.to_owned()
}

#[test]
pub(crate) fn higress() {
    assert_eq!(compile(guests::HIGRESS).abi(), AbiVersion::V0_2_100);
    let mut run = Run::of(guests::HIGRESS);
    run.request();
    assert_eq!(run.property("statuses"), [12, 12, 1, 0]);
}

#[test]
pub(crate) fn actions() {
    let act = |values: [u8; 6], wait: bool| {
        let mut plugin = plugin();
        plugin.config = Bytes::copy_from_slice(&values);
        plugin.headers_wait_for_body = wait;
        let mut run = Run::with(guests::ACTIONS, "/p", vm_config(), plugin);
        run.io().request_trailers = Some(fields(&[]));
        run.io().response_trailers = Some(fields(&[]));
        let end_of_stream = false;
        [
            REQUEST_HEADERS,
            Callback::RequestBody { end_of_stream },
            Callback::RequestTrailers,
            RESPONSE_HEADERS,
            Callback::ResponseBody { end_of_stream },
            Callback::ResponseTrailers,
        ]
        .map(|callback| run.call(callback))
    };
    assert_eq!(act([0; 6], false), [Action::Continue; 6]);
    for value in 1..=5 {
        let all = act([value; 6], false);
        // What a request's callback may say, a response's may.
        assert_eq!(all[..3], all[3..], "{value}");
        // 2 is ContinueAndEndStream for headers, which Envoy takes for Continue.
        assert_eq!(all[0].is_continue(), value == 2, "{value}");
        assert!(!all[1].is_continue() && !all[2].is_continue(), "{value}");
    }
    assert_eq!(act([1; 6], false)[0], Action::PauseWatermark);
    assert_eq!(act([1; 6], true)[0], Action::PauseHeaders);
    assert_eq!(act([1; 6], false)[1], Action::Pause);
}
