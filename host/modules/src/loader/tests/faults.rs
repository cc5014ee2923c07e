//! Servers that are down, slow, wrong or hostile: each costs its own filter, and says why.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use super::remote::{image, loader, other_wasm, ready, timeouts, url, verdict, wasm};
use super::*;
use crate::digest::digest;
use crate::testing::{Asked, Content, OCI_MANIFEST, Reply, Server, Then, archive};

const METADATA: &str = "http://169.254.169.254/latest/meta-data/";

/// What is said of a module at an address that is answered like this.
async fn refusal(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> String {
    let server = Server::plain(answer).await;
    let wanted = url("filter", server.url("/hello.wasm"), &digest(&wasm()));
    let verdict = verdict(&loader(&Settings::default()), &wanted).await;
    let (cause, message, last_good) = failure(verdict);
    assert!(cause == FailureCause::Load && !last_good);
    assert!(message.starts_with("spec."), "{message}");
    message
}

fn assert_says(message: &str, words: &str) {
    assert!(
        message.contains(words),
        "{message:?} does not say {words:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_down_is_asked_until_it_is_up() {
    let up = Arc::new(AtomicBool::new(false));
    let server = Server::plain({
        let up = up.clone();
        move |_| {
            if up.load(Ordering::Relaxed) {
                Reply::ok(wasm())
            } else {
                Reply::status(503)
            }
        }
    })
    .await;
    let loader = loader(&Settings::default());
    let wanted = url("filter", server.url("/"), &digest(&wasm()));
    let (_, message, _) = failure(verdict(&loader, &wanted).await);
    assert_says(
        &message,
        "answered 503 Service Unavailable; it is asked again",
    );
    up.store(true, Ordering::Relaxed);
    let keep = tokio::spawn(loader.clone().keep());
    ready_digest(&loader, &wanted, "").await;
    keep.abort();
}

#[tokio::test]
async fn nobody_there_is_said() {
    let server = Server::plain(|_| Reply::ok(wasm())).await;
    server.stop();
    // The port is free once the task is gone.
    let gone = async {
        while tokio::net::TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("the port is closed");
    let wanted = spec("filter", image(&server, "hello:1"), "");
    let (_, message, _) = failure(verdict(&loader(&Settings::default()), &wanted).await);
    assert_says(&message, "127.0.0.1 cannot be reached: Connection refused");
}

#[tokio::test]
async fn a_slow_server_delays_its_own_filter_only() {
    let slow = Server::plain(|_| Reply::default()).await;
    let quick = Server::plain(|_| Reply::ok(wasm())).await;
    // However busy the machine is, the slow one is still being waited for at the end.
    let patient = Timeouts {
        head: Duration::from_secs(3600),
        whole: Duration::from_secs(3600),
        ..timeouts()
    };
    let loader = Loader::with_timeouts(Shared::new(), &Settings::default(), patient);
    // More than may be fetched at once from one server.
    let mut wanted: Vec<_> = (0..5)
        .map(|at| url(&format!("slow-{at}"), slow.url("/"), &digest(&wasm())))
        .collect();
    let remote = url("remote", quick.url("/"), &digest(&wasm()));
    let local = spec(
        "local",
        ModuleSource::Builtin("cors".into()),
        r#"{"allowOrigins": ["*"]}"#,
    );
    wanted.extend([remote.clone(), local.clone()]);
    loader.want(&wanted);
    ready_digest(&loader, &remote, "").await;
    ready_digest(&loader, &local, "").await;
    let loading = loader.verdicts().into_values();
    assert_eq!(
        loading
            .filter(|verdict| *verdict == FilterVerdict::Loading)
            .count(),
        5
    );
    assert!(loader.is_settled(), "nobody waits for what is fetched");
}

#[tokio::test]
async fn slowness_has_an_end() {
    let hangs = Server::plain(|_| Reply::default()).await;
    let drips = Server::plain(|_| Reply {
        announced: Some(1000),
        then: Then::Hang,
        ..Reply::ok("some")
    })
    .await;
    let short = Timeouts {
        head: Duration::from_millis(200),
        idle: Duration::from_millis(200),
        ..timeouts()
    };
    for (server, words) in [
        (hangs, "did not answer within 0.2 s"),
        (drips, "did not go on sending within 0.2 s"),
    ] {
        let loader = Loader::with_timeouts(Shared::new(), &Settings::default(), short);
        let (_, message, _) =
            failure(verdict(&loader, &url("filter", server.url("/"), &digest(&wasm()))).await);
        assert_says(&message, words);
    }
}

#[tokio::test]
async fn what_a_server_answers_is_said_but_not_repeated() {
    assert_says(
        &refusal(|_| Reply::status(401)).await,
        "answered 401 Unauthorized; name a Secret",
    );
    assert_says(
        &refusal(|_| Reply::status(404)).await,
        "answered 404 Not Found; correct the name",
    );
    let body = json!({"errors": [{"code": "DENIED", "message": "canary"}, {"code": "canary"}]});
    let message = refusal(move |_| Reply {
        body: body.to_string().into(),
        ..Reply::status(403)
    })
    .await;
    assert_says(&message, "answered 403 Forbidden (DENIED)");
    assert!(!message.contains("canary"), "{message}");
    let message = refusal(|_| Reply {
        body: r#"{"errors": [{"code": "canary"}]}"#.into(),
        ..Reply::status(500)
    })
    .await;
    assert!(!message.contains("canary"), "{message}");
}

#[tokio::test]
async fn a_server_that_wants_to_be_left_alone_is() {
    let server = Server::plain(|_| Reply::status(429).header("retry-after", "120")).await;
    let loader = loader(&Settings::default());
    let wanted = url("filter", server.url("/"), &digest(&wasm()));
    let (_, message, _) = failure(verdict(&loader, &wanted).await);
    assert_says(
        &message,
        "answered 429 Too Many Requests; it is asked again later",
    );
    let again = loader.entries()[&wanted.id]
        .again_at
        .expect("it is tried again");
    assert!(again > Instant::now() + Duration::from_secs(60));
}

#[tokio::test]
async fn nothing_leads_to_the_metadata_service() {
    let message = refusal(|_| Reply::status(302).header("location", METADATA)).await;
    assert_says(
        &message,
        "169.254.169.254 leads to 169.254.169.254, link-local",
    );
    // A registry's token service, too; and its blobs.
    let content = Content::default();
    content.module("1", &wasm());
    let challenge = format!("Bearer realm=\"{METADATA}\"");
    let tokens =
        Server::plain(move |_| Reply::status(401).header("www-authenticate", challenge.clone()))
            .await;
    let blobs = Server::plain(move |asked| match asked.path.contains("/blobs/") {
        true => Reply::status(307).header("location", METADATA),
        false => content.answer(asked),
    })
    .await;
    for server in [tokens, blobs] {
        let wanted = spec("filter", image(&server, "hello:1"), "");
        let (_, message, _) = failure(verdict(&loader(&Settings::default()), &wanted).await);
        assert_says(
            &message,
            "169.254.169.254 leads to 169.254.169.254, link-local",
        );
    }
    for host in [
        "169.254.169.254",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "0xa9fea9fe",
    ] {
        let wanted = url("filter", format!("http://{host}/"), &digest(&wasm()));
        let (_, message, _) = failure(verdict(&loader(&Settings::default()), &wanted).await);
        assert_says(&message, "modules are not fetched from there");
    }
}

#[tokio::test]
async fn loopback_is_out_of_reach_in_a_cluster() {
    let server = Server::plain(|_| Reply::ok(wasm())).await;
    let settings = Settings {
        loopback: false,
        ..Settings::default()
    };
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let address = format!("http://{host}:{}/", server.address.port());
        let wanted = url("filter", address, &digest(&wasm()));
        let (_, message, _) = failure(verdict(&loader(&settings), &wanted).await);
        assert_says(&message, "the gateway's own loopback");
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn redirects_have_an_end() {
    let message = refusal(|_| Reply::status(301).header("location", "/hello.wasm")).await;
    assert_says(
        &message,
        "redirects once more, after as many redirects as are followed",
    );
    assert_says(
        &refusal(|_| Reply::status(302)).await,
        "redirects without saying where to",
    );
    let message = refusal(|_| Reply::status(302).header("location", "file:///etc/passwd")).await;
    assert_says(&message, "to something that is no address");
    let message = refusal(|_| Reply::status(302).header("location", "gopher://a.test/")).await;
    assert_says(&message, "neither http nor https");
}

#[tokio::test]
async fn another_module_than_the_digest_says_never_runs_and_a_right_one_later_does() {
    let asked = Arc::new(AtomicUsize::new(0));
    let server = Server::plain({
        let asked = asked.clone();
        move |_| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::ok(other_wasm()),
            _ => Reply::ok(wasm()),
        }
    })
    .await;
    let loader = loader(&Settings::default());
    let wanted = url("filter", server.url("/"), &digest(&wasm()));
    let (_, message, _) = failure(verdict(&loader, &wanted).await);
    assert_says(
        &message,
        &format!("but the module is {}; it is not run", digest(&other_wasm())),
    );
    assert_eq!(loader.compiled.len(), 0, "it was not even compiled");
    let keep = tokio::spawn(loader.clone().keep());
    assert_eq!(ready_digest(&loader, &wanted, "").await, *digest(&wasm()));
    keep.abort();
}

#[tokio::test]
async fn what_a_registry_sends_must_have_the_digest_it_was_asked_for() {
    for wrong in ["/blobs/", "/manifests/sha256:"] {
        let content = Content::default();
        let manifest = content.module("1", &wasm());
        let other = Content::default();
        other.module("1", &other_wasm());
        let server = Server::plain(move |asked| {
            if !asked.path.contains(wrong) {
                content.answer(asked)
            } else if wrong == "/blobs/" {
                Reply::ok(other_wasm())
            } else {
                let tag = Asked {
                    path: "/v2/hello/manifests/1".to_owned(),
                    ..asked.clone()
                };
                other.answer(&tag)
            }
        })
        .await;
        let wanted = spec("filter", image(&server, &format!("hello@{manifest}")), "");
        let (_, message, _) = failure(verdict(&loader(&Settings::default()), &wanted).await);
        assert_says(&message, "but what it sent has sha256:");
    }
}

#[tokio::test]
async fn what_is_cut_short_or_no_module_is_refused() {
    let cut = refusal(|_| Reply {
        announced: Some(100_000),
        ..Reply::ok(wasm())
    });
    assert_says(&cut.await, "broke off");
    for (bytes, words) in [
        (&b"(module)"[..], "not a WebAssembly module"),
        (b"\x7fELF\x02\x01\x01", "precompiled code (cwasm)"),
        (&wasm()[..100], "the module cannot be loaded"),
    ] {
        let server = Server::plain({
            let bytes = bytes.to_vec();
            move |_| Reply::ok(bytes.clone())
        })
        .await;
        let wanted = url("filter", server.url("/"), &digest(bytes));
        let (_, message, _) = failure(verdict(&loader(&Settings::default()), &wanted).await);
        assert_says(&message, words);
    }
}

#[tokio::test]
async fn a_hundred_megabytes_are_not_taken_in() {
    let announced = refusal(|_| Reply {
        announced: Some(100_000_000),
        then: Then::Hang,
        ..Reply::ok("")
    });
    assert_says(&announced.await, "is larger than 64 MiB");
    let endless = refusal(|_| Reply {
        then: Then::Again,
        ..Reply::ok(vec![0; 1 << 20])
    });
    assert_says(&endless.await, "is larger than 64 MiB");
}

#[tokio::test]
async fn bombs_and_odd_images_are_refused() {
    let content = Content::default();
    let tar = "application/vnd.oci.image.layer.v1.tar+gzip";
    let zeros = vec![0; (64 << 20) + 1];
    let bomb = content.blob(tar, archive(&[("plugin.wasm", &zeros)]));
    let without = content.blob(tar, archive(&[("other.wasm", &wasm())]));
    let odd = json!({"mediaType": "application/wasm", "digest": "sha256:../../x", "size": 1});
    let large = json!({"mediaType": "application/wasm", "digest": digest(b"x").to_string(), "size": 100_000_000});
    let cases = [
        (
            "bomb",
            json!([bomb]),
            "plugin.wasm in it is larger than 64 MiB",
        ),
        ("without", json!([without]), "no file plugin.wasm"),
        ("odd", json!([odd]), "something else than a sha256 digest"),
        ("large", json!([large]), "is larger than 64 MiB"),
        ("empty", json!([]), "it has no layers"),
    ];
    let server = Server::plain({
        let content = content.clone();
        move |asked| content.answer(asked)
    })
    .await;
    for (tag, layers, words) in cases {
        content.manifest(
            tag,
            OCI_MANIFEST,
            &json!({"schemaVersion": 2, "layers": layers}),
        );
        let wanted = spec(tag, image(&server, &format!("hello:{tag}")), "");
        let (_, message, _) = failure(verdict(&loader(&Settings::default()), &wanted).await);
        assert_says(&message, words);
    }
    let wanted = spec("gone", image(&server, "hello:gone"), "");
    let (_, message, _) = failure(verdict(&loader(&Settings::default()), &wanted).await);
    assert_says(&message, "answered 404 Not Found (MANIFEST_UNKNOWN)");
    assert!(!message.contains("secret"), "{message}");
}

#[tokio::test]
async fn a_server_that_goes_wrong_later_costs_nothing() {
    let good = Arc::new(AtomicBool::new(true));
    let server = Server::plain({
        let good = good.clone();
        move |_| match good.load(Ordering::Relaxed) {
            true => Reply::ok(wasm()),
            false => Reply::status(500),
        }
    })
    .await;
    let loader = loader(&Settings::default());
    ready(verdict(&loader, &url("filter", server.url("/"), &digest(&wasm()))).await);
    good.store(false, Ordering::Relaxed);
    let (_, _, last_good) = failure(
        verdict(
            &loader,
            &url("filter", server.url("/"), &digest(&other_wasm())),
        )
        .await,
    );
    assert!(last_good);
}

#[tokio::test]
async fn a_damaged_cache_is_fetched_anew() {
    let server = Server::plain(|_| Reply::ok(wasm())).await;
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings {
        cache: Some(folder.path().to_owned()),
        ..Settings::default()
    };
    let wanted = url("filter", server.url("/"), &digest(&wasm()));
    ready(verdict(&loader(&settings), &wanted).await);
    for folder in ["modules", "code"] {
        for entry in
            std::fs::read_dir(settings.cache.as_ref().expect("one").join(folder)).expect("a folder")
        {
            std::fs::write(entry.expect("an entry").path(), "damaged").expect("written");
        }
    }
    ready(verdict(&loader(&settings), &wanted).await);
    assert_eq!(server.paths(), ["/", "/"]);
    ready(verdict(&loader(&settings), &wanted).await);
    assert_eq!(
        server.paths(),
        ["/", "/"],
        "what was damaged is whole again"
    );
}
