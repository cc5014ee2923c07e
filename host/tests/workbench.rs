//! The author's workbench: `tidegate filter new`, `build`, `bench` and `export`, what docs/write-a-filter.md says of them, and
//! examples/custom-filter, which was made with them.

use std::path::Path;

use serde_json::{Value, json};
use tidegate_testing::guest;

use crate::filter_test::{text, tidegate};

mod custom_filter;
pub(crate) mod page;
mod registry;

/// Answers 403 to requests with `x-bad`, and sets a header of others.
const BOUNCER: &str = r#"
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
      (i32.ne (local.get 1) (i32.const 4)))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (if (call $has (i32.const 0) @"x-bad") (then (call $reply (i32.const 403) @"bad") (return (i32.const 1))))
      (i32.const 0))"#;

/// Files below a folder, as `/`-separated paths, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let path = path.strip_prefix(folder).expect("it is within");
                found.push(path.to_str().expect("text").to_owned());
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test]
async fn a_new_filter_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("within/require-team");
    let path = place.to_str().expect("text");
    let output = tidegate(&["new", "require-team", "--path", path]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let written = files(&place);
    // Every source of the SDK is there, as it is here.
    let repository = crate::filter_test::repository();
    for part in ["sdk/src", "sdk/cases/src", "wit"] {
        for file in files(&repository.join(part)) {
            let file = format!("{part}/{file}");
            assert!(written.contains(&file), "{file} is not in {written:?}");
            assert_eq!(
                read(&place.join(&file)),
                read(&repository.join(&file)),
                "{file}"
            );
        }
    }
    for file in [
        ".gitignore",
        "Cargo.toml",
        "README.md",
        "cases.yaml",
        "rust-toolchain.toml",
        "schema.json",
        "src/lib.rs",
        "src/policy.rs",
        "tests/cases.rs",
    ] {
        assert!(
            written.iter().any(|path| path == file),
            "{file} is not in {written:?}"
        );
    }
    // Nothing is inherited from a workspace, and no path leads out of the folder.
    for manifest in ["Cargo.toml", "sdk/Cargo.toml", "sdk/cases/Cargo.toml"] {
        let manifest = read(&place.join(manifest));
        assert!(!manifest.contains("workspace = true"), "{manifest}");
        assert!(!manifest.contains(".workspace"), "{manifest}");
        assert!(!manifest.contains("\"../"), "{manifest}");
    }
    let toolchain = read(&place.join("rust-toolchain.toml"));
    assert!(
        toolchain.contains("wasm32-wasip1") && toolchain.contains("wasm32-wasip2"),
        "{toolchain}"
    );
    let _: Value = serde_json::from_str(&read(&place.join("schema.json"))).expect("JSON");
    let cases = tidegate_filter_cases::File::parse(&read(&place.join("cases.yaml")));
    assert!(cases.expect("cases").cases.len() >= 5);
    for file in ["Cargo.toml", "src/lib.rs", "README.md", "tests/cases.rs"] {
        let text = read(&place.join(file));
        assert!(
            text.contains("require") && !text.contains("@NAME@"),
            "{file}: {text}"
        );
    }
}

#[tokio::test]
async fn an_sdk_is_shared_where_one_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("filters/door");
    let path = place.to_str().expect("text");
    let sdk = crate::filter_test::repository().join("sdk");
    let sdk = std::fs::canonicalize(sdk).expect("it is there");
    let sdk = sdk.to_str().expect("text");
    let output = tidegate(&["new", "door", "--path", path, "--sdk", sdk]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(!place.join("sdk").exists() && !place.join("wit").exists());
    let manifest = read(&place.join("Cargo.toml"));
    assert!(
        manifest.contains(&format!("path = \"{sdk}\"")),
        "{manifest}"
    );
    let output = tidegate(&[
        "new",
        "gate",
        "--path",
        &format!("{path}-2"),
        "--sdk",
        "../nowhere",
    ])
    .await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("--sdk ../nowhere: no SDK is there"),
        "{}",
        text(&output)
    );
}

#[tokio::test]
async fn what_cannot_be_made_is_refused() {
    let full = tempfile::tempdir().expect("a folder");
    std::fs::write(full.path().join("mine"), "").expect("written");
    let place = full.path().to_str().expect("text");
    let beneath = format!("{place}/mine/filter");
    for (arguments, said) in [
        (vec!["new", "Team"], "\"Team\" is no name for a filter"),
        (vec!["new", "team_filter"], "as require-team"),
        (vec!["new", "1st"], "with a letter first"),
        (vec!["new", "serde"], "\"serde\" is taken"),
        (
            vec!["new", "team", "--path", place],
            "the folder is not empty",
        ),
        (
            vec!["new", "team", "--path", &beneath],
            "no folder can be made here",
        ),
        (vec!["build", "--path", place], "no package is here"),
        (
            vec!["build", "--path", "/nowhere/filter"],
            "--path /nowhere/filter: no folder is there",
        ),
        (
            vec!["bench", "nowhere"],
            "neither a bundled filter nor a file",
        ),
        (
            vec!["bench", "cors", "--config", "/nowhere"],
            "--config /nowhere",
        ),
        (vec!["bench", "cors", "-H", "x"], "expected 'name: value'"),
        (vec!["bench", "cors", "--requests", "0"], "--requests"),
    ] {
        let output = tidegate(&arguments).await;
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            text(&output)
        );
        assert!(
            text(&output).contains(said),
            "{said:?} is not in {}",
            text(&output)
        );
    }
    assert_eq!(files(full.path()), ["mine"]);
}

