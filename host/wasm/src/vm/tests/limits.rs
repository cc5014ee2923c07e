//! CPU time, memory, stack, and allocators that lie: a guest ends itself, never the host.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes as Body;

use super::guest::{
    Arg, Guest, Running, UNTOUCHED, compile, exchange, headers, pairs, plugin, vm_config,
};
use crate::vm::Vm;
use crate::{Callback, Cause, Failure, HttpCallResponse, Shared, VmConfig};
use Arg::{Bytes, Int, Out};

const FOREVER: &str = "(loop $forever (br $forever))";

fn quick() -> VmConfig {
    let mut config = vm_config();
    config.limits.call_timeout = Duration::from_millis(5);
    config.limits.start_timeout = Duration::from_millis(5);
    config
}

fn response() -> HttpCallResponse {
    let head = tidegate_model::ResponseHead {
        status: http::StatusCode::OK,
        headers: headers(&[]),
    };
    HttpCallResponse {
        head,
        body: Body::new(),
        trailers: headers(&[]),
    }
}

type Entry = fn(&mut Running) -> Result<(), Failure>;

/// Every way into a running guest.
const ENTRIES: [(&str, Entry); 18] = [
    ("proxy_on_request_headers", |run| {
        run.callback(Callback::RequestHeaders {
            end_of_stream: false,
        })
        .map(drop)
    }),
    ("proxy_on_request_body", |run| {
        run.callback(Callback::RequestBody {
            end_of_stream: true,
        })
        .map(drop)
    }),
    ("proxy_on_request_trailers", |run| {
        run.callback(Callback::RequestTrailers).map(drop)
    }),
    ("proxy_on_response_headers", |run| {
        run.callback(Callback::ResponseHeaders {
            end_of_stream: false,
        })
        .map(drop)
    }),
    ("proxy_on_response_body", |run| {
        run.callback(Callback::ResponseBody {
            end_of_stream: true,
        })
        .map(drop)
    }),
    ("proxy_on_response_trailers", |run| {
        run.callback(Callback::ResponseTrailers).map(drop)
    }),
    ("proxy_on_log", |run| run.callback(Callback::Log).map(drop)),
    ("proxy_on_done", |run| {
        run.callback(Callback::Done).map(drop)
    }),
    ("proxy_on_delete", |run| {
        run.vm.delete_stream(run.stream).map(drop)
    }),
    ("proxy_on_tick", |run| run.vm.on_tick(run.root)),
    ("proxy_on_queue_ready", |run| {
        run.vm.on_queue_ready(run.root, 1)
    }),
    ("proxy_on_http_call_response", |run| {
        run.vm.on_http_call_response(1, response())
    }),
    ("proxy_on_grpc_receive_initial_metadata", |run| {
        run.vm.on_grpc_initial_metadata(2, Some(response().head))
    }),
    ("proxy_on_grpc_receive", |run| {
        run.vm.on_grpc_receive(2, Body::new())
    }),
    ("proxy_on_grpc_receive_trailing_metadata", |run| {
        run.vm.on_grpc_trailing_metadata(2, headers(&[]))
    }),
    ("proxy_on_grpc_close", |run| {
        run.vm.on_grpc_close(2, 0, String::new())
    }),
    ("proxy_on_done", |run| {
        run.vm.remove_root(run.root).map(drop)
    }),
    ("proxy_on_delete", |run| {
        run.vm.remove_root(run.root).map(drop)
    }),
];

/// A guest with an HTTP call and a gRPC stream on their way, whose callback does what `body` says.
fn busy(callback: &'static str, body: &str) -> Guest {
    let mut guest = Guest::new();
    let blob = pairs(&[(":method", "GET"), (":path", "/"), (":authority", "idp")]);
    let empty = Bytes(b"");
    guest.call(
        "proxy_on_configure",
        "proxy_http_call",
        &[Bytes(b"idp"), Bytes(&blob), empty, empty, Int(0), Out],
    );
    guest.call(
        "proxy_on_configure",
        "proxy_grpc_stream",
        &[Bytes(b"idp"), Bytes(b"s"), Bytes(b"m"), empty, Out],
    );
    guest.raw(callback, body);
    guest
}

