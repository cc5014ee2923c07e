//! What a class asks of its listeners: bounds and trust, beside listeners that are as the process was told.

use tidegate_proxy::Trust;
use tidegate_testing::{Gateway, Listener, Upstream, Wire, eventually, manifests, within};
use tokio::net::UdpSocket;

const CLASS: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: edge}
spec:
  controllerName: tidegate.dev/controller
  parametersRef: {group: tidegate.dev, kind: GatewayConfig, name: edge, namespace: default}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: edge
  listeners:
  - {name: http, port: 8080, protocol: HTTP}
";

/// Port 80 as the process was told, port 8080 as the class asks.
fn manifest(upstream: &Upstream, spec: &str) -> String {
    format!(
        "{}{CLASS}---\napiVersion: tidegate.dev/v1alpha1\nkind: GatewayConfig\nmetadata: {{name: edge}}\nspec: {spec}\n{}{}",
        manifests::GATEWAY,
        manifests::service("up", &[upstream.address()]),
        manifests::route("all", &[], &manifests::rule(""))
            .replace("[{name: test}]", "[{name: test}, {name: edge}]"),
    )
}

async fn status(gateway: &Gateway, port: u16, request: &str) -> u16 {
    let mut wire = Wire::connect(gateway.address(port)).await;
    wire.send(request).await;
    wire.answer().await.status.as_u16()
}

#[tokio::test]
async fn bounds_on_heads_hold_for_the_class_alone() {
    let upstream = Upstream::named("up").await;
    let limits = "{limits: {requestHeadBytes: 2048, requestHeaders: 5, requestTargetBytes: 100}}";
    let gateway = Gateway::start(&manifest(&upstream, limits)).await;
    let fields = "X: y\r\n".repeat(6);
    for (request, refused) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 200),
        (
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(120)),
            414,
        ),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), 431),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
                "x".repeat(2048)
            ),
            431,
        ),
    ] {
        assert_eq!(status(&gateway, 80, &request).await, 200, "{request}");
        assert_eq!(status(&gateway, 8080, &request).await, refused, "{request}");
    }
}

#[tokio::test]
async fn slow_clients_are_given_up_when_the_class_says_so() {
    let upstream = Upstream::named("up").await;
    let limits = "{limits: {requestHeadTimeout: 1s, idleTimeout: 1s}}";
    let gateway = Gateway::start(&manifest(&upstream, limits)).await;
    let mut patient = gateway.connect().await;
    patient.send("GET / HTTP/1.1\r\n").await;
    for begun in ["", "GET / HTTP/1.1\r\nHo"] {
        let mut wire = Wire::connect(gateway.address(8080)).await;
        wire.send(begun).await;
        let (rest, _) = wire.rest().await;
        assert!(rest.is_empty(), "closed without an answer: {rest:?}");
    }
    patient.send("Host: a\r\n\r\n").await;
    assert_eq!(patient.answer().await.status, 200, "the default is longer");
}

#[tokio::test]
async fn streams_are_as_many_as_the_class_says() {
    let upstream = Upstream::named("up").await;
    let gateway = Gateway::start(&manifest(&upstream, "{limits: {streams: 3}}")).await;
    for (port, expected) in [(80, 100), (8080, 3)] {
        let mut wire = Wire::connect(gateway.address(port)).await;
        // The preface and an empty SETTINGS frame.
        wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        wire.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
        let head = wire.exact(9).await;
        assert_eq!(head[3], 4, "SETTINGS come first");
        let settings = wire.exact(usize::from(head[2])).await;
        // SETTINGS_MAX_CONCURRENT_STREAMS is 3 (RFC 9113 section 6.5.2).
        let streams = settings.chunks(6).find(|setting| setting[..2] == [0, 3]);
        let streams = streams.expect("a bound on streams");
        assert_eq!(streams[2..], u32::to_be_bytes(expected), "{port}");
    }
}

#[tokio::test]
async fn a_class_trusts_as_many_hops_as_it_says_and_an_edit_changes_it() {
    let upstream = Upstream::named("up").await;
    let gateway = Gateway::builder()
        .trust(Trust::Hops(1))
        .start(&manifest(&upstream, "{trustedHops: 0}"))
        .await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\r\n";
    let seen = async |port| {
        status(&gateway, port, request).await;
        let seen = upstream.seen().pop().expect("a request");
        let proto = seen.header("x-forwarded-proto").to_owned();
        (seen.header("x-forwarded-for").to_owned(), proto)
    };
    let trusted = ("203.0.113.9, 127.0.0.1".to_owned(), "https".to_owned());
    let untrusted = ("127.0.0.1".to_owned(), "http".to_owned());
    assert_eq!(seen(80).await, trusted, "as the process was told");
    assert_eq!(seen(8080).await, untrusted, "as the class says");
    gateway
        .write("test.yaml", &manifest(&upstream, "{trustedHops: 2}"))
        .await;
    assert_eq!(seen(8080).await, trusted);
    eventually!(gateway.log().len() == 3, "all lines are written");
    let clients: Vec<_> = gateway
        .log()
        .iter()
        .map(|line| {
            line["downstream_remote_address"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(clients[2].as_deref(), Some("203.0.113.9"), "two hops back");
    gateway.write("test.yaml", &manifest(&upstream, "{}")).await;
    assert_eq!(
        seen(8080).await,
        trusted,
        "without its own word, as the process"
    );
}

#[tokio::test]
async fn a_class_says_how_long_streams_and_sessions_may_be_silent() {
    let backend = Listener::bind().await;
    let datagrams = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let gateway = CLASS.replace(
        "{name: http, port: 8080, protocol: HTTP}",
        "{name: tcp, port: 8080, protocol: TCP}\n  - {name: udp, port: 8080, protocol: UDP}",
    );
    let route = |kind, listener, backends| {
        let parent = format!("{{name: edge, sectionName: {listener}}}");
        manifests::stream_route(kind, listener, "", backends).replace("{name: test}", &parent)
    };
    let gateway = Gateway::start(&format!(
        "{}{gateway}---
apiVersion: tidegate.dev/v1alpha1
kind: GatewayConfig
metadata: {{name: edge}}
spec: {{limits: {{streamIdleTimeout: 1s, sessionIdleTimeout: 1s}}}}
{}{}{}{}",
        manifests::GATEWAY,
        manifests::service("streams", &[backend.address()]),
        manifests::datagram_service("datagrams", datagrams.local_addr().expect("bound")),
        route("TCPRoute", "tcp", "[{name: streams, port: 80}]"),
        route("UDPRoute", "udp", "[{name: datagrams, port: 53}]"),
    ))
    .await;
    let mut client = Wire::connect(gateway.address(8080)).await;
    let mut served = within("a connection", backend.accept()).await;
    client.send("a").await;
    assert_eq!(served.exact(1).await, "a");
    let speaker = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let to = gateway.address(8080);
    speaker.send_to(b"a", to).await.expect("sent");
    let mut buffer = [0; 8];
    let received = within("a datagram", datagrams.recv(&mut buffer)).await;
    assert_eq!(received.expect("received"), 1);
    eventually!(gateway.log().len() == 2, "both end by silence");
    for line in gateway.log() {
        assert_eq!(line["connection_termination_details"], "idle_timeout");
    }
}
