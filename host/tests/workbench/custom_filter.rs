//! `examples/custom-filter`: what its page says, here and in a real Envoy.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tidegate_loopback::{Envoy, Line};
use tidegate_testing::{Answer, Port, Process, Wire, eventually};

use super::page::{blocks, shell};
use super::read;
use super::registry::Registry;
use crate::filter_test::{repository, text};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");
const FOLDER: &str = "examples/custom-filter";

fn folder() -> PathBuf {
    std::fs::canonicalize(repository().join(FOLDER)).expect("it is there")
}

/// Command and expectations of each row of the page's table.
fn rows() -> Vec<(String, Vec<String>)> {
    let code = |cell: &str| {
        let parts = cell.split('`').skip(1).step_by(2);
        parts.map(str::to_owned).collect::<Vec<_>>()
    };
    let page = read(&folder().join("README.md"));
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split(" | ").collect();
        let [_, command, expected] = cells[..] else {
            return None;
        };
        let command = code(command)
            .first()
            .filter(|line| line.starts_with("curl"))?
            .clone();
        Some((command, code(expected)))
    });
    rows.collect()
}

/// What the page's commands leave: the module, built once for all tests of this file.
async fn built() -> String {
    static BUILT: tokio::sync::OnceCell<String> = tokio::sync::OnceCell::const_new();
    let said = BUILT.get_or_init(|| async {
        let script = blocks(&format!("{FOLDER}/README.md"), false)[0].clone();
        assert!(script.contains("tidegate filter build"), "{script}");
        let run = tokio::task::spawn_blocking(move || shell(&folder(), &script));
        text(&run.await.expect("no panic"))
    });
    said.await.clone()
}

#[tokio::test]
#[ignore = "real parts"]
async fn it_is_built_and_tested_in_both_forms() {
    let said = built().await;
    let formatted = || shell(&folder(), "cargo fmt --check");
    tokio::task::spawn_blocking(formatted)
        .await
        .expect("no panic");
    for expected in [
        "test cases ... ok",
        "test policy::tests::a_window_past_midnight ... ok",
        ".: 9 cases, 9 here in 9 runs",
        "maintenance.component.wasm: 9 cases, 9 here in 9 runs",
        "isolation: Request",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
    assert!(
        !said.contains("answered"),
        "an exempt path was to be measured: {said}"
    );
}

#[tokio::test]
#[ignore = "real parts"]
async fn it_serves_by_extension_ref_and_by_annotation() {
    built().await;
    serves("../maintenance.wasm", |filter| filter).await;
}

/// The page of the example leaves publishing to docs/write-a-filter.md.
#[tokio::test]
#[ignore = "real parts"]
async fn it_serves_out_of_a_registry_in_both_forms() {
    built().await;
    let registry = Registry::start().await;
    for form in ["maintenance.wasm", "maintenance.component.wasm"] {
        let reference = format!("{}/team/{form}:1", registry.address());
        let push = format!("tidegate filter push --plain-http {form} oci://{reference}");
        let run = tokio::task::spawn_blocking(move || shell(&folder(), &push));
        let output = run.await.expect("no panic");
        let pinned = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(
            pinned.starts_with(&format!("{reference}@sha256:")),
            "{}",
            text(&output)
        );
        let image = format!("image: {pinned}\n  pull: {{insecure: true}}");
        serves(&pinned, |filter| {
            filter.replace("file: ../maintenance.wasm", &image)
        })
        .await;
    }
}

/// The manifests of the example, with another filter.yaml, and what each line of its page prints then.
async fn serves(what: &str, filter: impl Fn(String) -> String) {
    let (http, backend) = (Port::reserve(), Port::reserve());
    let _echo = Process::echo(TIDEGATE, backend.address(), "backend").await;
    // The manifests name the module beside their folder.
    let place = tempfile::tempdir().expect("a folder");
    let manifests = place.path().join("manifests");
    std::fs::create_dir(&manifests).expect("made");
    std::fs::copy(
        folder().join("maintenance.wasm"),
        place.path().join("maintenance.wasm"),
    )
    .expect("copied");
    let original = |name: &str| read(&folder().join("manifests").join(name));
    let routes =
        original("routes.yaml").replace("port: 3001", &format!("port: {}", backend.number()));
    std::fs::write(manifests.join("routes.yaml"), routes).expect("written");
    std::fs::write(
        manifests.join("filter.yaml"),
        filter(original("filter.yaml")),
    )
    .expect("written");
    let manifests = manifests.to_str().expect("text");
    let port = http.number().to_string();
    let map = format!("8080:{port}");
    let arguments = [
        "--manifests",
        manifests,
        "--port-map",
        &map,
        "--http-port",
        &port,
    ];
    let gateway = Process::serve(TIDEGATE, &arguments).await;
    // Readiness does not wait for a registry.
    eventually!(
        gateway.admin("/filters").await.json()[0]["state"] == "Ready",
        "{what} is loaded"
    );
    let rows = rows();
    assert_eq!(rows.len(), 4, "{rows:?}");
    for (command, expected) in rows {
        let command = command.replace(":8080", &format!(":{port}"));
        let script = command.clone();
        let run = tokio::task::spawn_blocking(move || shell(&folder(), &script));
        let printed = text(&run.await.expect("no panic"));
        for expected in expected {
            assert!(
                printed.contains(&expected),
                "{what}: {command}: {expected:?} is not in {printed}"
            );
        }
    }
    let answer = get(http.address(), "shop.example.com", "/").await;
    assert!(
        answer
            .header("retry-after")
            .parse::<u64>()
            .is_ok_and(|left| left <= 86_400)
    );
}

async fn get(address: std::net::SocketAddr, host: &str, path: &str) -> Answer {
    let mut wire = Wire::connect(address).await;
    wire.send(format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    ))
    .await;
    wire.answer().await
}