#[tokio::test]
async fn a_package_that_is_no_filter_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path();
    std::fs::create_dir(place.join("src")).expect("made");
    std::fs::write(place.join("src/lib.rs"), "").expect("written");
    let manifest =
        "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    std::fs::write(place.join("Cargo.toml"), manifest).expect("written");
    let output = tidegate(&["build", "--path", place.to_str().expect("text")]).await;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(
        text(&output).contains("crate-type = [\"cdylib\", \"rlib\"]"),
        "{}",
        text(&output)
    );
}

#[tokio::test]
async fn a_library_without_callbacks_is_not_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path();
    std::fs::create_dir(place.join("src")).expect("made");
    std::fs::write(place.join("src/lib.rs"), "").expect("written");
    let manifest = "[package]\nname = \"no-callbacks\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n";
    std::fs::write(place.join("Cargo.toml"), manifest).expect("written");
    let output = tidegate(&["build", "--path", place.to_str().expect("text")]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("missing or unknown proxy-wasm ABI version"),
        "{}",
        text(&output)
    );
    assert!(!place.join("no-callbacks.wasm").exists());
}

#[tokio::test]
async fn figures_of_a_module() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path.to_str().expect("text").to_owned()
    };
    let module = file("bouncer.wasm", &guest(BOUNCER));
    let (good, bad) = (file("good", b"fine!"), file("bad", b"four"));
    let bench = ["bench", &module, "--requests", "50"];
    let output = tidegate(&[&bench[..], &["--config", &good, "-o", "json"]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let figures: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(figures["form"], "module");
    for way in ["Shared", "Request"] {
        let way = &figures["isolation"][way];
        assert_eq!(
            (&way["requests"], &way["replied"]),
            (&json!(10), &json!(0)),
            "{figures}"
        );
        assert!(
            way["nanosecondsPerRequest"].as_f64() > Some(0.0),
            "{figures}"
        );
    }
    for figure in ["compileMs", "startMs", "linearMemoryBytes"] {
        assert!(figures[figure].as_f64() > Some(0.0), "{figure}: {figures}");
    }
    // What the filter makes of the requests is told: a table of refusals would measure little.
    let output = tidegate(&[&bench[..], &["--config", &good, "-H", "x-bad: 1"]].concat()).await;
    let said = text(&output);
    assert!(
        said.contains("the filter answered 10 of 10 requests itself"),
        "{said}"
    );
    assert!(said.contains("isolation: Request"), "{said}");
    let output = tidegate(&[&bench[..], &["--config", &bad]].concat()).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("does not take its configuration"),
        "{}",
        text(&output)
    );
}

#[tokio::test]
async fn figures_of_a_filter_that_calls() {
    let bench = async |more: &[&str]| {
        let bench = ["bench", "ext-auth", "--requests", "20", "-o", "json"];
        tidegate(&[&bench[..], more].concat()).await
    };
    for case in [
        "the service lets pass and says who it is",
        "headers that the upstream gets take the place of the client's",
    ] {
        let output = bench(&["--case", case]).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let figures: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        for way in ["Shared", "Request"] {
            let way = &figures["isolation"][way];
            let counts = ["requests", "replied", "calls"].map(|count| &way[count]);
            assert_eq!(counts, [&json!(4), &json!(0), &json!(4)], "{case}");
            assert_eq!(way["held"], 0, "{case}");
        }
    }
    for (more, said) in [
        (&["--case", "none"][..], "no case has this name"),
        (&["--case", "403", "-X", "POST"], "cannot be used with"),
        (
            &["--case", "the call says what was asked for"],
            "its request has a body",
        ),
        (&["--cases", "cases.yaml"], "--case <NAME>"),
    ] {
        let output = bench(more).await;
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(said), "{said}: {}", text(&output));
    }
}

#[tokio::test]
async fn figures_of_a_component() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("component.wasm");
    std::fs::write(&path, tidegate_wasm_guests::COMPONENT).expect("written");
    let config = folder.path().join("config");
    std::fs::write(&config, "any").expect("written");
    let arguments = [
        "bench",
        path.to_str().expect("text"),
        "--config",
        config.to_str().expect("text"),
        "--requests",
        "20",
        "--target",
        "/headers",
        "-o",
        "json",
    ];
    let output = tidegate(&arguments).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let figures: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(figures["form"], "component");
    let reason = &figures["isolation"]["Request"]["bootsForEach"];
    assert!(
        reason
            .as_str()
            .is_some_and(|reason| reason.contains("component")),
        "{figures}"
    );
}

const CLUSTERS: [&str; 4] = [
    "--cluster",
    "authz=authz.example:9000",
    "--cluster",
    "keys=192.0.2.7:80",
];

