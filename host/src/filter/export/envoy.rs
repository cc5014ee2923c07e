//! Envoy: an entry of `http_filters`, and `clusters`.

use anyhow::bail;
use serde_json::{Value, json};

use super::{Filter, Source};

/// `envoy.extensions.filters.http.wasm.v3.Wasm`, as examples/envoy has it in a whole configuration.
pub(super) fn configuration(filter: &Filter) -> anyhow::Result<Value> {
    for (option, value) in [
        ("--target", &filter.target),
        ("--namespace", &filter.namespace),
    ] {
        if value.is_some() {
            bail!(
                "{option}: a configuration of Envoy belongs to no object; leave it out, or export --to istio or envoy-gateway"
            );
        }
    }
    let path = match &filter.module {
        Source::File(path) => path,
        Source::Image(image) => bail!(
            "{image}: Envoy by itself loads no images; fetch the module with `tidegate filter pull`, and export the file"
        ),
    };
    let mut config = json!({
        "name": filter.name,
        "root_id": filter.root_id,
        "failure_policy": if filter.fail_open { "FAIL_OPEN" } else { "FAIL_CLOSED" },
    });
    if filter.headers_wait_for_body {
        config["allow_on_headers_stop_iteration"] = json!(true);
    }
    config["vm_config"] = json!({
        "vm_id": filter.name,
        "runtime": "envoy.wasm.runtime.v8",
        "code": {"local": {"filename": path}},
    });
    if let Some(text) = &filter.config {
        // As it is: the same bytes reach the filter in both hosts.
        config["configuration"] =
            json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text});
    }
    let mut configuration = json!({"http_filters": [{
        "name": filter.name,
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm", "config": config},
    }]});
    if !filter.clusters.is_empty() {
        let clusters = filter.clusters.iter().map(super::Cluster::envoy);
        configuration["clusters"] = clusters.collect();
    }
    Ok(configuration)
}
