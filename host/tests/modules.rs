//! Modules from a registry, through the whole gateway: fetched, pinned, kept, and never replaced by another.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidegate_testing::{Gateway, Reply, Seen, Upstream, guest, manifests};

/// Answers with its configuration's presence, so that an edit shows.
fn module(word: &str) -> Vec<u8> {
    guest(&format!(
        r#"(global $size (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (global.set $size (local.get 1)) (i32.const 1))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $set (i32.const 0) @"x-module" @"{word}")
          (if (i32.gt_u (global.get $size) (i32.const 2)) (then (call $set (i32.const 0) @"x-edited" @"1")))
          (i32.const 0))"#
    ))
}

fn sha256(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes);
    let digits: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

fn last(upstream: &Upstream) -> Seen {
    upstream.seen().pop().expect("a request")
}

/// What is served under which path.
type Content = Vec<(String, Vec<u8>)>;

/// A registry that has one image under one tag.
#[derive(Clone, Default)]
struct Registry {
    content: Arc<Mutex<Content>>,
    gone: Arc<AtomicBool>,
}

impl Registry {
    fn put(&self, module: &[u8]) {
        let digest = sha256(module);
        let layer =
            json!({"mediaType": "application/wasm", "digest": digest, "size": module.len()});
        let manifest = json!({"schemaVersion": 2, "layers": [layer]})
            .to_string()
            .into_bytes();
        *self.content.lock().expect("no panic") = vec![
            ("manifests/1".to_owned(), manifest),
            (format!("blobs/{digest}"), module.to_vec()),
        ];
    }

    async fn serve(&self) -> Upstream {
        let registry = self.clone();
        Upstream::start(move |seen| {
            if registry.gone.load(Ordering::Relaxed) {
                return Reply::status(503);
            }
            let content = registry.content.lock().expect("no panic");
            let found = content
                .iter()
                .find(|(path, _)| seen.target().ends_with(path.as_str()));
            found.map_or(Reply::status(404), |(_, bytes)| Reply::text(bytes.clone()))
        })
        .await
    }
}

fn manifest(upstream: SocketAddr, registry: SocketAddr, more: &str) -> String {
    let filter = format!(
        "---\napiVersion: tidegate.dev/v1alpha1\nkind: Filter\nmetadata: {{name: f}}\nspec: {{module: {{image: '{registry}/team/hello:1'}}, pull: {{insecure: true}}{more}}}\n"
    );
    let rule = manifests::rule(&manifests::filters(&["f"]));
    format!(
        "{}{}{filter}{}",
        manifests::GATEWAY,
        manifests::service("up", &[upstream]),
        manifests::route("all", &[], &rule)
    )
}

fn filter(status: &Value) -> &Value {
    let objects = status["objects"].as_array().expect("objects");
    objects
        .iter()
        .find(|object| object["kind"] == "Filter")
        .expect("a Filter")
}

fn loaded(status: &Value) -> String {
    let conditions = filter(status)["conditions"].as_array().expect("conditions");
    let one = conditions.iter().find(|one| one["type"] == "Loaded");
    let one = one.expect("Loaded");
    format!("{} {}: {}", one["status"], one["reason"], one["message"]).replace('"', "")
}

#[tokio::test]
async fn a_module_is_pulled_once_and_stays_whatever_becomes_of_its_registry() {
    let up = Upstream::start(|_| Reply::text("up")).await;
    let images = Registry::default();
    images.put(&module("first"));
    let registry = images.serve().await;
    let gateway = Gateway::start(&manifest(up.address(), registry.address(), "")).await;
    assert_eq!(gateway.get("a", "/").await.status, 200);
    assert_eq!(last(&up).header("x-module"), "first");
    let status = gateway.status();
    let pinned = filter(&status)["image"].as_str().expect("a pin").to_owned();
    assert!(
        pinned.starts_with(&format!("{}/team/hello:1@sha256:", registry.address())),
        "{pinned}"
    );
    assert!(
        loaded(&status).starts_with("True Ready"),
        "{}",
        loaded(&status)
    );

    // The tag moves and the registry goes away; the filter is edited.
    images.put(&module("second"));
    images.gone.store(true, Ordering::Relaxed);
    gateway
        .write(
            "test.yaml",
            &manifest(up.address(), registry.address(), ", config: edited"),
        )
        .await;
    assert_eq!(gateway.get("a", "/").await.status, 200);
    assert_eq!(last(&up).header("x-module"), "first");
    assert_eq!(last(&up).header("x-edited"), "1");
    assert_eq!(filter(&gateway.status())["image"], *pinned);
}

#[tokio::test]
async fn a_module_of_another_digest_never_runs() {
    let up = Upstream::start(|_| Reply::text("up")).await;
    let images = Registry::default();
    images.put(&module("wrong"));
    let registry = images.serve().await;
    let right = sha256(&module("right"));
    let pin = format!(", sha256: '{}'", right.trim_start_matches("sha256:"));
    let text = manifest(up.address(), registry.address(), &pin);
    let gateway = Gateway::start(&text).await;
    assert_eq!(gateway.get("a", "/").await.status, 503);
    assert_eq!(up.seen().len(), 0);
    let said = loaded(&gateway.status());
    assert!(
        said.starts_with("False Failed") && said.contains("it is not run"),
        "{said}"
    );

    // The right one is fetched, since nothing of the wrong one was kept.
    images.put(&module("right"));
    gateway
        .write(
            "test.yaml",
            &text.replace("insecure: true}", "insecure: true}, rootId: again"),
        )
        .await;
    assert_eq!(gateway.get("a", "/").await.status, 200);
    assert_eq!(last(&up).header("x-module"), "right");
}
