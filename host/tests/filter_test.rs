//! `tidegate filter test` and `tidegate filter inspect`, by the built binary: the cases of all bundled filters on the data plane, and in
//! a real Envoy where there is one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tidegate_testing::{guest, within};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// Answers 403 to requests with `x-bad`, and asks for nothing else.
const BOUNCER: &str = r#"
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
      (i32.ne (local.get 1) (i32.const 4)))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (if (call $has (i32.const 0) @"x-bad") (then (call $reply (i32.const 403) @"bad") (return (i32.const 1))))
      (i32.const 0))"#;

pub(crate) async fn tidegate(arguments: &[&str]) -> Output {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let run = tokio::task::spawn_blocking(move || {
        Command::new(TIDEGATE)
            .args(["filter"])
            .args(&arguments)
            .output()
            .expect("the binary")
    });
    run.await.expect("no panic")
}

pub(crate) fn text(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&said).into_owned()
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[tokio::test]
async fn every_case_of_every_bundled_filter_passes_here() {
    let output = tidegate(&["test", "--bundled", "-o", "json"]).await;
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    let filters = report["filters"].as_array().expect("filters");
    assert_eq!(filters.len(), tidegate_filters::all().len());
    for filter in filters {
        assert_eq!(
            filter["failures"],
            serde_json::json!([]),
            "{}",
            filter["name"]
        );
        let runs = filter["here"]["runs"].as_u64().expect("a count");
        assert!(runs >= filter["here"]["cases"].as_u64().expect("a count"));
        assert!(runs > 0, "{filter}");
    }
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[tokio::test]
#[ignore = "real parts"]
async fn every_case_of_every_bundled_filter_passes_in_envoy() {
    let envoy = repository().join("target/differential/venv/bin/envoy");
    assert!(envoy.exists(), "run host/differential/set-up");
    let envoy = envoy.to_str().expect("text");
    let output = tidegate(&["test", "--bundled", "--envoy", envoy]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// A folder with a module and these cases.
fn folder(cases: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("bouncer.wasm"), guest(BOUNCER)).expect("written");
    std::fs::write(folder.path().join("cases.yaml"), cases).expect("written");
    folder
}

async fn test(folder: &tempfile::TempDir, more: &[&str]) -> Output {
    let place = folder.path().to_str().expect("text");
    within("a test", tidegate(&[&["test", place], more].concat())).await
}

const GOOD: &str = "
cases:
- name: good ones pass
  request: {method: POST, headers: {x-a: [1, 2]}, body: abcd}
  expect: {response: {status: 200}, upstream: {method: POST, headers: {x-a: [1, 2]}, body: abcd}}
- name: bad ones do not
  request: {headers: {x-bad: 1}}
  expect: {response: {status: 403}, upstream: none}
- name: a configuration of four bytes is refused
  config: four
  refused: configuration
";

#[tokio::test]
async fn a_folder_with_a_module_and_its_cases() {
    let folder = folder(GOOD);
    let output = test(&folder, &["-o", "json"]).await;
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    // Four bytes are sent as they are written, cut at three points, and byte by byte.
    assert_eq!(report["filters"][0]["here"]["runs"], 7);
    let only = test(&folder, &["--only", "bad ones"]).await;
    assert!(
        text(&only).contains("1 cases, 1 here in 1 runs"),
        "{}",
        text(&only)
    );
}

#[tokio::test]
async fn what_is_not_as_expected_is_told() {
    let folder = folder(
        "
cases:
- name: of the response
  request: {headers: {x-bad: 1}}
  expect: {response: {status: 200, headers: {x-is: there}, body: hello}, upstream: {path: /}}
- name: of the upstream
  expect: {upstream: {path: /other, headers: {x-is: there}}}
- name: of the calls
  calls: [{cluster: auth}]
- name: of the configuration
  config: else
- name: of a refusal
  config: fine!
  refused: never
- name: of logs and metrics
  logs: [never said]
  metrics: {never_defined: 1}
",
    );
    let output = test(&folder, &[]).await;
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for line in [
        "of the response (bodies as written)",
        r#"response: :status is ["403"], expected ["200"]"#,
        r#"response: x-is is [], expected ["there"]"#,
        "the upstream got no request",
        r#"upstream: :path is ["/"], expected ["/other"]"#,
        r#"no call to "auth" was made"#,
        "the filter cannot run: the module refuses its configuration",
        r#"the configuration is taken, expected a refusal with "never""#,
        r#"no log line holds "never said""#,
        "metric never_defined is None, expected 1",
        "6 FAILED",
    ] {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }
}

#[tokio::test]
async fn wrong_usage_has_a_status_of_its_own() {
    let empty = tempfile::tempdir().expect("a folder");
    let folder = folder("cases: []");
    let wrong = self::folder("cases: [{name: a, reqest: {}}]");
    let good = self::folder(GOOD);
    for (output, said) in [
        (
            tidegate(&["test", "nowhere"]).await,
            "nowhere: neither a bundled filter nor a file or folder",
        ),
        (test(&empty, &[]).await, "no .wasm file is in this folder"),
        (test(&folder, &[]).await, "there is no case in it"),
        (test(&wrong, &[]).await, "reqest"),
        (
            test(&good, &["--only", "nothing"]).await,
            "no case has this in its name",
        ),
        (
            test(&good, &["--call-timeout", "x"]).await,
            "invalid duration \"x\"",
        ),
        (
            test(&good, &["--call-timeout", "0s"]).await,
            "it has to be greater than zero",
        ),
        (
            test(&good, &["--envoy", "/no/envoy"]).await,
            "/no/envoy does not start",
        ),
        (
            tidegate(&["inspect", "nowhere"]).await,
            "nowhere: neither a bundled filter nor a file",
        ),
    ] {
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(
            text(&output).contains(said),
            "{said:?} is not in {}",
            text(&output)
        );
    }
}

#[tokio::test]
async fn a_module_says_what_it_is() {
    let output = tidegate(&["inspect", "rate-limit", "-o", "json"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let about: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(about["abi"], serde_json::json!(["0.2.1"]));
    let needs: Vec<&str> = about["needs"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        needs.contains(&"shared-data") && needs.contains(&"clusters"),
        "{needs:?}"
    );
    assert!(about["schema"]["properties"]["limits"].is_object());
    let folder = folder(GOOD);
    let module = folder.path().join("bouncer.wasm");
    let output = tidegate(&["inspect", module.to_str().expect("text")]).await;
    let said = text(&output);
    assert!(said.contains("schema      none"), "{said}");
    assert!(said.contains("proxy_on_request_headers"), "{said}");
    // An empty module is no filter.
    std::fs::write(&module, b"\0asm\x01\0\0\0").expect("written");
    let output = tidegate(&["inspect", module.to_str().expect("text")]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
}
