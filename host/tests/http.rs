//! HTTP/1.0, HTTP/1.1 and HTTP/2 from end to end: framing, streaming, trailers.

use http::{Method, StatusCode, Version};
use tidegate_testing::{Client, Gateway, Listener, Reply, Upstream, empty};

#[tokio::test]
async fn a_connection_carries_many_requests() {
    let upstream = Upstream::start(|seen| Reply::text(seen.target().to_owned())).await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut wire = gateway.connect().await;
    for path in ["/a", "/b?c=d", "/e"] {
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
            .await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, path));
    }
    assert_eq!(
        upstream.connections(),
        1,
        "the upstream connection is kept as well"
    );
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream =
        Upstream::start(|seen| Reply::text(format!("{} {}", seen.method, seen.target()))).await;
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
    assert!(
        rest.is_empty() && ended.is_ok(),
        "closed after the last answer"
    );
    assert_eq!(upstream.seen()[1].body, "abc");
}

#[tokio::test]
async fn an_answer_does_not_wait_for_a_request_that_has_only_begun() {
    let upstream = Upstream::named("up").await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut wire = gateway.connect().await;
    wire.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHo")
        .await;
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
    assert!(
        !head.has("transfer-encoding"),
        "1.0 knows no chunks: {}",
        head.text
    );
    let answer = wire.answer_after(&head, "GET").await;
    assert_eq!((answer.text(), answer.complete), ("one two", true));
    assert_eq!(upstream.only().version, Version::HTTP_11);
}

#[tokio::test]
async fn head_has_the_fields_of_get_and_no_content() {
    let upstream = Upstream::start(|seen| match seen.method {
        Method::HEAD => Reply::status(200)
            .header("content-length", "1234")
            .header("x-up", "1"),
        _ => Reply::text("next"),
    })
    .await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut wire = gateway.connect().await;
    wire.send("HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = wire.answer_to("HEAD").await;
    assert_eq!(
        (answer.header("content-length"), answer.header("x-up")),
        ("1234", "1")
    );
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(
        wire.answer().await.text(),
        "next",
        "the connection goes on after HEAD"
    );
    let mut client = Client::http2(gateway.http()).await;
    let request = client
        .request(Method::HEAD, "a.test", "/h")
        .body(empty())
        .expect("a request");
    let answer = client.send(request).await.expect("an answer");
    assert_eq!(
        (answer.header("content-length"), answer.body.len()),
        ("1234", 0)
    );
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
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let head = wire.head().await;
        assert_eq!(head.status(), status);
        assert!(!head.has("transfer-encoding"), "{}", head.text);
        if status == 204 {
            assert!(
                !head.has("content-length"),
                "RFC 9110 section 8.6: {}",
                head.text
            );
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
    upstream
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.header("transfer-encoding"), answer.text()),
        ("chunked", "xyz")
    );

    client
        .send("POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    let head = upstream.head().await;
    assert_eq!(
        (head.field("content-length"), head.has("transfer-encoding")),
        ("5", false)
    );
    assert_eq!(upstream.exact(5).await, "hello");
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.header("content-length"), answer.text()),
        ("2", "ok")
    );
}

#[tokio::test]
async fn a_get_is_not_given_a_body_and_an_empty_post_keeps_its_length() {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = listener.accept().await;
    let head = upstream.head().await;
    assert!(
        !head.has("content-length") && !head.has("transfer-encoding"),
        "{}",
        head.text
    );
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    client.answer().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(upstream.head().await.field("content-length"), "0");
}

#[tokio::test]
async fn http2_is_spoken_by_prior_knowledge() {
    let upstream =
        Upstream::start(|seen| Reply::text(format!("{}{}", seen.header("host"), seen.target())))
            .await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut client = Client::http2(gateway.http()).await;
    let answer = client.get("a.test", "/x?y").await;
    assert_eq!(
        (answer.version, answer.text()),
        (Version::HTTP_2, "a.test/x?y")
    );
    // Many at once, on one connection.
    let all = (0..50).map(|at| {
        let mut client = client.again();
        tokio::spawn(async move { client.get("a.test", &format!("/{at}")).await })
    });
    for (at, answer) in all.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(
            answer.await.expect("answered").text(),
            format!("a.test/{at}")
        );
    }
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_and_sends_its_body() {
    let upstream = Upstream::start(|seen| Reply::text(seen.body.clone())).await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut wire = gateway.connect().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(wire.head().await.status(), 100);
    wire.send("body").await;
    assert_eq!(wire.answer().await.text(), "body");
    assert_eq!(
        upstream.only().header("expect"),
        "",
        "the gateway has answered the expectation itself"
    );
}

#[tokio::test]
async fn interim_answers_of_the_upstream_are_no_answer() {
    let listener = Listener::bind().await;
    let gateway = Gateway::to(listener.address()).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    upstream
        .send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        .await;
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "final"));
}
