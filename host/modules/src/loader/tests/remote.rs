//! Modules that are elsewhere, where everything goes well: layouts, credentials, tags, caches.

use serde_json::json;
use tidegate_model::{Authorities, Credentials, PinnedImage, Pull};

use super::*;
use crate::digest::digest;
use crate::testing::{Asked, Content, DOCKER_MANIFEST, OCI_MANIFEST, Reply, Server, archive};

pub(super) fn wasm() -> Vec<u8> {
    wat::parse_str(GUEST).expect("a module")
}

/// The same but for its bytes.
pub(super) fn other_wasm() -> Vec<u8> {
    wat::parse_str(GUEST.replace("1024", "2048")).expect("a module")
}

pub(super) fn pull() -> Pull {
    Pull {
        insecure: true,
        ..Pull::default()
    }
}

pub(super) fn credentials(user: &str, password: &str) -> Option<Credentials> {
    Some(Credentials {
        secret: "shop/registry".into(),
        user: user.into(),
        password: password.into(),
    })
}

pub(super) fn image(server: &Server, name: &str) -> ModuleSource {
    ModuleSource::Image {
        image: format!("{}/{name}", server.address)
            .parse()
            .expect("an image"),
        pull: pull(),
    }
}

pub(super) fn url(name: &str, url: String, sha256: &str) -> Arc<FilterSpec> {
    let source = ModuleSource::Url {
        url: url.into(),
        pull: pull(),
    };
    let spec = FilterSpec::clone(&spec(name, source, ""));
    Arc::new(FilterSpec {
        sha256: Some(sha256.trim_start_matches("sha256:").into()),
        ..spec
    })
}

/// Short enough for tests, long enough for a busy machine to serve itself.
pub(super) fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(10),
        head: Duration::from_secs(10),
        idle: Duration::from_secs(10),
        whole: Duration::from_secs(60),
    }
}

pub(super) fn loader(settings: &Settings) -> Arc<Loader> {
    Loader::with_timeouts(Shared::new(), settings, timeouts())
}

/// The verdict on `spec`, the only wanted one.
pub(super) async fn verdict(loader: &Arc<Loader>, spec: &Arc<FilterSpec>) -> FilterVerdict {
    let mut changes = loader.changes();
    loader.want(std::slice::from_ref(spec));
    settle(loader, &mut changes).await;
    loader.verdicts().remove(&spec.id).expect("a verdict")
}

/// Digest of the module, and what its image's tag has come to.
pub(super) fn ready(verdict: FilterVerdict) -> (String, Option<String>) {
    match verdict {
        FilterVerdict::Ready { digest, image, .. } => {
            (digest.to_string(), image.map(|image| image.to_string()))
        }
        other => panic!("{other:?}"),
    }
}

async fn registry(content: &Content) -> Server {
    let content = content.clone();
    Server::plain(move |asked| content.answer(asked)).await
}

#[tokio::test]
async fn every_layout_is_read() {
    let content = Content::default();
    let packed = archive(&[("runtime-config.json", b"{}"), ("plugin.wasm", &wasm())]);
    let config = content.blob("application/vnd.oci.image.config.v1+json", "{}");
    let layouts = [
        (
            "docker",
            DOCKER_MANIFEST,
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            packed.clone(),
        ),
        (
            "compat",
            OCI_MANIFEST,
            "application/vnd.oci.image.layer.v1.tar+gzip",
            packed,
        ),
        (
            "istio",
            OCI_MANIFEST,
            "application/vnd.module.wasm.content.layer.v1+wasm",
            wasm(),
        ),
        ("cncf", OCI_MANIFEST, "application/wasm", wasm()),
    ];
    let server = registry(&content).await;
    let loader = loader(&Settings::default());
    for (tag, kind, layer, bytes) in layouts {
        let layer = content.blob(layer, bytes);
        let manifest =
            json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
        let digest_of_manifest = content.manifest(tag, kind, &manifest);
        let wanted = spec(tag, image(&server, &format!("team/hello:{tag}")), "");
        let (module, pinned) = ready(verdict(&loader, &wanted).await);
        assert_eq!(module, *digest(&wasm()), "{tag}");
        let pin = format!("{}/team/hello:{tag}@{digest_of_manifest}", server.address);
        assert_eq!(pinned, Some(pin), "{tag}");
    }
}

