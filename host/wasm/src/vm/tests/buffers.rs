//! Buffers through hostcalls.

use bytes::Bytes as Body;
use http::StatusCode;

use super::guest::{Arg, Call, Guest, headers, pairs};
use crate::{Action, Callback, HttpCallResponse};
use Arg::{Bytes, Int, Out};

const GET: &str = "proxy_get_buffer_bytes";
const SET: &str = "proxy_set_buffer_bytes";
const STATUS: &str = "proxy_get_buffer_status";
const ON_BODY: &str = "proxy_on_request_body";

fn all(guest: &mut Guest, callback: &'static str, buffer: i64) -> Call {
    guest.call(
        callback,
        GET,
        &[Int(buffer), Int(0), Int(1 << 20), Out, Out],
    )
}

#[test]
fn ranges() {
    let cases: [(i64, i64, Result<&str, u32>); 8] = [
        (0, 100, Ok("hello world")),
        (0, 5, Ok("hello")),
        (6, 100, Ok("world")),
        (11, 1, Ok("")),
        (50, 1, Ok("")),
        (3, 0, Ok("")),
        // Added in 64 bits.
        (-1, 2, Ok("")),
        (5, -5, Ok(" world")),
    ];
    let mut guest = Guest::new();
    let calls = cases
        .map(|(start, max, _)| guest.call(ON_BODY, GET, &[Int(0), Int(start), Int(max), Out, Out]));
    let status = guest.call(ON_BODY, STATUS, &[Int(0), Out, Out]);
    let mut run = guest.start();
    run.callback(Callback::RequestBody {
        end_of_stream: true,
    })
    .unwrap();
    for ((start, max, expected), call) in cases.iter().zip(&calls) {
        assert_eq!(run.text(call), expected.map(str::to_owned), "{start} {max}");
    }
    assert_eq!(
        (
            run.status(&status),
            run.out(&status, 0),
            run.out(&status, 1)
        ),
        (0, 11, 0)
    );
}

#[test]
fn writes_reach_the_body() {
    let cases: [(i64, i64, &str, u32, &str); 6] = [
        (0, 0, "<", 0, "<hello world"),
        (0, 11, "new", 0, "new"),
        (0, 5, "HI", 0, "HI world"),
        (11, 0, ">", 0, "hello world>"),
        (1 << 20, 1, ">", 0, "hello world>"),
        (3, 2, "x", 2, "hello world"),
    ];
    for (start, length, data, status, expected) in cases {
        let mut guest = Guest::new();
        let set = guest.call(
            ON_BODY,
            SET,
            &[Int(0), Int(start), Int(length), Bytes(data.as_bytes())],
        );
        let read = all(&mut guest, ON_BODY, 0);
        let mut run = guest.start();
        run.callback(Callback::RequestBody {
            end_of_stream: true,
        })
        .unwrap();
        assert_eq!(
            (run.status(&set), run.text(&read)),
            (status, Ok(expected.to_owned())),
            "{start} {length}"
        );
        assert_eq!(&run.io().request_body[..], expected.as_bytes());
    }
}

#[test]
fn bodies_are_there_from_their_callback_until_let_go() {
    let mut guest = Guest::new();
    let early = all(&mut guest, "proxy_on_request_headers", 0);
    let refused = guest.call(
        "proxy_on_request_headers",
        SET,
        &[Int(0), Int(0), Int(0), Bytes(b"x")],
    );
    let in_trailers = all(&mut guest, "proxy_on_request_trailers", 0);
    let response = all(&mut guest, "proxy_on_response_body", 1);
    let other = all(&mut guest, "proxy_on_response_body", 0);
    guest.returns(ON_BODY, 1);
    let mut run = guest.start();
    run.request_headers();
    assert_eq!(
        (run.text(&early), run.status(&refused)),
        (Ok(String::new()), 2)
    );
    run.callback(Callback::RequestTrailers).unwrap();
    assert_eq!(
        run.text(&in_trailers),
        Ok("hello world".to_owned()),
        "trailers bring what is held with them"
    );
    assert_eq!(
        run.callback(Callback::RequestBody {
            end_of_stream: false
        })
        .unwrap(),
        Action::Pause
    );
    run.io().request_trailers = Some(headers(&[("t", "1")]));
    run.callback(Callback::RequestTrailers).unwrap();
    assert_eq!(
        run.text(&in_trailers),
        Ok("hello world".to_owned()),
        "a held body is there in the trailers callback"
    );
    run.callback(Callback::ResponseBody {
        end_of_stream: true,
    })
    .unwrap();
    assert_eq!(run.text(&response), Ok("response".to_owned()));
    assert_eq!(
        run.text(&other),
        Ok(String::new()),
        "the trailers let go of it"
    );
}

