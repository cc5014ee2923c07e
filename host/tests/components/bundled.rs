//! The bundled filters as components: `filters/components` builds the same crates for wasm32-wasip2, and each passes the cases that its
//! module passes. That build takes minutes and some hundred megabytes of target/filters, so it is among the real parts.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::filter_test::{repository, text, tidegate};

/// What of a filter's cases was run here: cases, runs, and those that were not as expected.
type Counts = (u64, u64, usize);

fn counts(output: &std::process::Output) -> BTreeMap<String, Counts> {
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(output)));
    let rows = report["filters"].as_array().expect("filters");
    let count = |row: &Value, of: &str| row["here"][of].as_u64().expect("a count");
    rows.iter()
        .map(|row| {
            let failures = row["failures"].as_array().expect("a list").len();
            let name = row["name"].as_str().expect("a name").to_owned();
            (name, (count(row, "cases"), count(row, "runs"), failures))
        })
        .collect()
}

#[tokio::test]
#[ignore = "real parts"]
async fn every_bundled_filter_passes_its_cases_in_both_forms() {
    let repository = repository();
    let built = Command::new(repository.join("filters/components")).status();
    assert!(built.expect("filters/components runs").success());
    let folder = repository.join("target/filters/wasm32-wasip2/filter");
    let modules = counts(&tidegate(&["test", "--bundled", "-o", "json"]).await);
    for filter in tidegate_filters::all() {
        let file = format!("tidegate_filter_{}.wasm", filter.name.replace('-', "_"));
        let file = folder.join(file);
        let wasm = std::fs::read(&file).expect("it was built");
        assert_eq!(wasm[4..8], [13, 0, 1, 0], "{} is a component", filter.name);
        let cases = repository
            .join("filters")
            .join(filter.name)
            .join("cases.yaml");
        let (file, cases) = (file.to_str().expect("text"), cases.to_str().expect("text"));
        // Those that bring a limit of their own take long, and longer where others use the processor as well.
        let limit = filter.call_timeout.map_or("10ms", |_| "2s");
        let output = tidegate(&[
            "test",
            file,
            "--cases",
            cases,
            "--call-timeout",
            limit,
            "-o",
            "json",
        ])
        .await;
        let component = counts(&output)[file];
        let module = modules[filter.name];
        eprintln!(
            "{:<16} module {module:?}, component {component:?}",
            filter.name
        );
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert_eq!(component, module, "{}: cases, runs, failures", filter.name);
        assert!(component.0 > 0 && component.2 == 0, "{}", filter.name);
    }
}
