//! `examples/components`: one filter in JavaScript, in Python and in C, built with the languages' own tools, which come from npm, PyPI and
//! crates.io.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tidegate_testing::{Gateway, Upstream, manifests};

use crate::filter_test::{repository, text, tidegate};
use crate::workbench::page::{blocks, shell};
use crate::workbench::read;

#[tokio::test]
#[ignore = "real parts"]
async fn filters_in_other_languages_pass_their_cases() {
    let repository = repository();
    let examples = repository.join("examples/components");
    let folder = repository.join("target/components");
    let built = Command::new(examples.join("build")).arg(&folder).status();
    assert!(built.expect("bash").success(), "examples/components/build");
    let cases = examples.join("cases.yaml");
    let cases = cases.to_str().expect("text");
    for name in ["javascript", "python", "c"] {
        let file = folder.join(format!("{name}.wasm"));
        let file = file.to_str().expect("text");
        let about = tidegate(&["inspect", file, "-o", "json"]).await;
        assert_eq!(about.status.code(), Some(0), "{}", text(&about));
        let output = tidegate(&["test", file, "--cases", cases, "-o", "json"]).await;
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
        let row = &report["filters"][0];
        assert_eq!(row["failures"], serde_json::json!([]), "{name}: {row}");
        assert_eq!(row["here"]["cases"], 8, "{name}: {row}");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
    two_filters_share_one(&folder.join("c.wasm")).await;
    the_page_makes_one_in_c(&examples, &folder);
}

/// Filters of one namespace share a VM: each has its own configuration in it.
async fn two_filters_share_one(component: &Path) {
    let upstream = Upstream::named("up").await;
    let filter = |team: &str| {
        let config = format!(", config: {{teams: [{team}]}}");
        manifests::filter(team, "c.wasm", &config)
    };
    let route = |team: &str| {
        let rule = manifests::rule(&manifests::filters(&[team]));
        manifests::route(team, &[team], &rule)
    };
    let manifest = [
        manifests::everything_to(upstream.address()),
        filter("red"),
        filter("blue"),
        route("red"),
        route("blue"),
    ];
    let gateway = Gateway::builder()
        .file("c.wasm", std::fs::read(component).expect("it was built"))
        .start(&manifest.concat())
        .await;
    for (host, team, status) in [
        ("red", "red", 200),
        ("blue", "blue", 200),
        ("red", "blue", 403),
        ("blue", "red", 403),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Team: {team}\r\n\r\n");
        let answer = gateway.send(request).await;
        assert_eq!(answer.status, status, "{team} to {host}: {answer:?}");
    }
}

/// The commands of the page, with the tools that are there already, in a folder that has what the page speaks of.
fn the_page_makes_one_in_c(examples: &Path, built: &Path) {
    let page = blocks("docs/write-a-filter.md", false);
    let [.., tools, bindings, component] = &page[..] else {
        panic!("{page:?}");
    };
    let build = read(&examples.join("build"));
    let requirements = read(&examples.join("c/requirements.txt"));
    let pinned: Vec<&str> = (tools.split_whitespace())
        .filter(|word| word.contains('@') || word.contains("=="))
        .collect();
    assert_eq!(pinned.len(), 3, "{tools}");
    for tool in pinned {
        let same = build.contains(&tool.replace('@', " ")) || requirements.contains(tool);
        assert!(same, "{tool} is not the one that examples/components uses");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let built = std::path::absolute(built).expect("a path");
    let (built, examples) = (built.display(), examples.display());
    let script = format!(
        "cp -r {examples}/../../wit {examples}/c/*.[ch] {examples}/cases.yaml .\n\
         export PATH={built}/tools/bin:$PATH ZIG_GLOBAL_CACHE_DIR={built}/zig/cache\n\
         ln -s {built}/zig zig\n{bindings}\n{component}"
    );
    let said = text(&shell(folder.path(), &script));
    assert!(said.contains("filter.wasm: 8 cases, 8 here"), "{said}");
}
