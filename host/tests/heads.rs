//! The strict reading of requests: what has two readings goes no further, and an upstream only ever sees canonical requests.

use std::fmt::Write as _;

use tidegate_testing::{Answer, Gateway, Listener, Recorder, Upstream, Wire, manifests};

const CHUNKED: &str = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";

/// A request behind another tells whether the reading has gone out of step, and ends the connection.
const LAST: &str = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// The statuses of the answers to a client's bytes until the gateway closes the connection.
async fn statuses(gateway: &Gateway, bytes: &[u8]) -> Vec<u16> {
    let mut wire = gateway.connect().await;
    // It may have been cut off before it has said everything.
    let _ = wire.try_send(bytes).await;
    answers(&mut wire).await
}

/// The same for what is not complete: the client says that nothing follows.
async fn statuses_to_unfinished(gateway: &Gateway, bytes: &[u8]) -> Vec<u16> {
    let mut wire = gateway.connect().await;
    let _ = wire.try_send(bytes).await;
    wire.finish().await;
    answers(&mut wire).await
}

async fn answers(wire: &mut Wire) -> Vec<u16> {
    let (text, _) = wire.rest().await;
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = |at: usize| {
        text[at + 9..]
            .get(..3)
            .and_then(|status| status.parse().ok())
    };
    text.match_indices("HTTP/1.")
        .filter_map(|(at, _)| status(at))
        .collect()
}

/// Requests that must be refused: an answer of 400 or the end of the connection, and nothing for the upstream.
fn refused() -> Vec<String> {
    let get = |head: &str| format!("GET /x HTTP/1.1\r\n{head}\r\n\r\n");
    let post =
        |head: &str, body: &str| format!("POST /x HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{body}");
    let mut all = Vec::new();
    for host in [
        "Host: a\r\nHost: a",
        "Host: a\r\nHost: b",
        "Host: a@b",
        "Host: a/b",
        "Host: a,b",
        "Host: a b",
        "Host:",
        "Host: a:b",
        "Host: a:80:80",
        "Host: a#",
        "Host: a?b",
        "Host: [::1",
        "Host: a\\b",
        "Host: a\tb",
        "Host: \"a\"",
        "Host: a%00",
        "X: y",
        "Host : a",
        " Host: a",
    ] {
        all.push(get(host));
    }
    for field in [
        "X : y",
        "X\t: y",
        ": y",
        "X",
        "X\x00: y",
        "X: a\x00b",
        "X(: y",
        "X: y\r\n folded",
        "X: y\r\n\tfolded",
        " X: y",
        "X: a\rb",
        "X: a\nb: c\x01",
        "\u{e4}: y",
        "X: a\x7fb",
        "X,Y: z",
    ] {
        all.push(get(&format!("Host: a\r\n{field}")));
    }
    for coding in [
        ",chunked",
        "chunked,",
        "chunked, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "identity",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked\x0b",
        "identity, chunked",
        "chunked, identity",
        "x chunked",
    ] {
        all.push(post(
            &format!("Transfer-Encoding: {coding}"),
            "1\r\nx\r\n0\r\n\r\n",
        ));
    }
    all.push(post(
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n",
    ));
    all.push(post(
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "0\r\n\r\n",
    ));
    all.push(post(
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n",
    ));
    all.push(post("Transfer-Encoding : chunked", "0\r\n\r\n"));
    all.push(post("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"));
    all.push(
        "POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
    );
    for length in [
        "-1",
        "+1",
        "1, 2",
        "0x1",
        "1 1",
        "1a",
        "",
        "18446744073709551616",
        "99999999999999999999999",
        "1\u{b}",
        "１",
        "1.0",
        "1;",
    ] {
        all.push(post(&format!("Content-Length: {length}"), "xx"));
    }
    all.push(post("Content-Length: 1\r\nContent-Length: 2", "xx"));
    for line in [
        "GET  /x HTTP/1.1",
        "GET /x  HTTP/1.1",
        "GET\t/x HTTP/1.1",
        "GET /x HTTP/1.2",
        "GET /x HTTP/2.0",
        "GET /x HTTP/9.9",
        "GET /x http/1.1",
        "GET /x HTTP/1.1 ",
        "GET /x",
        "GET /x HTTP/1.1\rX: y",
        "G@T /x HTTP/1.1",
        " GET /x HTTP/1.1",
        "GET x HTTP/1.1",
        "GET * HTTP/1.1",
        "GET /\x01 HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET http://b/x HTTP/1.1",
        "GET http://a@a/x HTTP/1.1",
        "GET /x\u{e4} HTTP/1.1",
        "GET /%00 HTTP/1.1",
        "GET /%zz HTTP/1.1",
    ] {
        all.push(format!("{line}\r\nHost: a\r\n\r\n"));
    }
    all
}

