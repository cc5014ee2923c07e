//! Heads, bodies, trailers and answers.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tidegate_wasm::{Action, Callback, Direction, Effect, Pool, Shared, Snapshot};
use tidegate_wasm_guests as guests;

use crate::run::{
    REQUEST_HEADERS, RESPONSE_HEADERS, Run, compile, exchange, fields, plugin, vm_config,
};

#[test]
pub(crate) fn noop() {
    let mut run = Run::of(guests::NOOP);
    let before = run.io().request.headers.clone();
    for callback in [
        REQUEST_HEADERS,
        Callback::RequestBody {
            end_of_stream: true,
        },
        RESPONSE_HEADERS,
        Callback::ResponseBody {
            end_of_stream: true,
        },
        Callback::Log,
        Callback::Done,
    ] {
        assert_eq!(run.call(callback), Action::Continue);
    }
    assert_eq!(run.io().request.headers, before);
    assert!(run.effects().is_empty());
    assert!(run.vm.delete_stream(run.stream).unwrap().is_some());
    assert_eq!(run.vm.contexts(), 1);
}

#[test]
pub(crate) fn header() {
    let mut run = Run::of(guests::HEADER);
    run.request();
    run.call(RESPONSE_HEADERS);
    let response = run.io().response.as_ref().unwrap();
    assert_eq!(response.headers["x-seen"], "yes");
}

/// A filter of the SDK with `isolation: Request`: its instances never see more than one request.
#[test]
fn header_isolated() {
    let snapshot = Snapshot::take(
        &compile(guests::HEADER),
        guests::HEADER,
        Arc::new(vm_config()),
        Arc::new(plugin()),
        Shared::new(),
        Pool::default(),
    )
    .unwrap();
    for _ in 0..20 {
        let mut vm = snapshot.instantiate().unwrap();
        let stream = vm.create_stream(snapshot.root()).unwrap();
        assert_eq!(stream.get(), snapshot.root().get() + 1);
        vm.attach(stream, exchange("/p"));
        for callback in [
            REQUEST_HEADERS,
            RESPONSE_HEADERS,
            Callback::Log,
            Callback::Done,
        ] {
            vm.call(stream, callback).unwrap();
        }
        let io = vm.delete_stream(stream).unwrap().unwrap();
        assert_eq!(io.response.unwrap().headers["x-seen"], "yes");
        snapshot.recycle(vm);
        assert_eq!((snapshot.idle(), snapshot.in_flight()), (1, 0));
    }
}

#[test]
pub(crate) fn hmac() {
    let mut run = Run::on(guests::HMAC, "/signed");
    assert_ne!(run.request(), Action::Continue);
    assert!(
        matches!(&run.effects()[..], [Effect::LocalReply { reply, .. }] if reply.status == StatusCode::FORBIDDEN)
    );
    run.again("/signed");
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[7; 64]);
    let right = aws_lc_rs::hmac::sign(&key, b"/signed");
    let right: String = right
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let wrong = right.replace('a', "b").replace('0', "1");
    for (value, expected) in [(wrong, false), (right, true)] {
        run.again("/signed");
        let value = HeaderValue::from_str(&value).unwrap();
        run.io().request.headers.insert("x-signature", value);
        assert_eq!(run.request() == Action::Continue, expected);
    }
}

#[test]
pub(crate) fn headers() {
    let mut run = Run::of(guests::HEADERS);
    run.request();
    // Four pseudo-headers and two others.
    assert_eq!(run.header("x-said"), "6 6 1");
    let request = run.io().request.headers.clone();
    let many: Vec<_> = request.get_all("x-many").iter().collect();
    assert_eq!(many, ["1", "2"]);
    assert_eq!(request["x-one"], "changed");
    assert_eq!(request["x-bytes"].as_bytes(), b"\xe4");
    assert!(!request.contains_key("user-agent"));

    run.io().request_trailers = Some(fields(&[("x-gone", "1")]));
    run.call(Callback::RequestTrailers);
    assert_eq!(
        run.io().request_trailers,
        Some(fields(&[("x-count", "1 1")]))
    );

    run.call(RESPONSE_HEADERS);
    let response = run.io().response.clone().unwrap();
    assert_eq!(response.status, StatusCode::CREATED);
    assert_eq!(response.headers, fields(&[("x-was", "200")]));

    run.io().response_trailers = Some(fields(&[("x-t", "1"), ("x-u", "2")]));
    run.call(Callback::ResponseTrailers);
    assert_eq!(
        run.io().response_trailers,
        Some(fields(&[("x-all", "2 2 1")]))
    );
}

#[test]
pub(crate) fn bodies() {
    let mut run = Run::of(guests::BODIES);
    run.request();
    let piece = |end_of_stream| Callback::RequestBody { end_of_stream };
    assert_eq!(run.call(piece(false)), Action::Pause);
    run.io().request_body.append(Bytes::from(" world"));
    assert_eq!(run.call(piece(true)), Action::Continue);
    assert_eq!(&run.io().request_body[..], b"HELLO WORLD");

    run.call(RESPONSE_HEADERS);
    run.call(Callback::ResponseBody {
        end_of_stream: false,
    });
    assert_eq!(&run.io().response_body[..], b"<world");
    run.io().response_body.clear();
    run.call(Callback::ResponseBody {
        end_of_stream: true,
    });
    assert_eq!(&run.io().response_body[..], b">");
}

#[test]
pub(crate) fn replies() {
    let mut run = Run::on(guests::REPLIES, "/deny");
    assert_ne!(run.request(), Action::Continue);
    match &run.effects()[..] {
        [Effect::LocalReply { reply, .. }] => {
            assert_eq!(
                (reply.status, &reply.body[..]),
                (StatusCode::FORBIDDEN, &b"denied"[..])
            );
            assert_eq!(reply.headers["x-reason"], "policy");
        }
        other => panic!("{other:?}"),
    }
    // The answer passes through the same filter.
    run.io().attributes.response_code = Some(StatusCode::FORBIDDEN);
    assert_eq!(run.call(RESPONSE_HEADERS), Action::Continue);
    run.call(Callback::Log);
    assert_eq!(run.property("logged"), 403_i64.to_le_bytes());

    run.again("/grpc");
    run.request();
    assert!(
        matches!(&run.effects()[..], [Effect::LocalReply { reply, .. }] if reply.grpc_status == Some(7))
    );
    run.again("/reset");
    run.request();
    assert!(matches!(
        &run.effects()[..],
        [Effect::CloseStream {
            direction: Direction::Request,
            ..
        }]
    ));
    run.again("/wait");
    assert_eq!(run.request(), Action::PauseWatermark);
    run.again("/go");
    assert_eq!(run.request(), Action::Continue);
    let reset = HeaderValue::from_static("1");
    run.io()
        .response
        .as_mut()
        .unwrap()
        .headers
        .insert("x-reset", reset);
    run.call(RESPONSE_HEADERS);
    assert!(matches!(
        &run.effects()[..],
        [Effect::CloseStream {
            direction: Direction::Response,
            ..
        }]
    ));
}
