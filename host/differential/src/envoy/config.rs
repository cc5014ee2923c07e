//! Envoy's configuration. What it adds by itself is switched off here as far as it can be, so that little is left to normalise;
//! forwarding headers are given the form that this host gives them, before any filter runs.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use crate::case::{Case, Plugin};
use crate::modules;
use crate::upstream::Upstream;

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// Everything.
pub(super) fn bootstrap(
    cases: &[Case],
    upstreams: &HashMap<String, Upstream>,
    callouts: &HashMap<String, Upstream>,
) -> Value {
    let mut clusters = Vec::new();
    for case in cases {
        clusters.push(cluster(
            &format!("up-{}", case.case),
            Some(upstreams[&case.case].address()),
            false,
        ));
        let callout = callouts.get(&case.case).map(Upstream::address);
        let grpc = !case.grpc.is_empty();
        clusters.push(cluster(&format!("callout-{}", case.case), callout, grpc));
    }
    json!({
        "admin": {"address": address(0)},
        "static_resources": {"listeners": cases.iter().map(listener).collect::<Vec<_>>(), "clusters": clusters},
    })
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

/// A cluster of one endpoint; without one, of a port where nobody listens.
fn cluster(name: &str, endpoint: Option<SocketAddr>, http2: bool) -> Value {
    let port = endpoint.map_or(1, |endpoint| endpoint.port());
    let spoken = if http2 {
        json!({"http2_protocol_options": {}})
    } else {
        json!({"http_protocol_options": {"enable_trailers": true}})
    };
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": spoken}},
    })
}

fn listener(case: &Case) -> Value {
    let mut filters: Vec<Value> = (0..case.plugins.len()).map(|at| plugin(case, at)).collect();
    filters.push(json!({"name": "router", "typed_config": {
        "@type": format!("{TYPES}.filters.http.router.v3.Router"), "suppress_envoy_headers": true}}));
    let set = |name: &str, value: &str| json!({"append": {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}});
    let peer = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%";
    let connections = json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": case.case,
        "server_header_transformation": "PASS_THROUGH",
        "http_protocol_options": {"enable_trailers": true, "accept_http_10": true},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "early_header_mutation_extensions": [{"name": "forwarded", "typed_config": {
            "@type": format!("{TYPES}.http.early_header_mutation.header_mutation.v3.HeaderMutation"),
            "mutations": [
                set("x-forwarded-for", peer), set("x-real-ip", peer), set("x-forwarded-proto", "http"),
                set("x-forwarded-host", "%REQ(:AUTHORITY)%"), set("x-forwarded-port", "%DOWNSTREAM_LOCAL_PORT%"),
            ]}}],
        "route_config": {"name": "routes", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"name": "route", "match": {"prefix": "/"}, "route": {"cluster": format!("up-{}", case.case), "timeout": "0s"}}]}]},
        "http_filters": filters,
    });
    json!({
        "name": case.case, "address": address(0),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": connections}]}],
    })
}

fn plugin(case: &Case, at: usize) -> Value {
    let plugin = &case.plugins[at];
    let mut vm = json!({
        "runtime": "envoy.wasm.runtime.v8", "vm_id": case.vm_id(at),
        "code": {"local": {"filename": modules::path(&plugin.module)}},
    });
    if let Some(config) = &plugin.vm_config {
        vm["configuration"] = text(&case.config(config));
    }
    if !plugin.env.is_empty() {
        vm["environment_variables"] = json!({"key_values": plugin.env});
    }
    let mut config = Map::from_iter([
        ("name".to_owned(), json!(case.plugin_name(at))),
        ("root_id".to_owned(), json!(case.root_id(at))),
        ("failure_policy".to_owned(), json!(policy(plugin))),
        (
            "allow_on_headers_stop_iteration".to_owned(),
            json!(plugin.wait_for_body),
        ),
        ("vm_config".to_owned(), vm),
    ]);
    if let Some(given) = case.plugin_config(at) {
        config.insert("configuration".to_owned(), text(&given));
    }
    json!({"name": case.plugin_name(at), "typed_config": {
        "@type": format!("{TYPES}.filters.http.wasm.v3.Wasm"), "config": config}})
}

fn policy(plugin: &Plugin) -> &'static str {
    if plugin.open {
        "FAIL_OPEN"
    } else {
        "FAIL_CLOSED"
    }
}

fn text(value: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": value})
}