#[test]
fn configurations() {
    let mut guest = Guest::new();
    let vm_early = all(&mut guest, "proxy_on_vm_start", 6);
    let plugin_early = all(&mut guest, "proxy_on_vm_start", 7);
    let body_early = all(&mut guest, "proxy_on_vm_start", 0);
    let plugin = all(&mut guest, "proxy_on_configure", 7);
    let vm = all(&mut guest, "proxy_on_configure", 6);
    let change = guest.call(
        "proxy_on_configure",
        SET,
        &[Int(7), Int(0), Int(0), Bytes(b"x")],
    );
    let late = all(&mut guest, "proxy_on_request_headers", 7);
    let late_vm = all(&mut guest, "proxy_on_request_headers", 6);
    let mut run = guest.start();
    run.request_headers();
    assert_eq!(run.text(&vm_early), Ok("vm config".to_owned()));
    assert_eq!(run.text(&plugin_early), Err(1));
    assert_eq!(run.text(&body_early), Ok(String::new()));
    assert_eq!(run.text(&plugin), Ok("plugin config".to_owned()));
    assert_eq!(run.text(&vm), Ok("vm config".to_owned()));
    assert_eq!(run.status(&change), 2);
    assert_eq!(run.text(&late), Err(1));
    assert_eq!(run.text(&late_vm), Ok("vm config".to_owned()));
}

#[test]
fn configuration_of_version_0_1_0() {
    let mut guest = Guest::old();
    let vm = guest.call("proxy_on_vm_start", "proxy_get_configuration", &[Out, Out]);
    let plugin = guest.call("proxy_on_configure", "proxy_get_configuration", &[Out, Out]);
    let later = guest.call(
        "proxy_on_request_headers",
        "proxy_get_configuration",
        &[Out, Out],
    );
    let mut run = guest.start();
    run.request_headers();
    assert_eq!(run.text(&vm), Ok("vm config".to_owned()));
    assert_eq!(run.text(&plugin), Ok("plugin config".to_owned()));
    assert_eq!(run.text(&later), Ok("vm config".to_owned()));
}

#[test]
fn what_is_not_there_is_not_found_and_what_does_not_exist_a_bad_argument() {
    let mut guest = Guest::new();
    let calls: Vec<_> = (-1..=10)
        .map(|buffer| {
            [
                all(&mut guest, "proxy_on_request_headers", buffer),
                guest.call("proxy_on_request_headers", STATUS, &[Int(buffer), Out, Out]),
                guest.call(
                    "proxy_on_request_headers",
                    SET,
                    &[Int(buffer), Int(0), Int(0), Bytes(b"x")],
                ),
            ]
        })
        .collect();
    let mut run = guest.start();
    run.request_headers();
    let expected = [
        [2, 2, 2], // -1
        [0, 0, 2], // request body
        [0, 0, 2], // response body
        [0, 0, 2], // TCP
        [0, 0, 2],
        [1, 1, 1], // HTTP call
        [0, 0, 2], // gRPC
        [0, 0, 2], // VM configuration
        [1, 1, 1], // plugin configuration
        [0, 0, 2], // call data
        [2, 2, 2],
        [2, 2, 2],
    ];
    for (buffer, (calls, expected)) in (-1..).zip(calls.iter().zip(expected)) {
        assert_eq!(
            calls.each_ref().map(|call| run.status(call)),
            expected,
            "buffer {buffer}"
        );
    }
}

#[test]
fn the_body_of_a_call() {
    let mut guest = Guest::new();
    let blob = pairs(&[(":method", "GET"), (":path", "/"), (":authority", "idp")]);
    let empty = Bytes(b"");
    guest.call(
        "proxy_on_request_headers",
        "proxy_http_call",
        &[Bytes(b"idp"), Bytes(&blob), empty, empty, Int(0), Out],
    );
    let on_response = "proxy_on_http_call_response";
    let read = all(&mut guest, on_response, 4);
    let change = guest.call(on_response, SET, &[Int(4), Int(0), Int(0), Bytes(b"x")]);
    let mut run = guest.start();
    run.request_headers();
    let head = tidegate_model::ResponseHead {
        status: StatusCode::OK,
        headers: headers(&[]),
    };
    let response = HttpCallResponse {
        head,
        body: Body::from_static(b"keys"),
        trailers: headers(&[]),
    };
    run.vm.on_http_call_response(1, response).unwrap();
    assert_eq!(
        (run.text(&read), run.status(&change)),
        (Ok("keys".to_owned()), 2)
    );
}

#[test]
fn a_body_is_capped_by_the_plugins_limit() {
    let mut guest = Guest::new();
    guest.call(
        ON_BODY,
        SET,
        &[Int(0), Int(1000), Int(0), Bytes(b"1234567890")],
    );
    let again = guest.call(
        ON_BODY,
        SET,
        &[Int(0), Int(1000), Int(0), Bytes(b"1234567890")],
    );
    let mut plugin = super::guest::plugin();
    plugin.buffered_body = 25;
    let mut run = guest.start_with(super::guest::vm_config(), plugin);
    run.callback(Callback::RequestBody {
        end_of_stream: true,
    })
    .unwrap();
    assert_eq!(run.status(&again), 10);
    assert_eq!(&run.io().request_body[..], b"hello world1234567890");
}
