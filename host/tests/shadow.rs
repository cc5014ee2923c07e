//! Shadow mode: the exchange is untouched, and what the filter would have done is recorded.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};
use tidegate_testing::{Gateway, Upstream, eventually, guest, manifests};

/// Does as the request's fields say; changes heads, and bodies that it may.
const DOES: &str = r#"
    (global $body (mut i32) (i32.const 0))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (if (call $has (i32.const 0) @"x-deny") (then (call $reply (i32.const 403) @"denied")))
      (if (call $has (i32.const 0) @"x-trap") (then (unreachable)))
      (if (call $has (i32.const 0) @"x-loop") (then (loop $for-ever (br $for-ever))))
      (if (call $has (i32.const 0) @"x-close") (then (drop (call $close (i32.const 1)))))
      (if (call $has (i32.const 0) @"x-pause") (then (return (i32.const 1))))
      (global.set $body (call $has (i32.const 0) @"x-body"))
      (if (call $has (i32.const 0) @"x-change") (then
        (call $set (i32.const 0) @"x-new" @"1")
        (call $set (i32.const 0) @":path" @"/elsewhere")
        (drop (call $remove (i32.const 0) @"x-change"))))
      (i32.const 0))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
      (if (global.get $body)
        (then (drop (call $write (i32.const 0) (i32.const 0) (i32.const 100) @"other"))))
      (i32.const 0))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
      (if (call $has (i32.const 2) @"x-up") (then (call $set (i32.const 2) @":status" @"418")))
      (i32.const 0))
    (func (export "proxy_on_log") (param i32)
      (drop (call $increment (call $counter @"logged") (i64.const 1))))"#;

async fn gateway(upstream: &Upstream, enforced: &str) -> Gateway {
    let mut names = vec!["shadow"];
    let mut filters = manifests::filter("shadow", "f.wasm", ", mode: Shadow");
    if !enforced.is_empty() {
        names.push("enforced");
        filters += &manifests::filter("enforced", "f.wasm", enforced);
    }
    let manifest = [
        manifests::GATEWAY.to_owned(),
        manifests::service("up", &[upstream.address()]),
        filters,
        manifests::route("all", &[], &manifests::rule(&manifests::filters(&names))),
    ];
    Gateway::builder()
        .file("f.wasm", guest(DOES))
        .start(&manifest.concat())
        .await
}

async fn line(gateway: &Gateway, path: &str) -> Value {
    let find = || gateway.log().into_iter().find(|line| line["path"] == path);
    eventually!(find().is_some(), "the line of {path}");
    find().expect("just seen")
}

fn ask(path: &str, fields: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 4\r\nConnection: close\r\n\r\nbody"
    )
}

#[tokio::test]
async fn what_would_have_been_done_is_in_the_log_and_the_request_is_untouched() {
    let upstream = Upstream::start(|seen| {
        let reply = tidegate_testing::Reply::text("up");
        match seen.target() {
            "/up" => reply.header("x-up", "1"),
            _ => reply,
        }
    })
    .await;
    let gateway = gateway(&upstream, "").await;
    let cases = [
        ("/nothing", "", json!({})),
        ("/deny", "X-Deny: 1\r\n", json!({"reply": 403})),
        ("/trap", "X-Trap: 1\r\n", json!({"failure": "trap"})),
        ("/loop", "X-Loop: 1\r\n", json!({"failure": "deadline"})),
        ("/close", "X-Close: 1\r\n", json!({"reset": true})),
        ("/pause", "X-Pause: 1\r\n", json!({"incomplete": true})),
        ("/body", "X-Body: 1\r\n", json!({"request": {"body": true}})),
        (
            "/change",
            "X-Change: 1\r\n",
            json!({"request": {"set": [":path", "x-new"], "removed": ["x-change"]}}),
        ),
        ("/up", "", json!({"response": {"set": [":status"]}})),
    ];
    for (path, fields, would) in &cases {
        let answer = gateway.send(ask(path, fields)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (200, "up"),
            "{path}"
        );
        let seen = upstream.seen().pop().expect("it was sent on");
        assert_eq!((seen.target(), &*seen.body), (*path, b"body".as_slice()));
        let line = line(&gateway, path).await;
        assert_eq!(
            line["shadow"],
            json!([{"filter": "default/shadow", "would": would}]),
            "{path}"
        );
        assert_eq!(line["response_code"], 200);
    }
    let stats = gateway.filter("shadow");
    let kinds: Vec<u64> = stats.shadow.iter().map(|kind| kind.load(Relaxed)).collect();
    // fail, reply, reset, change, nothing
    assert_eq!(kinds, [2, 1, 1, 3, 2]);
    eventually!(gateway.contexts("shadow") == 0, "no context is left");
    assert_eq!(gateway.guest_counter("logged"), 7);
}

#[tokio::test]
async fn a_shadow_sees_what_the_filters_before_it_have_left_and_others_work_on() {
    let upstream = Upstream::named("up").await;
    let gateway = gateway(&upstream, ", config: enforced").await;
    let answer = gateway.send(ask("/both", "X-Change: 1\r\n")).await;
    assert_eq!(answer.text(), "up");
    let seen = upstream.seen().pop().expect("it was sent on");
    assert_eq!(
        (seen.target(), &*seen.body),
        ("/elsewhere", b"body".as_slice())
    );
    let line = line(&gateway, "/both").await;
    assert_eq!(
        line["shadow"][0]["would"]["request"]["removed"],
        json!(["x-change"])
    );
    let answer = gateway.send(ask("/denied", "X-Deny: 1\r\n")).await;
    assert_eq!(answer.status, 403, "the enforced one denies");
    let denied = self::line(&gateway, "/denied").await;
    assert_eq!(denied["shadow"][0]["would"], json!({"reply": 403}));
    assert_eq!(denied["filter"], "default/enforced");
}

#[tokio::test]
async fn a_body_that_the_shadow_cannot_keep_up_with_passes_all_the_same() {
    let upstream = Upstream::named("up").await;
    let gateway = gateway(&upstream, "").await;
    let body = "x".repeat(3 << 20);
    let request = format!(
        "POST /large HTTP/1.1\r\nHost: a\r\nX-Loop: 1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(gateway.send(request).await.text(), "up");
    let seen = upstream.seen().pop().expect("it was sent on");
    assert_eq!(seen.body.len(), body.len());
    let line = line(&gateway, "/large").await;
    assert_eq!(line["shadow"][0]["filter"], "default/shadow");
    eventually!(gateway.contexts("shadow") == 0, "no context is left");
}
