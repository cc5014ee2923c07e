//! What the host adds to a request and takes away from it: forwarding headers, the request id, hop-by-hop fields.

use http::Method;
use tidegate_proxy::Trust;
use tidegate_testing::{Client, Gateway, Reply, Seen, Upstream, empty, manifests};

const SPOOFED: &str = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 1\r\nX-Real-Ip: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-Client-Cert: Subject=root\r\n";

async fn seen(trust: Trust, fields: &str) -> Seen {
    let upstream = Upstream::named("up").await;
    let gateway = Gateway::builder()
        .trust(trust)
        .start(&manifests::everything_to(upstream.address()))
        .await;
    let request = format!("GET /p?q HTTP/1.1\r\nHost: a.test:8080\r\n{fields}\r\n");
    assert_eq!(gateway.send(request).await.status, 200);
    upstream.only()
}

#[tokio::test]
async fn an_untrusted_peer_is_told_apart_from_what_it_claims() {
    let seen = seen(Trust::None, SPOOFED).await;
    assert_eq!(seen.header("host"), "a.test:8080");
    assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen.header("x-forwarded-proto"), "http");
    assert_eq!(seen.header("x-forwarded-host"), "a.test:8080");
    assert_eq!(seen.header("x-forwarded-port"), "80");
    assert_eq!(seen.header("x-real-ip"), "127.0.0.1");
    assert_eq!(seen.header("forwarded"), "");
    assert_eq!(seen.header("x-forwarded-client-cert"), "");
}

#[tokio::test]
async fn a_trusted_peer_is_appended_to() {
    for trust in [
        Trust::Hops(1),
        Trust::Networks(vec!["127.0.0.0/8".parse().expect("a network")]),
    ] {
        let seen = seen(trust, SPOOFED).await;
        assert_eq!(seen.header("x-forwarded-for"), "1.1.1.1, 127.0.0.1");
        assert_eq!(seen.header("x-forwarded-proto"), "gopher");
        assert_eq!(seen.header("x-forwarded-host"), "evil.test");
        assert_eq!(seen.header("x-forwarded-client-cert"), "Subject=root");
        assert_eq!(seen.header("x-real-ip"), "1.1.1.1");
    }
    let elsewhere = Trust::Networks(vec!["10.0.0.0/8".parse().expect("a network")]);
    assert_eq!(
        seen(elsewhere, SPOOFED).await.header("x-forwarded-for"),
        "127.0.0.1"
    );
}

#[tokio::test]
async fn a_request_id_is_kept_where_it_is_one_and_made_where_it_is_none() {
    assert_eq!(
        seen(Trust::None, "X-Request-Id: abc-1\r\n")
            .await
            .header("x-request-id"),
        "abc-1"
    );
    let long = format!("X-Request-Id: {}\r\n", "x".repeat(129));
    for bad in [
        "",
        // A client cannot take it away, either.
        "Connection: X-Request-Id\r\n",
        "X-Request-Id: a b\r\n",
        "X-Request-Id: a\r\nX-Request-Id: b\r\n",
        &long,
    ] {
        let made = seen(Trust::None, bad).await;
        assert_eq!(made.header("x-request-id").len(), 36, "{bad:?}: {made:?}");
    }
}

#[tokio::test]
async fn fields_of_one_connection_stay_on_it() {
    let fields = "Connection: keep-alive, X-Mine, Authorization, Host, X-Forwarded-For, Content-Length\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
                  Upgrade: h2c\r\nHTTP2-Settings: x\r\nTE: gzip, trailers\r\nAuthorization: Basic x\r\nX-Other: 2\r\n";
    let seen = seen(Trust::None, fields).await;
    for gone in [
        "connection",
        "x-mine",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "http2-settings",
    ] {
        assert_eq!(seen.header(gone), "", "{gone}");
    }
    assert_eq!(
        (seen.header("te"), seen.header("x-other")),
        ("trailers", "2")
    );
    // What carries identity cannot be made to disappear.
    assert_eq!(
        (seen.header("authorization"), seen.header("host")),
        ("Basic x", "a.test:8080")
    );
    assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");
}

#[tokio::test]
async fn fields_of_the_upstream_connection_stay_there() {
    let upstream = Upstream::start(|_| {
        Reply::text("up")
            .header("connection", "x-mine")
            .header("x-mine", "1")
            .header("keep-alive", "timeout=5")
            .header("x-other", "2")
    })
    .await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut wire = gateway.connect().await;
    for _ in 0..2 {
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = wire.answer().await;
        for gone in ["connection", "x-mine", "keep-alive"] {
            assert_eq!(answer.header(gone), "", "{gone}");
        }
        assert_eq!(answer.header("x-other"), "2");
    }
    let mut client = Client::http2(gateway.http()).await;
    let answer = client.get("a.test", "/").await;
    assert_eq!(
        (answer.header("x-mine"), answer.header("x-other")),
        ("", "2")
    );
}

#[tokio::test]
async fn many_values_and_cookies_pass_as_they_are() {
    let upstream = Upstream::start(|_| {
        Reply::text("up")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
    })
    .await;
    let gateway = Gateway::to(upstream.address()).await;
    let mut client = Client::http2(gateway.http()).await;
    // HTTP/2 may split the cookie; HTTP/1 has it in one piece (RFC 9113 section 8.2.3).
    let request = client
        .request(Method::GET, "a.test", "/")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-v", "1")
        .header("x-v", "2");
    let answer = client
        .send(request.body(empty()).expect("a request"))
        .await
        .expect("an answer");
    assert_eq!(
        answer
            .headers
            .get_all("set-cookie")
            .iter()
            .collect::<Vec<_>>(),
        ["a=1", "b=2"]
    );
    let seen = upstream.only();
    assert_eq!(
        seen.headers.get_all("cookie").iter().collect::<Vec<_>>(),
        ["a=1; b=2"]
    );
    assert_eq!(
        seen.headers.get_all("x-v").iter().collect::<Vec<_>>(),
        ["1", "2"]
    );
}
