//! Core kinds, good and bad, with the exact words.

#![allow(
    clippy::needless_pass_by_value,
    reason = "cases read better when they are built in place"
)]

use serde_json::{Value, json};

use crate::schema::admit;

/// Admits an object of a kind with a valid name, merged with what the case brings.
fn told(api_version: &str, kind: &str, body: Value) -> (Value, Vec<String>) {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}});
    if !matches!(kind, "IngressClass" | "Namespace") {
        object["metadata"]["namespace"] = json!("default");
    }
    for (field, value) in body.as_object().unwrap() {
        object[field] = value.clone();
    }
    let admission = admit(&mut object);
    assert_eq!(admission.warnings, Vec::<String>::new(), "{object}");
    (
        object,
        admission.errors.iter().map(ToString::to_string).collect(),
    )
}

fn table(api_version: &str, kind: &str, cases: Vec<(Value, Vec<&str>)>) {
    for (body, expected) in cases {
        let (_, errors) = told(api_version, kind, body.clone());
        assert_eq!(errors, expected, "{kind} {body}");
    }
}

fn ingress(path: Value) -> Value {
    json!({"spec": {"rules": [{"http": {"paths": [path]}}]}})
}

#[test]
fn ingresses() {
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let with =
        |backend: Value| ingress(json!({"path": "/", "pathType": "Prefix", "backend": backend}));
    let path = |path: &str, kind: &str| {
        ingress(json!({"path": path, "pathType": kind, "backend": backend}))
    };
    let host = |host: &str| json!({"spec": {"rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Exact", "backend": backend}]}}]}});
    table(
        "networking.k8s.io/v1",
        "Ingress",
        vec![
            (path("/", "Prefix"), vec![]),
            (path("", "ImplementationSpecific"), vec![]),
            (json!({"spec": {"defaultBackend": backend}}), vec![]),
            (
                json!({}),
                vec![
                    "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified",
                ],
            ),
            (
                json!({"spec": {"rules": [{"http": {}}]}}),
                vec!["spec.rules[0].http.paths: Required value"],
            ),
            (
                ingress(json!({"path": "/", "backend": backend})),
                vec![
                    "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
                ],
            ),
            (
                path("a", "Exact"),
                vec![
                    r#"spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path"#,
                ],
            ),
            (
                path("a", "ImplementationSpecific"),
                vec![
                    r#"spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path"#,
                ],
            ),
            (
                path("/a//b", "Prefix"),
                vec![
                    r#"spec.rules[0].http.paths[0].path: Invalid value: "/a//b": must not contain '//'"#,
                ],
            ),
            (
                path("/a/..", "Prefix"),
                vec![
                    r#"spec.rules[0].http.paths[0].path: Invalid value: "/a/..": cannot end with '/..'"#,
                ],
            ),
            (
                path("/", "Regex"),
                vec![
                    r#"spec.rules[0].http.paths[0].pathType: Unsupported value: "Regex": supported values: "Exact", "ImplementationSpecific", "Prefix""#,
                ],
            ),
            (
                with(json!({})),
                vec![
                    r#"spec.rules[0].http.paths[0].backend: Invalid value: "": resource or service backend is required"#,
                ],
            ),
            (
                with(json!({"service": {"name": "s"}})),
                vec![
                    "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
                ],
            ),
            (
                with(json!({"service": {"port": {"number": 80}}})),
                vec!["spec.rules[0].http.paths[0].backend.service.name: Required value"],
            ),
            (
                with(json!({"service": {"name": "s", "port": {"number": 80, "name": "http"}}})),
                vec![
                    r#"spec.rules[0].http.paths[0].backend: Invalid value: "": cannot set both port name & port number"#,
                ],
            ),
            (
                with(json!({"service": {"name": "s", "port": {"number": 70000}}})),
                vec![
                    "spec.rules[0].http.paths[0].backend.service.port.number: Invalid value: 70000: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                with(
                    json!({"service": {"name": "s", "port": {"number": 80}}, "resource": {"kind": "K", "name": "n"}}),
                ),
                vec![
                    r#"spec.rules[0].http.paths[0].backend: Invalid value: "": cannot set both resource and service backends"#,
                ],
            ),
            (
                with(json!({"resource": {"kind": "K"}})),
                vec!["spec.rules[0].http.paths[0].backend.resource.name: Required value"],
            ),
            (host("a.example"), vec![]),
            (host("*.example"), vec![]),
            (
                host("10.0.0.1"),
                vec![
                    r#"spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#,
                ],
            ),
            (
                host("a.*.b"),
                vec![
                    r#"spec.rules[0].host: Invalid value: "a.*.b": a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#,
                ],
            ),
            (
                json!({"spec": {"defaultBackend": backend, "tls": [{"hosts": ["A"], "secretName": "s"}]}}),
                vec![
                    r#"spec.tls[0].hosts[0]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#,
                ],
            ),
            (
                json!({"spec": {"defaultBackend": backend, "ingressClassName": "a"}, "metadata": {"name": "x", "namespace": "d", "annotations": {"kubernetes.io/ingress.class": "a"}}}),
                vec![],
            ),
            (
                json!({"spec": {"defaultBackend": backend, "ingressClassName": "a"}, "metadata": {"name": "x", "namespace": "d", "annotations": {"kubernetes.io/ingress.class": "b"}}}),
                vec![
                    r#"annotations.kubernetes.io/ingress.class: Invalid value: "b": must match `ingressClassName` when both are specified"#,
                ],
            ),
            (
                json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": "80"}}}}}),
                vec![
                    r#"spec.defaultBackend.service.port.number: Invalid value: "string": spec.defaultBackend.service.port.number in body must be of type integer: "string""#,
                ],
            ),
        ],
    );
}

