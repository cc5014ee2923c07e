//! The end of a process: what is in flight is answered, nothing new is taken, and the end comes within its limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidegate_testing::{
    Client, Listener, Port, Process, Reply, Upstream, Wire, eventually, manifests,
};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");
const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// The built binary with everything sent to one endpoint.
struct Served {
    process: Process,
    port: Port,
    _folder: tempfile::TempDir,
}

async fn serve(upstream: std::net::SocketAddr, drain: &str) -> Served {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("all.yaml"),
        manifests::everything_to(upstream),
    )
    .expect("written");
    let port = Port::reserve();
    let map = format!("80:{}", port.number());
    let path = folder.path().to_str().expect("text").to_owned();
    let arguments = [
        "--manifests",
        &path,
        "--port-map",
        &map,
        "--drain",
        drain,
        "--workers",
        "2",
    ];
    let process = Process::serve(TIDEGATE, &arguments).await;
    Served {
        process,
        port,
        _folder: folder,
    }
}

#[tokio::test]
async fn what_is_in_flight_is_answered_and_nothing_new_is_taken() {
    let listener = Listener::bind().await;
    let mut served = serve(listener.address(), "30").await;
    let address = served.port.address();
    let mut client = Wire::connect(address).await;
    client.send(ASK).await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    let mut idle = Wire::connect(address).await;
    idle.send(ASK).await;
    let mut second = listener.accept().await;
    second.head().await;
    second
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    assert_eq!(idle.answer().await.text(), "ok");

    served.process.terminate();
    eventually!(
        served.process.admin("/readyz").await.status == 503,
        "readiness goes first"
    );
    assert_eq!(served.process.admin("/healthz").await.status, 200);
    eventually!(
        Wire::try_connect(address).await.is_err(),
        "new connections are refused"
    );
    let (rest, ended) = idle.rest().await;
    assert!(
        rest.is_empty() && ended.is_ok(),
        "an idle connection is closed cleanly"
    );
    assert!(
        served.process.ended().is_none(),
        "it waits for what is in flight"
    );
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
        .await;
    let head = client.head().await;
    assert_eq!(head.field("connection"), "close", "{}", head.text);
    assert_eq!(client.answer_after(&head, "GET").await.text(), "late");
    assert!(served.process.wait().await.success());
}

#[tokio::test]
async fn http2_is_told_to_go_away_and_its_streams_end() {
    let listener = Listener::bind().await;
    let mut served = serve(listener.address(), "30").await;
    let client = Client::http2(served.port.address()).await;
    let mut asking = client.again();
    let asked = tokio::spawn(async move { asking.get("a.test", "/").await });
    let mut upstream = listener.accept().await;
    upstream.head().await;
    served.process.terminate();
    eventually!(
        served.process.admin("/readyz").await.status == 503,
        "it drains"
    );
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
        .await;
    let answer = asked.await.expect("an answer");
    assert_eq!((answer.text(), answer.complete), ("late", true));
    eventually!(client.is_closed(), "the connection is closed");
    assert!(served.process.wait().await.success());
}

