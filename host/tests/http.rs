//! HTTP/1.0, HTTP/1.1 and HTTP/2 from end to end: framing, streaming, trailers.

use std::time::Duration;

use http::{Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, channel};
use hyper::body::{Bytes, Frame};
use tidegate_testing::{Client, Gateway, Listener, Reply, Upstream, Wire, empty, full, manifests, within};

#[tokio::test]
async fn a_connection_carries_many_requests() {
    let upstream = Upstream::start(|seen| Reply::text(seen.target().to_owned())).await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut wire = gateway.connect().await;
    for path in ["/a", "/b?c=d", "/e"] {
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, path));
    }
    assert_eq!(upstream.connections(), 1, "the upstream connection is kept as well");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start(|seen| Reply::text(format!("{} {}", seen.method, seen.target()))).await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut wire = gateway.connect().await;
    wire.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
         GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    for expected in ["GET /1", "POST /2", "GET /3"] {
        assert_eq!(wire.answer().await.text(), expected);
    }
    let (rest, ended) = wire.rest().await;
    assert!(rest.is_empty() && ended.is_ok(), "closed after the last answer");
    assert_eq!(upstream.seen()[1].body, "abc");
}

#[tokio::test]
async fn an_answer_does_not_wait_for_a_request_that_has_only_begun() {
    let upstream = Upstream::named("up").await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut wire = gateway.connect().await;
    wire.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHo").await;
    assert_eq!(wire.answer().await.text(), "up");
    wire.send("st: a\r\n\r\n").await;
    assert_eq!(wire.answer().await.text(), "up");
}

#[tokio::test]
async fn a_client_of_http_1_0_is_answered_and_the_connection_closed() {
    let upstream = Upstream::start(|_| Reply::status(200).piece("one ").piece("two")).await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut wire = gateway.connect().await;
    wire.send("GET / HTTP/1.0\r\n\r\n").await;
    let head = wire.head().await;
    assert_eq!(head.status(), 200);
    assert!(!head.has("transfer-encoding"), "1.0 knows no chunks: {}", head.text);
    let answer = wire.answer_after(&head, "GET").await;
    assert_eq!((answer.text(), answer.complete), ("one two", true));
    assert_eq!(upstream.only().version, Version::HTTP_11);
}

#[tokio::test]
async fn head_has_the_fields_of_get_and_no_content() {
    let upstream = Upstream::start(|seen| match seen.method {
        Method::HEAD => Reply::status(200).header("content-length", "1234").header("x-up", "1"),
        _ => Reply::text("next"),
    })
    .await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut wire = gateway.connect().await;
    wire.send("HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = wire.answer_to("HEAD").await;
    assert_eq!((answer.header("content-length"), answer.header("x-up")), ("1234", "1"));
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.answer().await.text(), "next", "the connection goes on after HEAD");
    let mut client = Client::http2(gateway.http()).await;
    let request = client.request(Method::HEAD, "a.test", "/h").body(empty()).expect("a request");
    let answer = client.send(request).await.expect("an answer");
    assert_eq!((answer.header("content-length"), answer.body.len()), ("1234", 0));
}

#[tokio::test]
async fn answers_without_content_end_with_their_head() {
    let upstream = Upstream::start(|seen| match seen.target() {
        "/204" => Reply::status(204),
        "/304" => Reply::status(304).header("etag", "\"a\""),
        _ => Reply::text("next"),
    })
    .await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut wire = gateway.connect().await;
    for (path, status) in [("/204", 204), ("/304", 304), ("/", 200)] {
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let head = wire.head().await;
        assert_eq!(head.status(), status);
        assert!(!head.has("transfer-encoding"), "{}", head.text);
        if status == 204 {
            assert!(!head.has("content-length"), "RFC 9110 section 8.6: {}", head.text);
        }
        wire.answer_after(&head, "GET").await;
    }
}