#[test]
fn ingress_classes() {
    let with = |parameters: Value| json!({"spec": {"controller": "tidegate.dev/controller", "parameters": parameters}});
    table(
        "networking.k8s.io/v1",
        "IngressClass",
        vec![
            (with(json!({"kind": "K", "name": "n"})), vec![]),
            (
                with(json!({"kind": "K", "name": "n", "scope": "Namespace", "namespace": "a"})),
                vec![],
            ),
            (
                with(json!({"kind": "K", "name": "n", "scope": "Namespace"})),
                vec![
                    "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
                ],
            ),
            (
                with(json!({"kind": "K", "name": "n", "namespace": "a"})),
                vec![
                    "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
                ],
            ),
            (
                with(json!({"kind": "K", "name": "n", "scope": "Pod"})),
                vec![
                    r#"spec.parameters.scope: Unsupported value: "Pod": supported values: "Cluster", "Namespace""#,
                ],
            ),
            (json!({"spec": {}}), vec!["spec.controller: Required value"]),
            (
                json!({"spec": {"controller": "x"}}),
                vec![
                    r#"spec.controller: Invalid value: "x": must be a domain-prefixed path (such as "acme.io/foo")"#,
                ],
            ),
        ],
    );
    let (object, _) = told(
        "networking.k8s.io/v1",
        "IngressClass",
        with(json!({"kind": "K", "name": "n"})),
    );
    assert_eq!(object["spec"]["parameters"]["scope"], "Cluster");
}

