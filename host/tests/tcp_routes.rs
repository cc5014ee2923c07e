//! TCPRoutes against real sockets: both directions, half-closed ones, silence, refusals, change and drain.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_testing::{Gateway, Listener, Wire, eventually, manifests, within};

fn manifest(services: &[(&str, &[SocketAddr])], backends: &str) -> String {
    let services: String = services
        .iter()
        .map(|(name, endpoints)| manifests::service(name, endpoints))
        .collect();
    format!(
        "{}{services}{}",
        manifests::gateway(&["{name: tcp, port: 8080, protocol: TCP}"]),
        manifests::stream_route("TCPRoute", "r", "", backends)
    )
}

async fn to(listener: &Listener) -> Gateway {
    let services: [(&str, &[SocketAddr]); 1] = [("up", &[listener.address()])];
    Gateway::start(&manifest(&services, "[{name: up, port: 80}]")).await
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_direction_ends_by_itself() {
    let listener = Listener::bind().await;
    let gateway = to(&listener).await;
    let mut client = Wire::connect(gateway.address(8080)).await;
    let local = client.local();
    // Whoever speaks first: here the backend does.
    let mut backend = within("a connection", listener.accept()).await;
    backend.send("220 ready\r\n").await;
    assert_eq!(client.until(b"\r\n").await, "220 ready\r\n");
    client.send("question").await;
    client.finish().await;
    let (question, end) = backend.rest().await;
    assert_eq!(question, "question");
    end.expect("an orderly end");
    let long = vec![7_u8; 1 << 20];
    let (answer, ()) = tokio::join!(client.rest(), async {
        backend.send(&long).await;
        backend.finish().await;
    });
    assert_eq!(answer.0.len(), long.len(), "the other direction went on");
    eventually!(!gateway.log().is_empty(), "a line in the access log");
    let line = gateway.log().remove(0);
    assert_eq!(line["protocol"], "TCP");
    assert_eq!(line["route"], "TCPRoute default/r rule 0");
    assert_eq!(line["downstream_remote_address"], local.to_string());
    assert_eq!(line["bytes_received"], 8);
    assert_eq!(line["bytes_sent"], 11 + (1 << 20));
    assert_eq!(line["connection_termination_details"], "closed");
    let count = |name| gateway.metric(&format!("tidegate_{name}{{protocol=\"tcp\"}}"));
    assert_eq!(count("streams_total"), 1.0);
    assert_eq!(count("streams_active"), 0.0);
    assert_eq!(count("stream_received_bytes_total"), 8.0);
}

#[tokio::test]
async fn silence_ends_a_stream_and_speech_keeps_it() {
    let listener = Listener::bind().await;
    let services: [(&str, &[SocketAddr]); 1] = [("up", &[listener.address()])];
    let gateway = Gateway::builder()
        .limits(|limits| limits.stream_idle = Duration::from_millis(300))
        .start(&manifest(&services, "[{name: up, port: 80}]"))
        .await;
    let mut client = Wire::connect(gateway.address(8080)).await;
    let mut backend = within("a connection", listener.accept()).await;
    client.send("a").await;
    assert_eq!(backend.exact(1).await, "a");
    let (rest, _) = within("the end of the silence", client.rest()).await;
    assert_eq!(rest, "");
    eventually!(!gateway.log().is_empty(), "a line in the access log");
    assert_eq!(
        gateway.log()[0]["connection_termination_details"],
        "idle_timeout"
    );
}

#[tokio::test]
async fn a_connection_outlives_the_limits_of_http() {
    let listener = Listener::bind().await;
    let services: [(&str, &[SocketAddr]); 1] = [("up", &[listener.address()])];
    let gateway = Gateway::builder()
        .limits(|limits| {
            limits.idle_timeout = Duration::from_secs(1);
            limits.body_idle = Duration::from_secs(1);
            limits.head_timeout = Duration::from_secs(1);
            limits.stream_idle = Duration::from_secs(4);
        })
        .start(&manifest(&services, "[{name: up, port: 80}]"))
        .await;
    let mut client = Wire::connect(gateway.address(8080)).await;
    let mut backend = within("a connection", listener.accept()).await;
    client.send("a").await;
    assert_eq!(backend.exact(1).await, "a");
    // Whoever is silent for longer than HTTP allows is ended by the stream's own limit alone, and that is what the log says.
    within("the end of the silence", client.rest()).await.1.ok();
    eventually!(!gateway.log().is_empty(), "a line in the access log");
    let line = gateway.log().remove(0);
    assert_eq!(line["connection_termination_details"], "idle_timeout");
    assert!(line["duration"].as_u64() >= Some(4000), "{line}");
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_passed_over() {
    let (listener, gone) = (Listener::bind().await, Listener::bind().await);
    let dead = gone.address();
    drop(gone);
    let services: [(&str, &[SocketAddr]); 1] = [("up", &[dead, listener.address()])];
    let gateway = Gateway::start(&manifest(&services, "[{name: up, port: 80}]")).await;
    for _ in 0..4 {
        let mut client = Wire::connect(gateway.address(8080)).await;
        let mut backend = within("a connection", listener.accept()).await;
        client.send("a").await;
        assert_eq!(backend.exact(1).await, "a");
    }
    assert!(gateway.metric("tidegate_upstream_connect_failures_total") >= 1.0);
}

#[tokio::test]
async fn without_a_backend_the_client_is_told_at_once() {
    let gone = Listener::bind().await;
    let dead = gone.address();
    drop(gone);
    let cases: [(&str, &[SocketAddr], &str); 4] = [
        (
            "upstream_connect_failure",
            &[dead],
            "[{name: up, port: 80}]",
        ),
        ("no_healthy_upstream", &[], "[{name: up, port: 80}]"),
        ("cluster_not_found", &[], "[{name: absent, port: 80}]"),
        (
            "cluster_not_found",
            &[dead],
            "[{name: up, port: 80, weight: 0}]",
        ),
    ];
    for (reason, endpoints, backends) in cases {
        let gateway = Gateway::start(&manifest(&[("up", endpoints)], backends)).await;
        // The reset may come before the client has set its socket up.
        if let Ok(mut client) = Wire::try_connect(gateway.address(8080)).await {
            let (rest, end) = within("the end", client.rest()).await;
            assert_eq!(rest, "");
            assert!(
                end.is_err(),
                "{reason}: a reset, which is no end of an answer"
            );
        }
        let series =
            format!("tidegate_stream_failures_total{{protocol=\"tcp\",reason=\"{reason}\"}} 1");
        let mut metrics = String::new();
        eventually!(
            {
                metrics.clear();
                gateway.proxy().write_metrics(&mut metrics);
                metrics.contains(&series)
            },
            "{series}"
        );
    }
}

#[tokio::test]
async fn connections_are_shared_by_weight() {
    let (many, few) = (Listener::bind().await, Listener::bind().await);
    let services: [(&str, &[SocketAddr]); 2] =
        [("many", &[many.address()]), ("few", &[few.address()])];
    let backends = "[{name: many, port: 80, weight: 9}, {name: few, port: 80, weight: 1}, {name: absent, port: 80, weight: 0}]";
    let gateway = Gateway::start(&manifest(&services, backends)).await;
    let mut counts = (0, 0);
    for _ in 0..200 {
        let _client = Wire::connect(gateway.address(8080)).await;
        tokio::select! {
            _ = many.accept() => counts.0 += 1,
            _ = few.accept() => counts.1 += 1,
        }
    }
    assert!((4..=60).contains(&counts.1), "a tenth of them: {counts:?}");
}

#[tokio::test]
async fn a_change_leaves_streams_alone_and_a_drain_waits_for_them() {
    let (old, new) = (Listener::bind().await, Listener::bind().await);
    let services: [(&str, &[SocketAddr]); 2] =
        [("old", &[old.address()]), ("new", &[new.address()])];
    let gateway = Gateway::start(&manifest(&services, "[{name: old, port: 80}]")).await;
    let mut first = Wire::connect(gateway.address(8080)).await;
    let mut first_backend = within("a connection", old.accept()).await;
    gateway
        .write("test.yaml", &manifest(&services, "[{name: new, port: 80}]"))
        .await;
    let mut second = Wire::connect(gateway.address(8080)).await;
    let mut second_backend = within("a connection", new.accept()).await;
    // The listener goes, and then the process.
    gateway.write("test.yaml", manifests::GATEWAY).await;
    eventually!(
        Wire::try_connect(gateway.address(8080)).await.is_err(),
        "the port is closed"
    );
    gateway.proxy().drain();
    for (client, backend) in [
        (&mut first, &mut first_backend),
        (&mut second, &mut second_backend),
    ] {
        client.send("ping").await;
        assert_eq!(backend.exact(4).await, "ping");
        backend.send("pong").await;
        assert_eq!(client.exact(4).await, "pong");
    }
    assert!(!gateway.proxy().has_ended(), "it waits for them");
    drop((first, second, first_backend, second_backend));
    eventually!(gateway.proxy().has_ended(), "the end of the drain");
}
