//! Calls to others, and queues.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tidegate_model::ResponseHead;
use tidegate_wasm::{Action, Direction, Effect, HttpCallResponse};
use tidegate_wasm_guests as guests;

use crate::run::{Run, fields};

#[test]
pub(crate) fn http_call() {
    for (status, goes_on) in [(200, true), (503, false)] {
        let mut run = Run::of(guests::HTTP_CALL);
        assert_ne!(run.request(), Action::Continue);
        let token = match &run.effects()[..] {
            [
                Effect::HttpCall {
                    token,
                    cluster,
                    head,
                    body,
                    trailers,
                    timeout,
                    ..
                },
            ] => {
                assert_eq!((cluster.as_str(), head.path.as_str()), ("idp", "/check"));
                assert_eq!(
                    (&body[..], &head.headers["content-length"]),
                    (&b"who"[..], &"3".parse().unwrap())
                );
                assert_eq!(trailers.as_ref(), Some(&fields(&[("x-end", "1")])));
                assert_eq!(*timeout, Some(Duration::from_secs(2)));
                *token
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(run.vm.pending_calls(), 1);
        let response = HttpCallResponse {
            head: ResponseHead {
                status: StatusCode::from_u16(status).unwrap(),
                headers: fields(&[("x-a", "1")]),
            },
            body: Bytes::from_static(b"me"),
            trailers: fields(&[("x-t", "t")]),
        };
        run.vm.on_http_call_response(token, response).unwrap();
        assert_eq!(run.header("x-said"), format!("{status} me t 2=2 1=1"));
        let effects = run.effects();
        if goes_on {
            assert!(matches!(
                &effects[..],
                [Effect::Resume {
                    direction: Direction::Request,
                    ..
                }]
            ));
        } else {
            assert!(
                matches!(&effects[..], [Effect::LocalReply { .. }]),
                "{effects:?}"
            );
        }
        assert_eq!(run.vm.pending_calls(), 0);
    }
}

#[test]
pub(crate) fn grpc() {
    let mut run = Run::on(guests::GRPC, "/call");
    run.request();
    let token = match &run.effects()[..] {
        [
            Effect::GrpcCall {
                target,
                message,
                timeout,
            },
        ] => {
            assert_eq!(
                (target.service.as_str(), target.method.as_str()),
                ("authz.V1", "Check")
            );
            assert_eq!(target.metadata, fields(&[("x-m", "1")]));
            assert_eq!(
                (&message[..], *timeout),
                (&b"ask"[..], Some(Duration::from_secs(1)))
            );
            target.token
        }
        other => panic!("{other:?}"),
    };
    run.vm
        .on_grpc_receive(token, Bytes::from_static(b"yes"))
        .unwrap();
    assert_eq!(run.header("x-said"), "0 yes 0 ");
    assert!(matches!(&run.effects()[..], [Effect::Resume { .. }]));

    run.again("/call");
    run.request();
    let token = match &run.effects()[..] {
        [Effect::GrpcCall { target, .. }] => target.token,
        other => panic!("{other:?}"),
    };
    run.vm
        .on_grpc_close(token, 14, "unavailable".to_owned())
        .unwrap();
    assert_eq!(run.header("x-said"), "14  14 unavailable");

    for path in ["/call-cancelled", "/stream-cancelled"] {
        run.effects();
        run.again(path);
        run.request();
        let effects = run.effects();
        assert!(
            matches!(&effects[..], [_, Effect::GrpcCancel { .. }]),
            "{effects:?}"
        );
        assert_eq!(run.vm.pending_calls(), 0);
    }
    stream(run);
}

fn stream(mut run: Run) {
    run.again("/stream");
    run.request();
    let token = match &run.effects()[..] {
        [
            Effect::GrpcStream { target },
            Effect::GrpcSend {
                message: one,
                end_of_stream: false,
                ..
            },
            Effect::GrpcSend {
                message: two,
                end_of_stream: true,
                ..
            },
        ] => {
            assert_eq!((&one[..], &two[..]), (&b"one"[..], &b"two"[..]));
            target.token
        }
        other => panic!("{other:?}"),
    };
    let head = ResponseHead {
        status: StatusCode::OK,
        headers: fields(&[("x-m", "meta")]),
    };
    run.vm.on_grpc_initial_metadata(token, Some(head)).unwrap();
    run.vm
        .on_grpc_receive(token, Bytes::from_static(b"event"))
        .unwrap();
    run.vm
        .on_grpc_trailing_metadata(token, fields(&[("x-e", "1")]))
        .unwrap();
    run.vm.on_grpc_close(token, 0, String::new()).unwrap();
    assert_eq!(run.header("x-said"), "begin meta event end 1 closed 0 0 ");
}

#[test]
pub(crate) fn queues() {
    let mut run = Run::on(guests::QUEUES, "/first");
    run.request();
    assert_eq!(run.header("x-sent"), "Some(true) true");
    let token = match &run.effects()[..] {
        [Effect::QueueReady { token, vm, root }] => {
            assert_eq!((*vm, *root), (run.vm.id(), run.root));
            *token
        }
        other => panic!("{other:?}"),
    };
    assert!(run.shared.bytes("shop") > 0);
    run.vm.on_queue_ready(run.root, token).unwrap();
    run.again("/second");
    run.request();
    assert_eq!(run.header("x-last"), "/first");
}