/// A folder with a module, a component and a configuration.
fn exported() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).expect("written")
    };
    write("bouncer.wasm", &guest(BOUNCER));
    write("bouncer.component.wasm", tidegate_wasm_guests::COMPONENT);
    write("config.json", b"{\n  \"teams\": [\"red\", \"yes\"]\n}\n");
    write("list.json", b"[1]");
    write("text", b"some text");
    write("empty.wasm", b"\0asm\x01\0\0\0");
    folder
}

#[tokio::test]
async fn exports_are_what_other_hosts_load() {
    let folder = exported();
    let place = std::fs::canonicalize(folder.path()).expect("it is there");
    let place = place.to_str().expect("text");
    let module = format!("{place}/bouncer.wasm");
    let config = format!("{place}/config.json");
    let image = "oci://registry.example/team/bouncer:1";
    for (golden, to, module, more) in [
        (
            "envoy",
            "envoy",
            module.as_str(),
            vec!["--headers-wait-for-body"],
        ),
        (
            "istio",
            "istio",
            image,
            vec!["--target", "public", "--namespace", "edge"],
        ),
        (
            "istio-file",
            "istio",
            module.as_str(),
            vec!["--fail-open", "--root-id", "door"],
        ),
        (
            "envoy-gateway",
            "envoy-gateway",
            image,
            vec!["--target", "Gateway/public", "--root-id", "door"],
        ),
    ] {
        let fixed = [
            "export", "--to", to, module, "--name", "bouncer", "--config", &config,
        ];
        let output = tidegate(&[&fixed[..], &CLUSTERS, &more].concat()).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let printed = text(&output).replace(place, "/folder");
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/workbench/{golden}.yaml"));
        assert_eq!(printed, read(&path), "{}", path.display());
    }
}

#[tokio::test]
async fn what_another_host_cannot_load_is_refused() {
    let folder = exported();
    let file = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let (module, component) = (file("bouncer.wasm"), file("bouncer.component.wasm"));
    let (list, words, empty) = (file("list.json"), file("text"), file("empty.wasm"));
    let image = "registry.example/team/bouncer@sha256:00";
    for (to, module, more, said) in [
        (
            "envoy",
            component.as_str(),
            vec![],
            "which Envoy does not load",
        ),
        (
            "istio",
            component.as_str(),
            vec![],
            "nor do Istio and Envoy Gateway",
        ),
        (
            "envoy",
            words.as_str(),
            vec![],
            "this is no WebAssembly module",
        ),
        (
            "envoy",
            empty.as_str(),
            vec![],
            "empty.wasm: no host would load it: missing or unknown proxy-wasm ABI version",
        ),
        ("envoy", image, vec![], "tidegate filter pull"),
        (
            "envoy",
            &module,
            vec!["--target", "public"],
            "--target: a configuration of Envoy belongs to no object",
        ),
        (
            "envoy",
            &module,
            vec!["--namespace", "edge"],
            "--namespace: a configuration of Envoy belongs to no object",
        ),
        ("envoy", "cors", vec![], "filters/cors/README.md"),
        (
            "envoy",
            "./nowhere.wasm",
            vec![],
            "neither a file that can be read nor a reference",
        ),
        (
            "envoy-gateway",
            &module,
            vec!["--target", "a"],
            "tidegate filter push",
        ),
        ("envoy-gateway", image, vec![], "--target is missing"),
        (
            "envoy-gateway",
            image,
            vec!["--target", "HTTPRoute/a", "--cluster", "a=b:1"],
            "name it with --target NAME",
        ),
        (
            "envoy-gateway",
            image,
            vec!["--target", "Foo/shop"],
            "it takes Gateway, HTTPRoute, GRPCRoute",
        ),
        (
            "envoy-gateway",
            image,
            vec!["--target", "HTTPRoute/"],
            "expected NAME of a Gateway or KIND/NAME",
        ),
        (
            "istio",
            image,
            vec!["--target", "HTTPRoute/shop"],
            "it takes Gateway, GatewayClass, Service, ServiceEntry",
        ),
        (
            "istio",
            image,
            vec!["--target", "Service/shop", "--cluster", "a=b:1"],
            "name it with --target NAME",
        ),
        (
            "envoy-gateway",
            image,
            vec!["--target", "a", "--config", &words],
            "takes JSON alone",
        ),
        (
            "istio",
            image,
            vec!["--config", &list],
            "has to be a JSON object",
        ),
        (
            "istio",
            image,
            vec!["--headers-wait-for-body"],
            "a WasmPlugin has no field for it",
        ),
        ("envoy", &module, vec!["--cluster", "a"], "NAME=HOST:PORT"),
    ] {
        let fixed = ["export", "--to", to, module, "--name", "bouncer"];
        let output = tidegate(&[&fixed[..], &more].concat()).await;
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(
            text(&output).contains(said),
            "{said:?} is not in {}",
            text(&output)
        );
    }
    let output = tidegate(&["export", "--to", "envoy", &module, "--name", "No"]).await;
    assert!(
        text(&output).contains("lower-case letters"),
        "{}",
        text(&output)
    );
}
