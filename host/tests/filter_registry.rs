//! `tidegate filter push`, `pull` and `inspect`, by the built binary, and what a Filter then does with it.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_testing::{Gateway, Reply, Seen, Upstream, guest, manifests};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// `user:secret`
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

/// Runs the binary in a folder, without the caller's docker configuration; `input` is its standard input.
async fn tidegate(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let (folder, input) = (folder.to_owned(), input.to_owned());
    let run = tokio::task::spawn_blocking(move || {
        let mut child = Command::new(TIDEGATE)
            .args(&arguments)
            .env("DOCKER_CONFIG", &folder)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        let mut stdin = child.stdin.take().expect("piped");
        // Who needs no password does not read it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends")
    });
    run.await.expect("no panic")
}

fn said(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&said).into_owned()
}

fn stdout(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    String::from_utf8(output.stdout.clone())
        .expect("text")
        .trim()
        .to_owned()
}

/// What a registry holds, by path.
type Content = Arc<Mutex<HashMap<String, Bytes>>>;

/// A registry that wants the password.
async fn registry(content: &Content) -> Upstream {
    let content = content.clone();
    Upstream::start(move |seen| answer(&mut content.lock().expect("no panic"), seen)).await
}

fn answer(content: &mut HashMap<String, Bytes>, seen: &Seen) -> Reply {
    if seen.header("authorization") != BASIC {
        return Reply::status(401).header("www-authenticate", "Basic realm=\"test\"");
    }
    let target = seen.target();
    match seen.method.as_str() {
        "POST" => Reply::status(202).header("location", &format!("{target}1?state=x")),
        "PUT" => {
            let path = match target.split_once("uploads/1?state=x&digest=") {
                Some((path, digest)) => format!("{path}{digest}"),
                None => {
                    // By its digest, too: what a tag came to is asked for by that.
                    let (path, _) = target.rsplit_once('/').expect("a path");
                    let digest = sha256(&seen.body);
                    content.insert(format!("{path}/{digest}"), seen.body.clone());
                    target.to_owned()
                }
            };
            content.insert(path, seen.body.clone());
            Reply::status(201)
        }
        _ => content
            .get(target)
            .map_or(Reply::status(404), |bytes| Reply::text(bytes.clone())),
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digits = sha2::Sha256::digest(bytes);
    let digits: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// A folder with `hello.wasm`, which sets a header.
fn folder() -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    let module = guest(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $set (i32.const 0) @"x-module" @"hello") (i32.const 0))"#,
    );
    std::fs::write(folder.path().join("hello.wasm"), &module).expect("written");
    (folder, module)
}

#[tokio::test]
async fn a_filter_goes_to_a_registry_and_comes_back() {
    let (folder, module) = folder();
    let content = Content::default();
    let registry = registry(&content).await;
    let reference = format!("oci://{}/team/hello:1", registry.address());
    let push = ["filter", "push", "hello.wasm", &reference, "--plain-http"];
    let named = [&push[..], &["--username", "user", "--password-stdin"]].concat();

    // Nobody, and somebody with another password.
    let output = tidegate(folder.path(), &push, "").await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("answered 401 Unauthorized: it wants to know who asks; give --username NAME --password-stdin"),
        "{}",
        said(&output)
    );
    let output = tidegate(folder.path(), &named, "wrong\n").await;
    assert!(
        said(&output).contains(r#"it does not let "user" push to team/hello"#),
        "{}",
        said(&output)
    );

    let pushed = stdout(&tidegate(folder.path(), &named, "secret\n").await);
    let digest = pushed
        .strip_prefix(&format!("{}/team/hello:1@", registry.address()))
        .expect("the reference with its digest");

    // A program that keeps passwords is not run.
    let config = folder.path().join("config.json");
    std::fs::write(&config, r#"{"credsStore": "desktop"}"#).expect("written");
    let output = tidegate(folder.path(), &push, "").await;
    assert!(
        output.status.code() == Some(1) && said(&output).contains("to docker-credential-desktop, which is not asked: give --username and --password-stdin"),
        "{}",
        said(&output)
    );

    // From now on as docker login has left it.
    let auths = json!({"auths": {registry.address().to_string(): {"username": "user", "password": "secret"}}});
    std::fs::write(config, auths.to_string()).expect("written");
    let again = [&push[..], &["-o", "json"]].concat();
    let again: Value =
        serde_json::from_str(&stdout(&tidegate(folder.path(), &again, "").await)).expect("JSON");
    assert_eq!(again["reference"], *pushed);
    assert_eq!(again["layout"], "compat");
    assert_eq!(again["sha256"], sha256(&module));
    assert_eq!(again["sentBlobs"], 0);

    let back = ["filter", "pull", &pushed, "--plain-http", "-o", "back.wasm"];
    assert_eq!(stdout(&tidegate(folder.path(), &back, "").await), pushed);
    assert_eq!(
        std::fs::read(folder.path().join("back.wasm")).expect("a file"),
        module
    );
    let by_digest = format!("{}/team/hello@{digest}", registry.address());
    let there = ["filter", "pull", &by_digest, "--plain-http"];
    let output = tidegate(folder.path(), &there, "").await;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("hello.wasm exists; name a file with -o"));

    // A Filter with the reference as it was printed.
    let up = Upstream::start(|_| Reply::text("up")).await;
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: registry}\ntype: kubernetes.io/basic-auth\nstringData: {username: user, password: secret}\n";
    let filter = format!(
        "---\napiVersion: tidegate.dev/v1alpha1\nkind: Filter\nmetadata: {{name: f}}\nspec: {{module: {{image: '{pushed}'}}, pull: {{secretRef: {{name: registry}}, insecure: true}}}}\n"
    );
    let rule = manifests::rule(&manifests::filters(&["f"]));
    let gateway = Gateway::start(&format!(
        "{}{}{secret}{filter}{}",
        manifests::GATEWAY,
        manifests::service("up", &[up.address()]),
        manifests::route("all", &[], &rule)
    ))
    .await;
    assert_eq!(gateway.get("a", "/").await.status, 200);
    assert_eq!(up.only().header("x-module"), "hello");
}

