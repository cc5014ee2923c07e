//! HTTP calls of filters, and how each of their ends looks to the guest.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use tidegate_testing::{Gateway, Listener, Port, Reply, Upstream, eventually, manifests, noting};

/// Calls the cluster, and answers with what came of it: number of headers, status, field, body, trailer.
const CALLS: &str = r#"
    (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
      (global.set $waits (local.get $id))
      (if (call $call @"there" @pairs":method=POST;:path=/x;:authority=there.test" @"body" @pairs"x-sent=1" (i32.const 1000) (i32.const 24))
        (then (call $reply (i32.const 500) @"no call")))
      (i32.const 1))
    (func (export "proxy_on_http_call_response") (param i32 i32) (param $headers i32) (param i32 i32)
      (call $number (local.get $headers)) (call $note @" ")
      (call $note_field (i32.const 6) @":status") (call $note @" ")
      (call $note_field (i32.const 6) @"location") (call $note @"|")
      (call $note_buffer (i32.const 4)) (call $note @"|")
      (call $note_field (i32.const 7) @"x-last") (call $note @"|")
      (call $note_status)
      (call $tell (i32.const 200)))"#;

fn manifest(up: SocketAddr, there: &[SocketAddr], protocol: &str) -> String {
    let spec = ", clusters: [{name: there, backendRef: {name: there, port: 80}}]";
    format!(
        "{}{}{}{}{}",
        manifests::GATEWAY,
        manifests::service("up", &[up]),
        manifests::service_speaking("there", there, protocol),
        manifests::filter("f", "f.wasm", spec),
        manifests::route("all", &[], &manifests::rule(&manifests::filters(&["f"])))
    )
}

async fn calling(wat: &str, there: &[SocketAddr], protocol: &str) -> Gateway {
    let up = Upstream::named("up").await;
    Gateway::builder()
        .file("f.wasm", noting(wat))
        .start(&manifest(up.address(), there, protocol))
        .await
}

async fn heard(gateway: &Gateway) -> String {
    let answer = gateway.get("a.test", "/").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(gateway.filter("f").traps.load(Ordering::Relaxed), 0);
    answer.text().to_owned()
}

#[tokio::test]
async fn a_call_that_fails_is_a_response_as_envoy_makes_it() {
    let reset = "upstream connect error or disconnect/reset before headers. reset reason:";
    let nobody = Port::reserve();
    let gateway = calling(CALLS, &[nobody.address()], "").await;
    assert_eq!(
        heard(&gateway).await,
        format!("3 503 |{reset} remote connection failure||0:")
    );
    let gateway = calling(CALLS, &[], "").await;
    assert_eq!(heard(&gateway).await, "3 503 |no healthy upstream||0:");
    let listener = Listener::bind().await;
    let gateway = calling(CALLS, &[listener.address()], "").await;
    let (answer, ()) = tokio::join!(heard(&gateway), async {
        let mut wire = listener.accept().await;
        wire.head().await;
    });
    assert_eq!(answer, format!("3 503 |{reset} connection termination||0:"));
    // It accepts, and says nothing.
    assert_eq!(heard(&gateway).await, "3 504 |upstream request timeout||0:");
}

#[tokio::test]
async fn a_response_that_breaks_off_or_is_too_large_is_nothing() {
    let broken = Upstream::start(|_| Reply::status(200).piece("begun").broken()).await;
    let gateway = calling(CALLS, &[broken.address()], "").await;
    assert_eq!(heard(&gateway).await, "0  |||11:reset");
    let large = Upstream::start(|_| {
        (0..5).fold(Reply::status(200), |reply, _| {
            reply.piece("x".repeat(1 << 20))
        })
    })
    .await;
    let gateway = calling(CALLS, &[large.address()], "").await;
    assert_eq!(heard(&gateway).await, "0  |||11:reset");
}

#[tokio::test]
async fn redirects_are_the_guests_business() {
    let elsewhere = Upstream::named("elsewhere").await;
    let to = format!("http://{}/", elsewhere.address());
    let there = Upstream::start(move |_| Reply::status(302).header("location", &to)).await;
    let gateway = calling(CALLS, &[there.address()], "").await;
    let heard = heard(&gateway).await;
    assert!(
        heard.contains(&format!(" 302 http://{}/||", elsewhere.address())),
        "{heard}"
    );
    assert_eq!((there.count(), elsewhere.count()), (1, 0));
}

#[tokio::test]
async fn bodies_and_trailers_go_there_and_back() {
    for protocol in ["", "kubernetes.io/h2c"] {
        let there = Upstream::start(|_| Reply::text("answer").trailer("x-last", "9")).await;
        let gateway = calling(CALLS, &[there.address()], protocol).await;
        let heard = heard(&gateway).await;
        // Over HTTP/1.1 trailers come to who asks for them with TE only.
        let trailer = if protocol.is_empty() { "" } else { "9" };
        let expected = format!(" 200 |answer|{trailer}|0:");
        assert!(heard.ends_with(&expected), "{protocol}: {heard}");
        let seen = there.only();
        assert_eq!(
            (seen.method.as_str(), &seen.body[..]),
            ("POST", &b"body"[..])
        );
        assert_eq!(seen.header("x-forwarded-for"), "");
        if protocol.is_empty() {
            assert_eq!(seen.header("content-length"), "4");
        } else {
            assert_eq!(seen.trailers["x-sent"], "1");
        }
    }
}

