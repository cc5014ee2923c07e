//! The objects of cases, and what their statuses must say.

use serde_json::{Value, json};
use tidegate_testing::Certificate;

use super::case::{Case, Ingress};
use super::send::Upstreams;

const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// The manifests of all cases. Each has a namespace with the Services `up`, `other`, `auth`, `secure` (over TLS), `two` (the first
/// two) and `empty`, and the Secret `tls`.
pub(super) fn manifests(
    cases: &[Case],
    certificate: &Certificate,
    upstreams: &Upstreams,
) -> String {
    let mut objects = vec![
        json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "GatewayConfig", "metadata": {"name": "nginx", "namespace": "platform"},
            "spec": {"ingressNginxAnnotations": true}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nginx"},
            "spec": {"controller": "tidegate.dev/controller", "parameters": {"apiGroup": "tidegate.dev", "kind": "GatewayConfig",
                "scope": "Namespace", "namespace": "platform", "name": "nginx"}}}),
    ];
    for case in cases {
        let namespace = case.namespace();
        for (name, addresses) in upstreams.services() {
            objects.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
                "spec": {"ports": [{"name": "http", "port": 80}]}}));
            for (at, address) in addresses.iter().enumerate() {
                objects.push(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                    "metadata": {"name": format!("{name}-{at}"), "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
                    "ports": [{"name": "http", "port": address.port()}],
                    "endpoints": [{"addresses": [address.ip()], "conditions": {"ready": true}}]}));
            }
        }
        objects.push(
            json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "tls", "namespace": namespace},
            "stringData": {"tls.crt": certificate.chain, "tls.key": certificate.key}}),
        );
        for object in &case.objects {
            let mut object = object.clone();
            object["metadata"]["namespace"] = namespace.clone().into();
            objects.push(object);
        }
        objects.extend(
            case.ingresses
                .iter()
                .map(|ingress| manifest(&namespace, ingress)),
        );
    }
    // JSON is YAML.
    let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
    documents.join("\n---\n")
}

fn manifest(namespace: &str, ingress: &Ingress) -> Value {
    let annotations: serde_json::Map<String, Value> = ingress
        .annotations
        .iter()
        .map(|(name, value)| (format!("{PREFIX}{name}"), value.as_str().into()))
        .collect();
    let paths: Vec<Value> = ingress
        .paths
        .iter()
        .map(|path| {
            json!({"path": path.path, "pathType": path.r#type,
                "backend": {"service": {"name": path.to, "port": {"number": 80}}}})
        })
        .collect();
    let mut spec = json!({"ingressClassName": "nginx", "rules": [{"host": ingress.host, "http": {"paths": paths}}]});
    if ingress.tls {
        spec["tls"] = json!([{"hosts": [ingress.host], "secretName": "tls"}]);
    }
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": ingress.name, "namespace": namespace, "annotations": annotations}, "spec": spec})
}

/// What the statuses do not say as they should.
pub(super) fn check_status(case: &Case, status: &Value) -> Vec<String> {
    let namespace = case.namespace();
    let find = |name: &str| {
        let objects = status["objects"].as_array().unwrap();
        objects
            .iter()
            .find(|object| {
                object["kind"] == "Ingress"
                    && object["namespace"] == *namespace
                    && object["name"] == *name
            })
            .unwrap_or_else(|| panic!("{}: no status of Ingress {name}", case.name))
    };
    let mut failures = Vec::new();
    for ingress in &case.ingresses {
        let accepted = accepted(find(&ingress.name));
        let expected = case
            .status
            .iter()
            .filter(|expected| expected.ingress == ingress.name);
        // What a case does not say is that all is well.
        if accepted != expected.clone().all(|expected| expected.accepted) {
            failures.push(format!(
                "{}: Ingress {} is accepted: {accepted}; {}",
                case.name,
                ingress.name,
                find(&ingress.name)
            ));
        }
        for expected in expected {
            let text = find(&ingress.name).to_string();
            if !text.contains(&expected.says) {
                failures.push(format!(
                    "{}: {:?} is not said: {text}",
                    case.name, expected.says
                ));
            }
        }
    }
    failures
}

fn accepted(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().unwrap();
    conditions
        .iter()
        .any(|condition| condition["type"] == "Accepted" && condition["status"] == "True")
}
