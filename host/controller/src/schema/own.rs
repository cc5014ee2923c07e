//! Our own CRDs: the one place where their shape is written. `tidegate crds` prints it, and manifests
//! without a cluster are validated against it.

mod filter;

use serde_json::{Value, json};

use super::build::{Schema, boolean, int32, int64, list, list_by, object, one_of, string};
use crate::api::Kind;

const NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const NAMESPACE: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// The CRDs of `tidegate.dev/v1alpha1` as YAML, ready for `kubectl apply -f -`.
pub fn crds_yaml() -> String {
    let mut text = String::new();
    for crd in crds() {
        text.push_str("---\n");
        text.push_str(
            &serde_saphyr::to_string(&crd).expect("plain data without anchors serialises"),
        );
    }
    text
}

/// The CRDs as objects.
fn crds() -> Vec<Value> {
    let condition = |name: &str| {
        json!({
            "name": name, "type": "string",
            "jsonPath": format!(".status.conditions[?(@.type==\"{name}\")].status"),
        })
    };
    let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
    let digest =
        json!({"name": "Digest", "type": "string", "jsonPath": ".status.digest", "priority": 1});
    let stage = json!({"name": "Stage", "type": "string", "jsonPath": ".spec.stage"});
    vec![
        crd(
            Kind::Filter,
            "filters",
            &json!([
                condition("Accepted"),
                condition("Loaded"),
                digest,
                age.clone()
            ]),
        ),
        crd(
            Kind::FilterPolicy,
            "filterpolicies",
            &json!([stage, condition("Accepted"), age.clone()]),
        ),
        crd(
            Kind::GatewayConfig,
            "gatewayconfigs",
            &json!([condition("Accepted"), age]),
        ),
    ]
}

fn crd(kind: Kind, plural: &str, columns: &Value) -> Value {
    let name = kind.name();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{}", kind.group())},
        "spec": {
            "group": kind.group(),
            "names": {
                "kind": name, "listKind": format!("{name}List"), "plural": plural, "singular": name.to_lowercase(),
                "categories": ["tidegate"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": schema(kind)},
                "subresources": {"status": {}},
            }],
        },
    })
}

/// `openAPIV3Schema` of one of our kinds.
pub(super) fn schema(kind: Kind) -> Value {
    let (description, spec, status) = match kind {
        Kind::Filter => (
            "Filter is a configured policy module: portable proxy-wasm code that runs on requests and responses.",
            filter::spec(),
            object([
                ("conditions", conditions()),
                (
                    "digest",
                    string().describe("sha256 of the module that is loaded."),
                ),
                ("abi", string().describe("The interface the module speaks.")),
                (
                    "image",
                    string()
                        .describe("What the image's tag meant when it was resolved, by digest."),
                ),
            ]),
        ),
        Kind::FilterPolicy => (
            "FilterPolicy puts filters before or after the own filters of what it targets.",
            filter_policy(),
            object([("conditions", conditions()), ("ancestors", ancestors())]),
        ),
        Kind::GatewayConfig => (
            "GatewayConfig holds the parameters of a GatewayClass or IngressClass.",
            gateway_config(),
            object([("conditions", conditions())]),
        ),
        other => unreachable!("{other} is not one of our kinds"),
    };
    object([
        ("apiVersion", string()),
        ("kind", string()),
        ("metadata", object([])),
        ("spec", spec),
        ("status", status),
    ])
    .require(["spec"])
    .describe(description)
    .into_value()
}

fn filter_policy() -> Schema {
    let target = object([
        ("group", string().with("maxLength", 253)),
        (
            "kind",
            one_of(["Gateway", "HTTPRoute", "GRPCRoute", "Ingress", "Namespace"]),
        ),
        ("name", name()),
        (
            "sectionName",
            string()
                .length(1, 253)
                .pattern(NAME)
                .describe("A listener of a Gateway or a rule of a route."),
        ),
    ])
    .require(["group", "kind", "name"])
    .rule(
        "self.group == (self.kind == 'Ingress' ? 'networking.k8s.io' : self.kind == 'Namespace' ? '' : 'gateway.networking.k8s.io')",
        "group must be the group of kind",
    )
    .rule(
        "!has(self.sectionName) || self.kind in ['Gateway', 'HTTPRoute', 'GRPCRoute']",
        "only Gateway, HTTPRoute and GRPCRoute have sections",
    );
    object([
        ("targetRefs", list(target).items(1, 16)),
        (
            "stage",
            one_of(["Before", "After"])
                .default("Before")
                .describe("Before or after the own filters of what is targeted."),
        ),
        (
            "filters",
            list(name_ref())
                .items(1, 16)
                .describe("Filters of the same namespace, in order."),
        ),
    ])
    .require(["targetRefs", "filters"])
}