#[test]
fn a_deadline_ends_every_callback() {
    for (callback, entry) in ENTRIES {
        let mut run = busy(callback, FOREVER).start_with(quick(), plugin());
        let failure = entry(&mut run).expect_err(callback);
        assert!(
            matches!(failure, Failure::Deadline { limit } if limit == Duration::from_millis(5)),
            "{callback}: {failure:?}"
        );
        assert_eq!(failure.cause(), Cause::Deadline);
        assert!(run.vm.is_dead());
        assert!(
            run.vm.cpu() >= Duration::from_millis(5),
            "a long call is counted in full"
        );
    }
}

#[test]
fn a_trap_ends_every_callback() {
    for (callback, entry) in ENTRIES {
        let mut run = busy(callback, "unreachable").start();
        let failure = entry(&mut run).expect_err(callback);
        assert_eq!(failure.cause(), Cause::Trap, "{callback}");
        assert!(failure.to_string().contains("unreachable"), "{failure}");
        assert!(run.vm.is_dead());
    }
}

#[test]
fn deadlines_of_start_and_configuration() {
    for callback in ["_initialize", "_start", "main"] {
        let mut guest = Guest::new();
        if callback == "main" {
            guest.raw("_initialize", "");
        }
        guest.raw(callback, FOREVER);
        let failure =
            Vm::start(&guest.module().unwrap(), Arc::new(quick()), Shared::new()).unwrap_err();
        assert_eq!(failure.cause(), Cause::Deadline, "{callback}");
    }
    for callback in [
        "proxy_on_context_create",
        "proxy_on_vm_start",
        "proxy_on_configure",
    ] {
        let mut guest = Guest::new();
        guest.raw(callback, FOREVER);
        let mut vm = Vm::start(&guest.module().unwrap(), Arc::new(quick()), Shared::new()).unwrap();
        let failure = vm.add_root(Arc::new(plugin())).unwrap_err();
        assert_eq!(failure.cause(), Cause::Deadline, "{callback}");
        assert!(vm.is_dead());
    }
    let mut guest = Guest::new();
    guest.extra = format!("(func $first {FOREVER}) (start $first)");
    let failure =
        Vm::start(&guest.module().unwrap(), Arc::new(quick()), Shared::new()).unwrap_err();
    assert_eq!(failure.cause(), Cause::Deadline, "start section");
}

#[test]
fn a_call_may_take_many_ticks_within_its_limit() {
    let mut guest = Guest::new();
    // Until 20 ms of wall time have passed.
    guest.raw(
        "proxy_on_tick",
        "(drop (call $proxy_get_current_time_nanoseconds (i32.const 16)))
         (loop $again
            (drop (call $proxy_get_current_time_nanoseconds (i32.const 24)))
            (br_if $again (i64.lt_u
                (i64.load (i32.const 24)) (i64.add (i64.load (i32.const 16)) (i64.const 20000000)))))",
    );
    let mut config = vm_config();
    config.limits.call_timeout = Duration::from_secs(60);
    let mut run = guest.start_with(config, plugin());
    run.vm.on_tick(run.root).unwrap();
    run.vm.on_tick(run.root).unwrap();
    assert!(!run.vm.is_dead());
}

#[test]
fn cpu_time_counts_and_not_the_clock_on_the_wall() {
    let mut guest = Guest::new();
    guest.raw(
        "proxy_on_tick",
        "(local $left i32) (local.set $left (i32.const 50000000))
         (loop $again
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br_if $again (local.get $left)))",
    );
    let run = |limit: Duration| {
        let mut config = vm_config();
        config.limits.call_timeout = limit;
        let mut run = guest.start_with(config, plugin());
        run.vm.begin_service();
        let before = run.vm.cpu();
        run.vm.on_tick(run.root).map(|()| run.vm.cpu() - before)
    };
    let alone = run(Duration::from_secs(60)).unwrap();
    // Twenty times as many threads as cores: each takes its time on the wall twenty times, but not of the processor.
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|threads| {
        let each: Vec<_> = (0..cores * 20)
            .map(|_| threads.spawn(|| run(alone * 6 + Duration::from_millis(20)).is_ok()))
            .collect();
        assert!(each.into_iter().all(|one| one.join().unwrap()));
    });
}

