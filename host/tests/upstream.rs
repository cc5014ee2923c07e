//! Upstreams that fail in every way, and what a client sees of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_testing::{Client, Gateway, Listener, Reply, Upstream, eventually, manifests};

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn everything(endpoints: &[std::net::SocketAddr], rule: &str) -> String {
    let (gateway, service) = (manifests::GATEWAY, manifests::service("up", endpoints));
    format!(
        "{gateway}{service}{}",
        manifests::route("all", &[], &manifests::rule(rule))
    )
}

#[tokio::test]
async fn statuses_are_tried_again_as_the_route_says_with_the_whole_body() {
    let tries = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| match tries.fetch_add(1, Ordering::Relaxed) % 3 {
        2 => Reply::text("third"),
        _ => Reply::status(503),
    })
    .await;
    let gateway = Gateway::start(&everything(
        &[upstream.address()],
        ", retry: {codes: [503], attempts: 2, backoff: 1ms}",
    ))
    .await;
    let answer = gateway
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
        .await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "third"));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n";
    assert_eq!(gateway.send(chunked).await.text(), "third");
    assert_eq!(upstream.count(), 6);
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.body == "body" && seen.complete)
    );
    assert_eq!(gateway.metric("tidegate_upstream_retries_total"), 4.0);
}

#[tokio::test]
async fn attempts_end_and_the_last_answer_counts() {
    let upstream = Upstream::start(|_| Reply::status(503).header("x-last", "1")).await;
    let gateway = Gateway::start(&everything(
        &[upstream.address()],
        ", retry: {codes: [503], attempts: 2, backoff: 1ms}",
    ))
    .await;
    let answer = gateway.get("a", "/").await;
    assert_eq!(
        (
            answer.status.as_u16(),
            answer.header("x-last"),
            upstream.count()
        ),
        (503, "1", 3)
    );
    let other = Upstream::start(|_| Reply::status(500)).await;
    gateway
        .write(
            "test.yaml",
            &everything(&[other.address()], ", retry: {codes: [503], attempts: 2}"),
        )
        .await;
    assert_eq!(gateway.get("a", "/").await.status, 500);
    assert_eq!(other.count(), 1, "a status that is not listed is an answer");
}

#[tokio::test]
async fn a_body_that_is_too_large_to_keep_is_sent_once() {
    let upstream = Upstream::start(|_| Reply::status(503)).await;
    let gateway = Gateway::start(&everything(
        &[upstream.address()],
        ", retry: {codes: [503], attempts: 2, backoff: 1ms}",
    ))
    .await;
    let body = "x".repeat(200 << 10);
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(gateway.send(request).await.status, 503);
    assert_eq!(upstream.only().body.len(), body.len());
}