#[tokio::test]
async fn what_cannot_be_pushed_is_said() {
    let (folder, _) = folder();
    let write = |name: &str, wat: &str| {
        let wasm = wat::parse_str(wat).expect("wasm");
        std::fs::write(folder.path().join(name), wasm).expect("written");
    };
    write("empty.wasm", "(module)");
    write(
        "proxy.wasm",
        r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.6" (instance $i)))"#,
    );
    let nowhere = "oci://registry.test/hello:1";
    for (arguments, status, words) in [
        (
            &["push", "empty.wasm", nowhere][..],
            1,
            "empty.wasm is not pushed, no host would load it: missing or unknown proxy-wasm ABI version",
        ),
        (
            &["push", "proxy.wasm", nowhere],
            1,
            "this component is for another world, wasi:http/proxy@0.2.6",
        ),
        (&["push", "absent.wasm", nowhere], 2, "absent.wasm"),
        (
            &["push", "hello.wasm", "https://registry.test/hello"],
            2,
            "is not an image",
        ),
        (
            &["push", "hello.wasm", nowhere, "--username", "user"],
            2,
            "--password-stdin",
        ),
        (
            &[
                "push",
                "hello.wasm",
                nowhere,
                "--username",
                "user",
                "--password-stdin",
            ],
            2,
            "there is no password on standard input",
        ),
        (
            &["pull", nowhere, "-o", "x.wasm", "--ca", "hello.wasm"],
            2,
            "there is no certificate in it",
        ),
    ] {
        let arguments = [&["filter"], arguments].concat();
        let output = tidegate(folder.path(), &arguments, "").await;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
}

async fn about(folder: &Path, file: &str) -> (Option<i32>, Value) {
    let output = tidegate(folder, &["filter", "inspect", file, "-o", "json"], "").await;
    let about = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        about.unwrap_or_else(|_| panic!("{}", said(&output))),
    )
}

fn list(value: &Value) -> Vec<&str> {
    let words = value.as_array().expect("a list").iter();
    words.map(|word| word.as_str().expect("text")).collect()
}

#[tokio::test]
async fn a_component_says_what_it_is() {
    let (folder, module) = folder();
    let component = tidegate_wasm_guests::COMPONENT;
    std::fs::write(folder.path().join("component.wasm"), component).expect("written");
    let (status, about) = self::about(folder.path(), "component.wasm").await;
    assert_eq!(status, Some(0), "{about}");
    assert_eq!(about["kind"], "component");
    assert_eq!(about["loads"], true);
    assert_eq!(about["world"], "tidegate:filter/filter@0.1.0");
    assert_eq!(about["digest"], sha256(component));
    let all = ["clusters", "shared-data", "metrics", "timers", "properties"];
    assert_eq!(list(&about["needs"]), all);
    assert_eq!(about["grants"][0]["field"], "spec.clusters");
    assert!(list(&about["grants"][0]["because"]).contains(&"[method]plugin.http-call"));
    assert_eq!(about["grants"][1]["field"], "spec.capabilities");
    assert!(list(&about["callbacks"]).contains(&"tidegate:filter/on-request@0.1.0"));
    let imports = list(&about["imports"]);
    assert!(
        imports.contains(&"tidegate:filter/clock@0.1.0#now"),
        "{imports:?}"
    );
    let there = |name: &str, of: &str| {
        let mut names = list(&about["wasi"][of]).into_iter();
        names.any(|interface| interface.starts_with(name))
    };
    assert!(there("wasi:cli/stdout@0.2.", "there") && !there("wasi:cli/stdout@", "absent"));
    assert!(there("wasi:filesystem/types@", "absent"));
    assert!(about["memory"]["initialBytes"].as_u64() > Some(0));
    assert!(about["functions"].as_u64() > Some(0));
    let text = ["filter", "inspect", "component.wasm"];
    let text = stdout(&tidegate(folder.path(), &text, "").await);
    assert!(
        text.contains("world       tidegate:filter/filter@0.1.0")
            && text
                .contains("metrics in spec.capabilities, or no such list ([static]metric.define"),
        "{text}"
    );

    let (_, about) = self::about(folder.path(), "hello.wasm").await;
    assert_eq!(
        (&about["kind"], &about["world"]),
        (&json!("module"), &Value::Null)
    );
    assert_eq!(about["digest"], sha256(&module));
}

