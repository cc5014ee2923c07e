//! Changes without loss: routes, filters, endpoints, certificates and listeners are edited while clients and sockets go on.
//!
//! The run is short by default. `TIDEGATE_SOAK=1` makes it the whole one: 200 edits within a minute, 16 clients, 50 sockets.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use tidegate_testing::{
    Certificate, Client, Port, Process, Tls, Upstream, Wire, eventually, full, guest, manifests,
};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

struct Scale {
    edits: usize,
    clients: usize,
    sockets: usize,
    pause: Duration,
}

impl Scale {
    #[allow(
        clippy::disallowed_methods,
        reason = "how long a test runs is the tester's choice"
    )]
    fn chosen() -> Self {
        if std::env::var_os("TIDEGATE_SOAK").is_some() {
            return Self {
                edits: 200,
                clients: 16,
                sockets: 50,
                pause: Duration::from_millis(300),
            };
        }
        Self {
            edits: 60,
            clients: 8,
            sockets: 10,
            pause: Duration::from_millis(120),
        }
    }
}

/// What goes on while manifests change.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    requests: AtomicUsize,
    pings: AtomicUsize,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

async fn http1(load: Arc<Load>, port: std::net::SocketAddr) {
    let mut wire = Wire::connect(port).await;
    while load.goes_on() {
        wire.send("POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody")
            .await;
        let answer = wire.answer().await;
        assert!(answer.status == 200 && answer.complete, "{answer:?}");
        assert_eq!(answer.json()["body"], "body");
        assert!(
            answer.headers.contains_key("x-version"),
            "the filter was skipped: {answer:?}"
        );
        load.requests.fetch_add(1, Ordering::Relaxed);
    }
}

async fn http2(load: Arc<Load>, port: std::net::SocketAddr, tls: Option<Tls>) {
    let mut client = match tls {
        None => Client::http2(port).await,
        Some(tls) => Client::tls(port, &tls, "a.test")
            .await
            .expect("a handshake"),
    };
    while load.goes_on() {
        let request = client
            .request(Method::PUT, "a.test", "/x")
            .body(full("body"))
            .expect("a request");
        let answer = client.send(request).await.expect("an answer");
        assert!(answer.status == 200 && answer.complete, "{answer:?}");
        load.requests.fetch_add(1, Ordering::Relaxed);
    }
}

/// A new connection for each request: listeners and handshakes under change.
async fn newcomers(load: Arc<Load>, port: std::net::SocketAddr, tls: Tls) {
    while load.goes_on() {
        let mut client = Client::tls(port, &tls, "a.test")
            .await
            .expect("a handshake");
        assert_eq!(client.get("a.test", "/x").await.status, 200);
        load.requests.fetch_add(1, Ordering::Relaxed);
    }
}

