//! Every pointer and length of every hostcall, out of bounds: a status each time, and never a trap or a panic.

use super::guest::{Arg, Guest, pairs};
use crate::Callback;
use Arg::{Bytes, Int, Out};

const PAGE: i64 = 65_536;
/// Linear memory of the test guests.
const MEMORY: i64 = 8 * PAGE;
const ON_BODY: &str = "proxy_on_request_body";

/// Calls that would succeed; pointers among their arguments are spoilt one by one.
fn calls(head: &'static [u8]) -> Vec<(&'static str, Vec<Arg<'static>>)> {
    vec![
        ("proxy_log", vec![Int(2), Bytes(b"x")]),
        ("proxy_get_log_level", vec![Out]),
        ("proxy_get_current_time_nanoseconds", vec![Out]),
        (
            "proxy_get_header_map_value",
            vec![Int(1), Bytes(b"t"), Out, Out],
        ),
        (
            "proxy_add_header_map_value",
            vec![Int(1), Bytes(b"a"), Bytes(b"b")],
        ),
        (
            "proxy_replace_header_map_value",
            vec![Int(1), Bytes(b"a"), Bytes(b"b")],
        ),
        ("proxy_remove_header_map_value", vec![Int(1), Bytes(b"a")]),
        ("proxy_get_header_map_pairs", vec![Int(1), Out, Out]),
        ("proxy_get_header_map_size", vec![Int(1), Out]),
        (
            "proxy_get_buffer_bytes",
            vec![Int(0), Int(0), Int(5), Out, Out],
        ),
        ("proxy_get_buffer_status", vec![Int(0), Out, Out]),
        (
            "proxy_set_buffer_bytes",
            vec![Int(0), Int(0), Int(0), Bytes(b"x")],
        ),
        ("proxy_get_property", vec![Bytes(b"plugin_name"), Out, Out]),
        ("proxy_set_property", vec![Bytes(b"a"), Bytes(b"b")]),
        (
            "proxy_http_call",
            vec![
                Bytes(b"idp"),
                Bytes(head),
                Bytes(b"x"),
                Bytes(b""),
                Int(0),
                Out,
            ],
        ),
        ("proxy_get_status", vec![Out, Out, Out]),
        (
            "proxy_grpc_call",
            vec![
                Bytes(b"idp"),
                Bytes(b"s"),
                Bytes(b"m"),
                Bytes(b""),
                Bytes(b"x"),
                Int(0),
                Out,
            ],
        ),
        (
            "proxy_grpc_stream",
            vec![Bytes(b"idp"), Bytes(b"s"), Bytes(b"m"), Bytes(b""), Out],
        ),
        ("proxy_grpc_send", vec![Int(2), Bytes(b"x"), Int(0)]),
        ("proxy_get_shared_data", vec![Bytes(b"k"), Out, Out, Out]),
        (
            "proxy_set_shared_data",
            vec![Bytes(b"k"), Bytes(b"v"), Int(0)],
        ),
        ("proxy_register_shared_queue", vec![Bytes(b"q"), Out]),
        (
            "proxy_resolve_shared_queue",
            vec![Bytes(b""), Bytes(b"q"), Out],
        ),
        ("proxy_enqueue_shared_queue", vec![Int(1), Bytes(b"x")]),
        ("proxy_dequeue_shared_queue", vec![Int(1), Out, Out]),
        ("proxy_define_metric", vec![Int(0), Bytes(b"n"), Out]),
        ("proxy_get_metric", vec![Int(4), Out]),
        (
            "proxy_call_foreign_function",
            vec![Bytes(b"clear_route_cache"), Bytes(b""), Out, Out],
        ),
        ("proxy_set_header_map_pairs", vec![Int(1), Bytes(b"")]),
        (
            "proxy_send_local_response",
            vec![Int(200), Bytes(b"d"), Bytes(b"b"), Bytes(b""), Int(-1)],
        ),
    ]
}

