//! Header maps through hostcalls: when they are there, what they answer, what changes.

use http::StatusCode;

use super::guest::{Arg, Guest, UNTOUCHED, exchange, headers, pairs, unpairs};
use crate::{Action, Callback, HttpCallResponse, PseudoSet};
use Arg::{Bytes, Int, Out};

const GET: &str = "proxy_get_header_map_value";
const ADD: &str = "proxy_add_header_map_value";
const PAIRS: &str = "proxy_get_header_map_pairs";
const SIZE: &str = "proxy_get_header_map_size";
const ON_REQUEST: &str = "proxy_on_request_headers";

/// Statuses of get, pairs (with the number of entries), size and add on each of the four maps of a stream.
fn probe(guest: &mut Guest, callback: &'static str) -> Vec<[super::guest::Call; 4]> {
    (0..4)
        .map(|map| {
            let name: &[u8] = if map == 2 { b":status" } else { b"x-one" };
            [
                guest.call(callback, GET, &[Int(map), Bytes(name), Out, Out]),
                guest.call(callback, PAIRS, &[Int(map), Out, Out]),
                guest.call(callback, SIZE, &[Int(map), Out]),
                guest.call(callback, ADD, &[Int(map), Bytes(b"x-new"), Bytes(b"v")]),
            ]
        })
        .collect()
}

/// What a probe of one map should find: status of get, number of pairs, status of size and of add.
type Expected = (u32, usize, u32, u32);