#[tokio::test]
async fn chunks_and_lengths_pass_as_what_they_are() {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let mut client = gateway.connect().await;
    client.send("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").await;
    let mut upstream = listener.accept().await;
    let head = upstream.head().await;
    assert_eq!(head.field("transfer-encoding"), "chunked");
    assert!(!head.has("content-length"), "{}", head.text);
    let mut body = Vec::new();
    loop {
        let chunk = upstream.chunk().await;
        if chunk.is_empty() {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    assert_eq!(upstream.exact(2).await, "\r\n");
    assert_eq!(body, b"abcde");
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.header("transfer-encoding"), answer.text()), ("chunked", "xyz"));

    client.send("POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
    let head = upstream.head().await;
    assert_eq!((head.field("content-length"), head.has("transfer-encoding")), ("5", false));
    assert_eq!(upstream.exact(5).await, "hello");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let answer = client.answer().await;
    assert_eq!((answer.header("content-length"), answer.text()), ("2", "ok"));
}

#[tokio::test]
async fn a_get_is_not_given_a_body_and_an_empty_post_keeps_its_length() {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = listener.accept().await;
    let head = upstream.head().await;
    assert!(!head.has("content-length") && !head.has("transfer-encoding"), "{}", head.text);
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    client.answer().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(upstream.head().await.field("content-length"), "0");
}

#[tokio::test]
async fn http2_is_spoken_by_prior_knowledge() {
    let upstream = Upstream::start(|seen| Reply::text(format!("{}{}", seen.header("host"), seen.target()))).await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut client = Client::http2(gateway.http()).await;
    let answer = client.get("a.test", "/x?y").await;
    assert_eq!((answer.version, answer.text()), (Version::HTTP_2, "a.test/x?y"));
    // Many at once, on one connection.
    let all = (0..50).map(|at| {
        let mut client = client.again();
        tokio::spawn(async move { client.get("a.test", &format!("/{at}")).await })
    });
    for (at, answer) in all.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(answer.await.expect("answered").text(), format!("a.test/{at}"));
    }
}

/// gRPC's shape: HTTP/2 on both sides, `te: trailers`, and the status in the trailers.
#[tokio::test]
async fn trailers_pass_in_both_directions_over_http2() {
    let upstream = Upstream::start(|_| {
        Reply::status(200).header("content-type", "application/grpc").piece("message").trailer("grpc-status", "0")
    })
    .await;
    let manifest = format!(
        "{}{}{}",
        manifests::GATEWAY,
        manifests::service_speaking("up", &[upstream.address()], "kubernetes.io/h2c"),
        manifests::route("all", &[], &manifests::rule(""))
    );
    let gateway = Gateway::start(&manifest).await;
    let mut client = Client::http2(gateway.http()).await;
    let (mut sender, body) = channel::Channel::<Bytes>::new(4);
    sender.send_data("ask".into()).await.expect("room");
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-checksum", "7".parse().expect("a value"));
    sender.send_trailers(trailers).await.expect("room");
    drop(sender);
    let request = client.request(Method::POST, "a.test", "/svc/Method").header("te", "trailers");
    let answer = client.send(request.body(body.boxed()).expect("a request")).await.expect("an answer");
    assert_eq!((answer.text(), answer.trailers["grpc-status"].as_bytes()), ("message", &b"0"[..]));
    let seen = upstream.only();
    assert_eq!((seen.version, seen.header("te"), &seen.body[..]), (Version::HTTP_2, "trailers", &b"ask"[..]));
    assert_eq!(seen.trailers["x-checksum"], "7");
}

#[tokio::test]
async fn response_trailers_pass_over_http1_to_who_asks_for_them() {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\n\r\n").await;
    let mut upstream = listener.accept().await;
    assert_eq!(upstream.head().await.field("te"), "trailers");
    upstream
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 9\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.complete), ("ok", true));
    assert_eq!(answer.trailers["x-sum"], "9");
}

#[tokio::test]
async fn events_arrive_one_by_one_while_the_upstream_holds_the_rest_back() {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let mut client = gateway.connect().await;
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert_eq!(client.head().await.field("content-type"), "text/event-stream");
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        upstream.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
        // Only now does the upstream go on.
        assert_eq!(client.chunk().await, event);
    }
    upstream.send("0\r\n\r\n").await;
    assert!(client.chunk().await.is_empty());
}

