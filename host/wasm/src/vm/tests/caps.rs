//! Groups of hostcalls that a plugin may not use, and what the host keeps for a guest.

use super::guest::{Arg, Guest, UNTOUCHED, pairs, plugin, vm_config};
use crate::Action;
use Arg::{Bytes, Int, Out};

const ON_REQUEST: &str = "proxy_on_request_headers";

#[test]
fn restricted_groups_fail_without_effect() {
    let mut guest = Guest::new();
    let calls = [
        guest.call(ON_REQUEST, "proxy_set_tick_period_milliseconds", &[Int(1)]),
        guest.call(
            ON_REQUEST,
            "proxy_get_property",
            &[Bytes(b"plugin_name"), Out, Out],
        ),
        guest.call(
            ON_REQUEST,
            "proxy_set_property",
            &[Bytes(b"a"), Bytes(b"b")],
        ),
        guest.call(
            ON_REQUEST,
            "proxy_get_shared_data",
            &[Bytes(b"k"), Out, Out, Out],
        ),
        guest.call(
            ON_REQUEST,
            "proxy_set_shared_data",
            &[Bytes(b"k"), Bytes(b"v"), Int(0)],
        ),
        guest.call(
            ON_REQUEST,
            "proxy_register_shared_queue",
            &[Bytes(b"q"), Out],
        ),
        guest.call(
            ON_REQUEST,
            "proxy_resolve_shared_queue",
            &[Bytes(b""), Bytes(b"q"), Out],
        ),
        guest.call(
            ON_REQUEST,
            "proxy_enqueue_shared_queue",
            &[Int(1), Bytes(b"x")],
        ),
        guest.call(
            ON_REQUEST,
            "proxy_dequeue_shared_queue",
            &[Int(1), Out, Out],
        ),
        guest.call(
            ON_REQUEST,
            "proxy_define_metric",
            &[Int(0), Bytes(b"n"), Out],
        ),
        guest.call(ON_REQUEST, "proxy_increment_metric", &[Int(4), Int(1)]),
        guest.call(ON_REQUEST, "proxy_record_metric", &[Int(4), Int(1)]),
        guest.call(ON_REQUEST, "proxy_get_metric", &[Int(4), Out]),
        guest.call(
            ON_REQUEST,
            "proxy_call_foreign_function",
            &[Bytes(b"clear_route_cache"), Bytes(b""), Out, Out],
        ),
    ];
    let mut plugin = plugin();
    plugin.capabilities = crate::Capabilities::NONE;
    let mut run = guest.start_with(vm_config(), plugin);
    run.request_headers();
    for (index, call) in calls.iter().enumerate() {
        assert_eq!(run.status(call), 10, "{index}");
        for n in 0..call.outs() {
            assert_eq!(run.out(call, n), UNTOUCHED, "{index}");
        }
    }
    assert!(run.effects().is_empty());
}

#[test]
fn what_a_guest_makes_the_host_keep_is_capped() {
    let head = pairs(&[(":method", "POST"), (":path", "/"), (":authority", "idp")]);
    let big = vec![b'x'; 200];
    let long = vec![b'n'; 5_000];
    let empty = Bytes(b"");
    let mut guest = Guest::new();
    let mut step = |function: &str, args: &[Arg<'_>]| guest.call(ON_REQUEST, function, args);
    let calls = [
        (
            step(
                "proxy_http_call",
                &[Bytes(b"idp"), Bytes(&head), Bytes(&big), empty, Int(0), Out],
            ),
            10,
        ),
        (
            step(
                "proxy_grpc_call",
                &[
                    Bytes(b"idp"),
                    Bytes(b"s"),
                    Bytes(b"m"),
                    empty,
                    Bytes(&big),
                    Int(0),
                    Out,
                ],
            ),
            10,
        ),
        (step("proxy_grpc_send", &[Int(2), Bytes(&big), Int(0)]), 10),
        (
            step(
                "proxy_grpc_stream",
                &[Bytes(b"idp"), Bytes(&long), Bytes(b"m"), empty, Out],
            ),
            2,
        ),
        (
            step(
                "proxy_send_local_response",
                &[Int(200), empty, Bytes(&big), empty, Int(-1)],
            ),
            10,
        ),
        (step("proxy_get_property", &[Bytes(&long), Out, Out]), 1),
        (step("proxy_set_property", &[Bytes(&long), empty]), 2),
        (step("proxy_define_metric", &[Int(0), Bytes(&long), Out]), 2),
        (step("proxy_register_shared_queue", &[Bytes(&long), Out]), 2),
    ];
    let mut plugin = plugin();
    plugin.buffered_body = 100;
    let mut run = guest.start_with(vm_config(), plugin);
    assert_eq!(run.request_headers(), Action::Continue);
    for (index, (call, expected)) in calls.iter().enumerate() {
        assert_eq!(run.status(call), *expected, "{index}");
    }
    assert!(run.effects().is_empty());
}

#[test]
fn messages_that_wait_to_be_sent_are_capped_together() {
    let mut guest = Guest::new();
    let on_configure = "proxy_on_configure";
    guest.call(
        on_configure,
        "proxy_grpc_stream",
        &[Bytes(b"idp"), Bytes(b"s"), Bytes(b"m"), Bytes(b""), Out],
    );
    // 300 KiB at a time, until it is refused.
    guest.raw(
        ON_REQUEST,
        "(i32.store (i32.const 16) (i32.const 0))
         (block $done (loop $again
            (br_if $done (call $proxy_grpc_send (i32.const 2) (i32.const 0) (i32.const 307200) (i32.const 0)))
            (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 1)))
            (br $again)))",
    );
    let mut config = vm_config();
    config.limits.call_timeout = std::time::Duration::from_secs(60);
    let mut run = guest.start_with(config, plugin());
    run.effects();
    for _ in 0..2 {
        run.request_headers();
        assert_eq!(
            run.memory(16, 4),
            218_u32.to_le_bytes(),
            "64 MiB, and anew once they are sent"
        );
        assert_eq!(run.effects().len(), 218);
    }
}
