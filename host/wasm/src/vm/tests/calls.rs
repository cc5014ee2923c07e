//! HTTP and gRPC calls, ticks.

use std::time::Duration;

use bytes::Bytes as Body;
use http::StatusCode;

use super::guest::{
    Arg, Call, Guest, Running, UNTOUCHED, headers, pairs, plugin, unpairs, vm_config,
};
use crate::{Effect, HttpCallResponse};
use Arg::{Bytes, Int, Out};

const ON_REQUEST: &str = "proxy_on_request_headers";
const GOOD: [(&str, &str); 4] = [
    (":method", "POST"),
    (":path", "/token?x=1"),
    (":authority", "idp.test"),
    ("accept", "*/*"),
];

fn http_call(
    guest: &mut Guest,
    cluster: &[u8],
    head: &[(&str, &str)],
    body: &[u8],
    timeout: i64,
) -> Call {
    let head = pairs(head);
    let args = [
        Bytes(cluster),
        Bytes(&head),
        Bytes(body),
        Bytes(&pairs(&[("t", "1")])),
        Int(timeout),
        Out,
    ];
    guest.call(ON_REQUEST, "proxy_http_call", &args)
}

fn grpc_call(guest: &mut Guest, target: &[u8], timeout: i64) -> Call {
    let metadata = pairs(&[("authorization", "x")]);
    let args = [
        Bytes(target),
        Bytes(b"a.B"),
        Bytes(b"Do"),
        Bytes(&metadata),
        Bytes(b"message"),
        Int(timeout),
        Out,
    ];
    guest.call(ON_REQUEST, "proxy_grpc_call", &args)
}

fn grpc_stream(guest: &mut Guest, target: &[u8]) -> Call {
    guest.call(
        ON_REQUEST,
        "proxy_grpc_stream",
        &[Bytes(target), Bytes(b"a.B"), Bytes(b"Do"), Bytes(b""), Out],
    )
}

#[test]
fn an_http_call_becomes_an_effect() {
    let mut guest = Guest::new();
    let call = http_call(&mut guest, b"idp", &GOOD, b"body", 250);
    let none = http_call(&mut guest, b"idp", &GOOD, b"", 0);
    let mut run = guest.start();
    run.request_headers();
    assert_eq!(
        [
            run.status(&call),
            run.out(&call, 0),
            run.status(&none),
            run.out(&none, 0)
        ],
        [0, 1, 0, 2]
    );
    let (expected_root, mut effects) = (run.root, run.effects().into_iter());
    let Some(Effect::HttpCall {
        root,
        token: 1,
        cluster,
        head,
        body,
        trailers,
        timeout,
    }) = effects.next()
    else {
        panic!()
    };
    assert_eq!(
        (root, cluster.as_str(), timeout),
        (expected_root, "idp", Some(Duration::from_millis(250)))
    );
    assert_eq!(
        (
            head.path.as_str(),
            head.method.as_str(),
            head.scheme.as_str()
        ),
        ("/token?x=1", "POST", "http")
    );
    assert_eq!(
        (&head.authority, &body[..]),
        (&http::HeaderValue::from_static("idp.test"), &b"body"[..])
    );
    assert_eq!(head.headers["content-length"], "4");
    assert_eq!(trailers.unwrap()["t"], "1");
    let Some(Effect::HttpCall {
        token: 2,
        head,
        timeout: None,
        ..
    }) = effects.next()
    else {
        panic!()
    };
    assert!(!head.headers.contains_key("content-length"));
    assert_eq!(run.vm.pending_calls(), 2);
}

