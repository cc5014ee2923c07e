//! The protocol, against a registry in this process that can also be told to refuse.

use std::sync::Mutex;

use tidegate_model::{Authorities, Credentials};

use super::*;
use crate::testing::{Asked, Content, Reply, Server};

const MODULE: &str = r#"(module (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 8)))"#;
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

fn wasm() -> Bytes {
    wat::parse_str(MODULE).expect("a module").into()
}

fn image(server: &Server) -> ImageReference {
    named(server, "team/hello:1")
}

fn named(server: &Server, name: &str) -> ImageReference {
    let text = format!("oci://{}/{name}", server.address);
    text.parse().expect("an image")
}

fn clear() -> Access {
    Access {
        plain_http: true,
        ..Access::default()
    }
}

fn with(password: &str) -> Access {
    let mut access = clear();
    access.pull.credentials = Some(Credentials {
        secret: "--password-stdin".into(),
        user: "user".into(),
        password: password.into(),
    });
    access
}

/// Method and path of what was asked for.
fn asked(server: &Server) -> Vec<String> {
    let all = server.asked().into_iter();
    all.map(|one| format!("{} {}", one.method, one.path))
        .collect()
}

async fn registry(content: &Content) -> Server {
    let content = content.clone();
    Server::plain(move |asked| content.answer(asked)).await
}

#[tokio::test]
async fn what_is_pushed_is_pulled_and_not_sent_twice() {
    for layout in [Layout::Compat, Layout::Cncf] {
        let server = registry(&Content::default()).await;
        let image = image(&server);
        let first = push(&image, wasm(), layout, &clear())
            .await
            .expect("pushed");
        assert_eq!((first.sent, first.blobs), (2, 2));
        assert_eq!(first.module, digest(&wasm()));
        let manifest = server.asked().pop().expect("a request");
        assert_eq!(manifest.path, "/v2/team/hello/manifests/1");
        assert_eq!(manifest.content_type.as_deref(), Some(layout::OCI_MANIFEST));

        let pulled = pull(&image, &clear()).await.expect("pulled");
        assert_eq!(pulled.bytes, wasm());
        assert_eq!(*pulled.manifest, first.manifest);
        let by_digest = named(&server, &format!("team/hello@{}", first.manifest));
        assert_eq!(
            pull(&by_digest, &clear()).await.expect("pulled").bytes,
            wasm()
        );

        let before = server.asked().len();
        let again = push(&image, wasm(), layout, &clear())
            .await
            .expect("pushed");
        assert_eq!((again.manifest, again.sent), (first.manifest, 0));
        let methods: Vec<_> = server.asked()[before..]
            .iter()
            .map(|one| one.method.clone())
            .collect();
        assert_eq!(methods, ["HEAD", "HEAD", "PUT"]);
    }
}

/// A registry that wants tokens, for both actions, and takes uploads at `elsewhere`.
fn with_tokens(
    content: Content,
    elsewhere: String,
) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    move |asked| {
        if asked.path.starts_with("/token?") {
            let scope =
                asked.path == "/token?service=test&scope=repository%3Ateam%2Fhello%3Apull%2Cpush";
            return match scope && asked.authorization.as_deref() == Some(BASIC) {
                true => Reply::ok(r#"{"token": "t0ken"}"#),
                false => Reply::status(401),
            };
        }
        if asked.authorization.as_deref() != Some("Bearer t0ken") {
            return Reply::status(401).header(
                "www-authenticate",
                r#"Bearer realm="http://REALM/token",service="test""#,
            );
        }
        let mut reply = content.answer(asked);
        for (name, value) in &mut reply.headers {
            if *name == "location" {
                *value = format!("{elsewhere}{value}");
            }
        }
        reply
    }
}

#[tokio::test]
async fn a_token_is_for_both_and_goes_to_nobody_else() {
    let content = Content::default();
    let store = registry(&content).await;
    let own = Arc::new(Mutex::new(String::new()));
    let server = Server::plain({
        let (handler, own) = (with_tokens(content.clone(), store.url("")), own.clone());
        move |asked| {
            let mut reply = handler(asked);
            for (_, value) in &mut reply.headers {
                *value = value.replace("REALM", &own.lock().expect("no panic"));
            }
            reply
        }
    })
    .await;
    *own.lock().expect("no panic") = server.address.to_string();
    let pushed = push(&image(&server), wasm(), Layout::Compat, &with("secret")).await;
    assert_eq!(pushed.expect("pushed").sent, 2);
    let tokens = asked(&server)
        .into_iter()
        .filter(|one| one.contains("/token?"));
    assert_eq!(tokens.count(), 1);
    let elsewhere = store.asked();
    assert_eq!(elsewhere.len(), 2);
    assert!(
        elsewhere
            .iter()
            .all(|one| one.method == "PUT" && one.authorization.is_none())
    );
}