/// One row per callback: (get, entries, size, add) of request headers, request trailers, response headers, response trailers.
#[test]
fn availability_by_phase() {
    let gone = (2, 0, 2, 2);
    let rows: [(&'static str, Callback, [Expected; 4]); 8] = [
        (
            ON_REQUEST,
            Callback::RequestHeaders {
                end_of_stream: false,
            },
            [(0, 9, 0, 0), gone, gone, gone],
        ),
        (
            "proxy_on_request_body",
            Callback::RequestBody {
                end_of_stream: false,
            },
            [gone; 4],
        ),
        (
            "proxy_on_request_trailers",
            Callback::RequestTrailers,
            [gone, (0, 1, 0, 0), gone, gone],
        ),
        (
            "proxy_on_response_headers",
            Callback::ResponseHeaders {
                end_of_stream: false,
            },
            [gone, gone, (0, 2, 0, 0), gone],
        ),
        (
            "proxy_on_response_body",
            Callback::ResponseBody {
                end_of_stream: false,
            },
            [gone; 4],
        ),
        (
            "proxy_on_response_trailers",
            Callback::ResponseTrailers,
            [gone, gone, gone, (0, 1, 0, 0)],
        ),
        // Everything can be read but request trailers, nothing be changed, and sizes are of what can be changed.
        (
            "proxy_on_log",
            Callback::Log,
            [(0, 10, 2, 2), (1, 0, 2, 2), (0, 3, 2, 2), (0, 2, 2, 2)],
        ),
        ("proxy_on_done", Callback::Done, [gone; 4]),
    ];
    let mut guest = Guest::new();
    let calls: Vec<_> = rows
        .iter()
        .map(|(name, ..)| probe(&mut guest, name))
        .collect();
    let mut run = guest.start();
    run.io().request_trailers = Some(headers(&[("x-one", "t")]));
    run.io().response_trailers = Some(headers(&[("x-one", "t")]));
    for ((name, callback, expected), calls) in rows.iter().zip(calls) {
        run.callback(*callback).unwrap();
        for (map, ([get, pairs, size, add], expected)) in calls.iter().zip(expected).enumerate() {
            assert_eq!(
                run.status(pairs),
                0,
                "{name} {map}: pairs of a missing map are Ok and empty"
            );
            let entries = unpairs(&run.bytes(pairs)).len();
            let found = (run.status(get), entries, run.status(size), run.status(add));
            assert_eq!(found, *expected, "{name}, map {map}");
        }
    }
}

#[test]
fn maps_stay_while_the_guest_holds_the_stream() {
    let mut guest = Guest::new();
    guest.returns(ON_REQUEST, 1);
    let held = guest.call(
        "proxy_on_request_body",
        GET,
        &[Int(0), Bytes(b":path"), Out, Out],
    );
    guest.returns("proxy_on_request_body", 0);
    let resume = guest.call("proxy_on_tick", "proxy_set_effective_context", &[Int(2)]);
    let before = guest.call("proxy_on_tick", GET, &[Int(0), Bytes(b":path"), Out, Out]);
    guest.call("proxy_on_tick", "proxy_continue_stream", &[Int(0)]);
    let after = guest.call("proxy_on_tick", GET, &[Int(0), Bytes(b":path"), Out, Out]);
    let mut plugin = super::guest::plugin();
    plugin.headers_wait_for_body = true;
    let mut run = guest.start_with(super::guest::vm_config(), plugin);
    assert_eq!(run.stream.get(), 2);
    assert_eq!(run.request_headers(), Action::PauseHeaders);
    run.callback(Callback::RequestBody {
        end_of_stream: true,
    })
    .unwrap();
    assert_eq!(run.text(&held), Ok("/p?q=1".to_owned()));
    run.vm.on_tick(run.root).unwrap();
    assert_eq!(
        (run.status(&resume), run.text(&before)),
        (0, Ok("/p?q=1".to_owned()))
    );
    assert_eq!(run.text(&after), Err(2), "resuming lets go of the request");
}

#[test]
fn values_of_the_first_entry_only() {
    let mut guest = Guest::new();
    let cases: [(&str, Result<&str, u32>); 9] = [
        ("cookie", Ok("a=1")),
        ("COOKIE", Ok("a=1")),
        (":authority", Ok("shop.test")),
        ("host", Ok("shop.test")),
        (":method", Ok("POST")),
        (":scheme", Ok("https")),
        (":status", Err(1)),
        ("absent", Err(1)),
        ("", Err(1)),
    ];
    let calls: Vec<_> = cases
        .iter()
        .map(|(name, _)| guest.call(ON_REQUEST, GET, &[Int(0), Bytes(name.as_bytes()), Out, Out]))
        .collect();
    let mut run = guest.start();
    run.request_headers();
    for ((name, expected), call) in cases.iter().zip(&calls) {
        assert_eq!(run.text(call), expected.map(str::to_owned), "{name}");
    }
}

#[test]
fn version_0_1_0_cannot_tell_absent_from_empty() {
    let mut guest = Guest::old();
    let absent = guest.call(ON_REQUEST, GET, &[Int(0), Bytes(b"absent"), Out, Out]);
    let unavailable = guest.call(ON_REQUEST, GET, &[Int(2), Bytes(b"absent"), Out, Out]);
    let logged = guest.call("proxy_on_log", GET, &[Int(3), Bytes(b"absent"), Out, Out]);
    let mut run = guest.start();
    run.request_headers();
    run.callback(Callback::Log).unwrap();
    assert_eq!(run.text(&absent), Ok(String::new()));
    assert_eq!(run.text(&unavailable), Err(2));
    assert_eq!(run.text(&logged), Ok(String::new()));
}

#[test]
fn all_pairs_in_envoys_order() {
    let mut guest = Guest::new();
    let all = guest.call(ON_REQUEST, PAIRS, &[Int(0), Out, Out]);
    let size = guest.call(ON_REQUEST, SIZE, &[Int(0), Out]);
    let mut run = guest.start();
    run.request_headers();
    let found = unpairs(&run.bytes(&all));
    let expected = [
        (":authority", "shop.test"),
        (":path", "/p?q=1"),
        (":method", "POST"),
        (":scheme", "https"),
        ("x-one", "1"),
        ("content-length", "11"),
        ("user-agent", "curl"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
    ];
    assert_eq!(
        found,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    let bytes: usize = expected
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    assert_eq!(run.out(&size, 0) as usize, bytes);
}

#[test]
fn changes() {
    let mut guest = Guest::new();
    let blob = pairs(&[(":status", "404"), ("a", "1"), ("a", "2")]);
    let ok = [
        guest.call(
            ON_REQUEST,
            "proxy_replace_header_map_value",
            &[Int(0), Bytes(b":path"), Bytes(b"/z")],
        ),
        guest.call(
            ON_REQUEST,
            "proxy_replace_header_map_value",
            &[Int(0), Bytes(b"Cookie"), Bytes(b"c=3")],
        ),
        guest.call(
            ON_REQUEST,
            "proxy_remove_header_map_value",
            &[Int(0), Bytes(b"x-one")],
        ),
        guest.call(
            ON_REQUEST,
            "proxy_remove_header_map_value",
            &[Int(0), Bytes(b"absent")],
        ),
        guest.call(ON_REQUEST, ADD, &[Int(0), Bytes(b"x-empty"), Bytes(b"")]),
        guest.call(
            "proxy_on_response_headers",
            "proxy_set_header_map_pairs",
            &[Int(2), Bytes(&blob)],
        ),
    ];
    let bad = [
        guest.call(
            ON_REQUEST,
            ADD,
            &[Int(0), Bytes(b"x-a"), Bytes(b"v\r\nx-b: w")],
        ),
        guest.call(ON_REQUEST, ADD, &[Int(0), Bytes(b"x a"), Bytes(b"v")]),
        guest.call(ON_REQUEST, ADD, &[Int(8), Bytes(b"x"), Bytes(b"v")]),
        guest.call(ON_REQUEST, ADD, &[Int(4), Bytes(b"x"), Bytes(b"v")]),
        guest.call(ON_REQUEST, GET, &[Int(8), Bytes(b"x"), Out, Out]),
        guest.call(ON_REQUEST, PAIRS, &[Int(8), Out, Out]),
        guest.call(ON_REQUEST, SIZE, &[Int(-1), Out]),
        guest.call(
            ON_REQUEST,
            "proxy_set_header_map_pairs",
            &[Int(2), Bytes(&blob)],
        ),
    ];
    let mut run = guest.start();
    run.request_headers();
    run.callback(Callback::ResponseHeaders {
        end_of_stream: false,
    })
    .unwrap();
    for (index, call) in ok.iter().enumerate() {
        assert_eq!(run.status(call), 0, "{index}");
    }
    for (index, call) in bad.iter().enumerate() {
        assert_eq!(run.status(call), 2, "{index}");
    }
    let io = run.io();
    assert_eq!(io.request.path.as_str(), "/z");
    assert_eq!(
        io.request
            .headers
            .get_all("cookie")
            .iter()
            .collect::<Vec<_>>(),
        ["c=3"]
    );
    assert!(!io.request.headers.contains_key("x-one") && !io.request.headers.contains_key("x-a"));
    assert_eq!(io.request.headers["x-empty"], "");
    let response = io.response.as_ref().unwrap();
    assert_eq!(response.status, StatusCode::NOT_FOUND);
    assert_eq!(response.headers.get_all("a").iter().count(), 2);
    assert!(!response.headers.contains_key("server"));
}

#[test]
fn a_map_set_without_pseudo_headers_lacks_them() {
    let mut guest = Guest::new();
    let blob = pairs(&[("a", "1")]);
    guest.call(
        ON_REQUEST,
        "proxy_set_header_map_pairs",
        &[Int(0), Bytes(&blob)],
    );
    let path = guest.call(ON_REQUEST, GET, &[Int(0), Bytes(b":path"), Out, Out]);
    guest.call(
        "proxy_on_response_headers",
        "proxy_set_header_map_pairs",
        &[Int(2), Bytes(b"malformed")],
    );
    let mut run = guest.start();
    run.request_headers();
    assert_eq!(run.text(&path), Err(1));
    assert_eq!(run.io().missing, PseudoSet::REQUEST);
    run.callback(Callback::ResponseHeaders {
        end_of_stream: true,
    })
    .unwrap();
    assert!(run.io().missing.intersects(PseudoSet::STATUS));
    assert!(
        run.io().response.as_ref().unwrap().headers.is_empty(),
        "a malformed blob is an empty map"
    );
}

#[test]
fn trailers_come_to_exist_at_the_end_of_a_body() {
    let mut guest = Guest::new();
    let add = guest.call(
        "proxy_on_request_body",
        ADD,
        &[Int(1), Bytes(b"x-sum"), Bytes(b"7")],
    );
    let read = guest.call(
        "proxy_on_request_body",
        GET,
        &[Int(1), Bytes(b"x-sum"), Out, Out],
    );
    let add_response = guest.call(
        "proxy_on_response_body",
        ADD,
        &[Int(3), Bytes(b"x-sum"), Bytes(b"8")],
    );
    let mut run = guest.start();
    run.callback(Callback::RequestBody {
        end_of_stream: false,
    })
    .unwrap();
    assert_eq!(
        (run.status(&add), run.io().request_trailers.is_some()),
        (2, false)
    );
    run.callback(Callback::RequestBody {
        end_of_stream: true,
    })
    .unwrap();
    assert_eq!((run.status(&add), run.text(&read)), (0, Ok("7".to_owned())));
    assert_eq!(run.io().request_trailers.as_ref().unwrap()["x-sum"], "7");
    run.callback(Callback::ResponseBody {
        end_of_stream: true,
    })
    .unwrap();
    assert_eq!(run.status(&add_response), 0);
    assert_eq!(run.io().response_trailers.as_ref().unwrap()["x-sum"], "8");
}

#[test]
fn maps_of_a_call_are_there_inside_its_callback_only() {
    let mut guest = Guest::new();
    let blob = pairs(&[(":method", "GET"), (":path", "/"), (":authority", "idp")]);
    let made = guest.call(
        ON_REQUEST,
        "proxy_http_call",
        &[
            Bytes(b"idp"),
            Bytes(&blob),
            Bytes(b""),
            Bytes(b""),
            Int(0),
            Out,
        ],
    );
    let early = guest.call(ON_REQUEST, GET, &[Int(6), Bytes(b":status"), Out, Out]);
    let on_response = "proxy_on_http_call_response";
    let status = guest.call(on_response, GET, &[Int(6), Bytes(b":status"), Out, Out]);
    let trailer = guest.call(on_response, GET, &[Int(7), Bytes(b"t"), Out, Out]);
    let all = guest.call(on_response, PAIRS, &[Int(6), Out, Out]);
    let change = guest.call(on_response, ADD, &[Int(6), Bytes(b"a"), Bytes(b"b")]);
    guest.call(on_response, "proxy_set_effective_context", &[Int(2)]);
    let as_stream = guest.call(on_response, GET, &[Int(6), Bytes(b":status"), Out, Out]);
    let mut run = guest.start();
    run.request_headers();
    assert_eq!((run.status(&made), run.out(&made, 0)), (0, 1));
    assert_eq!(run.status(&early), 2);
    assert_eq!(run.status(&status), UNTOUCHED);
    let head = tidegate_model::ResponseHead {
        status: StatusCode::FORBIDDEN,
        headers: headers(&[("h", "1")]),
    };
    let response = HttpCallResponse {
        head,
        body: bytes::Bytes::new(),
        trailers: headers(&[("t", "2")]),
    };
    run.vm.on_http_call_response(1, response.clone()).unwrap();
    assert_eq!(run.text(&status), Ok("403".to_owned()));
    assert_eq!(run.text(&trailer), Ok("2".to_owned()));
    assert_eq!(
        unpairs(&run.bytes(&all)),
        [(":status".into(), "403".into()), ("h".into(), "1".into())]
    );
    assert_eq!(run.status(&change), 2);
    assert_eq!(
        run.text(&as_stream),
        Ok("403".to_owned()),
        "a stream of the same root sees it too"
    );
}

#[test]
fn a_detached_exchange_is_out_of_reach() {
    let mut guest = Guest::new();
    let [get, all, size, add] = probe(&mut guest, ON_REQUEST).remove(0);
    let mut run = guest.start();
    assert!(run.vm.detach(run.stream).is_some());
    assert!(run.vm.detach(run.stream).is_none());
    run.request_headers();
    assert_eq!(
        [
            run.status(&get),
            run.status(&all),
            run.status(&size),
            run.status(&add)
        ],
        [2, 0, 2, 2]
    );
    run.vm.attach(run.stream, Box::new(exchange()));
    run.request_headers();
    assert_eq!(run.status(&get), 0);
}
