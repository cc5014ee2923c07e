//! gRPC calls and streams of filters: what goes out, what comes back to the guest, and how each kind of end looks to it.

use std::sync::atomic::Ordering;

use http::StatusCode;
use tidegate_testing::{
    Certificate, Gateway, GrpcUpstream, Upstream, eventually, grpc_frame, manifests, noting,
};

/// One message there and one back, within a second.
const CALLS: &str = r#"
    (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32) (local $status i32)
      (global.set $waits (local.get $id))
      (local.set $status (call $grpc_call @"rpc" @"test.Greeter" @"Greet" @pairs"x-from=guest;te=gzip;trace-bin=abc"
        @"hello" (i32.const 1000) (i32.const 32)))
      (if (local.get $status)
        (then (call $reply (i32.add (i32.const 400) (local.get $status)) @"no call") ))
      (i32.const 1))
    (func (export "proxy_on_grpc_receive") (param i32 i32 i32) (call $note_buffer (i32.const 5)) (call $tell (i32.const 200)))
    (func (export "proxy_on_grpc_close") (param i32 i32 i32) (call $note_status) (call $tell (i32.const 500)))"#;

/// A stream that says what `$opened` says, and notes everything that it hears.
fn talks(opened: &str, heard: &str) -> String {
    format!(
        r#"(global $stream (mut i32) (i32.const 0))
        (func $say (param $at i32) (param $size i32) (param $last i32)
          (if (call $grpc_send (global.get $stream) (local.get $at) (local.get $size) (local.get $last))
            (then (call $note @"unsent|"))))
        (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
          (global.set $waits (local.get $id))
          (if (call $grpc_stream @"rpc" @"test.Greeter" @"Talk" @pairs"x-from=guest" (i32.const 32))
            (then (call $reply (i32.const 404) @"no stream")))
          (global.set $stream (i32.load (i32.const 32)))
          {opened}
          (i32.const 1))
        (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32 i32)
          (call $note @"initial ") (call $number (local.get 2)) (call $note @" ")
          (call $note_field (i32.const 4) @":status") (call $note @" ")
          (call $note_field (i32.const 4) @"x-first") (call $note @"|"))
        (func (export "proxy_on_grpc_receive") (param i32 i32 i32)
          (call $note_buffer (i32.const 5)) (call $note @"|") {heard})
        (func (export "proxy_on_grpc_receive_trailing_metadata") (param i32 i32 i32)
          (call $note @"trailing ") (call $note_field (i32.const 5) @"x-last") (call $note @"|"))
        (func (export "proxy_on_grpc_close") (param i32 i32 i32) (call $note_status) (call $tell (i32.const 200)))"#
    )
}

fn manifest(up: &Upstream, rpc: &GrpcUpstream, protocol: &str) -> String {
    let spec =
        ", clusters: [{name: rpc, backendRef: {name: rpc, port: 80}}], limits: {callTimeout: 1s}";
    format!(
        "{}{}{}{}{}",
        manifests::GATEWAY,
        manifests::service("up", &[up.address()]),
        manifests::service_speaking("rpc", &[rpc.address()], protocol),
        manifests::filter("f", "f.wasm", spec),
        manifests::route("all", &[], &manifests::rule(&manifests::filters(&["f"])))
    )
}

async fn gateway(wat: &str, rpc: &GrpcUpstream) -> Gateway {
    let up = Upstream::named("up").await;
    Gateway::builder()
        .file("f.wasm", noting(wat))
        .start(&manifest(&up, rpc, ""))
        .await
}

/// What the client gets for `GET /` while `serve` answers the call. What `serve` gives back is kept until then: a call that its
/// server lets go of is reset.
async fn while_served<T>(gateway: &Gateway, serve: impl Future<Output = T>) -> (u16, String) {
    let (answer, _kept) = tokio::join!(gateway.get("a.test", "/"), serve);
    assert_eq!(gateway.filter("f").traps.load(Ordering::Relaxed), 0);
    (answer.status.as_u16(), answer.text().to_owned())
}

