//! Components for the world of `wit/`, end to end.
//!
//! | What is promised | Held to it by |
//! |---|---|
//! | the same life of a VM, isolation and quarantine as modules | `lifecycle`, `isolation`: their tests run on both forms |
//! | the same failure policies by cause, limits and collateral | `failures`: likewise |
//! | calls, ticks, shared data, local replies and the end of a stream | `filters`: likewise |
//! | the kind is known from the bytes; log, metrics and pages | [`a_component_is_known_by_its_bytes`] |
//! | a module becomes a component and back, and nobody notices | [`a_filter_changes_its_form_under_load`], [`a_stream_ends_in_the_form_in_which_it_began`] |
//! | one source in two forms: the bundled filters pass the same cases | `bundled` (real parts) |
//! | other languages | `languages` (real parts) |

mod bundled;
mod forms;
mod languages;

pub(crate) use forms::{Form, on_both_forms};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tidegate_testing::{Gateway, Listener, Port, Process, Upstream, Wire, eventually, manifests};
use tidegate_wasm_guests::COMPONENT;

use crate::lifecycle::LIVES;

#[tokio::test]
async fn a_component_is_known_by_its_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (upstream, port) = (Upstream::named("up").await, Port::reserve());
    let spec = ", config: any, vm: {env: {TEAM: shop}}";
    let text = manifests::past(upstream.address(), &["f"], spec);
    std::fs::write(folder.path().join("f.wasm"), COMPONENT).expect("written");
    std::fs::write(folder.path().join("all.yaml"), text).expect("written");
    let map = format!("80:{}", port.number());
    let folder = folder.path().to_str().expect("a path");
    let process = Process::serve(
        env!("CARGO_BIN_EXE_tidegate"),
        &["--manifests", folder, "--port-map", &map],
    )
    .await;
    for path in ["/metrics", "/system", "/headers"] {
        let mut client = Wire::connect(port.address()).await;
        let ask = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.send(ask).await;
        let answer = client.answer().await;
        assert_eq!((answer.text(), answer.header("x-status")), ("up", "200"));
    }
    let told = |at: usize| upstream.seen()[at].header("x-told").to_owned();
    assert_eq!((told(0), told(1)), ("2 7".into(), "true shop".into()));
    let pages: serde_json::Value = process.admin("/filters").await.json();
    let row = &pages[0];
    assert_eq!(row["abi"], "tidegate:filter@0.1.0", "{row}");
    assert!(
        row["state"] == "Ready" && row["vms"].as_i64() > Some(0),
        "{row}"
    );
    let memory = async || {
        let pages: serde_json::Value = process.admin("/filters").await.json();
        pages[0]["memoryBytes"].as_u64()
    };
    eventually!(memory().await > Some(0), "its memory is measured");
    // Its own series, and those of the host about it.
    let metrics = process.admin("/metrics").await;
    let counts = |series: &str, value: &str| {
        let mut lines = metrics.text().lines();
        lines.any(|line| line.contains(series) && line.ends_with(&format!(" {value}")))
    };
    assert!(
        counts("seen", "2") && counts("level", "7"),
        "{}",
        metrics.text()
    );
    let streams = |line: &str| line.contains("streams") && line.contains("filter=\"f\"");
    assert!(metrics.text().lines().any(streams), "{}", metrics.text());
    // What it writes through the world and to its standard output.
    for part in ["over: ", "to standard output"] {
        eventually!(
            process.log().iter().any(|line| line["target"] == "guest"
                && line["message"]
                    .as_str()
                    .is_some_and(|said| said.contains(part))),
            "{part:?} is in the log"
        );
    }
}

/// A filter `f` with this file of [`start`]'s.
fn version(upstream: std::net::SocketAddr, file: &str) -> String {
    manifests::past(upstream, &["f"], "").replace("./f.wasm", &format!("./{file}.wasm"))
}

/// A gateway with the same guest in both forms: files `module` and `component`, which say so in `x-stamp`.
async fn start(manifest: &str) -> Gateway {
    Gateway::builder()
        .file("module.wasm", Form::Module.stamped(LIVES, "module"))
        .file(
            "component.wasm",
            Form::Component.stamped(LIVES, "component"),
        )
        .start(manifest)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_changes_its_form_under_load() {
    let upstream = Upstream::named("up").await;
    let gateway = start(&version(upstream.address(), "module")).await;
    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (over, answered, port) = (over.clone(), answered.clone(), gateway.http());
            tokio::spawn(async move {
                let mut wire = Wire::connect(port).await;
                while !over.load(Relaxed) {
                    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
                        .await;
                    let answer = wire.answer_to("POST").await;
                    let stamp = answer.header("x-stamp");
                    assert!(
                        answer.status == 200 && matches!(stamp, "module" | "component"),
                        "{answer:?}"
                    );
                    answered.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    for round in 0..10 {
        for file in ["component", "module"] {
            let before = answered.load(Relaxed);
            gateway
                .write("test.yaml", &version(upstream.address(), file))
                .await;
            let answer = gateway.get("a", "/").await;
            assert_eq!(answer.header("x-stamp"), file, "{round}");
            answered.fetch_add(1, Relaxed);
            eventually!(answered.load(Relaxed) > before + 8, "requests go on");
        }
    }
    over.store(true, Relaxed);
    for client in clients {
        client.await.expect("no request has failed");
    }
    let stats = gateway.filter("f");
    eventually!(
        (stats.contexts.load(Relaxed), stats.vms.load(Relaxed)) == (0, 1),
        "what is gone has left nothing"
    );
    let failures = [&stats.traps, &stats.deadlines, &stats.collateral];
    assert!(failures.iter().all(|count| count.load(Relaxed) == 0));
    assert_eq!(
        gateway.guest_counter("requests"),
        answered.load(Relaxed),
        "one series over both forms, and no request without the filter"
    );
}

#[tokio::test]
async fn a_stream_ends_in_the_form_in_which_it_began() {
    let upstream = Listener::bind().await;
    let gateway = start(&version(upstream.address(), "module")).await;
    let mut streams = Vec::new();
    for file in ["module", "component", "module"] {
        gateway
            .write("test.yaml", &version(upstream.address(), file))
            .await;
        let mut client = gateway.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut wire = upstream.accept().await;
        wire.head().await;
        streams.push((file, client, wire));
    }
    for (file, mut client, mut wire) in streams {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup")
            .await;
        let answer = client.answer().await;
        assert_eq!((answer.text(), answer.header("x-stamp")), ("up", file));
    }
    eventually!(gateway.contexts("f") == 0, "no context is left");
}
