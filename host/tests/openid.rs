//! The filters `oidc` and `jwt`, here and in a real Envoy, against a real OpenID provider, with a client that behaves as a browser
//! does.
//!
//! Real parts: `host/tests/openid/set-up` brings the provider (Node), `host/differential/set-up` Envoy. Without them the tests fail.

mod browser;
mod envoy;
mod provider;

use std::net::SocketAddr;

use browser::{Browser, Page};
use envoy::Envoy;
use provider::Provider;
use serde_json::{Value, json};
use tidegate_testing::{Client, Gateway, Reply, Upstream, eventually, manifests};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

const SHOP: &str = "shop.example";
const API: &str = "api.example";

/// What runs the filters.
#[derive(Clone, Copy, Debug)]
enum Host {
    Tidegate,
    Envoy,
}

/// A provider, an upstream, and a host between them: the shop behind `oidc`, the API behind `jwt`.
struct World {
    provider: Provider,
    up: Upstream,
    shop: SocketAddr,
    api: SocketAddr,
    /// Lives as long as the rest.
    _host: (Option<Gateway>, Option<Envoy>),
    /// One world at a time: each compiles the largest modules that there are.
    _turn: MutexGuard<'static, ()>,
}

impl World {
    async fn new(host: Host, more: Value, workers: usize) -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let provider = Provider::start().await;
        let up = upstream().await;
        let login = login(&provider, &more);
        let tokens = tokens(&provider);
        let filters = [("oidc", &login, SHOP), ("jwt", &tokens, API)];
        let (shop, api, host) = match host {
            Host::Tidegate => {
                let manifest = manifest(&provider, &up, &filters);
                let gateway = Gateway::builder().workers(workers).start(&manifest).await;
                (gateway.http(), gateway.http(), (Some(gateway), None))
            }
            Host::Envoy => {
                let filters = filters.map(|(name, config, _)| (name, config));
                let there = provider.address();
                let envoy = Envoy::start(&filters, up.address(), there, workers).await;
                (envoy.listeners[0], envoy.listeners[1], (None, Some(envoy)))
            }
        };
        Self {
            provider,
            up,
            shop,
            api,
            _host: host,
            _turn: turn,
        }
    }

    fn browser(&self) -> Browser {
        Browser::new(&[
            (SHOP, self.shop),
            (self.provider.authority(), self.provider.address()),
        ])
    }

    /// A request to the API with a token: its status, and who the upstream takes it for.
    async fn api(&self, token: &str) -> (u16, Option<String>) {
        let mut client = Client::http1(self.api).await;
        let request = client
            .request(http::Method::GET, API, "/")
            .header("authorization", format!("Bearer {token}"))
            .body(tidegate_testing::empty())
            .expect("a request");
        let answer = client.send(request).await.expect("an answer");
        let status = answer.status.as_u16();
        let who = (status == 200).then(|| answer.json()["client"].as_str().map(str::to_owned));
        (status, who.flatten())
    }
}

/// The configuration of `jwt`.
fn tokens(provider: &Provider) -> Value {
    let keys = format!("{}/jwks", provider.issuer());
    json!({"providers": [{
        "issuer": provider.issuer(),
        "audiences": ["https://api.example"],
        "scopes": ["read"],
        "remote": {"url": keys, "cluster": "idp", "lookAgain": "0s"},
        "claimsToHeaders": {"X-Client": "client_id"},
    }]})
}

/// Each filter on a host of its own.
fn manifest(provider: &Provider, up: &Upstream, filters: &[(&str, &Value, &str)]) -> String {
    let mut manifest = String::from(manifests::GATEWAY);
    manifest += &manifests::service("up", &[up.address()]);
    for (name, config, host) in filters {
        manifest += &format!(
            "---\napiVersion: tidegate.dev/v1alpha1\nkind: Filter\nmetadata: {{name: {name}}}\nspec:\n  module: {{builtin: {name}}}\n  config: {config}\n  clusters: [{{name: idp, url: \"{}/\"}}]\n",
            provider.issuer()
        );
        let rule = manifests::rule(&manifests::filters(&[*name]));
        manifest += &manifests::route(name, &[*host], &rule);
    }
    manifest
}

