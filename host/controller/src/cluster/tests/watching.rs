//! What is known, whatever happens to the connection.

use std::time::Duration;

use http::Method;
use serde_json::json;

use super::fake::{Fake, pass, until};
use super::{GATEWAY, GROUP, ROUTE, apply, gateway, route, settings, shop};
use crate::api::{Key, Kind};
use crate::cluster::{Cluster, StateFile};

fn cart() -> Key {
    Key::new("shop", "cart")
}

async fn synced(fake: &Fake) -> Cluster {
    let cluster = Cluster::start(fake.client(), settings("one"));
    until("synchronised", || cluster.is_synced()).await;
    until("watched", || fake.watching("httproutes") == 1).await;
    cluster
}

#[tokio::test(start_paused = true)]
async fn nothing_is_ready_before_everything_is_listed() {
    let fake = shop();
    for _ in 0..3 {
        fake.fail(
            Method::GET,
            "/apis/gateway.networking.k8s.io/v1/httproutes",
            500,
        );
    }
    let cluster = Cluster::start(fake.client(), settings("one"));
    until("the Gateway is known", || {
        !cluster.resources().gateways.is_empty()
    })
    .await;
    assert!(!cluster.is_synced() && !cluster.may_serve() && !cluster.may_be_ready());
    until("synchronised", || cluster.is_synced()).await;
    assert!(cluster.resources().http_routes.contains_key(&cart()));
}

#[tokio::test(start_paused = true)]
async fn changes_are_told_and_statuses_are_not_changes() {
    let fake = shop();
    let cluster = synced(&fake).await;
    while tokio::time::timeout(Duration::from_secs(1), cluster.changed())
        .await
        .is_ok()
    {}
    fake.put(ROUTE, route("/new"));
    cluster.changed().await;
    let resources = cluster.resources();
    assert_eq!(
        resources.http_routes[&cart()].spec.rules[0].matches.len(),
        1
    );
    let mut object = fake.get(ROUTE).unwrap();
    object["status"] = json!({"parents": []});
    fake.put(ROUTE, object);
    let told = tokio::time::timeout(Duration::from_secs(5), cluster.changed()).await;
    assert!(told.is_err(), "a status is not what is translated");
    fake.delete(ROUTE);
    cluster.changed().await;
    assert!(cluster.resources().http_routes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn gone_lists_anew_and_keeps_what_is_known_meanwhile() {
    let fake = shop();
    fake.put(
        "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/other",
        {
            let mut other = route("/other");
            other["metadata"]["name"] = "other".into();
            other
        },
    );
    let cluster = synced(&fake).await;
    assert_eq!(cluster.resources().http_routes.len(), 2);
    fake.delete_unseen(ROUTE);
    // The next listing fails too: until one succeeds, both serve.
    fake.fail(
        Method::GET,
        "/apis/gateway.networking.k8s.io/v1/httproutes",
        503,
    );
    let lists = fake.asked("GET /apis/gateway.networking.k8s.io/v1/httproutes");
    let gone = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}});
    fake.end_watches("httproutes", &format!("{gone}\n"));
    until("it is asked again", || {
        fake.asked("GET /apis/gateway.networking.k8s.io/v1/httproutes") > lists
    })
    .await;
    assert_eq!(
        cluster.resources().http_routes.len(),
        2,
        "the last good state stays"
    );
    until("listed anew", || cluster.resources().http_routes.len() == 1).await;
    assert!(!cluster.resources().http_routes.contains_key(&cart()));
}

