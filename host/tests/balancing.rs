//! How an endpoint is chosen, as the Service says.

use tidegate_testing::{Gateway, Reply, Upstream, eventually, manifests};

/// Two endpoints, of which one never ends its answers.
async fn busy_and_free() -> (Upstream, Upstream) {
    let busy = Upstream::start(|seen| match seen.target() {
        "/hold" => Reply::status(200).piece("x").hanging(),
        _ => Reply::text("busy"),
    })
    .await;
    (busy, Upstream::named("free").await)
}

/// How many of 200 requests reach the endpoint that is busy with ten others.
async fn reach_the_busy_one(annotation: &str) -> usize {
    let (busy, free) = busy_and_free().await;
    let service = manifests::service("up", &[busy.address(), free.address()]).replace(
        "metadata: {name: up}",
        &format!("metadata: {{name: up{annotation}}}"),
    );
    let gateway = Gateway::start(&format!(
        "{}{service}{}",
        manifests::GATEWAY,
        manifests::route("all", &[], &manifests::rule(""))
    ))
    .await;
    let mut held = Vec::new();
    while busy.count() < 10 {
        let mut wire = gateway.connect().await;
        wire.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
        wire.head().await;
        held.push(wire);
        assert!(held.len() < 1000, "some reach it");
    }
    eventually!(free.count() == held.len() - 10, "the others were answered");
    let before = busy.count();
    for _ in 0..200 {
        assert_eq!(gateway.get("a", "/").await.status, 200);
    }
    busy.count() - before
}

#[tokio::test]
async fn by_default_endpoints_are_taken_in_turn() {
    assert_eq!(reach_the_busy_one("").await, 100);
    let stated = ", annotations: {tidegate.dev/load-balancing: RoundRobin}";
    assert_eq!(reach_the_busy_one(stated).await, 100);
}

#[tokio::test]
async fn the_less_busy_of_two_is_taken_where_the_service_asks_for_it() {
    let least = ", annotations: {tidegate.dev/load-balancing: LeastRequest}";
    let busy = reach_the_busy_one(least).await;
    // Both of two picks are the busy one in a quarter of the cases.
    assert!((10..=90).contains(&busy), "{busy}");
}
