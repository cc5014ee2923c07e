//! Session persistence: a client stays on the endpoint that answered it first, as long as that is there.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tidegate_testing::{Answer, Gateway, Port, Upstream, eventually, manifests};

const COOKIE: &str = "sessionPersistence: {cookie: {name: sid}}";
const HEADER: &str = "sessionPersistence: {type: Header, header: {name: X-Session}}";

fn names() -> [&'static str; 3] {
    ["one", "two", "three"]
}

async fn three() -> Vec<Upstream> {
    let mut all = Vec::new();
    for name in names() {
        all.push(Upstream::named(name).await);
    }
    all
}

fn with_session(upstreams: &[Upstream], session: &str) -> String {
    let addresses: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    with_addresses(&addresses, session)
}

fn with_addresses(addresses: &[SocketAddr], session: &str) -> String {
    format!(
        "{}{}{}",
        manifests::GATEWAY,
        manifests::service("up", addresses),
        manifests::route("all", &[], &manifests::rule(&format!(", {session}")))
    )
}

async fn ask(gateway: &Gateway, fields: &str) -> Answer {
    gateway
        .send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
        .await
}

fn cookie(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie");
    cookie.split(';').next().expect("a pair").to_owned()
}

/// The token and the endpoint of a new session.
async fn begin(gateway: &Gateway) -> (String, String) {
    let answer = ask(gateway, "Cookie: other=1\r\n").await;
    assert_eq!(answer.status, 200);
    (
        format!("Cookie: other=1; {}\r\n", cookie(&answer)),
        answer.text().to_owned(),
    )
}

#[tokio::test]
async fn a_cookie_keeps_a_client_on_its_endpoint_and_others_where_they_come() {
    let upstreams = three().await;
    let gateway = Gateway::start(&with_session(&upstreams, COOKIE)).await;
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        let (token, first) = begin(&gateway).await;
        for _ in 0..7 {
            let answer = ask(&gateway, &token).await;
            assert_eq!(answer.text(), first);
            assert!(
                !answer.headers.contains_key("set-cookie"),
                "nothing to tell"
            );
        }
        seen.insert(first);
    }
    assert_eq!(seen.len(), 3, "new clients are spread: {seen:?}");
    let set = ask(&gateway, "").await.header("set-cookie").to_owned();
    assert!(
        set.starts_with("sid=") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax"),
        "{set}"
    );
    let addresses: Vec<_> = upstreams
        .iter()
        .map(|up| up.address().to_string())
        .collect();
    assert!(addresses.iter().all(|address| !set.contains(address)));
}

#[tokio::test]
async fn a_header_does_the_same_for_clients_without_cookies() {
    let upstreams = three().await;
    let gateway = Gateway::start(&with_session(&upstreams, HEADER)).await;
    let answer = ask(&gateway, "").await;
    let token = format!("x-session: {}\r\n", answer.header("x-session"));
    for _ in 0..7 {
        let again = ask(&gateway, &token).await;
        assert_eq!(again.text(), answer.text());
        assert!(!again.headers.contains_key("x-session"));
    }
}

#[tokio::test]
async fn every_replica_and_every_reload_reads_the_same_tokens() {
    let upstreams = three().await;
    let gateway = Gateway::start(&with_session(&upstreams, COOKIE)).await;
    let (token, first) = begin(&gateway).await;
    let replica = Gateway::start(&with_session(&upstreams, COOKIE)).await;
    for _ in 0..5 {
        assert_eq!(ask(&replica, &token).await.text(), first);
    }
    // Endpoints come and go, in another order.
    let mut more = upstreams;
    more.push(Upstream::named("four").await);
    more.reverse();
    gateway
        .write("test.yaml", &with_session(&more, COOKIE))
        .await;
    for _ in 0..5 {
        assert_eq!(ask(&gateway, &token).await.text(), first);
    }
}