#[tokio::test]
async fn an_answer_may_be_a_reason_to_ask_again() {
    let nested = r#"
        (global $asked (mut i32) (i32.const 0))
        (func $again
          (global.set $asked (i32.add (global.get $asked) (i32.const 1)))
          (if (call $ask @"there") (then (call $note @"refused"))))
        (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
          (global.set $waits (local.get $id)) (call $again) (i32.const 1))
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
          (call $note_buffer (i32.const 4))
          (if (i32.lt_u (global.get $asked) (i32.const 3)) (then (call $again)) (else (call $tell (i32.const 200)))))"#;
    let there = Upstream::named("y").await;
    let gateway = calling(nested, &[there.address()], "").await;
    assert_eq!(heard(&gateway).await, "yyy");
    assert_eq!(there.count(), 3);
}

#[tokio::test]
async fn calls_in_flight_are_capped() {
    let many = r#"
        (global $made (mut i32) (i32.const 0))
        (global $answered (mut i32) (i32.const 0))
        (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
          (global.set $waits (local.get $id))
          (loop $next
            (if (i32.eqz (call $ask @"there"))
              (then (global.set $made (i32.add (global.get $made) (i32.const 1))) (br $next))))
          (i32.const 1))
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
          (global.set $answered (i32.add (global.get $answered) (i32.const 1)))
          (if (i32.eq (global.get $answered) (global.get $made))
            (then
              (call $number (i32.div_u (global.get $made) (i32.const 100)))
              (call $tell (i32.const 200)))))"#;
    let gateway = calling(many, &[], "").await;
    assert_eq!(heard(&gateway).await, "10", "hundreds of calls");
    // The Filter may say how many.
    let manifest = gateway
        .manifest()
        .replace("spec: {module", "spec: {limits: {calls: 700}, module");
    gateway.write("test.yaml", &manifest).await;
    assert_eq!(heard(&gateway).await, "7", "hundreds of calls");
}

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// Reads a call to its end.
async fn call(wire: &mut tidegate_testing::Wire) {
    let length = wire.head().await.field("content-length").parse();
    wire.exact(length.unwrap_or(0)).await;
}

/// A server may have done what it was told before its connection broke.
#[tokio::test]
async fn a_call_is_sent_once_whatever_becomes_of_its_connection() {
    let listener = Listener::bind().await;
    let there = [listener.address()];
    let get = CALLS.replace(
        r#"@pairs":method=POST;:path=/x;:authority=there.test" @"body" @pairs"x-sent=1""#,
        r#"@pairs":method=GET;:path=/x;:authority=there.test" @"" @"""#,
    );
    assert!(get.contains("=GET"));
    for wat in [CALLS, &get] {
        let gateway = calling(wat, &there, "").await;
        let (first, mut wire) = tokio::join!(heard(&gateway), async {
            let mut wire = listener.accept().await;
            call(&mut wire).await;
            wire.send(HI).await;
            wire
        });
        assert!(first.contains(" 200 |hi|"), "{first}");
        // It is read, on the connection that was kept if that was ready again, and closed without an answer.
        let (second, ()) = tokio::join!(heard(&gateway), async {
            tokio::select! {
                () = call(&mut wire) => {}
                mut another = listener.accept() => call(&mut another).await,
            }
            drop(wire);
        });
        assert!(second.contains("connection termination"), "{second}");
        // The next call is the next that comes: none was sent in between.
        let (third, ()) = tokio::join!(heard(&gateway), async {
            let mut wire = listener.accept().await;
            call(&mut wire).await;
            wire.send(HI).await;
        });
        assert!(third.contains(" 200 |hi|"), "{third}");
    }
}

/// A connection that died while it was idle has taken nothing, and so the call goes out on another.
#[tokio::test]
async fn a_call_finds_another_connection_where_the_kept_one_died_idle() {
    let listener = Listener::bind().await;
    let gateway = calling(CALLS, &[listener.address()], "").await;
    for _ in 0..3 {
        let (answer, ()) = tokio::join!(heard(&gateway), async {
            let mut wire = listener.accept().await;
            call(&mut wire).await;
            wire.send(HI).await;
            // Both sides have closed it by the time of the next call.
            wire.finish().await;
            wire.rest().await.1.expect("it is closed cleanly");
        });
        assert!(answer.contains(" 200 |hi|"), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_dropped() {
    let listener = Listener::bind().await;
    let gateway = calling(CALLS, &[listener.address()], "").await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut wire = listener.accept().await;
    wire.head().await;
    client.reset();
    eventually!(
        gateway.contexts("f") == 0,
        "the context ends with its client"
    );
    // The filter goes too, and its root context with it.
    gateway.write("test.yaml", manifests::GATEWAY).await;
    // Nobody may be there any more to take it.
    let _ = wire
        .try_send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    let up = Upstream::named("up").await;
    let plain = manifests::everything_to(up.address());
    gateway.write("test.yaml", &plain).await;
    eventually!(
        gateway.get("a.test", "/").await.text() == "up",
        "the worker lives"
    );
}
