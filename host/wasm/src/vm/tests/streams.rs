//! Local replies, resuming, closing.

use http::StatusCode;

use super::guest::{Arg, Guest, UNTOUCHED, pairs};
use crate::{Action, Callback, Direction, Effect};
use Arg::{Bytes, Int};

const REPLY: &str = "proxy_send_local_response";
const RESUME: &str = "proxy_continue_stream";
const ON_REQUEST: &str = "proxy_on_request_headers";

fn reply(guest: &mut Guest, callback: &'static str, code: i64) -> super::guest::Call {
    let blob = pairs(&[("x-why", "policy")]);
    guest.call(
        callback,
        REPLY,
        &[
            Int(code),
            Bytes(b"not today"),
            Bytes(b"denied"),
            Bytes(&blob),
            Int(-1),
        ],
    )
}

#[test]
fn a_local_reply_stops_whatever_the_callback_returns() {
    let cases: [(&'static str, Callback, Action); 6] = [
        (
            ON_REQUEST,
            Callback::RequestHeaders {
                end_of_stream: true,
            },
            Action::PauseWatermark,
        ),
        (
            "proxy_on_request_body",
            Callback::RequestBody {
                end_of_stream: true,
            },
            Action::PauseNoBuffer,
        ),
        (
            "proxy_on_request_trailers",
            Callback::RequestTrailers,
            Action::Pause,
        ),
        (
            "proxy_on_response_headers",
            Callback::ResponseHeaders {
                end_of_stream: true,
            },
            Action::PauseWatermark,
        ),
        (
            "proxy_on_response_body",
            Callback::ResponseBody {
                end_of_stream: true,
            },
            Action::PauseNoBuffer,
        ),
        (
            "proxy_on_response_trailers",
            Callback::ResponseTrailers,
            Action::Pause,
        ),
    ];
    for (name, callback, expected) in cases {
        let mut guest = Guest::new();
        let call = reply(&mut guest, name, 403);
        guest.returns(name, 0);
        let mut run = guest.start();
        assert_eq!(run.callback(callback).unwrap(), expected, "{name}");
        assert_eq!(run.status(&call), 0);
        let stream = run.stream;
        let effects = run.effects();
        let [Effect::LocalReply { context, reply }] = &effects[..] else {
            panic!("{name}: {effects:?}")
        };
        assert_eq!((*context, reply.status), (stream, StatusCode::FORBIDDEN));
        assert_eq!(
            (&reply.body[..], reply.details.as_str()),
            (&b"denied"[..], "not_today")
        );
        assert_eq!(
            (&reply.headers["x-why"], reply.grpc_status),
            (&http::HeaderValue::from_static("policy"), None)
        );
    }
}

#[test]
fn the_first_reply_wins_and_a_later_one_holds_nothing_up() {
    let mut guest = Guest::new();
    reply(&mut guest, ON_REQUEST, 401);
    let second = reply(&mut guest, ON_REQUEST, 500);
    reply(&mut guest, "proxy_on_response_headers", 502);
    guest.returns("proxy_on_response_headers", 1);
    let mut run = guest.start();
    assert_eq!(run.request_headers(), Action::PauseWatermark);
    assert_eq!(run.status(&second), 0);
    let effects = run.effects();
    assert!(
        matches!(&effects[..], [Effect::LocalReply { reply, .. }] if reply.status == 401),
        "{effects:?}"
    );
    let action = run
        .callback(Callback::ResponseHeaders {
            end_of_stream: false,
        })
        .unwrap();
    assert_eq!((action, run.vm.has_effects()), (Action::Continue, false));
}

#[test]
fn too_late_replies_do_nothing() {
    let mut guest = Guest::new();
    let calls = [
        reply(&mut guest, "proxy_on_log", 500),
        guest.call("proxy_on_log", RESUME, &[Int(0)]),
        guest.call("proxy_on_log", "proxy_close_stream", &[Int(0)]),
        reply(&mut guest, "proxy_on_done", 500),
        reply(&mut guest, "proxy_on_delete", 500),
    ];
    let root = reply(&mut guest, "proxy_on_configure", 500);
    let mut run = guest.start();
    run.callback(Callback::Log).unwrap();
    run.callback(Callback::Done).unwrap();
    run.vm.delete_stream(run.stream).unwrap();
    assert_eq!(calls.each_ref().map(|call| run.status(call)), [0; 5]);
    assert_eq!(run.status(&root), 0);
    assert!(run.effects().is_empty());
}

#[test]
fn a_reply_and_a_resume_in_one_entry_do_not_both_happen() {
    for resume_first in [true, false] {
        let mut guest = Guest::new();
        if resume_first {
            guest.call(ON_REQUEST, RESUME, &[Int(0)]);
        }
        reply(&mut guest, ON_REQUEST, 403);
        guest.call(ON_REQUEST, RESUME, &[Int(0)]);
        let mut run = guest.start();
        run.request_headers();
        let effects = run.effects();
        assert!(
            matches!(&effects[..], [Effect::LocalReply { .. }]),
            "{effects:?}"
        );
    }
}

#[test]
fn invalid_replies_are_refused() {
    for code in [0, 100, 199, 600, 1000, -1] {
        let mut guest = Guest::new();
        let call = reply(&mut guest, ON_REQUEST, code);
        let mut run = guest.start();
        assert_eq!(run.request_headers(), Action::Continue, "{code}");
        assert_eq!(
            (run.status(&call), run.vm.has_effects()),
            (2, false),
            "{code}"
        );
    }
}

#[test]
fn streams_to_continue() {
    let expected = [(0, 0), (1, 0), (2, 0), (3, 12), (4, 2), (-1, 2)];
    let mut guest = Guest::new();
    let calls = expected.map(|(stream, _)| guest.call(ON_REQUEST, RESUME, &[Int(stream)]));
    let again = guest.call(ON_REQUEST, RESUME, &[Int(1)]);
    let mut run = guest.start();
    run.request_headers();
    for ((stream, status), call) in expected.iter().zip(&calls) {
        assert_eq!(run.status(call), *status, "stream {stream}");
    }
    assert_eq!(run.status(&again), 0);
    let stream = run.stream;
    let resumed: Vec<_> = run
        .effects()
        .into_iter()
        .map(|effect| match effect {
            Effect::Resume { context, direction } if context == stream => direction,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(resumed, [Direction::Request, Direction::Response]);
}

#[test]
fn streams_to_close() {
    let expected = [(0, 0), (1, 0), (2, 0), (3, 0), (4, 2)];
    let mut guest = Guest::new();
    let calls =
        expected.map(|(stream, _)| guest.call(ON_REQUEST, "proxy_close_stream", &[Int(stream)]));
    let mut run = guest.start();
    run.request_headers();
    for ((stream, status), call) in expected.iter().zip(&calls) {
        assert_eq!(run.status(call), *status, "stream {stream}");
    }
    let effects = run.effects();
    assert!(
        matches!(
            &effects[..],
            [
                Effect::CloseStream {
                    direction: Direction::Request,
                    ..
                },
                Effect::CloseStream {
                    direction: Direction::Response,
                    ..
                }
            ]
        ),
        "{effects:?}"
    );
}

#[test]
fn functions_of_version_0_1_0() {
    let mut guest = Guest::old();
    let calls = [
        guest.call(ON_REQUEST, "proxy_clear_route_cache", &[]),
        guest.call(ON_REQUEST, "proxy_continue_request", &[]),
        guest.call(ON_REQUEST, "proxy_continue_response", &[]),
    ];
    guest.returns(ON_REQUEST, 1);
    let mut run = guest.start();
    assert_eq!(run.request_headers(), Action::PauseWatermark);
    assert_eq!(calls.each_ref().map(|call| run.status(call)), [0; 3]);
    let effects = run.effects();
    assert!(
        matches!(
            &effects[..],
            [
                Effect::ClearRouteCache { .. },
                Effect::Resume {
                    direction: Direction::Request,
                    ..
                },
                Effect::Resume {
                    direction: Direction::Response,
                    ..
                }
            ]
        ),
        "{effects:?}"
    );
}

#[test]
fn foreign_functions() {
    let mut guest = Guest::new();
    let foreign = "proxy_call_foreign_function";
    let out = Arg::Out;
    let clear = guest.call(
        ON_REQUEST,
        foreign,
        &[Bytes(b"clear_route_cache"), Bytes(b""), out, out],
    );
    let no_out = guest.call(
        ON_REQUEST,
        foreign,
        &[Bytes(b"clear_route_cache"), Bytes(b""), Int(0), Int(0)],
    );
    let unknown = guest.call(
        ON_REQUEST,
        foreign,
        &[Bytes(b"no_such_function"), Bytes(b"1"), out, out],
    );
    let mut run = guest.start();
    run.request_headers();
    assert_eq!(
        [run.status(&clear), run.out(&clear, 0), run.out(&clear, 1)],
        [0; 3]
    );
    assert_eq!(run.status(&no_out), 0);
    assert_eq!((run.status(&unknown), run.out(&unknown, 0)), (1, UNTOUCHED));
    assert_eq!(run.effects().len(), 2);
}

#[test]
fn a_guest_in_a_loop_cannot_fill_the_host_with_effects() {
    let mut guest = Guest::new();
    guest.raw(
        ON_REQUEST,
        "(block $done (loop $again
            (br_if $done (call $proxy_close_stream (i32.const 0)))
            (br $again)))",
    );
    let last = guest.call(ON_REQUEST, "proxy_close_stream", &[Int(0)]);
    let sent = reply(&mut guest, ON_REQUEST, 503);
    let mut limits = super::guest::vm_config();
    limits.limits.call_timeout = std::time::Duration::from_secs(60);
    let mut run = guest.start_with(limits, super::guest::plugin());
    run.request_headers();
    assert_eq!((run.status(&last), run.status(&sent)), (10, 0));
    let effects = run.effects();
    assert_eq!(effects.len(), 10_001);
    assert!(
        matches!(effects.last(), Some(Effect::LocalReply { .. })),
        "a reply is never lost"
    );
}

#[test]
fn headers_pause_by_the_plugins_choice() {
    for (wait, expected) in [
        (false, Action::PauseWatermark),
        (true, Action::PauseHeaders),
    ] {
        let mut guest = Guest::new();
        guest.returns(ON_REQUEST, 1);
        let mut plugin = super::guest::plugin();
        plugin.headers_wait_for_body = wait;
        let mut run = guest.start_with(super::guest::vm_config(), plugin);
        assert_eq!(run.request_headers(), expected);
    }
}