/// The configuration of `oidc` for one of the provider's clients.
fn login(provider: &Provider, more: &Value) -> Value {
    let mut config = json!({
        "issuer": provider.issuer(),
        "cluster": "idp",
        "clientId": "shop",
        "clientSecret": "a secret: of the+shop",
        "cookieKeys": ["a key of the tests, long enough for one"],
        "cookie": {"secure": false},
        "scopes": ["openid", "email", "groups"],
        "claims": {"groups": ["ops"]},
        "claimsToHeaders": {"X-User": "sub", "X-Email": "email", "X-Groups": "groups"},
        "logout": {"returnTo": "/goodbye"},
        "exempt": ["/goodbye"],
    });
    let more = more.as_object().expect("an object").clone();
    let object = config.as_object_mut().expect("an object");
    object.extend(more);
    object.retain(|_, value| !value.is_null());
    config
}

/// What the upstream got, as text that tests can look at.
async fn upstream() -> Upstream {
    Upstream::start(|seen| {
        let header = |name| seen.headers.get(name).and_then(|value| value.to_str().ok());
        let said = json!({
            "target": seen.target(),
            "user": header("x-user"),
            "email": header("x-email"),
            "groups": header("x-groups"),
            "client": header("x-client"),
            "cookie": header("cookie"),
        });
        Reply::text(said.to_string())
    })
    .await
}

/// Fills in the provider's forms, until it sends the browser back to the shop.
async fn log_in(browser: &mut Browser, page: Page, user: &str) -> Page {
    let page = browser
        .submit(
            &page,
            &[("prompt", "login"), ("login", user), ("password", "x")],
        )
        .await;
    if page.host == SHOP {
        return page;
    }
    browser.submit(&page, &[("prompt", "consent")]).await
}

fn said(page: &Page) -> Value {
    assert_eq!((page.host.as_str(), page.status), (SHOP, 200), "{page:?}");
    serde_json::from_str(&page.body).expect("what the upstream says")
}