#[tokio::test]
async fn an_index_and_a_digest_lead_to_the_image() {
    let content = Content::default();
    let one = content.module("one", &wasm());
    let index = json!({"schemaVersion": 2, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": one, "platform": {"os": "wasip1", "architecture": "wasm"}}]});
    content.manifest("all", "application/vnd.oci.image.index.v1+json", &index);
    let server = registry(&content).await;
    let loader = loader(&Settings::default());
    for name in ["hello:all".to_owned(), format!("hello@{one}")] {
        let wanted = spec("filter", image(&server, &name), "");
        assert_eq!(
            ready(verdict(&loader, &wanted).await).0,
            *digest(&wasm()),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_module_at_an_address_is_found_through_redirects() {
    let server = Server::plain(|asked| match asked.path.as_str() {
        "/a" => Reply::status(302).header("location", "b?x=1"),
        "/b?x=1" => Reply::ok(wasm()),
        _ => Reply::status(404),
    })
    .await;
    let wanted = url("filter", server.url("/a"), &digest(&wasm()));
    let (module, pinned) = ready(verdict(&loader(&Settings::default()), &wanted).await);
    assert_eq!((module, pinned), (digest(&wasm()).to_string(), None));
}

/// A registry that gives tokens to `user` with `secret` only, and blobs away on another server.
fn with_tokens(
    content: &Content,
    blobs: String,
) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    let content = content.clone();
    move |asked| {
        let basic = Some("Basic dXNlcjpzZWNyZXQ=");
        if asked.path.starts_with("/token?") {
            let known = asked.authorization.as_deref() == basic
                && asked.path == "/token?service=test&scope=repository%3Ahello%3Apull";
            return if known {
                Reply::ok(r#"{"token": "t0ken"}"#)
            } else {
                Reply::status(401)
            };
        }
        if asked.authorization.as_deref() != Some("Bearer t0ken") {
            // The token service is where the client reached us.
            return Reply::status(401).header(
                "www-authenticate",
                r#"Bearer realm="http://REALM/token",service="test",scope="repository:other:push""#,
            );
        }
        match asked.path.split_once("/blobs/") {
            Some((_, name)) => {
                Reply::status(307).header("location", format!("{blobs}/v2/x/blobs/{name}"))
            }
            None => content.answer(asked),
        }
    }
}

#[tokio::test]
async fn credentials_buy_a_token_and_go_to_nobody_else() {
    let content = Content::default();
    content.module("1", &wasm());
    let store = registry(&content).await;
    let address = Arc::new(Mutex::new(String::new()));
    let server = Server::plain({
        let (handler, address) = (with_tokens(&content, store.url("")), address.clone());
        move |asked| {
            let mut reply = handler(asked);
            for (_, value) in &mut reply.headers {
                *value = value.replace("REALM", &address.lock().expect("no panic"));
            }
            reply
        }
    })
    .await;
    *address.lock().expect("no panic") = server.address.to_string();
    let with = |credentials| {
        let ModuleSource::Image { image, pull } = image(&server, "hello:1") else {
            panic!("an image")
        };
        let pull = Pull {
            credentials,
            ..pull
        };
        spec("filter", ModuleSource::Image { image, pull }, "")
    };
    let (_, message, _) = failure(
        verdict(
            &loader(&Settings::default()),
            &with(credentials("user", "wrong")),
        )
        .await,
    );
    assert!(
        message.contains("answered 401") && message.contains("spec.pull.secretRef"),
        "{message}"
    );
    let known = with(credentials("user", "secret"));
    ready(verdict(&loader(&Settings::default()), &known).await);
    assert!(!store.asked().is_empty());
    assert!(
        store
            .asked()
            .iter()
            .all(|asked| asked.authorization.is_none())
    );
}

#[tokio::test]
async fn a_registry_may_ask_for_the_password_itself() {
    let content = Content::default();
    content.module("1", &wasm());
    let server = Server::plain({
        let content = content.clone();
        move |asked| match asked.authorization.as_deref() {
            Some("Basic dXNlcjpzZWNyZXQ=") => content.answer(asked),
            _ => Reply::status(401).header("www-authenticate", "Basic realm=\"test\""),
        }
    })
    .await;
    let ModuleSource::Image { image, pull } = image(&server, "hello:1") else {
        panic!("an image")
    };
    let credentials = credentials("user", "secret");
    let source = ModuleSource::Image {
        image,
        pull: Pull {
            credentials,
            ..pull
        },
    };
    ready(verdict(&loader(&Settings::default()), &spec("filter", source, "")).await);
}

#[tokio::test]
async fn a_server_is_vouched_for_or_nothing_is_fetched() {
    let server = Server::tls(|_| Reply::ok(wasm())).await;
    let address = format!("https://localhost:{}/hello.wasm", server.address.port());
    let with = |pull: Pull| {
        let source = ModuleSource::Url {
            url: address.as_str().into(),
            pull,
        };
        let spec = FilterSpec::clone(&spec("filter", source, ""));
        Arc::new(FilterSpec {
            sha256: Some(digest(&wasm())),
            ..spec
        })
    };
    let loader = |pull: Pull| async { verdict(&loader(&Settings::default()), &with(pull)).await };
    let (_, message, _) = failure(loader(Pull::default()).await);
    assert!(message.contains("spec.pull.caRef"), "{message}");
    assert!(server.asked().is_empty());
    let pem = server.authority.clone().expect("PEM").into_bytes().into();
    let authorities = Some(Authorities {
        name: "shop/ca/ca.crt".into(),
        pem,
    });
    ready(
        loader(Pull {
            authorities,
            ..Pull::default()
        })
        .await,
    );
    ready(loader(pull()).await);
}

#[tokio::test]
async fn a_tag_is_resolved_once() {
    let content = Content::default();
    let first = content.module("1", &wasm());
    let server = registry(&content).await;
    let loader = loader(&Settings::default());
    let with = |name: &str, config: &str| spec(name, image(&server, "hello:1"), config);
    let (module, _) = ready(verdict(&loader, &with("filter", "")).await);
    content.module("1", &other_wasm());
    let edited = verdict(&loader, &with("filter", "yes")).await;
    let (still, pinned) = ready(edited);
    assert_eq!(module, still);
    assert!(pinned.expect("a pin").ends_with(&first));
    // Another Filter, and one that was gone meanwhile, see what the tag means now.
    assert_eq!(
        ready(verdict(&loader, &with("other", "")).await).0,
        *digest(&other_wasm())
    );
    assert_eq!(
        ready(verdict(&loader, &with("filter", "")).await).0,
        *digest(&other_wasm())
    );
}

#[tokio::test]
async fn what_the_status_says_a_tag_came_to_holds_for_another_process() {
    let content = Content::default();
    content.module("1", &wasm());
    let server = registry(&content).await;
    let settings = Settings::default();
    let plain = spec("filter", image(&server, "hello:1"), "");
    let (module, resolved) = ready(verdict(&loader(&settings), &plain).await);
    let resolved = resolved.expect("it is written into the status");
    content.module("1", &other_wasm());
    // As it is read back from there.
    let ModuleSource::Image { image: name, .. } = &plain.module else {
        panic!("an image")
    };
    let known = Arc::new(FilterSpec {
        pinned: Some(PinnedImage {
            manifest: name.digest_in(&resolved).expect("of this name"),
            module: module.as_str().into(),
        }),
        ..FilterSpec::clone(&plain)
    });
    let second = loader(&settings);
    assert_eq!(
        ready(verdict(&second, &known).await),
        (module.clone(), Some(resolved.clone()))
    );
    // What is said later changes nothing.
    assert_eq!(ready(verdict(&second, &plain).await).0, module);
    // A process that knows nothing asks, and so does one that is told of another module.
    let moved = *digest(&other_wasm()) == *ready(verdict(&loader(&settings), &plain).await).0;
    assert!(moved, "the tag has moved");
    let wanted = Arc::new(FilterSpec {
        sha256: Some(digest(&other_wasm()).trim_start_matches("sha256:").into()),
        ..FilterSpec::clone(&known)
    });
    let third = loader(&settings);
    assert_eq!(
        ready(verdict(&third, &wanted).await).0,
        *digest(&other_wasm())
    );
}

#[tokio::test]
async fn a_secret_that_is_missing_for_a_moment_moves_no_tag() {
    let content = Content::default();
    content.module("1", &wasm());
    let server = registry(&content).await;
    let loader = loader(&Settings::default());
    let good = spec("filter", image(&server, "hello:1"), "");
    let (module, _) = ready(verdict(&loader, &good).await);
    content.module("1", &other_wasm());
    let refused = ModuleSource::Refused {
        cause: FailureCause::Configure,
        reason: "spec.pull.secretRef: gone".into(),
    };
    let (cause, message, last_good) = failure(verdict(&loader, &spec("filter", refused, "")).await);
    assert_eq!(
        (cause, message.as_str(), last_good),
        (FailureCause::Configure, "spec.pull.secretRef: gone", true)
    );
    assert_eq!(ready(verdict(&loader, &good).await).0, module);
}

#[tokio::test]
async fn an_edit_needs_no_registry_and_neither_does_a_restart_with_a_cache() {
    let content = Content::default();
    content.module("1", &wasm());
    let server = registry(&content).await;
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings {
        cache: Some(folder.path().join("cache")),
        ..Settings::default()
    };
    let first = loader(&settings);
    let with = |config: &str| spec("filter", image(&server, "hello:1"), config);
    let before = ready(verdict(&first, &with("")).await);
    server.stop();
    let asked = server.asked().len();
    assert_eq!(ready(verdict(&first, &with("edited")).await), before);
    drop(first);
    let second = loader(&settings);
    assert_eq!(ready(verdict(&second, &with("")).await), before);
    assert_eq!(server.asked().len(), asked);
    // Not even where the network must not be used.
    let third = loader(&Settings {
        network: false,
        ..settings
    });
    assert_eq!(ready(verdict(&third, &with("")).await), before);
}

#[tokio::test]
async fn without_the_network_nothing_is_asked() {
    let server = Server::plain(|_| Reply::ok(wasm())).await;
    let loader = loader(&Settings {
        network: false,
        ..Settings::default()
    });
    let wanted = url("filter", server.url("/"), &digest(&wasm()));
    assert_eq!(verdict(&loader, &wanted).await, FilterVerdict::NotFetched);
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn what_one_tenant_has_fetched_another_has_not() {
    let server = Server::plain(|_| Reply::ok(wasm())).await;
    let folder = tempfile::tempdir().expect("a folder");
    let loader = loader(&Settings {
        cache: Some(folder.path().to_owned()),
        ..Settings::default()
    });
    let one = url("filter", server.url("/one"), &digest(&wasm()));
    let mut other = FilterSpec::clone(&url("filter", server.url("/other"), &digest(&wasm())));
    other.id.namespace = "other".into();
    let mut changes = loader.changes();
    loader.want(std::slice::from_ref(&one));
    settle(&loader, &mut changes).await;
    loader.want(&[one, Arc::new(other)]);
    settle(&loader, &mut changes).await;
    assert_eq!(server.paths(), ["/one", "/other"]);
    assert_eq!(loader.compiled.len(), 1, "compiled code is shared");
}