#[tokio::test]
async fn what_does_not_load_is_inspected_all_the_same() {
    let (folder, _) = folder();
    let write = |name: &str, wat: &str| {
        let wasm = wat::parse_str(wat).expect("wasm");
        std::fs::write(folder.path().join(name), wasm).expect("written");
    };
    write(
        "other.wasm",
        r#"(component (import "wasi:http/types@0.2.6" (instance (export "now" (func))))
            (instance $i) (export "wasi:http/incoming-handler@0.2.6" (instance $i)))"#,
    );
    write(
        "sockets.wasm",
        r#"(module (import "env" "proxy_open_socket" (func))
            (@custom "tidegate.config.schema" "{\"type\": \"object\"}")
            (@producers (language "Rust" "2024") (processed-by "rustc" "1.90"))
            (memory (export "memory") 2 4)
            (func (export "proxy_abi_version_0_2_1")) (func (export "malloc") (param i32) (result i32) (i32.const 8)))"#,
    );
    let (status, about) = self::about(folder.path(), "other.wasm").await;
    assert_eq!(status, Some(1));
    assert_eq!(about["world"], "wasi:http/proxy@0.2.6");
    assert_eq!(list(&about["imports"]), ["wasi:http/types@0.2.6#now"]);
    assert_eq!(list(&about["wasi"]["absent"]), ["wasi:http/types@0.2.6"]);
    let problem = about["problem"].as_str().expect("a problem");
    assert!(
        problem.contains("tidegate:filter/filter@0.1.0"),
        "{problem}"
    );

    let (status, about) = self::about(folder.path(), "sockets.wasm").await;
    assert_eq!(status, Some(1));
    assert_eq!(
        about["problem"],
        "unknown import `env.proxy_open_socket`: proxy-wasm 0.2.1 has no such function; rebuild the filter without it"
    );
    assert_eq!(list(&about["languages"]), ["Rust 2024"]);
    assert_eq!(
        about["memory"],
        json!({"initialBytes": 131_072, "maximumBytes": 262_144})
    );
    assert_eq!(about["schema"], json!({"type": "object"}));
    let text = tidegate(folder.path(), &["filter", "inspect", "sockets.wasm"], "").await;
    assert!(
        said(&text).contains("loads       no: unknown import")
            && said(&text).contains("made by     rustc 1.90"),
        "{}",
        said(&text)
    );
}

/// Names the conditions of every filter that `tidegate check` refuses.
#[tokio::test]
async fn check_says_which_grant_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, wasm: &[u8]| {
        let path: PathBuf = folder.path().join(name);
        std::fs::write(path, wasm).expect("written");
    };
    // Sets a tick while it is configured.
    write(
        "ticks.wasm",
        &wat::parse_str(
            r#"(module
              (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
              (memory (export "memory") 1)
              (func (export "proxy_abi_version_0_2_1"))
              (func (export "malloc") (param i32) (result i32) (i32.const 8))
              (func (export "proxy_on_configure") (param i32 i32) (result i32)
                (drop (call $tick (i32.const 1000))) (i32.const 1)))"#,
        )
        .expect("a module"),
    );
    write(
        "proxy.wasm",
        &wat::parse_str(r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#)
            .expect("a component"),
    );
    write("empty.wasm", b"\0asm\x01\0\0\0");
    let filter = |name: &str, file: &str, more: &str| {
        format!(
            "---\napiVersion: tidegate.dev/v1alpha1\nkind: Filter\nmetadata: {{name: {name}}}\nspec: {{module: {{file: ./{file}}}{more}}}\n"
        )
    };
    let all = [
        filter("granted", "ticks.wasm", ", capabilities: [timers]"),
        filter("all", "ticks.wasm", ""),
        filter("restricted", "ticks.wasm", ", capabilities: [metrics]"),
        filter("other-world", "proxy.wasm", ""),
        filter("no-abi", "empty.wasm", ""),
    ];
    write("filters.yaml", all.concat().as_bytes());
    let check = ["check", "--manifests", "filters.yaml"];
    let output = tidegate(folder.path(), &check, "").await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for (name, words) in [
        (
            "restricted",
            "spec.capabilities does not grant timers, which the module asks for when it is configured: add timers there",
        ),
        (
            "other-world",
            "this component is for another world, wasi:cli/command@0.2.0",
        ),
        ("no-abi", "missing or unknown proxy-wasm ABI version"),
    ] {
        let line = said.lines().find(|line| {
            line.starts_with("refused ")
                && line.contains(&format!("Filter default/{name}: Loaded=False"))
        });
        let line = line.unwrap_or_else(|| panic!("{name} is not refused in {said}"));
        assert!(line.contains(words), "{words:?} is not in {line}");
    }
    assert!(said.contains("3 refused"), "{said}");
}
