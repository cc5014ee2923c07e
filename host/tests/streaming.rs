//! Bodies as they come: piece by piece, with trailers, and no faster than the other side reads.

use std::time::Duration;

use http::{Method, Request, Version};
use http_body_util::{BodyExt, channel};
use hyper::body::{Bytes, Frame};
use tidegate_testing::{
    Client, Gateway, Listener, Reply, Upstream, Wire, empty, full, manifests, within,
};

/// gRPC's shape: HTTP/2 on both sides, `te: trailers`, and the status in the trailers.
#[tokio::test]
async fn trailers_pass_in_both_directions_over_http2() {
    let upstream = Upstream::start(|_| {
        Reply::status(200)
            .header("content-type", "application/grpc")
            .piece("message")
            .trailer("grpc-status", "0")
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
    let request = client
        .request(Method::POST, "a.test", "/svc/Method")
        .header("te", "trailers");
    let answer = client
        .send(request.body(body.boxed()).expect("a request"))
        .await
        .expect("an answer");
    assert_eq!(
        (answer.text(), answer.trailers["grpc-status"].as_bytes()),
        ("message", &b"0"[..])
    );
    let seen = upstream.only();
    assert_eq!(
        (seen.version, seen.header("te"), &seen.body[..]),
        (Version::HTTP_2, "trailers", &b"ask"[..])
    );
    assert_eq!(seen.trailers["x-checksum"], "7");
}

#[tokio::test]
async fn response_trailers_pass_over_http1_to_who_asks_for_them() {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let mut client = gateway.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\n\r\n")
        .await;
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
    assert_eq!(
        client.head().await.field("content-type"),
        "text/event-stream"
    );
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        upstream
            .send(format!("{:x}\r\n{event}\r\n", event.len()))
            .await;
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
    client
        .send("POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    for piece in ["first", "second"] {
        client
            .send(format!("{:x}\r\n{piece}\r\n", piece.len()))
            .await;
        assert_eq!(upstream.chunk().await, piece);
    }
    // And an answer may come before the request has ended.
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
        .await;
    assert_eq!(client.answer().await.text(), "early");

    let mut client = Client::http2(gateway.http()).await;
    let (mut sender, body) = channel::Channel::<Bytes>::new(1);
    let request = client
        .request(Method::POST, "a.test", "/up")
        .body(body.boxed())
        .expect("a request");
    let answer = tokio::spawn(async move { client.send(request).await });
    let mut upstream = listener.accept().await;
    upstream.head().await;
    for piece in ["first", "second"] {
        within("room", sender.send(Frame::data(piece.into())))
            .await
            .expect("read");
        assert_eq!(upstream.chunk().await, piece);
    }
    drop(sender);
    assert!(upstream.chunk().await.is_empty());
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        .await;
    assert_eq!(
        answer.await.expect("ran").expect("an answer").text(),
        "done"
    );
}

#[tokio::test]
async fn large_bodies_pass_whole_in_both_directions() {
    let upstream = Upstream::start(|seen| Reply::text(seen.body.clone())).await;
    let gateway = Gateway::to(upstream.address()).await;
    let data: Bytes = (0..8_u32 << 20)
        .map(|at| (at % 251) as u8)
        .collect::<Vec<_>>()
        .into();
    for mut client in [
        Client::http1(gateway.http()).await,
        Client::http2(gateway.http()).await,
    ] {
        let request: Request<_> = client
            .request(Method::PUT, "a.test", "/")
            .body(full(data.clone()))
            .expect("a request");
        let answer = client.send(request).await.expect("an answer");
        assert!(
            answer.complete && answer.body == data,
            "{:?}",
            client.version()
        );
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
    assert!(
        sent < MOST / 2,
        "an HTTP/1 client that does not read was sent {sent} bytes"
    );

    let mut client = Client::http2(gateway.http()).await;
    let request = client
        .request(Method::GET, "a.test", "/")
        .body(empty())
        .expect("a request");
    let begun = tokio::spawn(async move {
        client
            .begin(request)
            .await
            .map(|response| (response, client))
    });
    let mut upstream = listener.accept().await;
    upstream.head().await;
    upstream.send(&head).await;
    let _unread = begun.await.expect("ran").expect("a head");
    let sent = sent_until_it_stalls(&mut upstream, MOST).await;
    assert!(
        sent < MOST / 2,
        "an HTTP/2 client that does not read was sent {sent} bytes"
    );

    let mut client = gateway.connect().await;
    client
        .send(format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {MOST}\r\n\r\n"
        ))
        .await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    let sent = sent_until_it_stalls(&mut client, MOST).await;
    assert!(
        sent < MOST / 2,
        "an upstream that does not read was sent {sent} bytes"
    );
}
