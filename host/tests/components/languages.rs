//! `examples/components`: one filter in JavaScript and in Python, built with the languages' own tools, which come from npm and PyPI.

use std::process::Command;

use serde_json::Value;

use crate::filter_test::{repository, text, tidegate};

#[tokio::test]
#[ignore = "real parts"]
async fn filters_in_javascript_and_python_pass_their_cases() {
    let repository = repository();
    let examples = repository.join("examples/components");
    let folder = repository.join("target/components");
    let built = Command::new(examples.join("build")).arg(&folder).status();
    assert!(built.expect("bash").success(), "examples/components/build");
    let cases = examples.join("cases.yaml");
    let cases = cases.to_str().expect("text");
    for name in ["javascript", "python"] {
        let file = folder.join(format!("{name}.wasm"));
        let file = file.to_str().expect("text");
        let about = tidegate(&["inspect", file, "-o", "json"]).await;
        assert_eq!(about.status.code(), Some(0), "{}", text(&about));
        let output = tidegate(&["test", file, "--cases", cases, "-o", "json"]).await;
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
        let row = &report["filters"][0];
        assert_eq!(row["failures"], serde_json::json!([]), "{name}: {row}");
        assert_eq!(row["here"]["cases"], 6, "{name}: {row}");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
}
