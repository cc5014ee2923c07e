//! Decoding, by example.

#![allow(
    clippy::needless_pass_by_value,
    reason = "cases read better when they are built in place"
)]

use std::time::Duration;

use serde_json::json;

use super::filter::{Cors, RouteFilter};
use super::gateway::{FromNamespaces, GatewaySpec, Protocol, TlsMode};
use super::http::{HttpRouteMatch, HttpRouteSpec, PathMatchType};
use super::tidegate::{FailurePolicy, FilterSpec, Isolation, ModuleSource};
use super::*;
use crate::api::core::{SecretBody, ServiceBody};

fn decoded<S: Body>(object: serde_json::Value) -> Result<Object<S>, String> {
    decode(&object, Source::Cluster, Age::Unknown).map_err(|e| e.to_string())
}

#[test]
fn absent_fields_have_the_crds_defaults() {
    let route: Object<HttpRouteSpec> = decoded(json!({
        "metadata": {"name": "r", "namespace": "shop", "annotations": null},
        "spec": {
            "parentRefs": [{"name": "gw"}],
            "rules": [{"backendRefs": [{"name": "s", "port": 80}]}, {"matches": [], "retry": {"backoff": "100ms"}}]
        }
    }))
    .unwrap();
    assert_eq!(route.to_string(), "HTTPRoute shop/r");
    assert_eq!(route.meta.generation, 1);
    let parent = &route.spec.parent_refs[0];
    assert_eq!(
        (parent.group.as_str(), parent.kind.as_str()),
        ("gateway.networking.k8s.io", "Gateway")
    );
    let rule = &route.spec.rules[0];
    assert_eq!(rule.matches, [HttpRouteMatch::default()]);
    assert_eq!(rule.matches[0].path.kind, PathMatchType::PathPrefix);
    assert_eq!(rule.matches[0].path.value, "/");
    assert_eq!(
        (
            rule.backend_refs[0].weight,
            rule.backend_refs[0].backend.kind.as_str()
        ),
        (1, "Service")
    );
    let second = &route.spec.rules[1];
    assert_eq!(second.matches, [HttpRouteMatch::default()]);
    assert_eq!(
        second.retry.as_ref().unwrap().backoff,
        Some(Duration::from_millis(100))
    );

    let none: Object<HttpRouteSpec> =
        decoded(json!({"metadata": {"name": "r"}, "spec": {}})).unwrap();
    assert_eq!(none.spec.rules.len(), 1);
}

#[test]
fn a_gateway() {
    let gateway: Object<GatewaySpec> = decoded(json!({
        "metadata": {"name": "gw", "namespace": "a", "creationTimestamp": "2024-01-02T03:04:05Z"},
        "spec": {"gatewayClassName": "c", "listeners": [
            {"name": "x", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "cert"}]}},
            {"name": "y", "port": 1, "protocol": "example.com/quic", "allowedRoutes": {"namespaces": {"from": "All"}}}
        ]}
    }))
    .unwrap();
    assert!(matches!(gateway.meta.age, Age::Created(_)));
    assert!(gateway.meta.age < Age::Unknown);
    let [x, y] = &gateway.spec.listeners[..] else {
        panic!()
    };
    assert_eq!(x.protocol, Protocol::Https);
    assert_eq!(x.tls.as_ref().unwrap().mode, TlsMode::Terminate);
    assert_eq!(x.tls.as_ref().unwrap().certificate_refs[0].kind, "Secret");
    assert_eq!(x.allowed_routes.namespaces.from, FromNamespaces::Same);
    assert_eq!(y.protocol, Protocol::Other("example.com/quic".to_owned()));
    assert_eq!(y.allowed_routes.namespaces.from, FromNamespaces::All);
    assert_eq!(
        gateway.spec.allowed_listeners.namespaces.from,
        FromNamespaces::None
    );
}