async fn socket(load: Arc<Load>, port: std::net::SocketAddr) {
    let mut wire = Wire::connect(port).await;
    wire.send(
        "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    )
    .await;
    assert_eq!(wire.head().await.status(), 101);
    let mut round = 0_u32;
    while load.goes_on() {
        let ping = format!("ping {round:08}");
        wire.send(&ping).await;
        assert_eq!(wire.exact(ping.len()).await, ping);
        load.pings.fetch_add(1, Ordering::Relaxed);
        round += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// In one step, as an editor or a mounted ConfigMap does it.
fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let draft = folder.join(format!(".{name}"));
    std::fs::write(&draft, content).expect("written");
    std::fs::rename(draft, folder.join(name)).expect("renamed");
}

fn version(name: &str) -> Vec<u8> {
    guest(&format!(
        r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
             (call $set (i32.const 2) @"x-version" @"{name}") (i32.const 0))"#
    ))
}

fn gateway(more: &str) -> String {
    format!(
        "{}  - {{name: https, port: 443, protocol: HTTPS, hostname: a.test, tls: {{certificateRefs: [{{name: a}}]}}}}\n{more}",
        manifests::GATEWAY
    )
}

fn routes(rules: &str) -> String {
    manifests::route(
        "all",
        &["a.test"],
        &format!(
            "[{{backendRefs: [{{name: up, port: 80}}]{}}}{rules}]",
            manifests::filters(&["v"])
        ),
    )
}

/// One edit of several kinds in turn; the outcome is the same for clients.
fn edit(folder: &Path, at: usize, ports: &[Port], certificates: &[Certificate]) {
    let backends = [ports[0].address(), ports[1].address()];
    match at % 6 {
        0 => write(
            folder,
            "routes.yaml",
            routes(&format!(
                ", {{matches: [{{path: {{value: /edit-{at}}}}}], backendRefs: [{{name: up, port: 80}}]}}"
            )),
        ),
        1 => write(
            folder,
            "filter.yaml",
            manifests::filter("v", "v.wasm", &format!(", config: {{edit: {at}}}")),
        ),
        2 => write(
            folder,
            "services.yaml",
            manifests::service("up", &backends[at / 6 % 2..=1]),
        ),
        3 => write(folder, "secret.yaml", certificates[at / 6 % 2].secret("a")),
        4 => {
            let more = if (at / 6).is_multiple_of(2) {
                "  - {name: more, port: 8080, protocol: HTTP}\n"
            } else {
                ""
            };
            write(folder, "gateway.yaml", gateway(more));
        }
        // Compiled anew, and swapped in while the old one serves.
        _ => write(folder, "v.wasm", version(&format!("v-{at}"))),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_cost_no_request_and_no_socket() {
    let scale = Scale::chosen();
    let folder = tempfile::tempdir().expect("a folder");
    let ports: Vec<_> = (0..5).map(|_| Port::reserve()).collect();
    let certificates = [Certificate::new(&["a.test"]), Certificate::new(&["a.test"])];
    let _backends = [
        Process::echo(TIDEGATE, ports[0].address(), "one").await,
        Process::echo(TIDEGATE, ports[1].address(), "two").await,
    ];
    write(folder.path(), "gateway.yaml", gateway(""));
    write(folder.path(), "routes.yaml", routes(""));
    write(
        folder.path(),
        "filter.yaml",
        manifests::filter("v", "v.wasm", ""),
    );
    write(
        folder.path(),
        "services.yaml",
        manifests::service("up", &[ports[0].address(), ports[1].address()]),
    );
    write(folder.path(), "secret.yaml", certificates[0].secret("a"));
    write(folder.path(), "v.wasm", version("first"));
    let map = format!(
        "80:{},443:{},8080:{}",
        ports[2].number(),
        ports[3].number(),
        ports[4].number()
    );
    let manifests = folder.path().to_str().expect("text");
    let mut process = Process::serve(
        TIDEGATE,
        &[
            "--manifests",
            manifests,
            "--port-map",
            &map,
            "--workers",
            "2",
        ],
    )
    .await;

    let (http, https) = (ports[2].address(), ports[3].address());
    let load = Arc::new(Load::default());
    let tls = || Tls::trusting(&[&certificates[0], &certificates[1]], &["h2"]);
    let mut running = tokio::task::JoinSet::new();
    for at in 0..scale.clients {
        match at % 4 {
            0 | 1 => running.spawn(http1(load.clone(), http)),
            2 => running.spawn(http2(load.clone(), http, None)),
            _ => running.spawn(http2(load.clone(), https, Some(tls()))),
        };
    }
    running.spawn(newcomers(load.clone(), https, tls()));
    for _ in 0..scale.sockets {
        running.spawn(socket(load.clone(), http));
    }

    for at in 0..scale.edits {
        edit(folder.path(), at, &ports, &certificates);
        tokio::select! {
            () = tokio::time::sleep(scale.pause) => {}
            // Nobody ends before it is over, unless something went wrong.
            ended = running.join_next() => panic!("after edit {at}: {ended:?}"),
        }
    }
    let generation = async || {
        process.admin("/status").await.json()["generation"]
            .as_u64()
            .unwrap_or_default()
    };
    // Edits that come together are brought in together.
    assert!(
        generation().await as usize > scale.edits / 6,
        "the edits have not been brought in"
    );
    write(folder.path(), "v.wasm", version("last"));
    let last = async || {
        Client::http1(http)
            .await
            .get("a.test", "/x")
            .await
            .header("x-version")
            == "last"
    };
    eventually!(last().await, "the last edit is live");
    load.over.store(true, Ordering::Relaxed);
    while let Some(ended) = running.join_next().await {
        ended.expect("no request failed and no socket was dropped");
    }
    let (requests, pings) = (
        load.requests.load(Ordering::Relaxed),
        load.pings.load(Ordering::Relaxed),
    );
    assert!(
        requests > scale.clients * 10 && pings > scale.sockets * 10,
        "{requests} requests, {pings} pings"
    );
    assert!(process.ended().is_none());
    let filters = process.admin("/filters").await.json();
    assert_eq!(filters[0]["state"], "Ready");
    eventually!(
        process.admin("/filters").await.json()[0]["contexts"] == 0,
        "no context is left"
    );
    // Old VMs go when their last stream has ended; one remains for each worker.
    eventually!(
        process.admin("/filters").await.json()[0]["vms"]
            .as_u64()
            .is_some_and(|vms| vms <= 2),
        "old VMs are gone"
    );
}

/// A link that is swapped beside the folder that it leads to, and a file outside that is edited where it is: nobody tells of
/// either, only looking finds them.
#[tokio::test]
async fn changes_that_are_not_told_are_found() {
    let (one, two) = (Upstream::named("one").await, Upstream::named("two").await);
    let three = Upstream::named("three").await;
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for (version, upstream) in [("v1", &one), ("v2", &two)] {
        let outside = at(&format!("{version}.yaml"));
        std::fs::write(&outside, manifests::everything_to(upstream.address())).expect("written");
        std::fs::create_dir(at(version)).expect("a folder");
        symlink(outside, at(version).join("all.yaml")).expect("a link");
    }
    symlink("v1", at("current")).expect("a link");
    let port = Port::reserve();
    let map = format!("80:{}", port.number());
    let current = at("current");
    let current = current.to_str().expect("text");
    let _process = Process::serve(TIDEGATE, &["--manifests", current, "--port-map", &map]).await;
    let says = async || {
        let answer = Client::http1(port.address()).await.get("a.test", "/").await;
        answer.text().to_owned()
    };
    assert_eq!(says().await, "one");
    symlink("v2", at("next")).expect("a link");
    std::fs::rename(at("next"), current).expect("swapped");
    eventually!(says().await == "two", "the link is followed to its new end");
    std::fs::write(at("v2.yaml"), manifests::everything_to(three.address())).expect("edited");
    eventually!(says().await == "three", "the file outside is read again");
}
