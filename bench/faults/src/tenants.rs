//! Two tenants behind one gateway: one whose filter fails on demand, and its neighbour in another namespace.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

/// Whose filter fails.
pub(crate) const OFFENDER: &str = "offender";
/// Who must not notice.
pub(crate) const NEIGHBOUR: &str = "neighbour";

/// A filter that adds a header to the response, and fails where the request asks for it: `x-fault: trap`, `stack` or `loop`.
const FILTER: &str = r#"(module
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 64) "x-fault")
  (data (i32.const 96) "x-filtered")
  (data (i32.const 112) "yes")
  (global $heap (mut i32) (i32.const 4096))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32) (local $at i32)
    (if (i32.gt_u (global.get $heap) (i32.const 100000)) (then (global.set $heap (i32.const 4096))))
    (local.set $at (global.get $heap))
    (global.set $heap (i32.add (local.get $at) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))
    (local.get $at))
  (func $deeper (param i32) (result i32)
    (i32.add (call $deeper (i32.add (local.get 0) (i32.const 1))) (local.get 0)))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $kind i32)
    (if (i32.eqz (call $get (i32.const 0) (i32.const 64) (i32.const 7) (i32.const 16) (i32.const 20)))
      (then
        (local.set $kind (i32.load8_u (i32.load (i32.const 16))))
        (if (i32.eq (local.get $kind) (i32.const 0x74)) (then (unreachable)))
        (if (i32.eq (local.get $kind) (i32.const 0x73)) (then (drop (call $deeper (i32.const 0)))))
        (if (i32.eq (local.get $kind) (i32.const 0x6c)) (then (loop (br 0))))))
    (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (drop (call $add (i32.const 2) (i32.const 96) (i32.const 10) (i32.const 112) (i32.const 3)))
    (i32.const 0))
)"#;

/// The host under which a tenant is served.
pub(crate) fn host(tenant: &str) -> String {
    format!("{tenant}.test")
}

/// Writes the manifests of both, with the filter beside them.
///
/// # Errors
/// When the folder cannot be written to.
pub(crate) fn write(folder: &Path, port: u16, backend: u16, isolation: &str) -> anyhow::Result<()> {
    std::fs::write(
        folder.join("filter.wasm"),
        wat::parse_str(FILTER).context("the filter is not WAT")?,
    )?;
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "faults"},
        "spec": {
            "gatewayClassName": "tidegate",
            "listeners": [{
                "name": "http", "protocol": "HTTP", "port": port, "allowedRoutes": {"namespaces": {"from": "All"}},
            }],
        },
    });
    let tenants = [OFFENDER, NEIGHBOUR].map(|name| tenant(name, backend, isolation));
    let items: Vec<Value> = [gateway]
        .into_iter()
        .chain(tenants.into_iter().flatten())
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    std::fs::write(folder.join("faults.json"), list.to_string())?;
    Ok(())
}

fn tenant(namespace: &str, backend: u16, isolation: &str) -> [Value; 4] {
    let metadata = json!({"name": "app", "namespace": namespace});
    let reference = json!({"group": "tidegate.dev", "kind": "Filter", "name": "app"});
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "app", "namespace": namespace, "labels": {"kubernetes.io/service-name": "app"}},
            "ports": [{"port": backend}], "endpoints": [{"addresses": ["127.0.0.1"]}],
        }),
        json!({
            "apiVersion": "tidegate.dev/v1alpha1", "kind": "Filter", "metadata": metadata,
            "spec": {"module": {"file": "filter.wasm"}, "vm": {"isolation": isolation}},
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata,
            "spec": {
                "parentRefs": [{"name": "faults", "namespace": "default"}], "hostnames": [host(namespace)],
                "rules": [{
                    "filters": [{"type": "ExtensionRef", "extensionRef": reference}],
                    "backendRefs": [{"name": "app", "port": 80}],
                }],
            },
        }),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_filter_is_wat() {
        wat::parse_str(super::FILTER).expect("it parses");
    }
}
