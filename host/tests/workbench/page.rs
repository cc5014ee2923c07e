//! Commands of a page, run as they stand there.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tidegate_testing::Port;

use super::read;
use super::registry::Registry;
use crate::filter_test::{repository, text};

/// Stands before the blocks that are run.
const RUN: &str = "<!-- run -->";

/// Blocks of shell in a page: all, or those with a mark.
pub(crate) fn blocks(page: &str, marked: bool) -> Vec<String> {
    let text = read(&repository().join(page));
    let mut blocks = Vec::new();
    let mut before = "";
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if !marked || before == RUN {
                blocks.push(block.join("\n"));
            }
        }
        before = line;
    }
    assert!(!blocks.is_empty(), "{page}");
    blocks
}

/// A shell in which `tidegate` is the built one, and what cargo builds stays out of the folder.
pub(crate) fn shell(folder: &Path, script: &str) -> Output {
    let tidegate = PathBuf::from(env!("CARGO_BIN_EXE_tidegate"));
    let programs = tidegate.parent().expect("it is in a folder").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(programs).chain(std::env::split_paths(&path));
    let target = repository().join("target/workbench");
    // Whatever runs in the background ends with the script.
    let script =
        format!("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}\n");
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder)
        .env("PATH", std::env::join_paths(path).expect("paths"))
        .env(
            "CARGO_TARGET_DIR",
            std::path::absolute(target).expect("a path"),
        )
        .env_remove("CARGO_INCREMENTAL")
        // Nobody's credentials.
        .env("DOCKER_CONFIG", "/nowhere")
        .output()
        .expect("bash");
    assert!(output.status.success(), "{script}: {}", text(&output));
    output
}

#[tokio::test]
#[ignore = "real parts"]
async fn the_commands_of_the_page_do_what_it_says() {
    let (gateway, upstream) = (Port::reserve(), Port::reserve());
    let registry = Registry::start().await;
    let script = blocks("docs/write-a-filter.md", true)
        .join("\n")
        .replace(":8080", &format!(":{}", gateway.number()))
        .replace(":3000", &format!(":{}", upstream.number()))
        .replace("registry.example/", &format!("{}/", registry.address()))
        .replace("filter push ", "filter push --plain-http ")
        .replace("filter pull ", "filter pull --plain-http ");
    assert!(script.contains("tidegate filter new"), "{script}");
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().to_owned();
    let run = tokio::task::spawn_blocking(move || shell(&place, &script));
    let said = text(&run.await.expect("no panic"));
    for expected in [
        // cargo test: the policy's and the cases.
        "test cases ... ok",
        "test policy::tests::known_teams_pass ... ok",
        // build, test, inspect, the same as a component
        "require-team.wasm",
        ".: 5 cases, 5 here",
        "require-team.component.wasm: 5 cases, 5 here",
        "sha256",
        "isolation: Shared",
        // curl
        "x-served-team: red",
        "HTTP/1.1 403",
        "{\"error\":\"unknown team\"}",
        // push
        &format!("{}/team/require-team:1@sha256:", registry.address()),
        // export
        "envoy.extensions.filters.http.wasm.v3.Wasm",
        "kind: WasmPlugin",
        "kind: EnvoyExtensionPolicy",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
    // As it was written, it is formatted.
    shell(&folder.path().join("require-team"), "cargo fmt --check");
    // Equal sources give equal modules, wherever they lie.
    let other = tempfile::tempdir().expect("a folder");
    shell(other.path(), "tidegate filter new require-team");
    let (here, there) = (
        folder.path().join("require-team"),
        other.path().join("require-team"),
    );
    std::fs::copy(here.join("Cargo.lock"), there.join("Cargo.lock")).expect("copied");
    shell(&there, "tidegate filter build");
    let module =
        |folder: &Path| std::fs::read(folder.join("require-team.wasm")).expect("it was built");
    assert!(
        module(&here) == module(&there),
        "the paths of the folders are in the modules"
    );
}