/// By redirects to the provider and back to where it began.
async fn logs_in(host: Host, more: Value) {
    let world = World::new(host, more, 1).await;
    let mut browser = world.browser();
    let page = browser.get("http://shop.example/cart?item=1&x=%20").await;
    assert_eq!(page.host, world.provider.authority(), "{page:?}");
    let page = log_in(&mut browser, page, "ann").await;
    let said = said(&page);
    assert_eq!(said["target"], "/cart?item=1&x=%20");
    assert_eq!(said["user"], "ann");
    assert_eq!(said["email"], "ann@shop.example");
    assert_eq!(said["groups"], "staff,ops");
    assert_eq!(said["cookie"], Value::Null);
    assert_eq!(world.up.seen().len(), 1, "nothing reached it before");
    let names = browser.cookies(SHOP);
    assert!(
        names.iter().all(|name| !name.contains("login")),
        "{names:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn a_user_logs_in() {
    logs_in(Host::Tidegate, json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn a_user_logs_in_in_envoy() {
    logs_in(Host::Envoy, json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn a_user_logs_in_with_a_client_that_posts_its_secret() {
    let client = json!({"clientId": "shop-post", "clientSecret": "posted", "clientAuth": "client_secret_post"});
    logs_in(Host::Tidegate, client).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn a_user_logs_in_with_a_public_client() {
    let client = json!({"clientId": "shop-public", "clientSecret": null, "clientAuth": "none"});
    logs_in(Host::Tidegate, client).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn a_code_is_taken_once_and_in_its_own_browser_alone() {
    let world = World::new(Host::Tidegate, json!({}), 1).await;
    let mut ann = world.browser();
    let page = ann.get("http://shop.example/").await;
    ann.stop_at("/oauth2/callback");
    let stopped = log_in(&mut ann, page, "ann").await;
    let callback = stopped.location.expect("the provider sends her back");
    assert!(
        callback.starts_with("http://shop.example/oauth2/callback?"),
        "{callback}"
    );
    // Log-in CSRF: somebody else is made to open the address.
    let mut bob = world.browser();
    let page = bob.get(&callback).await;
    assert_eq!((page.status, page.host.as_str()), (400, SHOP), "{page:?}");
    assert!(bob.cookies(SHOP).is_empty());
    ann.go_on();
    assert_eq!(said(&ann.get(&callback).await)["user"], "ann");
    // Her own back button.
    assert_eq!(said(&ann.get(&callback).await)["user"], "ann");
}

/// Tokens that are over, for requests that come at once on two workers. The provider takes a refresh token one time and ends the
/// whole grant at a second use, so that only what shares one renewal goes on.
async fn renews(host: Host) {
    let world = World::new(host, json!({}), 2).await;
    let mut browser = world.browser();
    let page = browser.get("http://shop.example/").await;
    said(&log_in(&mut browser, page, "ann").await);
    for _ in 0..3 {
        let old = browser.cookie_header(SHOP);
        // The provider's access tokens last two seconds.
        eventually!(
            {
                let mut requests = JoinSet::new();
                for _ in 0..8 {
                    requests.spawn(with_cookie(world.shop, old.clone()));
                }
                let answers = requests.join_all().await;
                let fine = answers.iter().all(|(status, _)| *status == 200);
                assert!(fine, "{answers:?}");
                let line = answers.into_iter().find_map(|(_, line)| line);
                line.iter().for_each(|line| browser.set_cookie(SHOP, line));
                line.is_some()
            },
            "a new session"
        );
    }
    assert_eq!(
        said(&browser.get("http://shop.example/").await)["user"],
        "ann"
    );
}

/// A request on a connection of its own, and so on whichever worker gets it: its status and the cookie that it sets.
async fn with_cookie(address: SocketAddr, cookie: String) -> (u16, Option<String>) {
    let mut client = Client::http1(address).await;
    let request = client
        .request(http::Method::GET, SHOP, "/")
        .header("cookie", cookie)
        .body(tidegate_testing::empty())
        .expect("a request");
    let answer = client.send(request).await.expect("an answer");
    let line = answer.headers.get("set-cookie");
    let line = line.map(|line| line.to_str().expect("text").to_owned());
    (answer.status.as_u16(), line)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn tokens_are_renewed_once_for_requests_that_come_at_once() {
    renews(Host::Tidegate).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn tokens_are_renewed_once_for_requests_that_come_at_once_in_envoy() {
    renews(Host::Envoy).await;
}

async fn logs_out(host: Host) {
    let world = World::new(host, json!({}), 1).await;
    let mut browser = world.browser();
    let page = browser.get("http://shop.example/").await;
    said(&log_in(&mut browser, page, "ann").await);
    // Without a session here, the one with the provider is enough.
    browser.forget(SHOP);
    let page = browser.get("http://shop.example/again").await;
    assert_eq!(said(&page)["target"], "/again");
    let page = browser.get("http://shop.example/oauth2/logout").await;
    assert_eq!(page.host, world.provider.authority(), "{page:?}");
    let page = browser.submit(&page, &[("logout", "yes")]).await;
    assert_eq!(said(&page)["target"], "/goodbye");
    assert!(browser.cookies(SHOP).is_empty());
    let page = browser.get("http://shop.example/").await;
    assert_eq!(page.host, world.provider.authority(), "a log-in is needed");
    assert!(page.body.contains("name=\"login\""), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn a_log_out_ends_both_sessions() {
    logs_out(Host::Tidegate).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn a_log_out_ends_both_sessions_in_envoy() {
    logs_out(Host::Envoy).await;
}

/// With a provider that withdraws its keys while tokens that were signed with them are about.
async fn follows_keys(host: Host) {
    let world = World::new(host, json!({}), 1).await;
    let machine = || (200, Some(String::from("machine")));
    let before = world.provider.access_token().await;
    assert_eq!(world.api(&before).await, machine());
    let mut browser = world.browser();
    let page = browser.get("http://shop.example/").await;
    said(&log_in(&mut browser, page, "ann").await);

    world.provider.rotate().await;
    let after = world.provider.access_token().await;
    assert_eq!(world.api(&after).await, machine());
    assert_eq!(world.api(&before).await.0, 401, "its key was withdrawn");
    let mut changed = after.clone().into_bytes();
    let last = changed.len() - 10;
    changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).expect("ASCII");
    assert_eq!(world.api(&changed).await.0, 401);

    let mut second = world.browser();
    let page = second.get("http://shop.example/").await;
    let page = log_in(&mut second, page, "bob").await;
    assert_eq!(said(&page)["user"], "bob");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn keys_are_rotated() {
    follows_keys(Host::Tidegate).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn keys_are_rotated_in_envoy() {
    follows_keys(Host::Envoy).await;
}
