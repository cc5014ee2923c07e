//! HTTP calls, ticks.

use std::time::Duration;

use bytes::Bytes as Body;
use http::StatusCode;

use super::guest::{Arg, Call, Guest, headers, pairs, plugin, vm_config};
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
        super::grpc::grpc_call(&mut guest, b"idp", 0),
        http_call(&mut guest, b"idp", &GOOD, b"", 0),
        super::grpc::grpc_stream(&mut guest, b"idp"),
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
fn a_call_that_broke_off_has_nothing_to_read() {
    let mut guest = Guest::new();
    http_call(&mut guest, b"idp", &GOOD, b"", 0);
    let on = "proxy_on_http_call_response";
    let status = guest.call(on, "proxy_get_status", &[Out, Out, Out]);
    let fields = guest.call(on, "proxy_get_header_map_pairs", &[Int(6), Out, Out]);
    let body = guest.call(
        on,
        "proxy_get_buffer_bytes",
        &[Int(4), Int(0), Int(9), Out, Out],
    );
    let mut run = guest.start();
    run.request_headers();
    run.vm.on_http_call_failed(1).unwrap();
    let (code, ptr, len) = (
        run.out(&status, 0),
        run.out(&status, 1) as usize,
        run.out(&status, 2) as usize,
    );
    assert_eq!((code, run.memory(ptr, len)), (11, &b"reset"[..]));
    assert_eq!((run.status(&fields), run.out(&fields, 1)), (0, 0));
    assert_eq!(run.status(&body), 1);
    assert_eq!(run.vm.pending_calls(), 0);
    run.vm.on_http_call_failed(1).unwrap();
}