fn gateway_config() -> Schema {
    let filters = || {
        list(
            object([
                (
                    "namespace",
                    namespace().describe("The GatewayConfig's own where it is absent."),
                ),
                ("name", name()),
            ])
            .require(["name"]),
        )
        .items(0, 16)
    };
    object([
        (
            "filters",
            object([("before", filters()), ("after", filters())])
                .describe("Filters around those of every route of the class."),
        ),
        (
            "ingressNginxAnnotations",
            boolean()
                .default(false)
                .describe("Whether nginx.ingress.kubernetes.io annotations are read."),
        ),
        ("accessLog", object([("enabled", boolean().default(true))])),
        ("limits", client_limits()),
        (
            "trustedHops",
            int32().range(0, 32).describe(
                "How many proxies in front may write X-Forwarded headers; --trusted-hops where it is absent.",
            ),
        ),
    ])
}

fn client_limits() -> Schema {
    let count = |least, most, text: &str| int32().range(least, most).describe(text);
    let time = |text: &str| {
        string()
            .pattern(filter::DURATION)
            .with("maxLength", 32)
            .rule(
                "duration(self) >= duration('1s')",
                "must be at least one second",
            )
            .describe(text)
    };
    object([
        (
            "requestHeadBytes",
            count(1024, 1 << 20, "A request's head; more is 431. Default 65536."),
        ),
        (
            "requestHeaders",
            count(1, 1000, "Header fields of a request; more is 431. Default 100."),
        ),
        (
            "requestTargetBytes",
            count(64, 1 << 16, "A request's target; more is 414. Default 16384."),
        ),
        (
            "requestHeadTimeout",
            time("Time for a request's head. Default 15s."),
        ),
        (
            "idleTimeout",
            time("How long a connection without a request is kept. Default 300s."),
        ),
        (
            "bodyIdleTimeout",
            time("How long an exchange may stand still. Default 300s."),
        ),
        (
            "tlsHandshakeTimeout",
            time("Time for a TLS handshake. Default 10s."),
        ),
        (
            "streams",
            count(1, 10_000, "Streams at once on an HTTP/2 connection. Default 100."),
        ),
        (
            "streamIdleTimeout",
            time("How long a connection of a TLSRoute or TCPRoute may be silent. Default 1h."),
        ),
        (
            "sessionIdleTimeout",
            time("How long a session of UDP may be silent. Default 60s."),
        ),
    ])
    .rule(
        "!has(self.requestTargetBytes) || self.requestTargetBytes <= (has(self.requestHeadBytes) ? self.requestHeadBytes : 65536)",
        "requestTargetBytes must not be more than requestHeadBytes, which covers it",
    )
    .describe("Bounds on what clients of the class may send and how long they may take.")
}

/// `status.ancestors` of a policy (GEP-713).
fn ancestors() -> Schema {
    let section = || string().length(1, 253).pattern(NAME);
    let ancestor = object([
        (
            "group",
            string()
                .with("maxLength", 253)
                .default("gateway.networking.k8s.io"),
        ),
        ("kind", string().length(1, 63).default("Gateway")),
        ("namespace", namespace()),
        ("name", name()),
        ("sectionName", section()),
        ("port", int32().range(1, 65535)),
    ])
    .require(["name"]);
    let status = object([
        ("ancestorRef", ancestor),
        ("controllerName", string().length(1, 253)),
        ("conditions", conditions()),
    ])
    .require(["ancestorRef", "controllerName"]);
    list(status)
        .items(0, 16)
        .describe("What the policy targets, and whether it holds there.")
}

fn conditions() -> Schema {
    let condition = object([
        ("type", string().length(1, 316)),
        ("status", one_of(["True", "False", "Unknown"])),
        ("observedGeneration", int64().with("minimum", 0)),
        ("lastTransitionTime", string().with("format", "date-time")),
        ("reason", string().length(1, 1024)),
        ("message", string().with("maxLength", 32768)),
    ])
    .require(["type", "status", "lastTransitionTime", "reason", "message"]);
    list_by("type", condition).items(0, 8)
}

fn name() -> Schema {
    string().length(1, 253).pattern(NAME)
}

fn namespace() -> Schema {
    string().length(1, 63).pattern(NAMESPACE)
}

fn name_ref() -> Schema {
    object([("name", name())]).require(["name"])
}

fn key_ref() -> Schema {
    object([("name", name()), ("key", string().length(1, 253))]).require(["name", "key"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yaml_is_what_is_validated_against() {
        let documents: Vec<Value> = serde_saphyr::from_multiple(&crds_yaml()).unwrap();
        assert_eq!(documents, crds());
        let kinds: Vec<_> = documents
            .iter()
            .map(|d| d["spec"]["names"]["kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["Filter", "FilterPolicy", "GatewayConfig"]);
        for document in &documents {
            assert_eq!(
                document["spec"]["versions"][0]["subresources"],
                json!({"status": {}})
            );
        }
    }
}