/// A configuration for another Envoy: free ports, and the module where it is.
fn elsewhere(yaml: &str, backend: &Port) -> Value {
    let module = folder().join("maintenance.wasm");
    let yaml = yaml
        .replace("port_value: 10000", "port_value: 0")
        .replace("port_value: 9902", "port_value: 0")
        .replace(
            "port_value: 3001",
            &format!("port_value: {}", backend.number()),
        )
        .replace(
            "filename: maintenance.wasm",
            &format!("filename: {}", module.display()),
        );
    serde_saphyr::from_str(&yaml).expect("YAML")
}

#[tokio::test]
#[ignore = "real parts"]
async fn envoy_serves_the_same_file() {
    built().await;
    let program = repository().join("target/differential/venv/bin/envoy");
    assert!(program.exists(), "run host/differential/set-up");
    let backend = Port::reserve();
    let _echo = Process::echo(TIDEGATE, backend.address(), "backend").await;
    let mut bootstrap = elsewhere(&read(&folder().join("envoy.yaml")), &backend);
    // The page's command prints what the configuration holds.
    let command = blocks(&format!("{FOLDER}/README.md"), false)[2].clone();
    assert!(command.contains("export --to envoy"), "{command}");
    let run = tokio::task::spawn_blocking(move || {
        shell(
            &folder(),
            &format!("{command} --cluster keys=keys.example:80"),
        )
    });
    let exported: Value =
        serde_saphyr::from_str(&text(&run.await.expect("no panic"))).expect("YAML");
    let resources = &mut bootstrap["static_resources"];
    let filters = &resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"];
    assert_eq!(filters[0], exported["http_filters"][0]);
    // A cluster that is printed is one that Envoy takes.
    let clusters = resources["clusters"].as_array_mut().expect("a list");
    clusters.extend(
        exported["clusters"]
            .as_array()
            .expect("a list")
            .iter()
            .cloned(),
    );
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("envoy.json");
    std::fs::write(&file, bootstrap.to_string()).expect("written");
    let (validated, config) = (program.clone(), file.clone());
    let run = move || {
        std::process::Command::new(validated)
            .args(["--mode", "validate", "--config-path"])
            .arg(config)
            .output()
    };
    let output = tokio::task::spawn_blocking(run)
        .await
        .expect("no panic")
        .expect("it starts");
    assert!(output.status.success(), "{}", text(&output));
    let mut envoy = Envoy::start(&program, &bootstrap, &[], |line: Line<'_>| {
        eprintln!("{line:?}")
    })
    .expect("it starts");
    envoy
        .await_ready(Duration::from_secs(60))
        .await
        .expect("it serves");
    let address = envoy.listeners().await["http"];
    let closed = get(address, "shop.example.com", "/").await;
    assert_eq!(
        (closed.status.as_u16(), closed.text()),
        (503, "Back soon.\n")
    );
    assert!(closed.header("retry-after").parse::<u64>().is_ok());
    assert_eq!(
        get(address, "shop.example.com", "/healthz").await.status,
        200
    );
}
