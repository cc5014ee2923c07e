//! Start, roots, streams, and the order of callbacks.

use std::sync::Arc;

use super::guest::{Arg, Guest, plugin, vm_config};
use crate::vm::Vm;
use crate::{Action, Callback, Cause, Effect, Failure, Shared};
use Arg::{Bytes, Int};

/// Where guests note the order in which they were called, as decimal digits.
const ORDER: usize = 8;

fn note(guest: &mut Guest, callback: &'static str, digit: u32) {
    guest.raw(
        callback,
        &format!(
            "(i64.store (i32.const {ORDER}) (i64.add (i64.mul (i64.load (i32.const {ORDER})) (i64.const 10)) (i64.const {digit})))"
        ),
    );
}

fn order(vm: &Vm) -> u64 {
    let memory = vm.store.data().memory.unwrap();
    u64::from_le_bytes(memory.data(&vm.store)[ORDER..ORDER + 8].try_into().unwrap())
}

fn started(guest: &Guest) -> Result<Vm, Failure> {
    Vm::start(
        &guest.module().unwrap(),
        Arc::new(vm_config()),
        Shared::new(),
    )
}

#[test]
fn entry_functions_in_envoys_order() {
    let cases: [(&[&'static str], u64); 7] = [
        (&[], 0),
        (&["_start"], 4),
        (&["_initialize"], 1),
        (&["_initialize", "_start"], 1),
        (&["_initialize", "main"], 12),
        (&["_initialize", "__main_void"], 13),
        (&["_initialize", "main", "__main_void", "_start"], 12),
    ];
    for (exports, expected) in cases {
        let mut guest = Guest::new();
        for export in exports {
            let digit = ["_initialize", "main", "__main_void", "_start"]
                .iter()
                .position(|name| name == export)
                .unwrap();
            note(&mut guest, export, u32::try_from(digit + 1).unwrap());
        }
        assert_eq!(order(&started(&guest).unwrap()), expected, "{exports:?}");
    }
}

#[test]
fn a_start_section_may_log_before_the_instance_is_known() {
    let mut guest = Guest::new();
    guest.extra = "(func $first (drop (call $proxy_log (i32.const 2) (i32.const 0) (i32.const 4)))) (start $first)".to_owned();
    started(&guest).unwrap();
}

#[test]
fn before_the_first_context_few_hostcalls_are_permitted() {
    let mut guest = Guest::new();
    let log = guest.call("_initialize", "proxy_log", &[Int(2), Bytes(b"hello")]);
    let run = guest.start();
    assert_eq!(run.status(&log), 0);
    let mut guest = Guest::new();
    guest.call(
        "_initialize",
        "proxy_get_current_time_nanoseconds",
        &[Arg::Out],
    );
    let failure = started(&guest).unwrap_err();
    assert_eq!(failure.cause(), Cause::Load);
    assert!(
        failure
            .to_string()
            .contains("proxy_get_current_time_nanoseconds is not permitted"),
        "{failure}"
    );
}

#[test]
fn a_start_that_traps() {
    let mut guest = Guest::new();
    guest.call(
        "_initialize",
        "proxy_log",
        &[Int(5), Bytes(b"panicked at lib.rs")],
    );
    guest.raw("_initialize", "unreachable");
    let failure = started(&guest).unwrap_err();
    assert!(matches!(failure, Failure::Start { .. }), "{failure:?}");
    let text = failure.to_string();
    assert!(
        text.contains("unreachable") && text.contains("panicked at lib.rs"),
        "{text}"
    );
}

#[test]
fn callbacks_of_a_root_and_a_stream_in_order() {
    let mut guest = Guest::new();
    for (digit, callback) in [
        "proxy_on_context_create",
        "proxy_on_vm_start",
        "proxy_on_configure",
        "proxy_on_request_headers",
        "proxy_on_log",
        "proxy_on_done",
        "proxy_on_delete",
    ]
    .into_iter()
    .enumerate()
    {
        note(&mut guest, callback, u32::try_from(digit + 1).unwrap());
    }
    let mut run = guest.start();
    assert_eq!(
        (run.root.get(), run.stream.get()),
        (1, 2),
        "roots and streams share one counter"
    );
    run.request_headers();
    run.callback(Callback::Log).unwrap();
    run.callback(Callback::Done).unwrap();
    assert_eq!(run.vm.contexts(), 2);
    assert!(run.vm.delete_stream(run.stream).unwrap().is_some());
    assert!(run.vm.remove_root(run.root).unwrap());
    assert_eq!(run.vm.contexts(), 0);
    assert_eq!(
        order(&run.vm),
        1_231_456_767,
        "the root is created, the stream is, and each goes"
    );
}

#[test]
fn parameters_of_callbacks() {
    let mut guest = Guest::new();
    let keep = |guest: &mut Guest, callback: &'static str, count: usize, at: usize| {
        for n in 0..count {
            guest.raw(
                callback,
                &format!("(i32.store (i32.const {}) (local.get $p{n}))", at + 4 * n),
            );
        }
    };
    keep(&mut guest, "proxy_on_vm_start", 2, 16);
    keep(&mut guest, "proxy_on_configure", 2, 24);
    keep(&mut guest, "proxy_on_request_headers", 3, 32);
    keep(&mut guest, "proxy_on_request_body", 3, 48);
    keep(&mut guest, "proxy_on_response_headers", 3, 64);
    keep(&mut guest, "proxy_on_response_trailers", 2, 80);
    let mut run = guest.start();
    run.callback(Callback::RequestHeaders {
        end_of_stream: true,
    })
    .unwrap();
    run.callback(Callback::RequestBody {
        end_of_stream: false,
    })
    .unwrap();
    run.callback(Callback::ResponseHeaders {
        end_of_stream: false,
    })
    .unwrap();
    run.io().response_trailers = Some(super::guest::headers(&[("a", "1"), ("b", "2")]));
    run.callback(Callback::ResponseTrailers).unwrap();
    let words = |at: usize, count: usize| -> Vec<u32> {
        run.memory(at, 4 * count)
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect()
    };
    assert_eq!(words(16, 2), [1, 9]);
    assert_eq!(words(24, 2), [1, 13]);
    assert_eq!(words(32, 3), [2, 9, 1], "pseudo-headers count");
    assert_eq!(words(48, 3), [2, 11, 0]);
    assert_eq!(words(64, 3), [2, 2, 0]);
    assert_eq!(words(80, 2), [2, 2]);
}

#[test]
fn a_refused_configuration_tells_the_guests_last_error() {
    for (callback, level, said) in [
        ("proxy_on_vm_start", 4, true),
        ("proxy_on_configure", 5, true),
        ("proxy_on_configure", 2, false),
    ] {
        let mut guest = Guest::new();
        guest.call(
            callback,
            "proxy_log",
            &[Int(level), Bytes(b"no key `rules`")],
        );
        guest.returns(callback, 0);
        note(&mut guest, "proxy_on_delete", 7);
        let mut vm = started(&guest).unwrap();
        let failure = vm.add_root(Arc::new(plugin())).unwrap_err();
        assert_eq!(failure.cause(), Cause::Configure);
        let text = failure.to_string();
        assert!(text.contains(callback), "{text}");
        assert_eq!(text.contains("no key `rules`"), said, "{text}");
        assert!(!vm.is_dead(), "its neighbours live on");
        assert_eq!((vm.contexts(), vm.roots().count()), (0, 0));
        assert_eq!(order(&vm), u64::from(callback == "proxy_on_configure") * 7);
    }
}

#[test]
fn a_trap_in_configure_is_a_failure_to_configure() {
    let mut guest = Guest::new();
    guest.raw("proxy_on_configure", "unreachable");
    let mut vm = started(&guest).unwrap();
    let failure = vm.add_root(Arc::new(plugin())).unwrap_err();
    assert_eq!(failure.cause(), Cause::Configure);
    assert!(
        failure.to_string().contains("trap in proxy_on_configure"),
        "{failure}"
    );
    assert!(vm.is_dead());
}

#[test]
fn several_plugins_in_one_vm() {
    let mut guest = Guest::new();
    let shared = guest.call(
        "proxy_on_request_headers",
        "proxy_define_metric",
        &[Int(0), Bytes(b"n"), Arg::Out],
    );
    let mut run = guest.start();
    let mut second = plugin();
    second.name = "second".into();
    second.capabilities = crate::Capabilities::NONE;
    let second = run.vm.add_root(Arc::new(second)).unwrap();
    let stream = run.vm.create_stream(second).unwrap();
    run.vm.attach(stream, Box::new(super::guest::exchange()));
    run.request_headers();
    assert_eq!(run.status(&shared), 0);
    run.vm
        .call(
            stream,
            Callback::RequestHeaders {
                end_of_stream: true,
            },
        )
        .unwrap();
    assert_eq!(
        run.status(&shared),
        10,
        "capabilities are the current context's plugin's"
    );
    assert_eq!(run.vm.plugin(second).unwrap().name.as_ref(), "second");
    assert_eq!((run.vm.roots().count(), run.vm.streams().count()), (2, 2));
}

#[test]
fn the_effective_context_is_checked_and_reset() {
    let mut guest = Guest::new();
    let unknown = guest.call("proxy_on_tick", "proxy_set_effective_context", &[Int(77)]);
    let stream = guest.call("proxy_on_tick", "proxy_set_effective_context", &[Int(2)]);
    guest.call("proxy_on_tick", "proxy_continue_stream", &[Int(0)]);
    let zero = guest.call("proxy_on_tick", "proxy_set_effective_context", &[Int(0)]);
    guest.call("proxy_on_tick", "proxy_continue_stream", &[Int(0)]);
    guest.call("proxy_on_queue_ready", "proxy_continue_stream", &[Int(0)]);
    let mut run = guest.start();
    run.vm.on_tick(run.root).unwrap();
    assert_eq!(
        [&unknown, &stream, &zero].map(|call| run.status(call)),
        [2, 0, 0]
    );
    assert_eq!(run.effects().len(), 1);
    run.vm.on_queue_ready(run.root, 1).unwrap();
    assert!(run.effects().is_empty(), "a root has no stream to continue");
}

#[test]
fn a_root_may_ask_for_time_to_leave() {
    let mut guest = Guest::new();
    guest.returns("proxy_on_done", 0);
    let early = guest.call("proxy_on_queue_ready", "proxy_done", &[]);
    let done = guest.call("proxy_on_tick", "proxy_done", &[]);
    note(&mut guest, "proxy_on_delete", 7);
    let mut run = guest.start();
    run.vm.delete_stream(run.stream).unwrap();
    run.vm.on_queue_ready(run.root, 1).unwrap();
    assert_eq!(run.status(&early), 1, "nobody asked");
    assert!(!run.vm.remove_root(run.root).unwrap());
    assert!(!run.vm.remove_root(run.root).unwrap());
    assert_eq!((run.vm.contexts(), order(&run.vm)), (1, 7));
    let root = run.root;
    run.vm.on_tick(root).unwrap();
    assert_eq!(
        (run.status(&done), run.vm.contexts(), order(&run.vm)),
        (0, 0, 77)
    );
    assert!(matches!(run.effects()[..], [Effect::RootDone { root: gone }] if gone == root));
    assert!(run.vm.remove_root(root).unwrap());
}

#[test]
fn done_inside_on_done() {
    for answer in [0, 1] {
        let mut guest = Guest::new();
        guest.call("proxy_on_done", "proxy_done", &[]);
        guest.returns("proxy_on_done", answer);
        note(&mut guest, "proxy_on_delete", 7);
        let mut run = guest.start();
        run.vm.delete_stream(run.stream).unwrap();
        assert!(run.vm.remove_root(run.root).unwrap());
        assert_eq!((run.vm.contexts(), order(&run.vm)), (0, 77), "deleted once");
    }
}

#[test]
fn contexts_are_capped() {
    let mut config = vm_config();
    config.limits.contexts = 3;
    let mut run = Guest::new().start_with(config, plugin());
    let last = run.vm.create_stream(run.root).unwrap();
    assert!(matches!(
        run.vm.create_stream(run.root),
        Err(Failure::Contexts { limit: 3 })
    ));
    assert!(matches!(
        run.vm.add_root(Arc::new(plugin())),
        Err(Failure::Contexts { limit: 3 })
    ));
    run.vm.delete_stream(last).unwrap();
    assert!(run.vm.create_stream(run.root).is_ok());
    assert!(!run.vm.is_dead());
}

#[test]
fn absent_callbacks_continue() {
    let mut run = Guest::new().start();
    let entries = run.vm.calls();
    for callback in [
        Callback::RequestHeaders {
            end_of_stream: true,
        },
        Callback::RequestBody {
            end_of_stream: true,
        },
        Callback::RequestTrailers,
        Callback::ResponseHeaders {
            end_of_stream: true,
        },
        Callback::ResponseBody {
            end_of_stream: true,
        },
        Callback::ResponseTrailers,
        Callback::Log,
        Callback::Done,
    ] {
        assert_eq!(run.callback(callback).unwrap(), Action::Continue);
    }
    assert_eq!(run.vm.calls(), entries, "nothing was entered");
}

#[test]
fn unknown_contexts_are_told_and_kill_nothing() {
    let mut run = Guest::new().start();
    run.vm.delete_stream(run.stream).unwrap();
    assert!(matches!(
        run.callback(Callback::Log),
        Err(Failure::UnknownContext { id: 2 })
    ));
    assert!(run.vm.delete_stream(run.stream).unwrap().is_none());
    assert!(run.vm.io_mut(run.stream).is_none());
    assert!(run.vm.remove_root(run.root).unwrap());
    assert!(matches!(
        run.vm.create_stream(run.root),
        Err(Failure::UnknownContext { id: 1 })
    ));
    assert!(run.vm.on_tick(run.root).is_ok());
    assert!(!run.vm.is_dead());
}

#[test]
fn a_vm_moves_between_threads() {
    let mut guest = Guest::new();
    guest.returns("proxy_on_request_headers", 1);
    let mut run = guest.start();
    let action = std::thread::spawn(move || run.request_headers())
        .join()
        .unwrap();
    assert_eq!(action, Action::PauseWatermark);
}

#[test]
fn what_a_vm_tells_about_itself() {
    let mut run = Guest::new().start();
    assert_eq!(run.vm.memory_bytes(), 8 << 16);
    assert_eq!(run.vm.pending_calls(), 0);
    assert_eq!(run.vm.config().namespace.as_ref(), "shop");
    assert!(
        run.vm.cpu() > std::time::Duration::ZERO,
        "the first entry is a sample"
    );
    assert!(format!("{:?}", run.vm).contains("Vm"));
    assert!(run.effects().is_empty());
}