#[test]
fn filters_agree_with_their_type() {
    let filter = |value| from_value::<RouteFilter>(&value, "f").map_err(|e| e.to_string());
    assert_eq!(
        filter(json!({"type": "CORS", "cors": {}})),
        Ok(RouteFilter::Cors(Cors {
            max_age: 5,
            ..Cors::default()
        }))
    );
    assert_eq!(
        filter(json!({"type": "Later", "later": {}})),
        Ok(RouteFilter::Other("Later".to_owned()))
    );
    assert_eq!(
        filter(json!({"type": "CORS"})),
        Err("f: filter.cors must be specified for CORS filter.type".to_owned())
    );
}

#[test]
fn errors_name_the_field() {
    let rule = |rule| {
        decoded::<HttpRouteSpec>(json!({"metadata": {"name": "r"}, "spec": {"rules": [{}, rule]}}))
            .unwrap_err()
    };
    let cases = [
        (
            json!({"backendRefs": [{"port": 80}]}),
            "spec.rules[1].backendRefs[0]: missing field `name`",
        ),
        (
            json!({"backendRefs": [{"name": "s", "port": 70000}]}),
            "spec.rules[1].backendRefs[0].port: invalid value: integer `70000`, expected u16",
        ),
        (
            json!({"name": 1}),
            "spec.rules[1].name: invalid type: integer `1`, expected a string",
        ),
        (
            json!({"filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath"}}}]}),
            "spec.rules[1].filters[0].urlRewrite.path: replaceFullPath must be specified when type is set to 'ReplaceFullPath'",
        ),
        (
            json!({"timeouts": {"request": "1d"}}),
            "spec.rules[1].timeouts.request: invalid duration \"1d\": write up to four numbers with the units h, m, s or ms, such as 1m30s",
        ),
    ];
    for (value, expected) in cases {
        assert_eq!(rule(value.clone()), expected, "{value}");
    }
}

#[test]
fn a_filter() {
    let filter: Object<FilterSpec> = decoded(json!({
        "metadata": {"name": "hello", "namespace": "shop"},
        "spec": {
            "module": {"configMapRef": {"name": "m", "key": "k"}},
            "config": {"a": null, "b": [1]},
            "configFrom": [{"path": "/users", "secretRef": {"name": "s"}}],
            "vm": {"isolation": "Request"},
            "failurePolicyByCause": {"load": "Open"},
            "limits": {"callTimeout": "500ms", "memory": "8Mi"},
            "clusters": [{"name": "jwks", "url": "https://idp.example/"}],
            "capabilities": ["shared-data", "foreign-functions"]
        }
    }))
    .unwrap();
    let spec = filter.spec;
    assert!(matches!(spec.module, ModuleSource::ConfigMap(key) if key.key == "k"));
    assert_eq!(
        spec.config,
        Some(json!({"a": null, "b": [1]})),
        "null stays in what the filter gets"
    );
    assert_eq!(spec.vm.isolation, Isolation::Request);
    assert_eq!(spec.failure_policy_by_cause.load, Some(FailurePolicy::Open));
    assert_eq!(spec.limits.memory, Some(8 << 20));
    assert_eq!(spec.limits.start_timeout, None);

    let both = decoded::<FilterSpec>(json!({
        "metadata": {"name": "x"}, "spec": {"module": {"builtin": "cors", "file": "x.wasm"}}
    }));
    assert_eq!(
        both.unwrap_err(),
        "spec.module: exactly one of the fields in [builtin file image url configMapRef] must be set"
    );
}

#[test]
fn core_kinds() {
    let service: Object<ServiceBody> = decoded(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "a"},
        "spec": {"ports": [{"port": 80, "targetPort": "http"}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    }))
    .unwrap();
    assert_eq!(service.spec.ports.as_ref().unwrap()[0].port, 80);
    assert_eq!(
        service.spec.load_balancer[0].ip.as_deref(),
        Some("192.0.2.1")
    );

    let secret: Object<SecretBody> =
        decoded(json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"k": "aGVsbG8="}}))
            .unwrap();
    assert_eq!(secret.spec.get("k"), Some(&b"hello"[..]));
    assert!(!format!("{secret:?}").contains("104"), "{secret:?}");
}
