//! Whole objects through [`admit`]: defaults, metadata, and each kind with what it refuses.

#![allow(
    clippy::needless_pass_by_value,
    reason = "cases read better when they are built in place"
)]

mod gateway_api;
mod own;
mod verdicts;

use serde_json::{Value, json};

use super::*;

const GATEWAY_V1: &str = "gateway.networking.k8s.io/v1";

fn object(api_version: &str, kind: &str, spec: Value) -> Value {
    let mut object =
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": spec});
    if kind != "GatewayClass" {
        object["metadata"]["namespace"] = json!("default");
    }
    object
}

fn told(admission: &Admission) -> Vec<String> {
    admission.errors.iter().map(ToString::to_string).collect()
}

fn table(kind: &str, cases: Vec<(Value, Vec<&str>)>) {
    let api_version = Kind::all()
        .find(|k| k.name() == kind)
        .unwrap()
        .api_version();
    for (spec, expected) in cases {
        let admission = admit(&mut object(api_version, kind, spec.clone()));
        assert_eq!(told(&admission), expected, "{kind} {spec}");
        assert_eq!(admission.warnings, Vec::<String>::new(), "{kind} {spec}");
    }
}

#[test]
fn defaults_of_a_route() {
    let mut route = object(
        GATEWAY_V1,
        "HTTPRoute",
        json!({
            "parentRefs": [{"name": "gw"}],
            "rules": [{
                "backendRefs": [{"name": "s", "port": 80}],
                "filters": [{"type": "RequestRedirect", "requestRedirect": {}}, {"type": "CORS", "cors": {}}],
            }, {"matches": [{"method": "GET"}, {"headers": [{"name": "a", "value": "b"}]}]}],
        }),
    );
    route["status"] = json!({"parents": []});
    admit(&mut route);
    assert_eq!(route.get("status"), None);
    assert_eq!(
        route["spec"],
        json!({
            "parentRefs": [{"name": "gw", "group": "gateway.networking.k8s.io", "kind": "Gateway"}],
            "rules": [{
                "backendRefs": [{"name": "s", "port": 80, "group": "", "kind": "Service", "weight": 1}],
                "filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 302}}, {"type": "CORS", "cors": {"maxAge": 5}}],
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            }, {"matches": [
                {"method": "GET", "path": {"type": "PathPrefix", "value": "/"}},
                {"headers": [{"name": "a", "value": "b", "type": "Exact"}], "path": {"type": "PathPrefix", "value": "/"}},
            ]}],
        })
    );
    let mut none = object(GATEWAY_V1, "HTTPRoute", json!({}));
    assert_eq!(admit(&mut none), Admission::default());
    assert_eq!(
        none["spec"]["rules"],
        json!([{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}])
    );
}

#[test]
fn metadata() {
    let with = |metadata: Value| {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        told(&admit(&mut object))
    };
    let cases = [
        (
            json!({"name": "a", "namespace": "b", "labels": {"app.kubernetes.io/name": "X_1"}, "creationTimestamp": null}),
            vec![],
        ),
        (
            json!({"namespace": "b"}),
            vec!["metadata.name: Required value: name or generateName is required"],
        ),
        (
            json!({"generateName": "a-", "namespace": "b"}),
            vec!["metadata.name: Required value: generateName needs an API server; write a name"],
        ),
        (
            json!({"name": "a"}),
            vec!["metadata.namespace: Required value"],
        ),
        (
            json!({"name": "a", "namespace": "a.b"}),
            vec![r#"metadata.namespace: Invalid value: "a.b": must not contain dots"#],
        ),
        (
            json!({"name": "a", "namespace": "b", "annotations": {"x": true}}),
            vec![
                r#"metadata.annotations.x: Invalid value: "boolean": metadata.annotations.x in body must be of type string: "boolean""#,
            ],
        ),
        (
            json!({"name": "a", "namespace": "b", "labels": {"x/": "1"}}),
            vec![
                r#"metadata.labels: Invalid value: "x/": name part must be non-empty"#,
                r#"metadata.labels: Invalid value: "x/": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#,
            ],
        ),
    ];
    for (metadata, expected) in cases {
        assert_eq!(with(metadata.clone()), expected, "{metadata}");
    }
    let mut class = object(GATEWAY_V1, "GatewayClass", json!({"controllerName": "a/b"}));
    class["metadata"]["namespace"] = json!("a");
    assert_eq!(
        told(&admit(&mut class)),
        ["metadata.namespace: Forbidden: not allowed on this type"]
    );
}

#[test]
fn kinds_and_versions() {
    let cases = [
        (
            json!({}),
            vec!["apiVersion: Required value: every object says what it is"],
        ),
        (
            json!({"apiVersion": "v1"}),
            vec!["kind: Required value: every object says what it is"],
        ),
        (
            json!({"apiVersion": "apps/v1", "kind": "Deployment"}),
            vec![r#"no matches for kind "Deployment" in version "apps/v1""#],
        ),
        (
            json!({"apiVersion": "extensions/v1beta1", "kind": "Ingress"}),
            vec![
                r#"no matches for kind "Ingress" in version "extensions/v1beta1"; use apiVersion networking.k8s.io/v1"#,
            ],
        ),
    ];
    for (mut value, expected) in cases {
        assert_eq!(told(&admit(&mut value)), expected);
    }
    for (version, kind, spec) in [
        ("v1beta1", "HTTPRoute", json!({})),
        (
            "v1beta1",
            "ReferenceGrant",
            json!({"from": [{"group": "", "kind": "A", "namespace": "n"}], "to": [{"group": "", "kind": "B"}]}),
        ),
    ] {
        let api_version = format!("gateway.networking.k8s.io/{version}");
        assert_eq!(
            admit(&mut object(&api_version, kind, spec)),
            Admission::default(),
            "{version} {kind}"
        );
    }
    let old = admit(&mut object(
        "gateway.networking.k8s.io/v1alpha2",
        "TCPRoute",
        json!({"rules": [{"backendRefs": [{"name": "s", "port": 1}]}]}),
    ));
    assert_eq!(told(&old), Vec::<String>::new());
    assert_eq!(
        old.warnings,
        [
            "The v1alpha2 version of TCPRoute has been deprecated and will be removed in a future release of the API. Please upgrade to v1."
        ]
    );
}

#[test]
fn fields_nobody_declared() {
    let mut route = object(
        GATEWAY_V1,
        "HTTPRoute",
        json!({"rule": [], "rules": [{"backendRef": {}, "timeouts": {"idle": "1s"}}]}),
    );
    route["metadata"]["label"] = json!({});
    route["extra"] = json!(1);
    let admission = admit(&mut route);
    assert_eq!(told(&admission), Vec::<String>::new());
    assert_eq!(
        admission.warnings,
        [
            r#"unknown field "metadata.label""#,
            r#"unknown field "spec.rule""#,
            r#"unknown field "spec.rules[0].backendRef""#,
            r#"unknown field "spec.rules[0].timeouts.idle""#,
            r#"unknown field "extra""#,
        ]
    );
    let mut filter = object(
        "tidegate.dev/v1alpha1",
        "Filter",
        json!({"module": {"builtin": "x"}, "config": {"any": 1}}),
    );
    assert_eq!(admit(&mut filter).warnings, Vec::<String>::new());
}