#[test]
fn http_calls_that_are_refused() {
    let mut guest = Guest::new();
    let bad = [
        ("a", "1\n"),
        (":method", "GET"),
        (":path", "/"),
        (":authority", "x"),
    ];
    let calls = [
        http_call(&mut guest, b"other", &GOOD, b"", 0),
        http_call(&mut guest, b"", &GOOD, b"", 0),
        http_call(&mut guest, b"\xff", &GOOD, b"", 0),
        http_call(&mut guest, b"idp", &GOOD[1..], b"", 0),
        http_call(&mut guest, b"idp", &GOOD[..2], b"", 0),
        http_call(&mut guest, b"idp", &[GOOD[0], GOOD[2]], b"", 0),
        http_call(&mut guest, b"idp", &[], b"", 0),
        http_call(&mut guest, b"idp", &bad, b"", 0),
        http_call(&mut guest, b"idp", &GOOD, b"", -1),
    ];
    let mut run = guest.start();
    run.request_headers();
    for (index, call) in calls.iter().enumerate() {
        assert_eq!(
            (run.status(call), run.out(call, 0)),
            (2, 0),
            "{index}: the token is written as 0 first"
        );
    }
    assert!(run.effects().is_empty());
    assert_eq!(run.vm.pending_calls(), 0);
}