#[test]
fn the_start_timeout_holds_until_the_first_stream() {
    let mut guest = Guest::new();
    let spin = "(global.set $n (i32.const 0)) (loop $again (global.set $n (i32.add (global.get $n) (i32.const 1)))
        (br_if $again (i32.lt_u (global.get $n) (i32.const 60000000))))";
    guest.extra = "(global $n (mut i32) (i32.const 0))".to_owned();
    guest.raw("proxy_on_configure", spin);
    let mut config = vm_config();
    config.limits.call_timeout = Duration::from_millis(1);
    config.limits.start_timeout = Duration::from_secs(60);
    let mut run = guest.start_with(config, plugin());
    let failure = run.vm.add_root(Arc::new(plugin())).unwrap_err();
    assert_eq!(failure.cause(), Cause::Deadline);
}

#[test]
fn memory_is_capped() {
    let mut config = vm_config();
    config.limits.memory = 1 << 20;
    let mut guest = Guest::new();
    guest.raw(
        "proxy_on_request_headers",
        "(if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable))",
    );
    guest.raw(
        "proxy_on_request_body",
        "(drop (memory.grow (i32.const 100)))",
    );
    guest.raw("proxy_on_response_headers", "unreachable");
    let mut run = guest.start_with(config.clone(), plugin());
    run.callback(Callback::RequestBody {
        end_of_stream: true,
    })
    .unwrap();
    let failure = run
        .callback(Callback::RequestHeaders {
            end_of_stream: true,
        })
        .unwrap_err();
    assert!(
        matches!(failure, Failure::Memory { limit } if limit == 1 << 20),
        "{failure:?}"
    );

    let mut run = guest.start_with(config.clone(), plugin());
    run.callback(Callback::RequestBody {
        end_of_stream: true,
    })
    .unwrap();
    let failure = run
        .callback(Callback::ResponseHeaders {
            end_of_stream: true,
        })
        .unwrap_err();
    assert_eq!(
        failure.cause(),
        Cause::Trap,
        "a refusal that was survived is forgotten"
    );

    config.limits.memory = 4 << 16;
    let failure = Vm::start(&guest.module().unwrap(), Arc::new(config), Shared::new()).unwrap_err();
    assert_eq!(failure.cause(), Cause::Memory, "{failure}");
}

#[test]
fn tables_are_capped() {
    let mut guest = Guest::new();
    guest.extra = "(table $t 1 1000000 funcref)".to_owned();
    guest.raw(
        "proxy_on_request_headers",
        "(if (i32.eq (table.grow $t (ref.null func) (i32.const 900000)) (i32.const -1)) (then unreachable))",
    );
    let mut run = guest.start();
    let failure = run
        .callback(Callback::RequestHeaders {
            end_of_stream: true,
        })
        .unwrap_err();
    assert_eq!(failure.cause(), Cause::Memory);
}

#[test]
fn endless_recursion_overflows_the_guests_stack_only() {
    let mut guest = Guest::new();
    guest.extra = "(func $deep (param i32) (call $deep (i32.add (local.get 0) (i32.const 1))) (call $deep (local.get 0)))".to_owned();
    guest.raw("proxy_on_request_headers", "(call $deep (i32.const 0))");
    let mut run = guest.start();
    let failure = run
        .callback(Callback::RequestHeaders {
            end_of_stream: true,
        })
        .unwrap_err();
    assert_eq!(failure.cause(), Cause::Trap);
    assert!(
        failure.to_string().contains("stack exhausted") && failure.to_string().contains("deep"),
        "{failure}"
    );
}

#[test]
fn other_traps() {
    for (body, text) in [
        (
            "(drop (i32.load (i32.const -4)))",
            "out of bounds memory access",
        ),
        (
            "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
            "divide by zero",
        ),
        ("(call_indirect (i32.const 9))", "undefined element"),
    ] {
        let mut guest = Guest::new();
        guest.extra = "(table 1 funcref)".to_owned();
        guest.raw("proxy_on_request_headers", body);
        let failure = guest
            .start()
            .callback(Callback::RequestHeaders {
                end_of_stream: true,
            })
            .unwrap_err();
        assert!(failure.to_string().contains(text), "{failure}");
    }
}

#[test]
fn a_dead_vm_answers_quickly_and_gives_back_what_it_held() {
    let mut run = busy("proxy_on_tick", "unreachable").start();
    let other = run.vm.create_stream(run.root).unwrap();
    run.vm.attach(other, Box::new(exchange()));
    run.vm.on_tick(run.root).unwrap_err();
    let entries = run.vm.calls();
    for (callback, entry) in ENTRIES
        .into_iter()
        .filter(|(name, _)| *name != "proxy_on_delete")
    {
        if callback != "proxy_on_done" {
            assert_eq!(entry(&mut run).expect_err(callback).cause(), Cause::Trap);
        }
    }
    assert!(run.vm.create_stream(run.root).is_err());
    assert!(run.vm.add_root(Arc::new(plugin())).is_err());
    assert_eq!(run.vm.calls(), entries, "the guest is never entered again");
    assert_eq!(run.vm.streams().count(), 2);
    assert!(run.vm.detach(other).is_some());
    assert!(run.vm.delete_stream(run.stream).unwrap().is_some());
    assert_eq!(run.vm.streams().count(), 1);
}

