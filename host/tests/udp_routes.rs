//! UDPRoutes against real sockets: sessions by client, their silence and their number, backends that are gone, change and drain.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_testing::{Gateway, eventually, manifests, within};
use tokio::net::UdpSocket;

/// Answers `name:datagram`, and remembers from whom datagrams came.
struct Echo {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<SocketAddr>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Echo {
    async fn start(name: &'static str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("bound");
        let seen = Arc::<Mutex<Vec<SocketAddr>>>::default();
        let notes = seen.clone();
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 65_535];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                notes.lock().expect("sound").push(from);
                let answer = [name.as_bytes(), b":", &buffer[..length]].concat();
                socket.send_to(&answer, from).await.ok();
            }
        });
        Self {
            address,
            seen,
            task,
        }
    }

    /// The ports of sessions that datagrams came from.
    fn sessions(&self) -> usize {
        let seen = self.seen.lock().expect("sound");
        let ports: std::collections::BTreeSet<u16> = seen.iter().map(SocketAddr::port).collect();
        ports.len()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn manifest(services: &[(&str, SocketAddr)], backends: &str) -> String {
    let services: String = services
        .iter()
        .map(|(name, endpoint)| manifests::datagram_service(name, *endpoint))
        .collect();
    format!(
        "{}{services}{}",
        manifests::gateway(&["{name: udp, port: 8080, protocol: UDP}"]),
        manifests::stream_route("UDPRoute", "r", "", backends)
    )
}

async fn client(gateway: &Gateway) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    socket
        .connect(gateway.address(8080))
        .await
        .expect("connected");
    socket
}

