//! Clients that are slow, idle, too many or hostile: they are cut off, and nobody else notices.

use std::time::Duration;

use http::{Method, Version};
use tidegate_testing::{Client, Gateway, Listener, Upstream, Wire, empty, manifests};

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn limited(
    upstream: std::net::SocketAddr,
    change: impl FnOnce(&mut tidegate_proxy::Limits),
) -> Gateway {
    Gateway::builder()
        .limits(change)
        .start(&manifests::everything_to(upstream))
        .await
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_cut_off() {
    let upstream = Upstream::named("up").await;
    let gateway = limited(upstream.address(), |limits| {
        limits.head_timeout = Duration::from_secs(1)
    })
    .await;
    let mut first = gateway.connect().await;
    first.send("GET / HTTP/1.1\r\nHost: a\r\nX: ").await;
    let mut later = gateway.connect().await;
    later.send(ASK).await;
    assert_eq!(later.answer().await.text(), "up");
    later.send("GET").await;
    let mut idle = gateway.connect().await;
    idle.send(ASK).await;
    assert_eq!(idle.answer().await.text(), "up");
    for slow in [&mut first, &mut later] {
        // A byte now and then does not help.
        while slow.try_send("x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    idle.send(ASK).await;
    assert_eq!(
        idle.answer().await.text(),
        "up",
        "who has not begun another may take longer"
    );
    assert_eq!(upstream.count(), 3);
}

#[tokio::test]
async fn an_idle_connection_is_closed_cleanly() {
    let upstream = Upstream::named("up").await;
    let gateway = limited(upstream.address(), |limits| {
        limits.idle_timeout = Duration::from_secs(1)
    })
    .await;
    let mut wire = gateway.connect().await;
    wire.send(ASK).await;
    wire.answer().await;
    let (rest, ended) = wire.rest().await;
    assert!(rest.is_empty() && ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let listener = Listener::bind().await;
    let gateway = limited(listener.address(), |limits| {
        limits.body_idle = Duration::from_secs(1)
    })
    .await;
    let mut client = gateway.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        .await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    assert_eq!(upstream.exact(4).await, "half");
    let (rest, _) = upstream.rest().await;
    assert!(rest.is_empty());
    let (_, _) = client.rest().await;
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short payload")
        .to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `GET http://a/`, by HPACK's static table.
const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
const HEADERS: u8 = 1;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Its name, what comes first, and what then comes again and again.
type Flood<'a> = (&'a str, Vec<u8>, &'a dyn Fn(u32) -> Vec<u8>);

/// Sends frames until the gateway closes the connection; the number of those that were sent.
async fn flood(gateway: &Gateway, first: Vec<u8>, next: impl Fn(u32) -> Vec<u8>, most: u32) -> u32 {
    let mut wire = Wire::connect(gateway.http()).await;
    wire.send(PREFACE).await;
    wire.send(frame(SETTINGS, 0, 0, &[])).await;
    wire.send(first).await;
    for sent in 0..most {
        if wire.try_send(next(sent)).await.is_err() {
            return sent;
        }
    }
    most
}

#[tokio::test]
async fn floods_of_frames_end_their_connection_and_nobody_elses() {
    let upstream = Upstream::named("up").await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut honest = Client::http2(gateway.http()).await;
    let open = frame(HEADERS, END_HEADERS, 1, &GET);
    let endless = frame(HEADERS, 0, 1, &GET);
    // A field that is not indexed: `x: yyy…`.
    let field: Vec<u8> = [&[0x00, 0x01, b'x', 0x7f, 0x81, 0x07][..], &[b'y'; 1024][..]].concat();
    let floods: [Flood<'_>; 3] = [
        ("rapid reset (CVE-2023-44487)", Vec::new(), &|at| {
            let stream = 2 * at + 1;
            let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &GET);
            [request, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
        }),
        ("CONTINUATION (CVE-2024-27316)", endless, &|_| {
            frame(CONTINUATION, 0, 1, &field)
        }),
        ("empty DATA", open, &|_| frame(DATA, 0, 1, &[])),
    ];
    for (name, first, next) in floods {
        let sent = flood(&gateway, first, next, 200_000).await;
        assert!(sent < 200_000, "{name} goes on after {sent} frames");
        let answer = honest.get("a", "/").await;
        assert_eq!(
            (answer.version, answer.text()),
            (Version::HTTP_2, "up"),
            "{name}"
        );
    }
}

#[tokio::test]
async fn no_more_streams_than_allowed_run_at_once() {
    let listener = Listener::bind().await;
    let gateway = limited(listener.address(), |limits| limits.streams = 3).await;
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let client = Client::http2(gateway.http()).await;
    let ask = || {
        let mut client = client.again();
        tokio::spawn(async move { client.get("a", "/").await.status })
    };
    // With the first answer the client knows how many it may begin.
    let first = ask();
    let mut kept = listener.accept().await;
    kept.head().await;
    kept.send(OK).await;
    assert_eq!(first.await.expect("ran"), 200);
    let asked: Vec<_> = (0..5).map(|_| ask()).collect();
    kept.head().await;
    let mut waiting = vec![kept];
    for _ in 0..2 {
        let mut upstream = listener.accept().await;
        upstream.head().await;
        waiting.push(upstream);
    }
    assert_eq!(gateway.metric("tidegate_requests_active"), 3.0);
    for upstream in &mut waiting[..2] {
        upstream.send(OK).await;
        // Its connection carries one that waited.
        upstream.head().await;
    }
    for upstream in &mut waiting {
        upstream.send(OK).await;
    }
    for asked in asked {
        assert_eq!(asked.await.expect("ran"), 200);
    }
}

#[tokio::test]
async fn heads_of_http2_are_read_as_strictly() {
    let upstream = Upstream::named("up").await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut client = Client::http2(gateway.http()).await;
    for (name, value) in [("host", "b.test"), ("host", "a@b")] {
        let request = client
            .request(Method::GET, "a.test", "/")
            .header(name, value)
            .body(empty())
            .expect("a request");
        assert_eq!(
            client.send(request).await.expect("an answer").status,
            400,
            "{name}: {value}"
        );
    }
    for path in ["/a%00", "/a%2fb", "/..;/a"] {
        assert_eq!(client.get("a.test", path).await.status, 400, "{path}");
    }
    let many = (0..200).fold(client.request(Method::GET, "a.test", "/"), |request, at| {
        request.header(format!("x-{at}"), "y")
    });
    let answer = client.send(many.body(empty()).expect("a request")).await;
    assert_eq!(
        answer.expect("an answer").status,
        431,
        "as many fields as over HTTP/1"
    );
    assert_eq!(upstream.count(), 0, "the host itself has said so");
    let mut client = Client::http2(gateway.http()).await;
    let long = client
        .request(Method::GET, "a.test", "/")
        .header("x", "y".repeat(100 << 10))
        .body(empty())
        .expect("a request");
    let answer = client.send(long).await;
    assert!(
        answer.map_or(true, |answer| answer.status == 431),
        "as many bytes as over HTTP/1"
    );
    let mut client = Client::http2(gateway.http()).await;
    let same = client
        .request(Method::GET, "a.test", "/")
        .header("host", "A.test")
        .body(empty())
        .expect("a request");
    assert_eq!(client.send(same).await.expect("an answer").status, 200);
    assert_eq!(upstream.count(), 1);
}
