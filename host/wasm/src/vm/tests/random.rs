//! Random hostcalls with random arguments, in every callback: whatever a guest passes, the host answers and goes on.

use proptest::prelude::*;

use super::guest::{Arg, Guest, headers, plugin, vm_config};
use crate::{Callback, HttpCallResponse};

/// Hostcalls with their number of parameters.
const CALLS: [(&str, usize); 37] = [
    ("proxy_log", 3),
    ("proxy_get_log_level", 1),
    ("proxy_get_current_time_nanoseconds", 1),
    ("proxy_set_tick_period_milliseconds", 1),
    ("proxy_set_effective_context", 1),
    ("proxy_done", 0),
    ("proxy_get_header_map_value", 5),
    ("proxy_add_header_map_value", 5),
    ("proxy_replace_header_map_value", 5),
    ("proxy_remove_header_map_value", 3),
    ("proxy_get_header_map_pairs", 3),
    ("proxy_set_header_map_pairs", 3),
    ("proxy_get_header_map_size", 2),
    ("proxy_get_buffer_bytes", 5),
    ("proxy_get_buffer_status", 3),
    ("proxy_set_buffer_bytes", 5),
    ("proxy_get_property", 4),
    ("proxy_set_property", 4),
    ("proxy_send_local_response", 8),
    ("proxy_continue_stream", 1),
    ("proxy_close_stream", 1),
    ("proxy_http_call", 10),
    ("proxy_get_status", 3),
    ("proxy_grpc_call", 12),
    ("proxy_grpc_stream", 9),
    ("proxy_grpc_send", 4),
    ("proxy_grpc_cancel", 1),
    ("proxy_grpc_close", 1),
    ("proxy_get_shared_data", 5),
    ("proxy_set_shared_data", 5),
    ("proxy_register_shared_queue", 3),
    ("proxy_resolve_shared_queue", 5),
    ("proxy_enqueue_shared_queue", 3),
    ("proxy_dequeue_shared_queue", 3),
    ("proxy_define_metric", 4),
    ("proxy_get_metric", 2),
    ("proxy_call_foreign_function", 6),
];

const CALLBACKS: [&str; 10] = [
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_response_headers",
    "proxy_on_response_trailers",
    "proxy_on_http_call_response",
    "proxy_on_log",
    "proxy_on_done",
    "proxy_on_delete",
];

/// Small numbers, places in the memory, its end, and everything else; 32768 is where the strings begin.
fn argument() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 0_i64..16,
        3 => 32_768_i64..33_200,
        2 => (0_i64..64).prop_map(|n| n + (8 << 16) - 32),
        1 => any::<i32>().prop_map(i64::from),
        1 => Just(-1_i64),
    ]
}

fn call() -> impl Strategy<Value = (usize, usize, Vec<i64>)> {
    (
        0..CALLBACKS.len(),
        0..CALLS.len(),
        proptest::collection::vec(argument(), 12),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_a_guest_passes_the_host_goes_on(
        calls in proptest::collection::vec(call(), 1..60),
        text in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut guest = Guest::new();
        // Strings that calls may hit upon.
        for bytes in [&b"idp"[..], b":path", b"compress", b"expr_create", b"request.path", &text] {
            guest.call("proxy_on_queue_ready", "proxy_log", &[Arg::Int(0), Arg::Bytes(bytes)]);
        }
        for (callback, function, arguments) in &calls {
            let (name, count) = CALLS[*function];
            let arguments: Vec<Arg<'_>> = arguments.iter().take(count).map(|n| Arg::Int(*n)).collect();
            guest.call(CALLBACKS[*callback], name, &arguments);
        }
        let mut config = vm_config();
        config.limits.call_timeout = std::time::Duration::from_secs(10);
        let mut run = guest.start_with(config, plugin());
        let response = || HttpCallResponse {
            head: tidegate_model::ResponseHead { status: http::StatusCode::OK, headers: headers(&[("x-a", "1")]) },
            body: bytes::Bytes::from_static(b"answer"),
            trailers: headers(&[("x-t", "1")]),
        };
        for end_of_stream in [false, true] {
            let _ = run.callback(Callback::RequestHeaders { end_of_stream });
            let _ = run.callback(Callback::RequestBody { end_of_stream });
            for token in 0..4 {
                let _ = run.vm.on_http_call_response(token, response());
            }
            let _ = run.vm.on_tick(run.root);
            let _ = run.vm.on_queue_ready(run.root, 1);
            let _ = run.callback(Callback::ResponseHeaders { end_of_stream });
            let _ = run.callback(Callback::ResponseTrailers);
        }
        let effects = run.effects();
        prop_assert!(effects.len() <= 10_001);
        let _ = run.callback(Callback::Log);
        let _ = run.callback(Callback::Done);
        let io = run.vm.delete_stream(run.stream);
        // It may have trapped in its own allocator's memory, but the exchange is still what HTTP allows.
        if let Ok(Some(io)) = io {
            for (name, value) in &io.request.headers {
                prop_assert!(!name.as_str().is_empty() && !value.as_bytes().contains(&b'\n'));
            }
        }
        let _ = run.vm.remove_root(run.root);
    }
}