/// A guest that has what the calls need: data, a queue with items, a metric, a gRPC stream.
fn prepared() -> Guest {
    let mut guest = Guest::new();
    let configure = "proxy_on_configure";
    guest.call(
        configure,
        "proxy_set_shared_data",
        &[Bytes(b"k"), Bytes(b"v"), Int(0)],
    );
    guest.call(
        configure,
        "proxy_register_shared_queue",
        &[Bytes(b"q"), Out],
    );
    for _ in 0..20 {
        guest.call(
            configure,
            "proxy_enqueue_shared_queue",
            &[Int(1), Bytes(b"item")],
        );
    }
    guest.call(
        configure,
        "proxy_define_metric",
        &[Int(0), Bytes(b"n"), Out],
    );
    guest.call(
        configure,
        "proxy_grpc_stream",
        &[Bytes(b"idp"), Bytes(b"s"), Bytes(b"m"), Bytes(b""), Out],
    );
    guest
}

/// The arguments with the one at `index` spoilt in each possible way.
fn spoilt(args: &[Arg<'static>], index: usize) -> Vec<Vec<Arg<'static>>> {
    let with = |arg: &[Arg<'static>]| [&args[..index], arg, &args[index + 1..]].concat();
    match args[index] {
        Bytes(_) => [
            (MEMORY, 1),
            (MEMORY - 1, 2),
            (0, MEMORY + 1),
            (-1, 1),
            (8, -1),
            (-1, -1),
        ]
        .iter()
        .map(|(ptr, len)| with(&[Int(*ptr), Int(*len)]))
        .collect(),
        Out => [MEMORY, MEMORY - 3, -1, -4]
            .iter()
            .map(|ptr| with(&[Int(*ptr)]))
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn pointers_out_of_bounds() {
    let head: &'static [u8] =
        pairs(&[(":method", "GET"), (":path", "/"), (":authority", "idp")]).leak();
    let mut guest = prepared();
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for (function, args) in calls(head) {
        for index in 0..args.len() {
            for args in spoilt(&args, index) {
                bad.push((function, index, guest.call(ON_BODY, function, &args)));
            }
        }
        good.push((
            function,
            guest.call("proxy_on_request_trailers", function, &args),
        ));
    }
    assert!(bad.len() > 200, "{}", bad.len());
    let mut run = guest.start();
    run.io().request_trailers = Some(super::guest::headers(&[("t", "1")]));
    // Trailers within reach of the body callback.
    let stream = run
        .vm
        .store
        .data_mut()
        .contexts
        .streams
        .values_mut()
        .next()
        .unwrap();
    stream.open.insert(crate::contexts::Open::REQUEST_TRAILERS);
    run.callback(Callback::RequestBody {
        end_of_stream: true,
    })
    .unwrap();
    for (function, index, call) in &bad {
        assert_eq!(run.status(call), 6, "{function}, argument {index}");
    }
    run.callback(Callback::RequestTrailers).unwrap();
    for (function, call) in &good {
        assert_eq!(run.status(call), 0, "{function} with good arguments");
    }
}

#[test]
fn numbers_out_of_range() {
    let mut guest = Guest::new();
    let calls = [
        (guest.call(ON_BODY, "proxy_log", &[Int(-1), Bytes(b"x")]), 2),
        (
            guest.call(
                ON_BODY,
                "proxy_get_buffer_bytes",
                &[Int(0), Int(-1), Int(-1), Out, Out],
            ),
            0,
        ),
        (
            guest.call(
                ON_BODY,
                "proxy_set_buffer_bytes",
                &[Int(0), Int(0), Int(-1), Bytes(b"x")],
            ),
            0,
        ),
        (
            guest.call(
                ON_BODY,
                "proxy_set_buffer_bytes",
                &[Int(0), Int(-1), Int(-1), Bytes(b"x")],
            ),
            0,
        ),
        (
            guest.call(ON_BODY, "proxy_define_metric", &[Int(-1), Bytes(b"x"), Out]),
            2,
        ),
        (guest.call(ON_BODY, "proxy_get_metric", &[Int(-1), Out]), 2),
        (
            guest.call(ON_BODY, "proxy_grpc_send", &[Int(-2), Bytes(b"x"), Int(-1)]),
            1,
        ),
        (
            guest.call(ON_BODY, "proxy_set_effective_context", &[Int(-1)]),
            2,
        ),
        (
            guest.call(ON_BODY, "proxy_set_tick_period_milliseconds", &[Int(-1)]),
            0,
        ),
    ];
    let mut run = guest.start();
    run.callback(Callback::RequestBody {
        end_of_stream: true,
    })
    .unwrap();
    for (index, (call, expected)) in calls.iter().enumerate() {
        assert_eq!(run.status(call), *expected, "{index}");
    }
    assert_eq!(&run.io().request_body[..], b"xx");
}