#[test]
fn allocators_that_lie() {
    let get = "proxy_get_header_map_value";
    for allocator in [
        "(i32.const 0)",
        "(i32.const -1)",
        "(i32.const -8)",
        "(i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1))",
        "(i32.mul (memory.size) (i32.const 65536))",
    ] {
        let mut guest = Guest::new();
        guest.allocator = Some(allocator);
        let calls = [
            guest.call(
                "proxy_on_request_headers",
                get,
                &[Int(0), Bytes(b":path"), Out, Out],
            ),
            guest.call(
                "proxy_on_request_headers",
                "proxy_get_header_map_pairs",
                &[Int(0), Out, Out],
            ),
            guest.call(
                "proxy_on_request_headers",
                "proxy_get_property",
                &[Bytes(b"plugin_name"), Out, Out],
            ),
            guest.call(
                "proxy_on_request_headers",
                "proxy_get_buffer_bytes",
                &[Int(6), Int(0), Int(99), Out, Out],
            ),
        ];
        let mut run = guest.start();
        run.request_headers();
        for call in &calls {
            assert_eq!(
                (run.status(call), run.out(call, 0)),
                (6, UNTOUCHED),
                "{allocator}"
            );
        }
        assert!(!run.vm.is_dead());
    }
}

#[test]
fn allocators_that_trap_loop_or_call_back() {
    let cases: [(&str, Cause, &str); 3] = [
        ("unreachable", Cause::Trap, "unreachable"),
        (
            "(loop $forever (br $forever)) (i32.const 0)",
            Cause::Deadline,
            "",
        ),
        (
            "(call $proxy_get_header_map_pairs (i32.const 0) (i32.const 0) (i32.const 4))",
            Cause::Trap,
            "not permitted inside the allocator",
        ),
    ];
    for (allocator, cause, text) in cases {
        let mut guest = Guest::new();
        guest.allocator = Some(allocator);
        guest.call(
            "proxy_on_request_headers",
            "proxy_get_header_map_pairs",
            &[Int(0), Out, Out],
        );
        let mut run = guest.start();
        let failure = run
            .callback(Callback::RequestHeaders {
                end_of_stream: true,
            })
            .unwrap_err();
        assert_eq!(failure.cause(), cause, "{allocator}");
        assert!(failure.to_string().contains(text), "{failure}");
    }
}

#[test]
fn an_allocator_may_log_and_grow_the_memory() {
    let mut guest = Guest::new();
    guest.allocator = Some(
        "(drop (call $proxy_log (i32.const 2) (i32.const 0) (i32.const 4)))
         (i32.mul (memory.grow (i32.const 1)) (i32.const 65536))",
    );
    let call = guest.call(
        "proxy_on_request_headers",
        "proxy_get_property",
        &[Bytes(b"plugin_name"), Out, Out],
    );
    let mut run = guest.start();
    run.request_headers();
    assert_eq!(run.text(&call), Ok("hello".to_owned()));
    assert!(run.out(&call, 0) >= 8 << 16);
}

#[test]
fn malloc_comes_before_proxy_on_memory_allocate() {
    let mut guest = Guest::new();
    guest.allocator = Some("unreachable");
    guest.extra =
        "(func (export \"malloc\") (param i32) (result i32) (i32.const 262144))".to_owned();
    let call = guest.call(
        "proxy_on_request_headers",
        "proxy_get_property",
        &[Bytes(b"plugin_name"), Out, Out],
    );
    let mut run = guest.start();
    run.request_headers();
    assert_eq!(
        (run.text(&call), run.out(&call, 0)),
        (Ok("hello".to_owned()), 262_144)
    );
}

#[test]
fn one_memory_and_no_imported_ones() {
    let wat = Guest::new()
        .wat()
        .replace("(global $heap", "(memory $second 1) (global $heap");
    assert!(compile(&wat).is_err());
}
