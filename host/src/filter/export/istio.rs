//! Istio: a WasmPlugin, and an EnvoyFilter for the places that the filter calls.

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{Filter, GATEWAY_API, Source};

/// What `targetRefs` of a WasmPlugin may name.
const TARGETS: [(&str, &str); 4] = [
    ("Gateway", GATEWAY_API),
    ("GatewayClass", GATEWAY_API),
    ("Service", ""),
    ("ServiceEntry", "networking.istio.io"),
];

/// `extensions.istio.io/v1alpha1`, `networking.istio.io/v1alpha3`
pub(super) fn objects(filter: &Filter) -> anyhow::Result<Vec<Value>> {
    if filter.headers_wait_for_body {
        bail!(
            "--headers-wait-for-body: a WasmPlugin has no field for it, so this filter cannot run in Istio as it does here"
        );
    }
    let url = match &filter.module {
        Source::File(path) => format!("file://{}", path.display()),
        Source::Image(image) => format!("oci://{image}"),
    };
    let mut spec = json!({});
    let target = filter.target("a WasmPlugin", &TARGETS)?;
    let targets = target.map(|target| json!([target]));
    if let Some(targets) = &targets {
        spec["targetRefs"] = targets.clone();
    }
    spec["url"] = json!(url);
    if !filter.root_id.is_empty() {
        // What used to be its rootID.
        spec["pluginName"] = json!(filter.root_id);
    }
    spec["failStrategy"] = json!(if filter.fail_open {
        "FAIL_OPEN"
    } else {
        "FAIL_CLOSE"
    });
    if let Some(config) = filter.json() {
        let config = config.context("--config: a WasmPlugin takes JSON alone")?;
        if !config.is_object() {
            bail!("--config: the pluginConfig of a WasmPlugin has to be a JSON object");
        }
        spec["pluginConfig"] = config;
    }
    let mut objects = vec![json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": filter.metadata(&filter.name),
        "spec": spec,
    })];
    if !filter.clusters.is_empty() {
        if !matches!(filter.target_kind(), "Gateway" | "GatewayClass") {
            bail!("--cluster: clusters are added to a Gateway's Envoy; name it with --target NAME");
        }
        objects.push(clusters(filter, targets));
    }
    Ok(objects)
}

/// Istio knows its services under names of its own; these are added under those that the filter has for them.
fn clusters(filter: &Filter, targets: Option<Value>) -> Value {
    let patch = |cluster: &super::Cluster| {
        json!({
            "applyTo": "CLUSTER",
            "match": {"context": "GATEWAY"},
            "patch": {"operation": "ADD", "value": cluster.envoy()},
        })
    };
    let mut spec = json!({});
    if let Some(targets) = targets {
        spec["targetRefs"] = targets;
    }
    spec["configPatches"] = filter.clusters.iter().map(patch).collect();
    json!({
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": filter.metadata(&format!("{}-clusters", filter.name)),
        "spec": spec,
    })
}