#[tokio::test]
async fn a_socket_lives_on_until_it_ends() {
    let listener = Listener::bind().await;
    let mut served = serve(listener.address(), "30").await;
    let mut client = Wire::connect(served.port.address()).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    upstream
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .await;
    client.head().await;
    served.process.terminate();
    eventually!(
        Wire::try_connect(served.port.address()).await.is_err(),
        "it drains"
    );
    for _ in 0..20 {
        client.send("ping").await;
        assert_eq!(upstream.exact(4).await, "ping");
        upstream.send("pong").await;
        assert_eq!(client.exact(4).await, "pong");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(served.process.ended().is_none());
    drop((client, upstream));
    assert!(served.process.wait().await.success());
}

#[tokio::test]
async fn what_does_not_end_is_cut_off_at_the_limit() {
    let listener = Listener::bind().await;
    let mut served = serve(listener.address(), "1").await;
    let mut client = Wire::connect(served.port.address()).await;
    client.send(ASK).await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    served.process.terminate();
    assert!(served.process.wait().await.success());
    let (rest, _) = client.rest().await;
    assert!(rest.is_empty(), "no answer was made up: {rest:?}");
}

/// A careful client: what was begun on a connection is answered whole, or the connection ended before a byte of the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_cuts_no_answer() {
    let upstream =
        Upstream::start(|_| Reply::text("x".repeat(20 << 10)).after(Duration::from_millis(5)))
            .await;
    let mut served = serve(upstream.address(), "30").await;
    let address = served.port.address();
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let answered = answered.clone();
            tokio::spawn(async move {
                while let Ok(mut wire) = Wire::try_connect(address).await {
                    while wire.try_send(ASK).await.is_ok() {
                        let Some(head) = wire.head_or_end().await else {
                            break;
                        };
                        let answer = wire.answer_after(&head, "GET").await;
                        assert!(
                            answer.status == 200
                                && answer.complete
                                && answer.body.len() == 20 << 10,
                            "{:?}",
                            answer.status
                        );
                        answered.fetch_add(1, Ordering::Relaxed);
                        if head.field("connection") == "close" {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    eventually!(answered.load(Ordering::Relaxed) > 200, "there is load");
    served.process.terminate();
    for client in clients {
        client.await.expect("no answer was cut");
    }
    assert!(served.process.wait().await.success());
}

#[tokio::test]
async fn other_signals_end_nothing() {
    let upstream = Upstream::named("up").await;
    let mut served = serve(upstream.address(), "30").await;
    served.process.signal("HUP");
    served.process.signal("PIPE");
    let mut wire = Wire::connect(served.port.address()).await;
    for _ in 0..10 {
        wire.send(ASK).await;
        assert_eq!(wire.answer().await.text(), "up");
    }
    assert!(served.process.ended().is_none());
    served.process.signal("INT");
    assert!(served.process.wait().await.success());
}

#[tokio::test]
async fn a_port_in_use_is_reported_and_all_others_serve() {
    let upstream = Upstream::named("up").await;
    let (free, taken) = (Port::reserve(), Port::reserve());
    let occupant = std::net::TcpListener::bind(taken.address()).expect("reserved for this");
    let folder = tempfile::tempdir().expect("a folder");
    let more = "  - {name: taken, port: 8080, protocol: HTTP}\n";
    let manifest = manifests::everything_to(upstream.address()).replacen(
        "protocol: HTTP}\n",
        &format!("protocol: HTTP}}\n{more}"),
        1,
    );
    std::fs::write(folder.path().join("all.yaml"), manifest).expect("written");
    let map = format!("80:{},8080:{}", free.number(), taken.number());
    let process = Process::serve(
        TIDEGATE,
        &[
            "--manifests",
            folder.path().to_str().expect("text"),
            "--port-map",
            &map,
        ],
    )
    .await;
    let mut wire = Wire::connect(free.address()).await;
    wire.send(ASK).await;
    assert_eq!(wire.answer().await.text(), "up");
    let programmed = async |listener: &str| {
        let status = process.admin("/status").await.json();
        let objects = status["objects"].as_array().cloned().unwrap_or_default();
        let listeners = objects
            .iter()
            .find(|object| object["kind"] == "Gateway")
            .expect("it is there")["listeners"]
            .clone();
        let of = |value: &serde_json::Value, key: &str, name: &str| {
            value
                .as_array()
                .and_then(|all| all.iter().find(|one| one[key] == name).cloned())
        };
        let listener =
            of(&listeners, "name", listener).unwrap_or_else(|| panic!("no {listener} in {status}"));
        of(&listener["conditions"], "type", "Programmed").expect("a condition")
    };
    assert_eq!(programmed("http").await["status"], "True");
    let refused = programmed("taken").await;
    assert_eq!(refused["status"], "False", "{refused}");
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(message.contains(&taken.number().to_string()), "{message}");
    drop(occupant);
    eventually!(
        Wire::try_connect(taken.address()).await.is_ok(),
        "the port is taken when it is free"
    );
    eventually!(
        programmed("taken").await["status"] == "True",
        "and the status says so"
    );
}
