//! What the tag of an image came to is in the Filter's status, and the next process takes it from there.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_model::{FilterId, FilterVerdict, FilterVerdicts, PinnedImage};

use super::fake::{Fake, until};
use super::{GROUP, ROUTE, route, settings, shop};
use crate::cluster::Cluster;
use crate::translate::{Options, Translation, translate};

const FILTER: &str = "/apis/tidegate.dev/v1alpha1/namespaces/shop/filters/hello";

fn filter(image: &str) -> Value {
    json!({"metadata": {"name": "hello", "namespace": "shop", "generation": 1}, "spec": {"module": {"image": image}}})
}

/// The route uses the Filter.
fn scene() -> Fake {
    let fake = shop();
    fake.serve("tidegate.dev", "v1alpha1", "filters");
    fake.put(FILTER, filter("r.test/hello:1"));
    let mut route = route("/");
    route["spec"]["rules"][0]["filters"] = json!([{"type": "ExtensionRef",
        "extensionRef": {"group": "tidegate.dev", "kind": "Filter", "name": "hello"}}]);
    assert_eq!(route["spec"]["parentRefs"][0]["group"], GROUP);
    fake.put(ROUTE, route);
    fake
}

fn sha256(digit: &str) -> String {
    format!("sha256:{}", digit.repeat(64))
}

fn ready(image: &str) -> FilterVerdicts {
    let id = FilterId {
        namespace: "shop".into(),
        name: "hello".into(),
    };
    let verdict = FilterVerdict::Ready {
        digest: sha256("a").into(),
        abi: "0.2.1".into(),
        image: Some(image.into()),
    };
    FilterVerdicts::from([(id, verdict)])
}

/// A process that leads, once it has read everything.
async fn process(fake: &Fake) -> Cluster {
    let cluster = Cluster::start(fake.client(), settings("one"));
    until("synchronised", || cluster.is_synced()).await;
    until("leads", || cluster.is_leading()).await;
    cluster
}

fn apply(cluster: &mut Cluster, verdicts: &FilterVerdicts) -> Arc<Translation> {
    let resources = cluster.resources();
    let mut options = Options::default();
    cluster.tune(&resources, &mut options);
    let translation = Arc::new(translate(&resources, verdicts, &options));
    cluster.want(&translation);
    cluster.report(translation.clone());
    translation
}

/// What the loader is told.
fn pinned(translation: &Translation) -> Option<PinnedImage> {
    translation.snapshot.filters[0].pinned.clone()
}

fn status(fake: &Fake) -> Value {
    fake.get(FILTER).expect("the Filter")["status"].clone()
}

fn reason(fake: &Fake) -> Value {
    let status = status(fake);
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let loaded = conditions.find(|condition| condition["type"] == "Loaded");
    loaded.map_or(Value::Null, |loaded| loaded["reason"].clone())
}

#[tokio::test(start_paused = true)]
async fn what_a_tag_came_to_outlives_the_process_and_not_the_tag() {
    let fake = scene();
    let image = format!("r.test/hello:1@{}", sha256("b"));
    let mut first = process(&fake).await;
    assert_eq!(pinned(&apply(&mut first, &FilterVerdicts::new())), None);
    apply(&mut first, &ready(&image));
    until("written", || status(&fake)["image"] == *image).await;
    assert_eq!(status(&fake)["digest"], sha256("a"));
    drop(first);

    // The next one is told before it has loaded anything, and does not forget it meanwhile.
    let mut second = process(&fake).await;
    let known = Some(PinnedImage {
        manifest: sha256("b").into(),
        module: sha256("a").into(),
    });
    assert_eq!(pinned(&apply(&mut second, &FilterVerdicts::new())), known);
    until("written", || reason(&fake) == "Loading").await;
    assert_eq!(status(&fake)["image"], *image);
    assert_eq!(status(&fake)["digest"], sha256("a"));

    // Another tag is another matter.
    let mut edited = filter("r.test/hello:2");
    edited["status"] = status(&fake);
    fake.put(FILTER, edited);
    until("seen", || {
        let resources = second.resources();
        resources.filters.values().any(|filter| {
            let module = format!("{:?}", filter.spec.module);
            module.contains("hello:2")
        })
    })
    .await;
    assert_eq!(pinned(&apply(&mut second, &FilterVerdicts::new())), None);
    until("forgotten", || status(&fake)["image"].is_null()).await;

    // So is a Filter that nothing uses any more.
    apply(
        &mut second,
        &ready(&format!("r.test/hello:2@{}", sha256("c"))),
    );
    until("written", || !status(&fake)["image"].is_null()).await;
    fake.put(ROUTE, route("/"));
    until("seen", || {
        let routes = second.resources().http_routes.clone();
        routes
            .values()
            .all(|route| route.spec.rules[0].filters.is_empty())
    })
    .await;
    apply(&mut second, &FilterVerdicts::new());
    until("forgotten", || status(&fake)["image"].is_null()).await;
}
