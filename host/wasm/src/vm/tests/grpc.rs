//! gRPC calls and streams.

use std::time::Duration;

use bytes::Bytes as Body;
use http::StatusCode;
use tidegate_model::ResponseHead;

use super::guest::{Arg, Call, Guest, Running, headers, pairs, unpairs};
use crate::Effect;
use crate::protobuf::put_string;
use Arg::{Bytes, Int, Out};

const ON_REQUEST: &str = "proxy_on_request_headers";

pub(super) fn grpc_call(guest: &mut Guest, target: &[u8], timeout: i64) -> Call {
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

pub(super) fn grpc_stream(guest: &mut Guest, target: &[u8]) -> Call {
    guest.call(
        ON_REQUEST,
        "proxy_grpc_stream",
        &[Bytes(target), Bytes(b"a.B"), Bytes(b"Do"), Bytes(b""), Out],
    )
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
fn a_serialised_service_brings_authority_and_metadata() {
    let mut envoy_grpc = Vec::new();
    put_string(1, "idp", &mut envoy_grpc);
    put_string(2, "idp.test", &mut envoy_grpc);
    let mut header = Vec::new();
    put_string(1, "x-team", &mut header);
    put_string(2, "shop", &mut header);
    let len = |part: &[u8]| u8::try_from(part.len()).unwrap();
    let service = [
        &[0x0a, len(&envoy_grpc)][..],
        &envoy_grpc,
        &[0x2a, len(&header)],
        &header,
    ]
    .concat();
    let mut guest = Guest::new();
    let metadata = pairs(&[("trace-bin", "\0\n"), ("plain", "text")]);
    let args = [
        Bytes(&service),
        Bytes(b"a.B"),
        Bytes(b"Do"),
        Bytes(&metadata),
        Out,
    ];
    let stream = guest.call(ON_REQUEST, "proxy_grpc_stream", &args);
    let mut run = guest.start();
    run.request_headers();
    assert_eq!(run.status(&stream), 0);
    let effects = run.effects();
    let [Effect::GrpcStream { target }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(target.authority, "idp.test");
    assert_eq!(
        target.metadata,
        headers(&[("x-team", "shop"), ("trace-bin", "AAo="), ("plain", "text")])
    );
}

#[test]
fn a_guest_closes_its_half_in_the_callback_that_ends_the_stream() {
    let mut guest = Guest::new();
    grpc_stream(&mut guest, b"idp");
    let close = guest.call("proxy_on_grpc_close", "proxy_grpc_close", &[Int(2)]);
    let later = guest.call("proxy_on_tick", "proxy_grpc_close", &[Int(2)]);
    let mut run = guest.start();
    run.request_headers();
    run.vm.on_grpc_close(2, 0, String::new()).unwrap();
    run.vm.on_tick(run.root).unwrap();
    assert_eq!([run.status(&close), run.status(&later)], [0, 1]);
    assert_eq!(run.vm.pending_calls(), 0);
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
        (step(send, &[Int(6), Bytes(b"m"), Int(0)]), 1),
        (step(send, &[Int(4), Bytes(b"m"), Int(0)]), 2),
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
    let head = ResponseHead {
        status: StatusCode::OK,
        headers: headers(&[("i", "1")]),
    };
    run.vm.on_grpc_initial_metadata(2, Some(head)).unwrap();
    run.vm
        .on_grpc_trailing_metadata(2, headers(&[("t", "1")]))
        .unwrap();
    assert_eq!(
        unpairs(&run.bytes(&initial)),
        [(":status".into(), "200".into()), ("i".into(), "1".into())]
    );
    run.vm.on_grpc_initial_metadata(2, None).unwrap();
    assert_eq!(
        [run.out(&initial, 0), run.out(&initial, 1)],
        [0, 0],
        "nothing but trailers came"
    );
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
