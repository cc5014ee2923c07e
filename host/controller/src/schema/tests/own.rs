//! What our own CRDs refuse.

use serde_json::{Value, json};

use super::{object, table};
use crate::schema::{Admission, admit};

#[test]
fn filters() {
    let with = |field: &str, value: Value| json!({"module": {"builtin": "cors"}, field: value});
    table(
        "Filter",
        vec![
            (
                json!({"module": {"file": "./x.wasm"}, "config": {"a": [null, 1]}}),
                vec![],
            ),
            (json!({}), vec!["spec.module: Required value"]),
            (
                json!({"module": {}}),
                vec![
                    "spec.module: Invalid value: exactly one of the fields in [builtin file image url configMapRef] must be set",
                ],
            ),
            (
                json!({"module": {"builtin": "cors", "file": "x"}}),
                vec![
                    "spec.module: Invalid value: exactly one of the fields in [builtin file image url configMapRef] must be set",
                ],
            ),
            (
                json!({"module": {"url": "https://a/x.wasm"}}),
                vec!["spec: Invalid value: sha256 is required when module.url is set"],
            ),
            (
                json!({"module": {"url": "http://a/x"}, "sha256": "0".repeat(64)}),
                vec!["spec: Invalid value: module.url must be https unless pull.insecure is set"],
            ),
            (
                json!({"module": {"url": "http://a/x"}, "sha256": "0".repeat(64), "pull": {"insecure": true}}),
                vec![],
            ),
            (with("config", json!("text")), vec![]),
            (
                with("sha256", json!("abc")),
                vec![
                    r#"spec.sha256: Invalid value: "abc": spec.sha256 in body should match '^[0-9a-f]{64}$'"#,
                ],
            ),
            (
                with("failurePolicy", json!("Ignore")),
                vec![
                    r#"spec.failurePolicy: Unsupported value: "Ignore": supported values: "Closed", "Open""#,
                ],
            ),
            (
                with("limits", json!({"callTimeout": "0s"})),
                vec![
                    r#"spec.limits.callTimeout: Invalid value: "0s": must be greater than zero and at most 60s"#,
                ],
            ),
            (
                with(
                    "limits",
                    json!({"callTimeout": "1m", "startTimeout": "300s"}),
                ),
                vec![],
            ),
            (
                with(
                    "limits",
                    json!({"callTimeout": "60001ms", "startTimeout": "9999h"}),
                ),
                vec![
                    r#"spec.limits.callTimeout: Invalid value: "60001ms": must be greater than zero and at most 60s"#,
                    r#"spec.limits.startTimeout: Invalid value: "9999h": must be greater than zero and at most 5m"#,
                ],
            ),
            (
                with("limits", json!({"memory": "64MB"})),
                vec![
                    r#"spec.limits.memory: Invalid value: "64MB": spec.limits.memory in body should match '^[0-9]+(\.[0-9]+)?([kMGT]|[KMGT]i)?$'"#,
                ],
            ),
            (with("limits", json!({"memory": 1048576})), vec![]),
            (
                with("clusters", json!([{"name": "a"}])),
                vec![
                    "spec.clusters[0]: Invalid value: exactly one of the fields in [url backendRef] must be set",
                ],
            ),
            (
                with(
                    "clusters",
                    json!([{"name": "a", "url": "https://a"}, {"name": "a", "url": "https://b"}]),
                ),
                vec![r#"spec.clusters[1]: Duplicate value: {"name":"a"}"#],
            ),
            (
                with(
                    "configFrom",
                    json!([{"path": "users", "secretRef": {"name": "s"}}]),
                ),
                vec![
                    r#"spec.configFrom[0].path: Invalid value: "users": spec.configFrom[0].path in body should match '^(/([^~/]|~[01])*)*$'"#,
                ],
            ),
            (
                with("capabilities", json!(["sockets"])),
                vec![
                    r#"spec.capabilities[0]: Unsupported value: "sockets": supported values: "shared-data", "shared-queues", "metrics", "timers", "properties", "foreign-functions""#,
                ],
            ),
        ],
    );
    let mut filter = object("tidegate.dev/v1alpha1", "Filter", with("vm", json!({})));
    assert_eq!(admit(&mut filter), Admission::default());
    assert_eq!(
        filter["spec"]["vm"],
        json!({"id": "", "config": "", "isolation": "Shared"})
    );
    assert_eq!(
        (&filter["spec"]["failurePolicy"], &filter["spec"]["mode"]),
        (&json!("Closed"), &json!("Enforce"))
    );
}

#[test]
fn filter_policies_and_gateway_configs() {
    let target = |target: Value| json!({"targetRefs": [target], "filters": [{"name": "f"}]});
    table(
        "FilterPolicy",
        vec![
            (
                target(
                    json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g", "sectionName": "l"}),
                ),
                vec![],
            ),
            (
                target(json!({"group": "", "kind": "Namespace", "name": "n"})),
                vec![],
            ),
            (
                target(json!({"group": "", "kind": "Gateway", "name": "g"})),
                vec!["spec.targetRefs[0]: Invalid value: group must be the group of kind"],
            ),
            (
                target(
                    json!({"group": "networking.k8s.io", "kind": "Ingress", "name": "i", "sectionName": "s"}),
                ),
                vec![
                    "spec.targetRefs[0]: Invalid value: only Gateway, HTTPRoute and GRPCRoute have sections",
                ],
            ),
            (
                json!({"targetRefs": [], "filters": []}),
                vec![
                    "spec.targetRefs: Invalid value: 0: spec.targetRefs in body should have at least 1 items",
                    "spec.filters: Invalid value: 0: spec.filters in body should have at least 1 items",
                ],
            ),
        ],
    );
    table(
        "GatewayConfig",
        vec![
            (
                json!({"filters": {"before": [{"namespace": "a", "name": "f"}]}, "accessLog": {}}),
                vec![],
            ),
            (
                json!({"trustedHops": -1}),
                vec![
                    "spec.trustedHops: Invalid value: -1: spec.trustedHops in body should be greater than or equal to 0",
                ],
            ),
        ],
    );
}