#[tokio::test]
async fn time_runs_out_with_504() {
    let listener = Listener::bind().await;
    for timeouts in ["request: 700ms", "backendRequest: 700ms"] {
        let gateway = Gateway::start(&everything(
            &[listener.address()],
            &format!(", timeouts: {{{timeouts}}}"),
        ))
        .await;
        let mut client = gateway.connect().await;
        client.send(ASK).await;
        let mut upstream = listener.accept().await;
        upstream.head().await;
        assert_eq!(client.answer().await.status, 504, "{timeouts}");
        let (rest, _) = upstream.rest().await;
        assert!(
            rest.is_empty(),
            "its connection is given up, so that the late answer reaches nobody"
        );
        client.send(ASK).await;
        let mut upstream = listener.accept().await;
        upstream.head().await;
        upstream
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        assert_eq!(client.answer().await.text(), "ok");
    }
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_followed_by_another() {
    let listener = Listener::bind().await;
    let rule = ", timeouts: {backendRequest: 700ms}, retry: {attempts: 1, backoff: 1ms}";
    let gateway = Gateway::start(&everything(&[listener.address()], rule)).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut first = listener.accept().await;
    first.head().await;
    let mut second = listener.accept().await;
    second.head().await;
    second
        .send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
        .await;
    assert_eq!(client.answer().await.text(), "second");
}

#[tokio::test]
async fn a_further_try_gets_what_was_sent_and_what_is_still_to_come() {
    let listener = Listener::bind().await;
    let rule = ", timeouts: {backendRequest: 1s}, retry: {attempts: 1, backoff: 1ms}";
    let gateway = Gateway::start(&everything(&[listener.address()], rule)).await;
    let mut client = gateway.connect().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .await;
    let mut abandoned = listener.accept().await;
    abandoned.head().await;
    assert_eq!(abandoned.chunk().await, "first");
    let mut upstream = listener.accept().await;
    upstream.head().await;
    assert_eq!(upstream.chunk().await, "first");
    client.send("6\r\nsecond\r\n0\r\n\r\n").await;
    assert_eq!(upstream.chunk().await, "second");
    assert!(upstream.chunk().await.is_empty());
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    assert_eq!(client.answer().await.text(), "ok");
    let (rest, _) = abandoned.rest().await;
    assert!(rest.is_empty(), "the abandoned try got more: {rest:?}");
}

#[tokio::test]
async fn an_answer_that_stands_still_ends_broken_when_time_runs_out() {
    let upstream = Upstream::start(|_| Reply::status(200).piece("begun").hanging()).await;
    let gateway = Gateway::start(&everything(
        &[upstream.address()],
        ", timeouts: {request: 1s}",
    ))
    .await;
    let answer = gateway.send(ASK).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text(), answer.complete),
        (200, "begun", false)
    );
    let answer = Client::http2(gateway.http()).await.get("a.test", "/").await;
    assert_eq!((answer.text(), answer.complete), ("begun", false));
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_looks_whole() {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let beginnings = [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n0\r\n",
    ];
    for beginning in beginnings {
        let mut client = gateway.connect().await;
        client.send(ASK).await;
        let mut upstream = listener.accept().await;
        upstream.head().await;
        upstream.send(beginning).await;
        drop(upstream);
        let answer = client.answer().await;
        assert_eq!(
            (answer.text(), answer.complete),
            ("begun", false),
            "{beginning}"
        );

        let mut client = Client::http2(gateway.http()).await;
        let asked = tokio::spawn(async move { client.get("a.test", "/").await });
        let mut upstream = listener.accept().await;
        upstream.head().await;
        upstream.send(beginning).await;
        drop(upstream);
        let answer = asked.await.expect("an answer");
        assert_eq!(
            (answer.text(), answer.complete),
            ("begun", false),
            "over HTTP/2: {beginning}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole_unless_it_was_reset() {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    for reset in [false, true] {
        let mut client = gateway.connect().await;
        client.send(ASK).await;
        let mut upstream = listener.accept().await;
        upstream.head().await;
        upstream.send("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
        let head = client.head().await;
        assert_eq!(head.field("transfer-encoding"), "chunked", "{}", head.text);
        assert_eq!(client.chunk().await, "until the end");
        if reset {
            upstream.reset();
            let (rest, _) = client.rest().await;
            assert!(rest.is_empty(), "no clean end: {rest:?}");
        } else {
            drop(upstream);
            assert!(client.chunk().await.is_empty());
        }
    }
}

#[tokio::test]
async fn answers_that_are_none_are_502() {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1000));
    for answer in [
        "",
        "garbage\r\n\r\n",
        "HTTP/1.1 2OO OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y",
        "HTTP/3 200 OK\r\n\r\n",
        &long,
        &many,
    ] {
        let mut client = gateway.connect().await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            .await;
        let mut upstream = listener.accept().await;
        upstream.head().await;
        // A long one is cut off.
        let _ = upstream.try_send(answer).await;
        drop(upstream);
        assert_eq!(client.answer().await.status, 502, "{answer:.80}");
    }
}

#[tokio::test]
async fn a_connection_that_the_upstream_closes_while_idle_is_no_error() {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let mut client = gateway.connect().await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    let mut kept = None;
    for request in [ASK, post, ASK, post] {
        // Closed just before the next request.
        drop(kept);
        client.send(request).await;
        let mut upstream = listener.accept().await;
        upstream.head().await;
        upstream
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        assert_eq!(client.answer().await.text(), "ok", "{request}");
        kept = Some(upstream);
    }
    // Closed without an answer on a kept connection: what can be repeated is, what cannot is not.
    for (request, status) in [(ASK, 200), (post, 502)] {
        let Some(mut upstream) = kept.take() else {
            panic!("a kept connection")
        };
        client.send(request).await;
        upstream.head().await;
        drop(upstream);
        if status == 200 {
            let mut upstream = listener.accept().await;
            upstream.head().await;
            upstream
                .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
            kept = Some(upstream);
        }
        assert_eq!(client.answer().await.status, status, "{request}");
    }
}

#[tokio::test]
async fn the_upstream_hears_that_the_client_has_gone() {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
        .await;
    client.head().await;
    client.reset();
    // However it ends.
    let (_, _) = upstream.rest().await;
    // Likewise over HTTP/2, where only the stream ends.
    let client = Client::http2(gateway.http()).await;
    let request = client
        .request(http::Method::GET, "a.test", "/")
        .body(tidegate_testing::empty())
        .expect("a request");
    let mut second = client.again();
    let asked = tokio::spawn(async move { second.begin(request).await });
    let mut upstream = listener.accept().await;
    upstream.head().await;
    asked.abort();
    let (rest, _) = upstream.rest().await;
    assert!(rest.is_empty() && !client.is_closed());
    eventually!(
        gateway.metric("tidegate_requests_active") == 0.0,
        "no exchange is left"
    );
}