#[tokio::test]
async fn a_password_is_given_where_it_is_asked_for() {
    let content = Content::default();
    let server = Server::plain({
        let content = content.clone();
        move |asked| match asked.authorization.as_deref() {
            Some(BASIC) => content.answer(asked),
            _ => Reply::status(401).header("www-authenticate", "Basic realm=\"test\""),
        }
    })
    .await;
    let image = image(&server);
    let address = server.address;
    let pushed = push(&image, wasm(), Layout::Cncf, &with("secret")).await;
    assert_eq!(pushed.expect("pushed").blobs, 2);
    pull(&image, &with("secret")).await.expect("pulled");
    let error = push(&image, wasm(), Layout::Cncf, &with("wrong")).await;
    let error = error.expect_err("a wrong password").to_string();
    assert!(
        error.starts_with(&format!("{address}/team/hello:1: http://{address}/v2/team/hello/blobs/sha256:"))
            && error.ends_with(r#"answered 401 Unauthorized: it does not let "user" push to team/hello with the password from --password-stdin; correct the name or the password, or ask for the right"#),
        "{error}"
    );
    let error = pull(&image, &clear()).await.expect_err("no password");
    assert!(
        error.to_string().ends_with(&format!("answered 401 Unauthorized: it wants to know who asks; give --username NAME --password-stdin, or log in with docker login {address}")),
        "{error}"
    );
}

/// What a push says where a method is answered like this.
async fn refusal(method: &'static str, status: u16, code: &'static str) -> String {
    let content = Content::default();
    let server = Server::plain(move |asked| {
        if asked.method != method {
            return content.answer(asked);
        }
        Reply {
            body: format!(r#"{{"errors": [{{"code": "{code}", "message": "secret"}}]}}"#).into(),
            ..Reply::status(status)
        }
    })
    .await;
    let pushed = push(&image(&server), wasm(), Layout::Compat, &clear()).await;
    pushed.expect_err("it is refused").to_string()
}

#[tokio::test]
async fn what_a_registry_refuses_is_said_with_its_remedy() {
    for (method, status, code, said) in [
        (
            "POST",
            403,
            "DENIED",
            "answered 403 Forbidden (DENIED): nobody in particular may not push to team/hello; give --username NAME",
        ),
        (
            "POST",
            404,
            "NAME_UNKNOWN",
            "answered 404 Not Found (NAME_UNKNOWN): the registry has no repository team/hello and makes none by a push; make it there first",
        ),
        (
            "POST",
            405,
            "UNSUPPORTED",
            "(UNSUPPORTED); it takes no pushes",
        ),
        (
            "POST",
            400,
            "",
            "if the registry speaks HTTPS, leave --plain-http away",
        ),
        (
            "PUT",
            413,
            "SIZE_INVALID",
            "(SIZE_INVALID); the filter is larger than it takes",
        ),
        (
            "PUT",
            503,
            "",
            "answered 503 Service Unavailable; try again later",
        ),
    ] {
        let error = refusal(method, status, code).await;
        assert!(error.contains(said), "{said:?} is not in {error:?}");
        assert!(!error.contains("secret"), "{error}");
    }
    let server = registry(&Content::default()).await;
    let error = pull(&image(&server), &clear()).await.expect_err("nothing");
    assert!(
        error.to_string().ends_with("(MANIFEST_UNKNOWN): there is no such image; correct the tag or digest, or push it first"),
        "{error}"
    );
    let digest = format!("team/hello:1@{}", digest(b""));
    let error = push(&named(&server, &digest), wasm(), Layout::Compat, &clear()).await;
    let error = error.expect_err("a digest").to_string();
    assert!(error.contains("name a tag"), "{error}");
}

#[tokio::test]
async fn a_registry_that_has_read_something_else_is_not_believed() {
    let content = Content::default();
    let server = Server::plain(move |asked| {
        let mut reply = content.answer(asked);
        if asked.path.contains("/manifests/") {
            reply.headers = vec![("docker-content-digest", digest(b"other").to_string())];
        }
        reply
    })
    .await;
    let pushed = push(&image(&server), wasm(), Layout::Compat, &clear()).await;
    let error = pushed.expect_err("another digest").to_string();
    assert!(error.contains("was to have digest sha256:"), "{error}");
}

#[tokio::test]
async fn tls_is_spoken_unless_it_is_not_wanted() {
    let content = Content::default();
    let server = Server::tls({
        let content = content.clone();
        move |asked| content.answer(asked)
    })
    .await;
    let image: ImageReference = format!("localhost:{}/team/hello:1", server.address.port())
        .parse()
        .expect("an image");
    let error = push(&image, wasm(), Layout::Compat, &Access::default()).await;
    let error = error.expect_err("nobody vouches for it").to_string();
    assert!(error.contains("name that with --ca FILE"), "{error}");
    let error = push(&image, wasm(), Layout::Compat, &clear()).await;
    error.expect_err("it speaks TLS");

    let mut access = Access::default();
    access.pull.authorities = Some(Authorities {
        name: "--ca".into(),
        pem: server.authority.clone().expect("PEM").into_bytes().into(),
    });
    push(&image, wasm(), Layout::Compat, &access)
        .await
        .expect("pushed");
    assert_eq!(pull(&image, &access).await.expect("pulled").bytes, wasm());

    let plain = registry(&content).await;
    let error = pull(&self::image(&plain), &Access::default()).await;
    let error = error.expect_err("it speaks no TLS").to_string();
    assert!(
        error.contains(
            "127.0.0.1 does not speak TLS: if it is to be asked in the clear, say --plain-http"
        ),
        "{error}"
    );
}

#[test]
fn what_is_checked_is_what_a_filter_would_say() {
    assert_eq!(check(&wasm()).expect("a filter"), AbiVersion::V0_2_1);
    for (bytes, said) in [
        (b"\x7fELF".to_vec(), "precompiled code"),
        (b"text".to_vec(), "not a WebAssembly module"),
        (
            wat::parse_str("(module)").expect("a module"),
            "missing or unknown proxy-wasm ABI version",
        ),
        (
            wat::parse_str("(component)").expect("a component"),
            "for another world",
        ),
    ] {
        let error = check(&bytes).expect_err(said).to_string();
        assert!(error.contains(said), "{error}");
    }
}