/// Requests whose content is malformed: the head may have gone on, the end never does.
fn broken_content() -> Vec<String> {
    let sizes = [
        "0x1",
        "+1",
        "-1",
        " 1",
        "g",
        "",
        "1\x00",
        "ffffffffffffffff1",
        "10000000000000000",
        "1\n",
        "1,",
        "1\r",
        "\t1",
        "_1",
        "1_0",
        "0001x",
    ];
    let mut all: Vec<String> = sizes
        .iter()
        .map(|size| format!("{CHUNKED}\r\n{size}\r\nx\r\n0\r\n\r\n"))
        .collect();
    all.push(format!("{CHUNKED}\r\n1\r\nxy\r\n0\r\n\r\n"));
    all.push(format!("{CHUNKED}\r\n1\r\nx0\r\n\r\n"));
    all.push(format!("{CHUNKED}\r\n1\nx\n0\n\n"));
    all.push(format!("{CHUNKED}\r\n1\r\nx"));
    all.push(format!("{CHUNKED}\r\n1\r\nx\r\n0\r\n"));
    all.push(format!("{CHUNKED}\r\n0\r\nX : y\r\n\r\n"));
    all.push("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nxyz".to_owned());
    all
}

#[tokio::test]
async fn a_head_with_two_readings_goes_no_further() {
    let recorder = Recorder::start().await;
    let gateway = Gateway::to(recorder.address()).await;
    let mut wrong = Vec::new();
    for request in refused() {
        let answers = statuses(&gateway, format!("{request}{LAST}").as_bytes()).await;
        let records = recorder.take();
        let unseen = records.violations.is_empty()
            && records.requests.is_empty()
            && records.unfinished.is_empty();
        // After the refusal the connection is closed.
        if !unseen
            || answers.len() > 1
            || !answers
                .iter()
                .all(|status| matches!(status, 400 | 501 | 505))
        {
            wrong.push(format!("{request:?}: {answers:?} {records:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn malformed_content_never_comes_to_a_clean_end() {
    let recorder = Recorder::start().await;
    let gateway = Gateway::to(recorder.address()).await;
    let mut wrong = Vec::new();
    for request in broken_content() {
        let answers = statuses_to_unfinished(&gateway, request.as_bytes()).await;
        let records = recorder.take();
        if !records.violations.is_empty()
            || !records.requests.is_empty()
            || !answers.iter().all(|status| *status == 400)
        {
            wrong.push(format!("{request:?}: {answers:?} {records:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_is_unusual_but_has_one_reading_goes_on_in_canonical_form() {
    let recorder = Recorder::start().await;
    let gateway = Gateway::to(recorder.address()).await;
    let get = |head: &str| format!("GET /x HTTP/1.1\r\n{head}\r\n\r\n");
    for request in [
        get("host:a"), get("HOST: a"), get("Host:   a   "), get("Host: a\r\nX:"), get("Host: a\r\nX: a\tb"), get("Host: [::1]:80"), get("Host: A.Test:80"),
        "\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /x#fragment HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n1234567".to_owned(),
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n01\r\nx\r\n0\r\n\r\n".to_owned(),
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b;c\r\nx\r\n0\r\n\r\n".to_owned(),
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n".to_owned(),
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n".to_owned(),
        "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
        "FOO /x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /x HTTP/1.0\r\nHost: a\r\n\r\n".to_owned(),
    ] {
        // HTTP/1.0 closes by itself.
        let is_old = request.contains("HTTP/1.0");
        let answers = statuses(&gateway, format!("{request}{}", if is_old { "" } else { LAST }).as_bytes()).await;
        let records = recorder.take();
        assert!(records.violations.is_empty(), "{request:?}: {:?}", records.violations);
        let expected = if is_old { 1 } else { 2 };
        assert_eq!((records.requests.len(), answers), (expected, vec![200; expected]), "{request:?}: {records:?}");
    }
}

/// Content-Length beside Transfer-Encoding, doubled lengths, bare LF: refused, or canonical and the last of its connection.
#[tokio::test]
async fn doubtful_framing_is_refused_or_the_last_of_its_connection() {
    let recorder = Recorder::start().await;
    let gateway = Gateway::to(recorder.address()).await;
    for head in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 6",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nContent-Length: 6",
    ] {
        let bytes = format!("POST /x HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n0\r\n\r\n{LAST}");
        let answers = statuses(&gateway, bytes.as_bytes()).await;
        let records = recorder.take();
        assert!(
            records.violations.is_empty(),
            "{head:?}: {:?}",
            records.violations
        );
        assert!(
            records.requests.len() <= answers.len(),
            "{head:?}: {records:?} {answers:?}"
        );
        assert_eq!(
            answers.len(),
            1,
            "{head:?}: nothing behind it is read: {answers:?}"
        );
        assert!(
            records
                .requests
                .iter()
                .all(|(line, ..)| line.contains("/x")),
            "{head:?}: {records:?}"
        );
    }
    for bytes in [
        "GET /x HTTP/1.1\nHost: a\n\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    ] {
        let bytes = format!("{bytes}{LAST}");
        let answers = statuses(&gateway, bytes.as_bytes()).await;
        let records = recorder.take();
        assert!(
            records.violations.is_empty(),
            "{bytes:?}: {:?}",
            records.violations
        );
        assert!(
            records.requests.len() <= answers.len(),
            "{bytes:?}: {records:?} {answers:?}"
        );
    }
}

#[tokio::test]
async fn bounds_of_a_head_are_431_and_414() {
    let upstream = Upstream::named("up").await;
    let gateway = Gateway::to(upstream.address()).await;
    let get = |path: &str, fields: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n")
    };
    let many = (0..200).fold(String::new(), |mut text, at| {
        let _ = write!(text, "X-{at}: y\r\n");
        text
    });
    let long = format!("X: {}\r\n", "y".repeat(100 << 10));
    let path = format!("/{}", "p".repeat(20 << 10));
    for (request, status) in [
        (get("/", &many), 431),
        (get("/", &long), 431),
        (get(&path, ""), 414),
        (
            get("/fits", &format!("X: {}\r\n", "y".repeat(30 << 10))),
            200,
        ),
        (get(&path[..10 << 10], ""), 200),
    ] {
        let mut wire = gateway.connect().await;
        let _ = wire.try_send(&request).await;
        assert_eq!(answers(&mut wire).await, [status], "{:.60}", request);
    }
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn trace_and_connect_are_not_allowed() {
    let upstream = Upstream::named("up").await;
    let gateway = Gateway::to(upstream.address()).await;
    for line in [
        "TRACE / HTTP/1.1",
        "CONNECT a:443 HTTP/1.1",
        "CONNECT / HTTP/1.1",
    ] {
        let answers = statuses(
            &gateway,
            format!("{line}\r\nHost: a\r\n\r\n{LAST}").as_bytes(),
        )
        .await;
        assert!(answers == [405] || answers == [400], "{line}: {answers:?}");
    }
    let answer = gateway.send("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.status, 405);
    // RFC 9110 section 15.5.6
    assert_eq!(
        answer.header("allow"),
        "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    );
    assert_eq!(upstream.count(), 0);
}

/// A pipelined request, of which the gateway has read a part when it answers the one before, is read as strictly as any other.
#[tokio::test]
async fn two_lengths_behind_another_request_are_found_wherever_the_reads_cut_them() {
    let upstream = Upstream::named("up").await;
    let gateway = Gateway::to(upstream.address()).await;
    let first = format!("{CHUNKED}\r\n3\r\nabc\r\n0\r\n\r\n");
    let second = "POST /two HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let head = second.find("\r\n\r\n").expect("a head") + 4;
    for at in 0..=head {
        let mut wire = gateway.connect().await;
        // One write, and its answer shows that all of it was read.
        wire.send(format!("{first}{}", &second[..at])).await;
        let answer = wire.head().await;
        assert_eq!(answer.status(), 200, "cut at {at}");
        wire.exact(answer.field("content-length").parse().expect("a length"))
            .await;
        // It may have been refused and cut off already.
        let _ = wire
            .try_send(format!("{}{LAST}", &second[at..]).as_bytes())
            .await;
        assert_eq!(answers(&mut wire).await, [400], "cut at {at}");
    }
    assert_eq!(upstream.count(), head + 1, "{:?}", upstream.seen().last());
}

/// Bodies of all kinds between requests leave later chunked ones as good as the first: the connection stays.
#[tokio::test]
async fn a_chunked_request_behind_bodies_does_not_end_the_connection() {
    let upstream = Upstream::named("up").await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut wire = gateway.connect().await;
    let pieces = [
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
        "defghi",
        CHUNKED,
        "\r\n5\r\nab",
        "cde\r\n0",
        "\r\n\r\n",
    ];
    for round in 0..3 {
        for (at, piece) in pieces.iter().enumerate() {
            wire.send(piece).await;
            if at == 1 || at == pieces.len() - 1 {
                let answer = wire.head().await;
                assert_eq!(answer.status(), 200, "round {round}");
                assert!(!answer.has("connection"), "{}", answer.text);
                wire.exact(answer.field("content-length").parse().expect("a length"))
                    .await;
            }
        }
    }
    assert_eq!(upstream.count(), 6);
}

/// What a client gets where an upstream answers with these bytes, past a rule with these filters.
async fn answered(filters: &str, answer: &str) -> Answer {
    let listener = Listener::bind().await;
    let gateway = Gateway::start(&format!(
        "{}{}{}",
        manifests::GATEWAY,
        manifests::service("up", &[listener.address()]),
        manifests::route("all", &[], &manifests::rule(filters))
    ))
    .await;
    let mut client = gateway.connect().await;
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    upstream.send(answer).await;
    client.answer().await
}

#[tokio::test]
async fn no_route_and_no_upstream_says_where_an_answer_ends_but_its_body() {
    const LENGTH: &str = ", filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: Content-Length, value: \"5\"}]}}]";
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
    let answer = answered(LENGTH, ANSWER).await;
    assert_eq!(
        (answer.header("content-length"), answer.text()),
        ("10", "0123456789")
    );
    // RFC 9112 section 6.3: of both the coding counts.
    const BOTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    let answer = answered("", BOTH).await;
    assert_eq!((answer.header("content-length"), answer.text()), ("", "ab"));
    const CODED: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    assert_eq!(answered("", CODED).await.status, 502);
}

#[tokio::test]
async fn a_client_of_http_1_0_keeps_its_connection_where_it_asks_for_it() {
    let upstream = Upstream::named("up").await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        client
            .send("GET /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            .await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("connection")),
            (200, "keep-alive")
        );
    }
    client.send("GET /x HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let (last, _) = client.rest().await;
    assert!(last.starts_with(b"HTTP/1.0 200"));
    assert_eq!(upstream.count(), 3);
}