#[test]
fn services() {
    let ports = |ports: Value| json!({"spec": {"ports": ports}});
    table(
        "v1",
        "Service",
        vec![
            (ports(json!([{"port": 80}])), vec![]),
            (json!({}), vec!["spec.ports: Required value"]),
            (json!({"spec": {"clusterIP": "None"}}), vec![]),
            (
                json!({"spec": {"type": "ExternalName", "externalName": "a.example."}}),
                vec![],
            ),
            (
                json!({"spec": {"type": "ExternalName"}}),
                vec!["spec.externalName: Required value"],
            ),
            (
                json!({"spec": {"type": "Odd", "ports": [{"port": 1}]}}),
                vec![
                    r#"spec.type: Unsupported value: "Odd": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#,
                ],
            ),
            (
                ports(json!([{"port": 80}, {"port": 81, "name": "b"}])),
                vec!["spec.ports[0].name: Required value"],
            ),
            (
                ports(json!([{"port": 80, "name": "a"}, {"port": 81, "name": "a"}])),
                vec![r#"spec.ports[1].name: Duplicate value: "a""#],
            ),
            (
                ports(json!([{"port": 80, "name": "a"}, {"port": 80, "name": "b"}])),
                vec![r#"spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}"#],
            ),
            (
                ports(json!([{}])),
                vec![
                    "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                ports(json!([{"port": 80, "protocol": "QUIC"}])),
                vec![
                    r#"spec.ports[0].protocol: Unsupported value: "QUIC": supported values: "SCTP", "TCP", "UDP""#,
                ],
            ),
            (
                ports(json!([{"port": 80, "targetPort": "HTTP"}])),
                vec![
                    r#"spec.ports[0].targetPort: Invalid value: "HTTP": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"#,
                    r#"spec.ports[0].targetPort: Invalid value: "HTTP": must contain at least one letter (a-z)"#,
                ],
            ),
            (
                json!({"metadata": {"name": "a.b", "namespace": "d"}, "spec": {"ports": [{"port": 1}]}}),
                vec![r#"metadata.name: Invalid value: "a.b": must not contain dots"#],
            ),
        ],
    );
    let (object, _) = told("v1", "Service", ports(json!([{"port": 80}])));
    assert_eq!(
        object["spec"]["ports"][0],
        json!({"port": 80, "targetPort": 80, "protocol": "TCP"})
    );
    assert_eq!(object["spec"]["type"], "ClusterIP");
}

#[test]
fn endpoint_slices() {
    let one = |kind: &str, address: &str| json!({"addressType": kind, "endpoints": [{"addresses": [address]}], "ports": [{"port": 80}]});
    table(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        vec![
            (one("IPv4", "127.0.0.1"), vec![]),
            (one("IPv6", "::1"), vec![]),
            (one("FQDN", "a.example"), vec![]),
            (
                json!({"endpoints": []}),
                vec!["addressType: Required value"],
            ),
            (
                json!({"addressType": "IP"}),
                vec![
                    r#"addressType: Unsupported value: "IP": supported values: "FQDN", "IPv4", "IPv6""#,
                ],
            ),
            (
                one("IPv4", "localhost"),
                vec![
                    r#"endpoints[0].addresses[0]: Invalid value: "localhost": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
                ],
            ),
            (
                one("IPv4", "::1"),
                vec![r#"endpoints[0].addresses: Invalid value: "::1": must be an IPv4 address"#],
            ),
            (
                one("IPv4", "0.0.0.0"),
                vec![
                    r#"endpoints[0].addresses[0]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)"#,
                ],
            ),
            (
                one("FQDN", "a"),
                vec![
                    r#"endpoints[0].addresses[0]: Invalid value: "a": should be a domain with at least two segments separated by dots"#,
                ],
            ),
            (
                json!({"addressType": "IPv4", "endpoints": [{}]}),
                vec!["endpoints[0].addresses: Required value: must contain at least 1 address"],
            ),
            (
                json!({"addressType": "IPv4", "ports": [{"port": 1}, {"port": 2}]}),
                vec![r#"ports[1].name: Duplicate value: """#],
            ),
        ],
    );
}

#[test]
fn secrets_and_config_maps() {
    table(
        "v1",
        "Secret",
        vec![
            (json!({"data": {"a": "aGk="}}), vec![]),
            (
                json!({"data": {"a": "hi!"}}),
                vec![
                    r#"data[a]: Invalid value: "<secret contents redacted>": illegal base64 data; write plain text under stringData"#,
                ],
            ),
            (
                json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "aGk="}}),
                vec!["data[tls.key]: Required value"],
            ),
            (
                json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": "x", "tls.key": "y"}}),
                vec![],
            ),
            (
                json!({"type": "kubernetes.io/basic-auth"}),
                vec![
                    "data[username]: Required value",
                    "data[password]: Required value",
                ],
            ),
            (
                json!({"type": "kubernetes.io/basic-auth", "stringData": {"password": "p"}}),
                vec![],
            ),
            (
                json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{}"}}),
                vec![],
            ),
            (
                json!({"data": {"a/b": "aGk="}}),
                vec![
                    r#"data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"#,
                ],
            ),
            (
                json!({"stringData": {"a": 1}}),
                vec![
                    r#"stringData.a: Invalid value: "integer": stringData.a in body must be of type string: "integer""#,
                ],
            ),
        ],
    );
    let (object, _) = told(
        "v1",
        "Secret",
        json!({"data": {"a": "aGk=", "b": "aGk="}, "stringData": {"a": "other"}}),
    );
    assert_eq!(object["data"], json!({"a": "b3RoZXI=", "b": "aGk="}));
    assert_eq!(
        (object.get("stringData"), &object["type"]),
        (None, &json!("Opaque"))
    );
    table(
        "v1",
        "ConfigMap",
        vec![
            (
                json!({"data": {"a": "x"}, "binaryData": {"b": "aGk="}}),
                vec![],
            ),
            (
                json!({"data": {"a": "x"}, "binaryData": {"a": "aGk="}}),
                vec![r#"data[a]: Invalid value: "a": duplicate of key present in binaryData"#],
            ),
            (
                json!({"binaryData": {"a": "?"}}),
                vec![r#"binaryData[a]: Invalid value: "?": illegal base64 data"#],
            ),
            (
                json!({"metadata": {"namespace": "d"}, "data": {"a": "x"}, "binaryData": {"a": "?"}}),
                vec![
                    "metadata.name: Required value: name or generateName is required",
                    r#"data[a]: Invalid value: "a": duplicate of key present in binaryData"#,
                    r#"binaryData[a]: Invalid value: "?": illegal base64 data"#,
                ],
            ),
            (
                json!({"data": {"a": true}}),
                vec![
                    r#"data.a: Invalid value: "boolean": data.a in body must be of type string: "boolean""#,
                ],
            ),
        ],
    );
}

#[test]
fn a_namespace_is_labelled_with_its_name() {
    let (object, errors) = told("v1", "Namespace", json!({}));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        object["metadata"]["labels"],
        json!({"kubernetes.io/metadata.name": "x"})
    );
}