#[tokio::test]
async fn a_call_goes_out_as_grpc_and_comes_back_as_a_message() {
    let mut rpc = GrpcUpstream::start().await;
    let gateway = gateway(CALLS, &rpc).await;
    let answer = while_served(&gateway, async {
        let mut call = rpc.accept().await;
        let head = &call.head;
        assert_eq!(
            (head.method.as_str(), head.uri.to_string()),
            ("POST", "http://rpc/test.Greeter/Greet".to_owned())
        );
        for (name, value) in [
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("grpc-timeout", "1000m"),
            ("x-from", "guest"),
            ("trace-bin", "YWJj"),
            ("x-forwarded-for", ""),
        ] {
            assert_eq!(call.field(name), value, "{name}");
        }
        assert_eq!(call.message().await.as_deref(), Some(&b"hello"[..]));
        assert_eq!(call.message().await, None);
        call.begin(&[]);
        // In pieces, as networks have them.
        for byte in grpc_frame(b"hello too").chunks(1) {
            call.data(byte.to_vec());
        }
        call.trailers(&[("grpc-status", "0")]);
    })
    .await;
    assert_eq!(answer, (200, "hello too".to_owned()));
    assert_eq!(gateway.filter("f").traps.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn every_end_of_a_call_has_its_status() {
    let mut rpc = GrpcUpstream::start().await;
    let gateway = gateway(CALLS, &rpc).await;
    let large = 8_u32 << 20;
    let cases: [(&str, &str); 10] = [
        ("status", "5:no%20such"),
        ("only head", "7:go away"),
        ("403", "7:the response has HTTP status 403"),
        ("503 with a status", "9:"),
        ("no message", "13:success without a message"),
        ("no trailers", "2:the response ended without a status"),
        ("no status", "2:"),
        (
            "compressed",
            "13:a message is compressed, though no compression was offered",
        ),
        (
            "large",
            "8:a message of 8388608 bytes, 4194304 are allowed: raise the filter's limits.bufferedBody",
        ),
        (
            "reset before the head",
            "14:upstream connect error or disconnect/reset before headers. reset reason: remote reset",
        ),
    ];
    for (case, expected) in cases {
        let answer = while_served(&gateway, async {
            let mut call = rpc.accept().await;
            match case {
                "only head" => call.only_head(
                    StatusCode::OK,
                    &[("grpc-status", "7"), ("grpc-message", "go away")],
                ),
                "403" => call.only_head(StatusCode::FORBIDDEN, &[]),
                "503 with a status" => {
                    call.only_head(StatusCode::SERVICE_UNAVAILABLE, &[("grpc-status", "9")])
                }
                "reset before the head" => call.reset(h2::Reason::INTERNAL_ERROR),
                _ => {
                    call.begin(&[]);
                    match case {
                        "status" => {
                            call.send("it comes, and does not count");
                            call.trailers(&[("grpc-status", "5"), ("grpc-message", "no%20such")]);
                        }
                        "no message" => call.trailers(&[("grpc-status", "0")]),
                        "no trailers" => call.end(),
                        "no status" => call.trailers(&[("x", "y")]),
                        "compressed" => call.data(&b"\x01\0\0\0\x01x"[..]),
                        "large" => call.data([&[0][..], &large.to_be_bytes()].concat()),
                        other => panic!("{other}"),
                    }
                }
            }
            call
        })
        .await;
        assert_eq!(answer.0, 500, "{case}: {answer:?}");
        assert!(answer.1.starts_with(expected), "{case}: {answer:?}");
    }
}

#[tokio::test]
async fn a_call_that_gets_no_answer_ends_too() {
    let mut rpc = GrpcUpstream::start().await;
    let gateway = gateway(CALLS, &rpc).await;
    let answer = while_served(&gateway, async {
        let mut call = rpc.accept().await;
        assert_eq!(call.message().await.as_deref(), Some(&b"hello"[..]));
        assert_eq!(call.was_reset().await, h2::Reason::CANCEL);
    })
    .await;
    assert_eq!(answer, (500, "14:upstream request timeout".to_owned()));
    drop(rpc);
    let gone = "14:upstream connect error or disconnect/reset before headers. reset reason: ";
    eventually!(
        gateway.get("a.test", "/").await.text() == format!("{gone}remote connection failure"),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_stream_talks_in_both_directions() {
    let mut rpc = GrpcUpstream::start().await;
    let answers =
        r#"(if (i32.eq (local.get 2) (i32.const 3)) (then (call $say @"last" (i32.const 1))))"#;
    let gateway = gateway(&talks(r#"(call $say @"one" (i32.const 0))"#, answers), &rpc).await;
    let answer = while_served(&gateway, async {
        let mut call = rpc.accept().await;
        assert_eq!(
            (
                call.head.uri.path(),
                call.field("x-from"),
                call.field("grpc-timeout")
            ),
            ("/test.Greeter/Talk", "guest", "")
        );
        assert_eq!(call.message().await.as_deref(), Some(&b"one"[..]));
        call.begin(&[("x-first", "1")]);
        let two = [grpc_frame(b"first"), grpc_frame(b"")].concat();
        call.data(two);
        call.send("two");
        assert_eq!(call.message().await.as_deref(), Some(&b"last"[..]));
        assert_eq!(call.message().await, None, "it closed its half");
        call.send("farewell");
        call.trailers(&[
            ("grpc-status", "0"),
            ("grpc-message", "bye"),
            ("x-last", "9"),
        ]);
    })
    .await;
    // :status, content-type, x-first
    let heard = "initial 3 200 1|first||two|farewell|trailing 9|0:bye";
    assert_eq!(answer, (200, heard.to_owned()));
}

#[tokio::test]
async fn every_end_of_a_stream_is_told_in_order() {
    let mut rpc = GrpcUpstream::start().await;
    let counts = r#"(drop (call $increment (call $counter @"heard") (i64.const 1)))"#;
    let gateway = gateway(&talks("", counts), &rpc).await;
    for (case, expected) in [
        ("only head", "initial 0  |trailing 9|3:bad"),
        (
            "404",
            "initial 0  |trailing |12:the response has HTTP status 404",
        ),
        (
            "broken",
            "initial 2 200 |some|trailing |13:the upstream broke off",
        ),
        (
            "compressed",
            "initial 2 200 |some|trailing |13:a message is compressed",
        ),
        (
            "within a message",
            "initial 2 200 |some|trailing |13:success within a message",
        ),
    ] {
        let (status, heard) = while_served(&gateway, async {
            let mut call = rpc.accept().await;
            match case {
                "only head" => call.only_head(
                    StatusCode::OK,
                    &[
                        ("grpc-status", "3"),
                        ("grpc-message", "bad"),
                        ("x-last", "9"),
                    ],
                ),
                "404" => call.only_head(StatusCode::NOT_FOUND, &[]),
                _ => {
                    call.begin(&[]);
                    call.send("some");
                }
            }
            match case {
                "broken" => {
                    // A reset overtakes what was sent before.
                    eventually!(gateway.guest_counter("heard") == 1, "the message is heard");
                    call.reset(h2::Reason::INTERNAL_ERROR);
                }
                "compressed" => call.data(&b"\x01\0\0\0\x01x"[..]),
                "within a message" => {
                    call.data(&b"\0\0\0\0\x09part"[..]);
                    call.trailers(&[("grpc-status", "0")]);
                }
                _ => {}
            }
            call
        })
        .await;
        assert!(heard.starts_with(expected), "{case}: {heard}");
        assert_eq!(status, 200);
    }
}

#[tokio::test]
async fn a_guest_sends_many_messages_and_hears_one() {
    let mut rpc = GrpcUpstream::start().await;
    let opened = r#"(call $say @"a" (i32.const 0)) (call $say @"" (i32.const 0)) (call $say @"c" (i32.const 0))
        (if (call $grpc_close (global.get $stream)) (then (call $note @"unclosed|")))
        (call $say @"d" (i32.const 0))"#;
    let gateway = gateway(&talks(opened, ""), &rpc).await;
    let answer = while_served(&gateway, async {
        let mut call = rpc.accept().await;
        for expected in [&b"a"[..], b"", b"c"] {
            assert_eq!(call.message().await.as_deref(), Some(expected));
        }
        assert_eq!(call.message().await, None);
        call.begin(&[]);
        call.send("sum");
        call.trailers(&[("grpc-status", "0")]);
    })
    .await;
    let heard = "unsent|initial 2 200 |sum|trailing |0:";
    assert_eq!(answer, (200, heard.to_owned()));
}

#[tokio::test]
async fn a_guest_cancels_and_hears_no_more() {
    let mut rpc = GrpcUpstream::start().await;
    let heard = "(drop (call $grpc_cancel (global.get $stream))) (call $tell (i32.const 200))";
    let gateway = gateway(&talks("", heard), &rpc).await;
    let answer = while_served(&gateway, async {
        let mut call = rpc.accept().await;
        call.begin(&[]);
        call.data([grpc_frame(b"enough"), grpc_frame(b"more")].concat());
        assert_eq!(call.was_reset().await, h2::Reason::CANCEL);
    })
    .await;
    assert_eq!(answer, (200, "initial 2 200 |enough|".to_owned()));
}

#[tokio::test]
async fn a_guest_that_sends_faster_than_the_upstream_takes_is_stopped() {
    let mut rpc = GrpcUpstream::start().await;
    let much = r#"(call $say (i32.const 0) (i32.const 1000000) (i32.const 0))"#;
    let gateway = gateway(&talks("", &much.repeat(6)), &rpc).await;
    let (status, heard) = while_served(&gateway, async {
        let mut call = rpc.accept().await;
        call.begin(&[]);
        call.send("go");
        // It reads nothing.
        assert_eq!(call.was_reset().await, h2::Reason::CANCEL);
    })
    .await;
    assert_eq!(status, 200);
    let slow = "the upstream is slower than the filter: too much was waiting to be sent";
    assert_eq!(heard, format!("initial 2 200 |go|trailing |8:{slow}"));
}

#[tokio::test]
async fn an_answer_after_its_request_has_gone_hurts_nobody() {
    let mut rpc = GrpcUpstream::start().await;
    let gateway = gateway(CALLS, &rpc).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut call = rpc.accept().await;
    client.reset();
    eventually!(
        gateway.contexts("f") == 0,
        "the context ends with its client"
    );
    let entries = || gateway.filter("f").calls.load(Ordering::Relaxed);
    let before = entries();
    call.begin(&[]);
    call.send("late");
    call.trailers(&[("grpc-status", "0")]);
    eventually!(entries() > before, "the guest hears it");
    let answer = while_served(&gateway, async {
        let mut call = rpc.accept().await;
        call.begin(&[]);
        call.send("in time");
        call.trailers(&[("grpc-status", "0")]);
    })
    .await;
    assert_eq!(answer, (200, "in time".to_owned()));
}

#[tokio::test]
async fn a_stream_ends_with_its_filter() {
    let mut rpc = GrpcUpstream::start().await;
    let gateway = gateway(&talks(r#"(call $reply (i32.const 200) @"open")"#, ""), &rpc).await;
    assert_eq!(gateway.get("a.test", "/").await.text(), "open");
    let mut call = rpc.accept().await;
    call.begin(&[]);
    call.send("news");
    let plain = format!(
        "{}{}",
        manifests::GATEWAY,
        manifests::service("rpc", &[rpc.address()])
    );
    gateway.write("test.yaml", &plain).await;
    assert_eq!(call.was_reset().await, h2::Reason::CANCEL);
}

#[tokio::test]
async fn only_declared_clusters_are_called() {
    let rpc = GrpcUpstream::start().await;
    let other = CALLS.replace("@\"rpc\"", "@\"up\"");
    let gateway = gateway(&other, &rpc).await;
    let answer = gateway.get("a.test", "/").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (404, "no call"));
    assert!(rpc.is_idle());
}

#[tokio::test]
async fn a_cluster_is_spoken_to_as_it_is_declared() {
    let certificate = Certificate::new(&["rpc.test"]);
    let mut plain = GrpcUpstream::start().await;
    let mut secure = GrpcUpstream::tls(&certificate).await;
    let up = Upstream::named("up").await;
    let policy = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: rpc}\nspec:
  targetRefs: [{group: '', kind: Service, name: rpc}]
  validation: {hostname: rpc.test, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}\n";
    let gateway = Gateway::builder()
        .file("f.wasm", noting(CALLS))
        .start(&manifest(&up, &plain, "kubernetes.io/h2c"))
        .await;
    for (rpc, scheme) in [(&mut plain, "http"), (&mut secure, "https")] {
        if scheme == "https" {
            let manifest = manifest(&up, rpc, "");
            let tls = format!("{manifest}{policy}{}", certificate.authority("ca"));
            gateway.write("test.yaml", &tls).await;
        }
        let answer = while_served(&gateway, async {
            let mut call = rpc.accept().await;
            assert_eq!(call.head.uri.scheme_str(), Some(scheme));
            call.begin(&[]);
            call.send(scheme);
            call.trailers(&[("grpc-status", "0")]);
        })
        .await;
        assert_eq!(answer, (200, scheme.to_owned()));
    }
}
