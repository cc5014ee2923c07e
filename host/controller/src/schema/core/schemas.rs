//! The shape and the defaults of core kinds, as far as fields have them.

use serde_json::{Value, json};

use crate::api::Kind;
use crate::schema::build::{
    Schema, any, boolean, int_or_string, int32, list, list_by, object, string, text_map,
};

/// `openAPIV3Schema` of a core kind.
pub(in crate::schema) fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Ingress => with_spec(ingress()),
        Kind::IngressClass => with_spec(ingress_class()),
        Kind::Service => with_spec(service()),
        Kind::EndpointSlice => endpoint_slice().into_value(),
        Kind::Secret => secret().into_value(),
        Kind::ConfigMap => config_map().into_value(),
        Kind::Namespace => with_spec(object([("finalizers", list(string()))])),
        other => unreachable!("{other} is not a core kind"),
    }
}

fn with_spec(spec: Schema) -> Value {
    object([
        ("apiVersion", string()),
        ("kind", string()),
        ("metadata", object([])),
        // An absent spec is an empty one in Go, so what is required inside is reported.
        ("spec", spec.default(json!({}))),
    ])
    .into_value()
}

fn ingress() -> Schema {
    let path = object([
        ("backend", backend()),
        ("path", string()),
        ("pathType", string()),
    ]);
    let rule = object([
        ("host", string()),
        ("http", object([("paths", list(path))])),
    ]);
    let tls = object([("hosts", list(string())), ("secretName", string())]);
    object([
        ("defaultBackend", backend()),
        ("ingressClassName", string()),
        ("rules", list(rule)),
        ("tls", list(tls)),
    ])
}

fn backend() -> Schema {
    let port = object([("name", string()), ("number", int32())]);
    object([
        (
            "resource",
            object([
                ("apiGroup", string()),
                ("kind", string()),
                ("name", string()),
            ]),
        ),
        ("service", object([("name", string()), ("port", port)])),
    ])
}

fn ingress_class() -> Schema {
    let parameters = object([
        ("apiGroup", string()),
        ("kind", string()),
        ("name", string()),
        ("namespace", string()),
        ("scope", string().default("Cluster")),
    ]);
    object([("controller", string()), ("parameters", parameters)])
}

fn service() -> Schema {
    let port = object([
        ("appProtocol", string()),
        ("name", string()),
        ("nodePort", int32()),
        ("port", int32()),
        ("protocol", string().default("TCP")),
        ("targetPort", int_or_string()),
    ]);
    object([
        ("allocateLoadBalancerNodePorts", boolean()),
        ("clusterIP", string()),
        ("clusterIPs", list(string())),
        ("externalIPs", list(string())),
        ("externalName", string()),
        ("externalTrafficPolicy", string()),
        ("healthCheckNodePort", int32()),
        ("internalTrafficPolicy", string()),
        ("ipFamilies", list(string())),
        ("ipFamilyPolicy", string()),
        ("loadBalancerClass", string()),
        ("loadBalancerIP", string()),
        ("loadBalancerSourceRanges", list(string())),
        ("ports", list(port)),
        ("publishNotReadyAddresses", boolean()),
        ("selector", text_map()),
        ("sessionAffinity", string().default("None")),
        (
            "sessionAffinityConfig",
            object([("clientIP", object([("timeoutSeconds", int32())]))]),
        ),
        ("trafficDistribution", string()),
        ("type", string().default("ClusterIP")),
    ])
}

fn endpoint_slice() -> Schema {
    let conditions = object([
        ("ready", boolean()),
        ("serving", boolean()),
        ("terminating", boolean()),
    ]);
    let named = || list_by("name", object([("name", string())]));
    let endpoint = object([
        ("addresses", list(string())),
        ("conditions", conditions),
        ("deprecatedTopology", text_map()),
        (
            "hints",
            object([("forNodes", named()), ("forZones", named())]),
        ),
        ("hostname", string()),
        ("nodeName", string()),
        ("targetRef", any()),
        ("zone", string()),
    ]);
    let port = object([
        ("appProtocol", string()),
        ("name", string().default("")),
        ("port", int32()),
        ("protocol", string().default("TCP")),
    ]);
    object([
        ("apiVersion", string()),
        ("kind", string()),
        ("metadata", object([])),
        ("addressType", string()),
        ("endpoints", list(endpoint)),
        ("ports", list(port)),
    ])
}

fn secret() -> Schema {
    object([
        ("apiVersion", string()),
        ("kind", string()),
        ("metadata", object([])),
        ("data", text_map()),
        ("immutable", boolean()),
        ("stringData", text_map()),
        ("type", string().default("Opaque")),
    ])
}

fn config_map() -> Schema {
    object([
        ("apiVersion", string()),
        ("kind", string()),
        ("metadata", object([])),
        ("binaryData", text_map()),
        ("data", text_map()),
        ("immutable", boolean()),
    ])
}