#[tokio::test]
async fn a_session_moves_on_when_its_endpoint_is_gone_or_fails() {
    let mut upstreams = three().await;
    let gateway = Gateway::start(&with_session(&upstreams, COOKIE)).await;
    let (token, first) = begin(&gateway).await;
    let gone = names().iter().position(|name| *name == first);
    let gone = upstreams.remove(gone.expect("one of the three"));
    gateway
        .write("test.yaml", &with_session(&upstreams, COOKIE))
        .await;
    let before = gone.count();
    let answer = ask(&gateway, &token).await;
    assert_ne!(answer.text(), first);
    let moved = format!("Cookie: {}\r\n", cookie(&answer));
    for _ in 0..5 {
        assert_eq!(ask(&gateway, &moved).await.text(), answer.text());
    }
    assert_eq!(gone.count(), before);
    // One that is listed and does not answer: the client is told of the endpoint that did.
    let failing = Port::reserve();
    let mut listed = vec![failing.address()];
    listed.extend(upstreams.iter().map(Upstream::address));
    gateway
        .write("test.yaml", &with_addresses(&listed, COOKIE))
        .await;
    for _ in 0..6 {
        let answer = ask(&gateway, "").await;
        assert_eq!(answer.status, 200);
        let token = format!("Cookie: {}\r\n", cookie(&answer));
        assert_eq!(ask(&gateway, &token).await.text(), answer.text());
    }
}

#[tokio::test]
async fn a_token_that_was_changed_or_is_of_another_rule_binds_nobody() {
    let upstreams = three().await;
    let gateway = Gateway::start(&with_session(&upstreams, COOKIE)).await;
    let (token, _) = begin(&gateway).await;
    let changed = token.replace("sid=", "sid=0");
    let shorter = token
        .replace("\r\n", "")
        .trim_end_matches(|_: char| true)
        .to_owned();
    for wrong in [
        &*changed,
        "Cookie: sid=\r\n",
        "Cookie: sid=x\r\n",
        &*shorter,
    ] {
        let answers = [
            ask(&gateway, wrong).await,
            ask(&gateway, wrong).await,
            ask(&gateway, wrong).await,
        ];
        let seen: BTreeSet<_> = answers.iter().map(|a| a.text().to_owned()).collect();
        assert_eq!(seen.len(), 3, "{wrong:?} is as good as none: {seen:?}");
        assert!(
            answers
                .iter()
                .all(|answer| answer.headers.contains_key("set-cookie"))
        );
    }
}

#[tokio::test]
async fn a_session_outweighs_the_weights_even_one_of_nothing() {
    let (blue, green) = (
        Upstream::named("blue").await,
        Upstream::named("green").await,
    );
    let manifest = |blue_weight: u32, green_weight: u32| {
        let rules = format!(
            "[{{backendRefs: [{{name: blue, port: 80, weight: {blue_weight}}}, {{name: green, port: 80, weight: {green_weight}}}], {COOKIE}}}]"
        );
        format!(
            "{}{}{}{}",
            manifests::GATEWAY,
            manifests::service("blue", &[blue.address()]),
            manifests::service("green", &[green.address()]),
            manifests::route("all", &[], &rules)
        )
    };
    let gateway = Gateway::start(&manifest(1, 0)).await;
    let (token, first) = begin(&gateway).await;
    assert_eq!(first, "blue");
    gateway.write("test.yaml", &manifest(0, 1)).await;
    for _ in 0..5 {
        assert_eq!(
            ask(&gateway, &token).await.text(),
            "blue",
            "GEP-1619, traffic splitting"
        );
    }
    assert_eq!(begin(&gateway).await.1, "green");
}

#[tokio::test]
async fn a_session_ends_with_its_absolute_timeout() {
    let upstreams = three().await;
    let permanent = "sessionPersistence: {absoluteTimeout: 2s, cookie: {name: sid, lifetimeType: Permanent, path: /shop}}";
    let gateway = Gateway::start(&with_session(&upstreams, permanent)).await;
    let answer = ask(&gateway, "").await;
    let set = answer.header("set-cookie");
    assert!(
        set.ends_with("; Path=/shop; HttpOnly; SameSite=Lax; Max-Age=2"),
        "{set}"
    );
    let token = format!("Cookie: {}\r\n", cookie(&answer));
    eventually!(
        ask(&gateway, &token)
            .await
            .headers
            .contains_key("set-cookie"),
        "the session is over, and another begins"
    );
}