#[tokio::test(start_paused = true)]
async fn gone_as_the_answer_to_a_watch_lists_anew_too() {
    let fake = shop();
    let cluster = synced(&fake).await;
    fake.delete_unseen(ROUTE);
    fake.fail(
        Method::GET,
        "/apis/gateway.networking.k8s.io/v1/httproutes",
        410,
    );
    fake.end_watches("httproutes", "");
    until("listed anew", || cluster.resources().http_routes.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn half_a_line_is_not_an_event_and_the_whole_comes_again() {
    let fake = shop();
    let cluster = synced(&fake).await;
    let line = json!({"type": "MODIFIED", "object": route("/half")}).to_string();
    fake.end_watches("httproutes", &line[..line.len() / 2]);
    until("watched again", || fake.watching("httproutes") == 1).await;
    assert_eq!(cluster.resources().http_routes.len(), 1);
    fake.put(ROUTE, route("/whole"));
    until("the change arrives", || {
        let resources = cluster.resources();
        format!("{:?}", resources.http_routes[&cart()].spec).contains("/whole")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_keeps_its_last_version() {
    let fake = shop();
    let cluster = synced(&fake).await;
    let mut broken = route("/");
    broken["spec"]["rules"] = json!("none");
    fake.put(ROUTE, broken);
    until("refused", || !cluster.resources().rejected.is_empty()).await;
    let resources = cluster.resources();
    assert!(resources.rejected[0].last_good_kept && resources.http_routes.contains_key(&cart()));
    fake.put(ROUTE, route("/good"));
    until("mended", || cluster.resources().rejected.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn kinds_come_and_go() {
    let fake = Fake::default();
    fake.serve(GROUP, "v1", "gateways");
    let cluster = Cluster::start(fake.client(), settings("one"));
    until("synchronised without routes", || cluster.is_synced()).await;
    fake.put(ROUTE, route("/"));
    fake.serve(GROUP, "v1", "httproutes");
    until("the kind is found", || {
        cluster.resources().http_routes.len() == 1
    })
    .await;
    // Discovery forgets CRDs while an API server starts: for a while nothing happens.
    fake.withdraw("httproutes");
    pass(Duration::from_secs(40)).await;
    assert_eq!(cluster.resources().http_routes.len(), 1);
    fake.serve(GROUP, "v1", "httproutes");
    pass(Duration::from_secs(90)).await;
    assert_eq!(
        cluster.resources().http_routes.len(),
        1,
        "it was there again in time"
    );
    fake.withdraw("httproutes");
    until("the kind is gone", || {
        cluster.resources().http_routes.is_empty()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn secrets_are_read_by_name_and_only_where_they_are_named() {
    let fake = shop();
    let secret = |value: &str| json!({"metadata": {"name": "cert", "namespace": "shop"}, "data": {"tls.crt": value}});
    let path = "/api/v1/namespaces/shop/secrets/cert";
    fake.put(path, secret("YQ=="));
    fake.put("/api/v1/namespaces/shop/secrets/other", secret("YQ=="));
    let mut cluster = synced(&fake).await;
    apply(&mut cluster);
    assert!(cluster.knows_wanted() && cluster.resources().secrets.is_empty());
    let listener = |name: &str| {
        json!([{"name": "https", "port": 443, "protocol": "HTTPS",
            "tls": {"certificateRefs": [{"group": "", "kind": "Secret", "name": name}]}}])
    };
    fake.put(GATEWAY, gateway(&listener("cert")));
    until("the Gateway changed", || {
        cluster.resources().gateways[&Key::new("shop", "web")]
            .spec
            .listeners[0]
            .port
            == 443
    })
    .await;
    apply(&mut cluster);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    assert!(cluster.wanted_known(deadline).await);
    let key = Key::new("shop", "cert");
    let bytes = |cluster: &Cluster| {
        cluster
            .resources()
            .secrets
            .get(&key)
            .and_then(|s| s.spec.get("tls.crt").map(<[u8]>::to_vec))
    };
    assert_eq!(bytes(&cluster), Some(b"a".to_vec()));

    // Deleted and created again: noticed in time.
    fake.delete(path);
    until("gone", || cluster.resources().secrets.is_empty()).await;
    fake.put(path, secret("YQ=="));
    let since = tokio::time::Instant::now();
    until("there again", || bytes(&cluster) == Some(b"a".to_vec())).await;
    assert!(since.elapsed() <= Duration::from_secs(3));

    // Rotated: read again in time.
    fake.put(path, secret("Yg=="));
    let asked = fake.asked("GET /api/v1/namespaces/shop/secrets/cert");
    let since = tokio::time::Instant::now();
    until("rotated", || bytes(&cluster) == Some(b"b".to_vec())).await;
    assert!(since.elapsed() <= Duration::from_secs(31));
    assert!(fake.asked("GET /api/v1/namespaces/shop/secrets/cert") > asked);

    // At once when an object that names it changes.
    fake.put(path, secret("Yw=="));
    let mut changed = gateway(&listener("cert"));
    changed["metadata"]["labels"] = json!({"a": "b"});
    fake.put(GATEWAY, changed);
    let since = tokio::time::Instant::now();
    until("the Gateway changed", || {
        !cluster.resources().gateways[&Key::new("shop", "web")]
            .meta
            .labels
            .is_empty()
    })
    .await;
    apply(&mut cluster);
    until("read at once", || bytes(&cluster) == Some(b"c".to_vec())).await;
    assert!(since.elapsed() < Duration::from_secs(1));

    // Named no longer: forgotten.
    fake.put(
        GATEWAY,
        gateway(&json!([{"name": "http", "port": 80, "protocol": "HTTP"}])),
    );
    until("the Gateway changed", || {
        cluster.resources().gateways[&Key::new("shop", "web")]
            .spec
            .listeners[0]
            .port
            == 80
    })
    .await;
    apply(&mut cluster);
    until("forgotten", || cluster.resources().secrets.is_empty()).await;
    assert_eq!(fake.asked("secrets?"), 0, "Secrets are never listed");
    assert_eq!(fake.asked("secrets/other"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_config_map_is_read_by_name_and_whole_only_where_it_changed() {
    let fake = shop();
    fake.serve("tidegate.dev", "v1alpha1", "filters");
    let path = "/api/v1/namespaces/shop/configmaps/rules";
    let map = |value: &str| json!({"metadata": {"name": "rules", "namespace": "shop"}, "data": {"text": value}});
    fake.put(path, map("a"));
    fake.put(
        "/apis/tidegate.dev/v1alpha1/namespaces/shop/filters/cors",
        json!({"metadata": {"name": "cors", "namespace": "shop", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"module": {"builtin": "cors"}, "config": {}, "configFrom": [{"path": "/x", "configMapRef": {"name": "rules", "key": "text"}}]}}),
    );
    let mut cluster = synced(&fake).await;
    apply(&mut cluster);
    let text = |cluster: &Cluster| {
        let resources = cluster.resources();
        let map = resources.config_maps.get(&Key::new("shop", "rules"))?;
        map.spec
            .get("text")
            .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    };
    until("read", || text(&cluster).as_deref() == Some("a")).await;
    let looked = "GET /api/v1/namespaces/shop/configmaps/rules?&resourceVersion=0";
    let asked = "GET /api/v1/namespaces/shop/configmaps/rules";
    pass(Duration::from_secs(300)).await;
    let looks = fake.asked(looked);
    assert!((9..=12).contains(&looks), "every 30 s: {looks}");
    assert_eq!(fake.asked(asked) - looks, 1, "its content once");
    fake.put(path, map("b"));
    until("read anew", || text(&cluster).as_deref() == Some("b")).await;
    assert_eq!(fake.asked("/configmaps?"), 0, "ConfigMaps are never listed");
    fake.delete(path);
    until("gone", || text(&cluster).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_holds_up_no_other_secret() {
    let fake = shop();
    let secret = |name: &str| json!({"metadata": {"name": name, "namespace": "shop"}, "data": {"tls.crt": "YQ=="}});
    fake.put("/api/v1/namespaces/shop/secrets/cert", secret("cert"));
    fake.stall("/api/v1/namespaces/shop/secrets/slow");
    let references = json!([{"name": "slow"}, {"name": "cert"}]);
    fake.put(
        GATEWAY,
        gateway(&json!([{"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": references}}])),
    );
    let mut cluster = synced(&fake).await;
    apply(&mut cluster);
    let key = Key::new("shop", "cert");
    until("the other is read", || {
        cluster.resources().secrets.contains_key(&key)
    })
    .await;
    assert!(!cluster.knows_wanted() && !cluster.may_be_ready());
    fake.put("/api/v1/namespaces/shop/secrets/cert", {
        let mut changed = secret("cert");
        changed["data"]["tls.crt"] = "Yg==".into();
        changed
    });
    until("rotated meanwhile", || {
        let resources = cluster.resources();
        resources.secrets[&key].spec.get("tls.crt") == Some(b"b")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_state_file_serves_until_the_api_server_answers() {
    let folder = tempfile::tempdir().unwrap();
    let kept = || {
        let mut settings = settings("one");
        settings.state = Some(StateFile {
            folder: folder.path().join("state"),
            max_age: Duration::from_secs(3600),
        });
        settings
    };
    let fake = shop();
    let mut cluster = Cluster::start(fake.client(), kept());
    until("synchronised", || cluster.is_synced()).await;
    let before = apply(&mut cluster).0;
    cluster.keep_state();
    drop(cluster);

    // Nobody answers.
    let dead = Fake::default();
    for _ in 0..100_000 {
        dead.fail(Method::GET, "/", 503);
    }
    let mut cluster = Cluster::start(dead.client(), kept());
    assert!(cluster.may_serve() && !cluster.is_synced() && !cluster.may_be_ready());
    let (restored, translation) = apply(&mut cluster);
    assert_eq!(*restored, *before, "the same objects");
    assert_eq!(translation.snapshot.listeners.len(), 1);
    until("ready without the API server", || cluster.may_be_ready()).await;
    drop(cluster);

    // It answers, and things have changed meanwhile.
    fake.delete(ROUTE);
    let cluster = Cluster::start(fake.client(), kept());
    assert_eq!(cluster.resources().http_routes.len(), 1);
    until("synchronised", || cluster.is_synced()).await;
    assert!(cluster.resources().http_routes.is_empty());
    let fresh = Cluster::start(fake.client(), settings("two"));
    until("synchronised", || fresh.is_synced()).await;
    assert_eq!(
        *cluster.resources(),
        *fresh.resources(),
        "as a rebuild from nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_restricted_process_does_without_classes_it_may_not_read() {
    let fake = shop();
    fake.put(
        "/api/v1/namespaces/shop",
        json!({"metadata": {"name": "shop", "labels": {"team": "a"}}}),
    );
    for _ in 0..100_000 {
        fake.fail(
            Method::GET,
            "/apis/gateway.networking.k8s.io/v1/gatewayclasses",
            403,
        );
        fake.fail(
            Method::GET,
            "/apis/networking.k8s.io/v1/ingressclasses",
            403,
        );
    }
    let mut restricted = settings("one");
    restricted.namespaces = vec!["shop".to_owned()];
    let mut cluster = Cluster::start(fake.client(), restricted);
    until("synchronised", || cluster.is_synced()).await;
    let (resources, translation) = apply(&mut cluster);
    assert_eq!(
        resources
            .namespace_labels("shop")
            .get("team")
            .map(String::as_str),
        Some("a")
    );
    assert_eq!(
        translation.snapshot.listeners.len(),
        1,
        "the class with our name is taken for ours"
    );
    assert_eq!(
        fake.asked("GET /apis/gateway.networking.k8s.io/v1/gateways?"),
        0,
        "nothing is read outside"
    );
    assert!(fake.asked("GET /apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways?") > 0);
}

#[tokio::test(start_paused = true)]
async fn the_published_service_says_where_gateways_are() {
    let fake = shop();
    let path = "/api/v1/namespaces/system/services/tidegate";
    let service = |ip: &str| {
        json!({"metadata": {"name": "tidegate", "namespace": "system"}, "spec": {"type": "LoadBalancer"},
            "status": {"loadBalancer": {"ingress": [{"ip": ip}]}}})
    };
    for _ in 0..3 {
        fake.fail(Method::GET, "/api/v1/namespaces/system/services", 500);
    }
    fake.put(path, service("203.0.113.7"));
    let mut settings = settings("one");
    settings.address_pool = None;
    settings.publish_service = Some(Key::new("system", "tidegate"));
    let mut cluster = Cluster::start(fake.client(), settings);
    until("everything else is known", || {
        !cluster.resources().http_routes.is_empty()
    })
    .await;
    assert!(!cluster.is_synced(), "a status without it would be wrong");
    until("synchronised", || cluster.is_synced()).await;
    let addresses = |cluster: &mut Cluster| {
        let statuses = &apply(cluster).1.statuses;
        let gateway = statuses.get(Kind::Gateway, "shop", "web").unwrap();
        gateway
            .addresses
            .first()
            .map(|address| address.value.clone())
    };
    assert_eq!(addresses(&mut cluster).as_deref(), Some("203.0.113.7"));
    assert!(cluster.may_be_ready());
    while tokio::time::timeout(Duration::from_secs(1), cluster.changed())
        .await
        .is_ok()
    {}
    fake.put(path, service("203.0.113.8"));
    cluster.changed().await;
    until("the new address", || {
        addresses(&mut cluster).as_deref() == Some("203.0.113.8")
    })
    .await;
}