#[tokio::test]
async fn the_upstream_sees_the_first_piece_before_the_client_sends_the_second() {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let mut client = gateway.connect().await;
    client.send("POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    for piece in ["first", "second"] {
        client.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        assert_eq!(upstream.chunk().await, piece);
    }
    // And an answer may come before the request has ended.
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly").await;
    assert_eq!(client.answer().await.text(), "early");

    let mut client = Client::http2(gateway.http()).await;
    let (mut sender, body) = channel::Channel::<Bytes>::new(1);
    let request = client.request(Method::POST, "a.test", "/up").body(body.boxed()).expect("a request");
    let answer = tokio::spawn(async move { client.send(request).await });
    let mut upstream = listener.accept().await;
    upstream.head().await;
    for piece in ["first", "second"] {
        within("room", sender.send(Frame::data(piece.into()))).await.expect("read");
        assert_eq!(upstream.chunk().await, piece);
    }
    drop(sender);
    assert!(upstream.chunk().await.is_empty());
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
    assert_eq!(answer.await.expect("ran").expect("an answer").text(), "done");
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_and_sends_its_body() {
    let upstream = Upstream::start(|seen| Reply::text(seen.body.clone())).await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut wire = gateway.connect().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(wire.head().await.status(), 100);
    wire.send("body").await;
    assert_eq!(wire.answer().await.text(), "body");
    assert_eq!(upstream.only().header("expect"), "", "the gateway has answered the expectation itself");
}

#[tokio::test]
async fn interim_answers_of_the_upstream_are_no_answer() {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "final"));
}

#[tokio::test]
async fn large_bodies_pass_whole_in_both_directions() {
    let upstream = Upstream::start(|seen| Reply::text(seen.body.clone())).await;
    let gateway = Gateway::to(upstream.address()).await;
    let data: Bytes = (0..8_u32 << 20).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();
    for mut client in [Client::http1(gateway.http()).await, Client::http2(gateway.http()).await] {
        let request: Request<_> =
            client.request(Method::PUT, "a.test", "/").body(full(data.clone())).expect("a request");
        let answer = client.send(request).await.expect("an answer");
        assert!(answer.complete && answer.body == data, "{:?}", client.version());
    }
}

/// Sends until nothing more is taken for a while or all is sent, and tells how much that was.
async fn sent_until_it_stalls(wire: &mut Wire, most: usize) -> usize {
    let block = vec![b'x'; 64 << 10];
    let mut sent = 0;
    while sent < most {
        match tokio::time::timeout(Duration::from_millis(300), wire.try_send(&block)).await {
            Ok(Ok(())) => sent += block.len(),
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => break,
        }
    }
    sent
}

#[tokio::test]
async fn a_side_that_does_not_read_holds_the_other_back() {
    const MOST: usize = 128 << 20;
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {MOST}\r\n\r\n");
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    upstream.send(&head).await;
    let sent = sent_until_it_stalls(&mut upstream, MOST).await;
    assert!(sent < MOST / 2, "an HTTP/1 client that does not read was sent {sent} bytes");

    let mut client = Client::http2(gateway.http()).await;
    let request = client.request(Method::GET, "a.test", "/").body(empty()).expect("a request");
    let begun = tokio::spawn(async move { client.begin(request).await.map(|response| (response, client)) });
    let mut upstream = listener.accept().await;
    upstream.head().await;
    upstream.send(&head).await;
    let _unread = begun.await.expect("ran").expect("a head");
    let sent = sent_until_it_stalls(&mut upstream, MOST).await;
    assert!(sent < MOST / 2, "an HTTP/2 client that does not read was sent {sent} bytes");

    let mut client = gateway.connect().await;
    client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {MOST}\r\n\r\n")).await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    let sent = sent_until_it_stalls(&mut client, MOST).await;
    assert!(sent < MOST / 2, "an upstream that does not read was sent {sent} bytes");
}