#[test]
fn the_guest_cannot_frame_its_calls() {
    let mut guest = Guest::new();
    let head = [
        &GOOD[..],
        &[("content-length", "100"), ("transfer-encoding", "chunked")],
    ]
    .concat();
    http_call(&mut guest, b"idp", &head, b"body", 0);
    http_call(&mut guest, b"idp", &head, b"", 0);
    let mut run = guest.start();
    run.request_headers();
    let lengths: Vec<_> = run
        .effects()
        .into_iter()
        .map(|effect| match effect {
            Effect::HttpCall { head, .. } => {
                assert!(!head.headers.contains_key("transfer-encoding"));
                head.headers["content-length"].to_str().unwrap().to_owned()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lengths, ["4", "0"]);
}

#[test]
fn answers_to_http_calls() {
    let mut guest = Guest::new();
    http_call(&mut guest, b"idp", &GOOD, b"", 0);
    let on_response = "proxy_on_http_call_response";
    for n in 0..5 {
        guest.raw(
            on_response,
            &format!("(i32.store (i32.const {}) (local.get $p{n}))", 16 + 4 * n),
        );
    }
    guest.call(on_response, "proxy_set_effective_context", &[Int(2)]);
    guest.call(on_response, "proxy_continue_stream", &[Int(0)]);
    let mut run = guest.start();
    run.request_headers();
    run.effects();
    let head = tidegate_model::ResponseHead {
        status: StatusCode::OK,
        headers: headers(&[("a", "1"), ("b", "2")]),
    };
    let response = HttpCallResponse {
        head,
        body: Body::from_static(b"keys"),
        trailers: headers(&[("t", "1")]),
    };
    run.vm.on_http_call_response(77, response.clone()).unwrap();
    assert_eq!(run.memory(16, 4), [0; 4], "an unknown token reaches nobody");
    run.vm.on_http_call_response(1, response.clone()).unwrap();
    let words: Vec<u32> = run
        .memory(16, 20)
        .chunks(4)
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
        .collect();
    assert_eq!(words, [1, 1, 3, 4, 1]);
    let stream = run.stream;
    assert!(matches!(run.effects()[..], [Effect::Resume { context, .. }] if context == stream));
    assert_eq!(run.vm.pending_calls(), 0);
    run.vm.on_http_call_response(1, response).unwrap();
    assert!(run.effects().is_empty(), "only one answer per call");
}

#[test]
fn pending_calls_are_capped() {
    let mut guest = Guest::new();
    let calls = [
        http_call(&mut guest, b"idp", &GOOD, b"", 0),
        grpc_call(&mut guest, b"idp", 0),
        http_call(&mut guest, b"idp", &GOOD, b"", 0),
        grpc_stream(&mut guest, b"idp"),
    ];
    let mut config = vm_config();
    config.limits.calls = 2;
    let mut run = guest.start_with(config, plugin());
    run.request_headers();
    assert_eq!(
        calls.each_ref().map(|call| run.status(call)),
        [0, 0, 10, 10]
    );
}

#[test]
fn a_plugin_that_left_gets_no_answers() {
    let mut guest = Guest::new();
    http_call(&mut guest, b"idp", &GOOD, b"", 0);
    guest.raw("proxy_on_http_call_response", "unreachable");
    let mut run = guest.start();
    run.request_headers();
    run.vm.delete_stream(run.stream).unwrap();
    run.vm.remove_root(run.root).unwrap();
    assert_eq!(run.vm.pending_calls(), 0);
    let head = tidegate_model::ResponseHead {
        status: StatusCode::OK,
        headers: headers(&[]),
    };
    run.vm
        .on_http_call_response(
            1,
            HttpCallResponse {
                head,
                body: Body::new(),
                trailers: headers(&[]),
            },
        )
        .unwrap();
}

#[test]
fn grpc_targets() {
    let proto = [&[0x0a, 5, 0x0a, 3][..], b"idp"].concat();
    let mut guest = Guest::new();
    let plain = grpc_call(&mut guest, b"idp", 100);
    let encoded = grpc_stream(&mut guest, &proto);
    let refused = [
        grpc_call(&mut guest, b"other", 0),
        grpc_stream(&mut guest, b""),
        grpc_stream(&mut guest, b"\x0a\x05"),
    ];
    let negative = grpc_call(&mut guest, b"idp", -1);
    let method = [Bytes(b"idp"), Bytes(b"a/B"), Bytes(b"Do"), Bytes(b""), Out];
    let method = guest.call(ON_REQUEST, "proxy_grpc_stream", &method);
    let mut run = guest.start();
    run.request_headers();
    assert_eq!(
        [
            run.status(&plain),
            run.out(&plain, 0),
            run.status(&encoded),
            run.out(&encoded, 0)
        ],
        [0, 1, 0, 2]
    );
    assert_eq!(refused.each_ref().map(|call| run.status(call)), [4; 3]);
    assert_eq!([run.status(&negative), run.status(&method)], [2, 2]);
    let effects = run.effects();
    let [
        Effect::GrpcCall {
            target,
            message,
            timeout,
        },
        Effect::GrpcStream { target: stream },
    ] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(
        (
            target.cluster.as_str(),
            target.service.as_str(),
            target.method.as_str()
        ),
        ("idp", "a.B", "Do")
    );
    assert_eq!(
        (target.token, &message[..], *timeout),
        (1, &b"message"[..], Some(Duration::from_millis(100)))
    );
    assert_eq!(
        (&target.metadata["authorization"], target.root),
        (&http::HeaderValue::from_static("x"), run.root)
    );
    assert_eq!((stream.cluster.as_str(), stream.token), ("idp", 2));
}

#[test]
fn sending_and_closing_grpc() {
    let mut guest = Guest::new();
    grpc_call(&mut guest, b"idp", 0);
    grpc_stream(&mut guest, b"idp");
    let mut step = |function: &str, args: &[Arg<'_>]| guest.call(ON_REQUEST, function, args);
    let (send, close, cancel) = ("proxy_grpc_send", "proxy_grpc_close", "proxy_grpc_cancel");
    let calls = [
        (step(send, &[Int(1), Bytes(b"m"), Int(0)]), 2),
        (step(send, &[Int(2), Bytes(b"m"), Int(0)]), 0),
        (step(send, &[Int(4), Bytes(b"m"), Int(0)]), 1),
        (step(send, &[Int(2), Bytes(b"end"), Int(1)]), 0),
        (step(send, &[Int(2), Bytes(b"late"), Int(0)]), 2),
        (step(close, &[Int(2)]), 0),
        (step(close, &[Int(1)]), 0),
        (step(close, &[Int(1)]), 1),
        (step(cancel, &[Int(2)]), 0),
        (step(cancel, &[Int(2)]), 1),
        (step(cancel, &[Int(99)]), 1),
    ];
    let mut run = guest.start();
    run.request_headers();
    for (index, (call, expected)) in calls.iter().enumerate() {
        assert_eq!(run.status(call), *expected, "{index}");
    }
    assert_eq!(run.vm.pending_calls(), 0);
    let effects = run.effects();
    assert!(
        matches!(
            &effects[2..],
            [
                Effect::GrpcSend {
                    token: 2,
                    end_of_stream: false,
                    ..
                },
                Effect::GrpcSend {
                    token: 2,
                    end_of_stream: true,
                    ..
                },
                Effect::GrpcClose { token: 2 },
                Effect::GrpcClose { token: 1 },
                Effect::GrpcCancel { token: 2 },
            ]
        ),
        "{effects:?}"
    );
}

#[test]
fn grpc_callbacks() {
    let mut guest = Guest::new();
    grpc_call(&mut guest, b"idp", 0);
    grpc_stream(&mut guest, b"idp");
    let get = "proxy_get_header_map_pairs";
    let initial = guest.call(
        "proxy_on_grpc_receive_initial_metadata",
        get,
        &[Int(4), Out, Out],
    );
    let trailing = guest.call(
        "proxy_on_grpc_receive_trailing_metadata",
        get,
        &[Int(5), Out, Out],
    );
    let message = guest.call(
        "proxy_on_grpc_receive",
        "proxy_get_buffer_bytes",
        &[Int(5), Int(0), Int(99), Out, Out],
    );
    let status = guest.call("proxy_on_grpc_close", "proxy_get_status", &[Out, Out, Out]);
    let later = guest.call("proxy_on_tick", "proxy_get_status", &[Out, Out, Out]);
    let mut run = guest.start();
    run.request_headers();
    run.vm
        .on_grpc_initial_metadata(2, headers(&[("i", "1")]))
        .unwrap();
    run.vm
        .on_grpc_trailing_metadata(2, headers(&[("t", "1")]))
        .unwrap();
    assert_eq!(unpairs(&run.bytes(&initial)), [("i".into(), "1".into())]);
    assert_eq!(unpairs(&run.bytes(&trailing)), [("t".into(), "1".into())]);
    run.vm
        .on_grpc_receive(2, Body::from_static(b"part"))
        .unwrap();
    assert_eq!(run.text(&message), Ok("part".to_owned()));
    assert_eq!(run.vm.pending_calls(), 2);
    run.vm
        .on_grpc_receive(1, Body::from_static(b"answer"))
        .unwrap();
    assert_eq!(
        (run.text(&message), run.vm.pending_calls()),
        (Ok("answer".to_owned()), 1),
        "an answer ends a call"
    );
    run.vm
        .on_grpc_close(2, 14, "unavailable".to_owned())
        .unwrap();
    let out = |run: &Running, call: &Call| {
        let (ptr, len) = (run.out(call, 1) as usize, run.out(call, 2) as usize);
        (
            run.out(call, 0),
            String::from_utf8(run.memory(ptr, len).to_vec()).unwrap(),
        )
    };
    assert_eq!(out(&run, &status), (14, "unavailable".to_owned()));
    assert_eq!(run.vm.pending_calls(), 0);
    run.vm.on_tick(run.root).unwrap();
    assert_eq!(
        out(&run, &later),
        (14, String::new()),
        "the message lasts for the callback"
    );
    run.vm
        .on_grpc_receive(2, Body::from_static(b"late"))
        .unwrap();
    assert_eq!(run.text(&message), Ok("answer".to_owned()));
}

#[test]
fn tick_periods() {
    let tick = "proxy_set_tick_period_milliseconds";
    let mut guest = Guest::new();
    guest.call("proxy_on_configure", tick, &[Int(100)]);
    guest.call("proxy_on_configure", tick, &[Int(250)]);
    guest.call(ON_REQUEST, tick, &[Int(0)]);
    let mut run = guest.start();
    let root = run.root;
    assert!(
        matches!(run.effects()[..], [Effect::SetTickPeriod { root: r, period: Some(p) }] if r == root && p.as_millis() == 250),
        "only the last period counts"
    );
    run.request_headers();
    assert!(
        matches!(run.effects()[..], [Effect::SetTickPeriod { root: r, period: None }] if r == root),
        "the stream's root"
    );
}

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
