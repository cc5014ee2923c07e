//! `examples/envoy`: its configuration in a real Envoy, and the lines of its README, which do what they say.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tidegate_loopback::{Envoy, Line};
use tidegate_testing::{Port, Process};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let path = repository().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The configuration with other ports, and modules where the build has left them.
fn bootstrap(backend: &Port, modules: &Path) -> Value {
    let modules = modules.to_str().expect("text");
    let text = read("examples/envoy/envoy.yaml")
        .replace("port_value: 10000", "port_value: 0")
        .replace("port_value: 9902", "port_value: 0")
        .replace(
            "port_value: 3003",
            &format!("port_value: {}", backend.number()),
        )
        .replace("target/filters/wasm32-wasip1/filter", modules);
    serde_saphyr::from_str(&text).expect("YAML")
}

/// The bundled modules under the names that they have in the build's folder.
fn modules() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for filter in tidegate_filters::all() {
        let name = format!("tidegate_filter_{}.wasm", filter.name.replace('-', "_"));
        std::fs::write(folder.path().join(name), filter.module).expect("written");
    }
    folder
}

/// Command and expectations of each row of the README's table.
fn rows() -> Vec<(String, Vec<String>)> {
    let code = |cell: &str| {
        let parts = cell.split('`').skip(1).step_by(2);
        parts.map(str::to_owned).collect::<Vec<_>>()
    };
    let readme = read("examples/envoy/README.md");
    let rows = readme.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split(" | ").collect();
        let [_, command, expected] = cells[..] else {
            return None;
        };
        let command = code(command)
            .first()
            .filter(|line| line.contains("curl"))?
            .clone();
        Some((command, code(expected)))
    });
    rows.collect()
}

#[tokio::test]
#[ignore = "real parts"]
async fn the_lines_of_the_readme_do_what_it_says() {
    let program = repository().join("target/differential/venv/bin/envoy");
    assert!(program.exists(), "run host/differential/set-up");
    let backend = Port::reserve();
    let _echo = Process::echo(TIDEGATE, backend.address(), "backend").await;
    let modules = modules();
    let bootstrap = bootstrap(&backend, modules.path());
    let said = |line: Line<'_>| eprintln!("{line:?}");
    let mut envoy = Envoy::start(&program, &bootstrap, &[], said).expect("it starts");
    envoy
        .await_ready(Duration::from_secs(60))
        .await
        .expect("it serves");
    let port = envoy.listeners().await["http"].port();
    let rows = rows();
    assert!(rows.len() >= 7, "{rows:?}");
    for (command, expected) in rows {
        let command = command.replace(":10000", &format!(":{port}"));
        let shell = command.clone();
        let run = move || Command::new("sh").args(["-c", &shell]).output();
        let output = tokio::task::spawn_blocking(run)
            .await
            .expect("no panic")
            .expect("a shell with curl");
        let squeeze = |text: &str| text.split_whitespace().collect::<String>();
        let printed = squeeze(&String::from_utf8_lossy(&output.stdout));
        for expected in expected {
            assert!(
                printed.contains(&squeeze(&expected)),
                "{command}: {expected:?} is not in {printed}"
            );
        }
    }
}
