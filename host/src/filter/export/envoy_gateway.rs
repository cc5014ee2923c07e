//! Envoy Gateway: an EnvoyExtensionPolicy, and an EnvoyPatchPolicy for the places that the filter calls.

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{Filter, GATEWAY_API, Source};

/// What an EnvoyExtensionPolicy may name, without the routes of streams: these have no requests that a filter could see.
const TARGETS: [(&str, &str); 3] = [
    ("Gateway", GATEWAY_API),
    ("HTTPRoute", GATEWAY_API),
    ("GRPCRoute", GATEWAY_API),
];

/// `gateway.envoyproxy.io/v1alpha1`
pub(super) fn objects(filter: &Filter) -> anyhow::Result<Vec<Value>> {
    if filter.headers_wait_for_body {
        bail!(
            "--headers-wait-for-body: an EnvoyExtensionPolicy has no field for it, so this filter cannot run in Envoy Gateway as it does here"
        );
    }
    let image = match &filter.module {
        Source::Image(image) => image,
        Source::File(path) => bail!(
            "{}: Envoy Gateway loads images; push the module with `tidegate filter push`, and export its reference",
            path.display()
        ),
    };
    let target = filter.target("an EnvoyExtensionPolicy with a filter", &TARGETS)?.context(
        "--target is missing: an EnvoyExtensionPolicy belongs to a Gateway (--target NAME) or a route (--target HTTPRoute/NAME)",
    )?;
    let mut plugin = json!({
        "name": filter.name,
        "failOpen": filter.fail_open,
        "code": {"type": "Image", "image": {"url": image}},
    });
    if !filter.root_id.is_empty() {
        plugin["rootID"] = json!(filter.root_id);
    }
    if let Some(config) = filter.json() {
        plugin["config"] = config.context("--config: an EnvoyExtensionPolicy takes JSON alone")?;
    }
    let mut objects = vec![json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyExtensionPolicy",
        "metadata": filter.metadata(&filter.name),
        "spec": {"targetRefs": [target.clone()], "wasm": [plugin]},
    })];
    if !filter.clusters.is_empty() {
        if target["kind"] != "Gateway" {
            bail!("--cluster: clusters are added to a Gateway's Envoy; name it with --target NAME");
        }
        objects.push(clusters(filter, &target));
    }
    Ok(objects)
}

fn clusters(filter: &Filter, target: &Value) -> Value {
    let patch = |cluster: &super::Cluster| {
        json!({
            "type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            "name": cluster.name,
            "operation": {"op": "add", "path": "", "value": cluster.envoy()},
        })
    };
    json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyPatchPolicy",
        "metadata": filter.metadata(&format!("{}-clusters", filter.name)),
        "spec": {
            "targetRef": target,
            "type": "JSONPatch",
            "jsonPatches": filter.clusters.iter().map(patch).collect::<Vec<_>>(),
        },
    })
}