async fn ask(socket: &UdpSocket, text: &str) -> String {
    socket.send(text.as_bytes()).await.expect("sent");
    let mut buffer = vec![0; 65_535];
    let length = within("an answer", socket.recv(&mut buffer))
        .await
        .expect("received");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[tokio::test]
async fn a_client_has_one_session_and_gets_its_own_answers() {
    let echo = Echo::start("up").await;
    let gateway = Gateway::builder()
        .workers(2)
        .limits(|limits| limits.udp_idle = Duration::from_secs(2))
        .start(&manifest(&[("up", echo.address)], "[{name: up, port: 53}]"))
        .await;
    let clients = [client(&gateway).await, client(&gateway).await];
    for round in 0..5 {
        for (at, client) in clients.iter().enumerate() {
            let text = format!("{at}-{round}");
            assert_eq!(ask(client, &text).await, format!("up:{text}"));
        }
    }
    assert_eq!(echo.sessions(), 2, "one for each client");
    let large = "x".repeat(9000);
    assert_eq!(ask(&clients[0], &large).await.len(), 9003);
    eventually!(gateway.log().len() == 2, "both end by silence");
    let mut line = gateway.log().remove(0);
    if line["downstream_remote_address"] != clients[0].local_addr().expect("bound").to_string() {
        line = gateway.log().remove(1);
    }
    assert_eq!(line["protocol"], "UDP");
    assert_eq!(line["bytes_received"], 15 + 9000);
    assert_eq!(line["connection_termination_details"], "idle_timeout");
    assert_eq!(line["route"], "UDPRoute default/r rule 0");
    // A session that has ended begins anew.
    assert_eq!(ask(&clients[0], "again").await, "up:again");
    assert_eq!(echo.sessions(), 3);
}

#[tokio::test]
async fn the_number_of_sessions_is_bounded() {
    let echo = Echo::start("up").await;
    let gateway = Gateway::builder()
        .limits(|limits| limits.udp_sessions = 2)
        .start(&manifest(&[("up", echo.address)], "[{name: up, port: 53}]"))
        .await;
    let clients = [
        client(&gateway).await,
        client(&gateway).await,
        client(&gateway).await,
    ];
    assert_eq!(ask(&clients[0], "a").await, "up:a");
    assert_eq!(ask(&clients[1], "b").await, "up:b");
    clients[2].send(b"c").await.expect("sent");
    let mut metrics = String::new();
    eventually!(
        {
            metrics.clear();
            gateway.proxy().write_metrics(&mut metrics);
            metrics.contains("reason=\"too_many_sessions\"} 1")
        },
        "the datagram is dropped and counted"
    );
    assert_eq!(echo.sessions(), 2);
    assert_eq!(ask(&clients[0], "d").await, "up:d", "the others go on");
}

#[tokio::test]
async fn sessions_are_shared_by_weight() {
    let (many, few) = (Echo::start("many").await, Echo::start("few").await);
    let services = [("many", many.address), ("few", few.address)];
    let backends = "[{name: many, port: 53, weight: 3}, {name: few, port: 53, weight: 1}]";
    let gateway = Gateway::start(&manifest(&services, backends)).await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..100 {
        let client = client(&gateway).await;
        *counts.entry(ask(&client, "").await).or_default() += 1;
    }
    assert!((5..=55).contains(&counts["few:"]), "a quarter: {counts:?}");
}

#[tokio::test]
async fn a_backend_that_is_gone_ends_its_sessions() {
    let echo = Echo::start("up").await;
    let address = echo.address;
    let gateway = Gateway::start(&manifest(&[("up", address)], "[{name: up, port: 53}]")).await;
    let client = client(&gateway).await;
    assert_eq!(ask(&client, "a").await, "up:a");
    drop(echo);
    eventually!(
        {
            client.send(b"lost").await.ok();
            gateway
                .log()
                .iter()
                .any(|line| line["connection_termination_details"] == "connection_reset")
        },
        "the session ends where nobody listens"
    );
}

#[tokio::test]
async fn a_change_is_for_new_clients_and_a_drain_for_old_ones() {
    let (old, new) = (Echo::start("old").await, Echo::start("new").await);
    let services = [("old", old.address), ("new", new.address)];
    let gateway = Gateway::start(&manifest(&services, "[{name: old, port: 53}]")).await;
    let before = client(&gateway).await;
    assert_eq!(ask(&before, "a").await, "old:a");
    gateway
        .write("test.yaml", &manifest(&services, "[{name: new, port: 53}]"))
        .await;
    let after = client(&gateway).await;
    assert_eq!(ask(&after, "b").await, "new:b");
    assert_eq!(ask(&before, "c").await, "old:c", "its session stays");
    gateway.proxy().drain();
    assert_eq!(ask(&before, "d").await, "old:d", "while it speaks");
    eventually!(gateway.proxy().has_ended(), "the end of the drain");
}

#[tokio::test]
async fn datagrams_that_no_route_takes_are_dropped() {
    let gateway = Gateway::start(&manifest(&[], "[{name: absent, port: 53}]")).await;
    let lost = client(&gateway).await;
    lost.send(b"a").await.expect("sent");
    let mut metrics = String::new();
    eventually!(
        {
            metrics.clear();
            gateway.proxy().write_metrics(&mut metrics);
            metrics.contains("protocol=\"udp\",reason=\"cluster_not_found\"} 1")
        },
        "counted"
    );
    // TCP and UDP of one port are two listeners.
    let echo = Echo::start("up").await;
    let both = format!(
        "{}{}{}",
        manifests::gateway(&[
            "{name: udp, port: 8080, protocol: UDP}",
            "{name: http, port: 8080, protocol: HTTP}"
        ]),
        manifests::datagram_service("up", echo.address),
        manifests::stream_route("UDPRoute", "r", "", "[{name: up, port: 53}]")
    );
    gateway.write("test.yaml", &both).await;
    assert_eq!(ask(&client(&gateway).await, "b").await, "up:b");
    let mut web = tidegate_testing::Wire::connect(gateway.address(8080)).await;
    web.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(web.answer().await.status, 404);
}
