//! What the CRDs of the Gateway API refuse.

use serde_json::{Value, json};

use super::table;

#[test]
fn http_routes() {
    let rule = |rule: Value| json!({"rules": [rule]});
    let path = |kind: &str, value: &str| {
        rule(json!({"matches": [{"path": {"type": kind, "value": value}}]}))
    };
    table(
        "HTTPRoute",
        vec![
            (
                json!({"parentRefs": [{"name": "a"}, {"name": "b"}], "hostnames": ["*.example", "a.b"]}),
                vec![],
            ),
            (
                json!({"parentRefs": [{}]}),
                vec!["spec.parentRefs[0].name: Required value"],
            ),
            (
                json!({"parentRefs": [{"name": "a"}, {"name": "a"}]}),
                vec![
                    "spec.parentRefs: Invalid value: sectionName or port must be unique when parentRefs includes 2 or more references to the same parent",
                ],
            ),
            (
                json!({"parentRefs": [{"name": "a", "sectionName": "s"}, {"name": "a"}]}),
                vec![
                    "spec.parentRefs: Invalid value: sectionName or port must be specified when parentRefs includes 2 or more references to the same parent",
                ],
            ),
            (
                json!({"hostnames": ["A"]}),
                vec![
                    r#"spec.hostnames[0]: Invalid value: "A": spec.hostnames[0] in body should match '^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'"#,
                ],
            ),
            (
                rule(json!({"backendRefs": [{"name": "s"}]})),
                vec![
                    "spec.rules[0].backendRefs[0]: Invalid value: Must have port for Service reference",
                ],
            ),
            (
                rule(json!({"backendRefs": [{"port": 80}]})),
                vec!["spec.rules[0].backendRefs[0].name: Required value"],
            ),
            (
                rule(json!({"backendRefs": [{"name": "s", "port": "http"}]})),
                vec![
                    r#"spec.rules[0].backendRefs[0].port: Invalid value: "string": spec.rules[0].backendRefs[0].port in body must be of type integer: "string""#,
                ],
            ),
            (
                rule(json!({"backendRefs": [{"name": "s", "port": 0}]})),
                vec![
                    "spec.rules[0].backendRefs[0].port: Invalid value: 0: spec.rules[0].backendRefs[0].port in body should be greater than or equal to 1",
                ],
            ),
            (path("Exact", "/a"), vec![]),
            (path("RegularExpression", "a["), vec![]),
            (
                path("Prefix", "/a"),
                vec![
                    r#"spec.rules[0].matches[0].path.type: Unsupported value: "Prefix": supported values: "Exact", "PathPrefix", "RegularExpression""#,
                ],
            ),
            (
                path("Exact", "a"),
                vec![
                    "spec.rules[0].matches[0].path: Invalid value: value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']",
                ],
            ),
            (
                path("PathPrefix", "/a//b"),
                vec![
                    "spec.rules[0].matches[0].path: Invalid value: must not contain '//' when type one of ['Exact', 'PathPrefix']",
                ],
            ),
            (
                path("PathPrefix", "/a b"),
                vec![
                    "spec.rules[0].matches[0].path: Invalid value: must only contain valid characters (matching ^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$) for types ['Exact', 'PathPrefix']",
                ],
            ),
            (
                rule(json!({"filters": [{"type": "CORS"}]})),
                vec![
                    "spec.rules[0].filters[0]: Invalid value: filter.cors must be specified for CORS filter.type",
                ],
            ),
            (
                rule(json!({"filters": [{"type": "CORS", "cors": {}, "urlRewrite": {}}]})),
                vec![
                    "spec.rules[0].filters[0]: Invalid value: filter.urlRewrite must be nil if the filter.type is not URLRewrite",
                ],
            ),
            (
                rule(json!({"filters": [{"type": "Snippet"}]})),
                vec![
                    r#"spec.rules[0].filters[0].type: Unsupported value: "Snippet": supported values: "RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite", "ExtensionRef", "CORS", "ExternalAuth""#,
                ],
            ),
            (
                rule(
                    json!({"filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}],
                        "matches": [{"path": {"type": "Exact", "value": "/a"}}]}),
                ),
                vec![
                    "spec.rules[0]: Invalid value: When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified",
                ],
            ),
            (
                rule(json!({"timeouts": {"request": "1s", "backendRequest": "2s"}})),
                vec![
                    "spec.rules[0].timeouts: Invalid value: backendRequest timeout cannot be longer than request timeout",
                ],
            ),
            (
                rule(json!({"timeouts": {"request": "0s", "backendRequest": "2s"}})),
                vec![],
            ),
            (
                rule(json!({"timeouts": {"request": "1 s"}})),
                vec![
                    r#"spec.rules[0].timeouts.request: Invalid value: "1 s": spec.rules[0].timeouts.request in body should match '^([0-9]{1,5}(h|m|s|ms)){1,4}$'"#,
                ],
            ),
            (
                rule(
                    json!({"matches": [{"headers": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]}]}),
                ),
                vec![r#"spec.rules[0].matches[0].headers[1]: Duplicate value: {"name":"a"}"#],
            ),
            (
                json!({"rules": vec![json!({}); 17]}),
                vec!["spec.rules: Too many: 17: must have at most 16 items"],
            ),
            (
                json!({"rules": [{"name": "a"}, {"name": "a"}]}),
                vec!["spec.rules: Invalid value: Rule name must be unique within the route"],
            ),
        ],
    );
}

#[test]
fn gateways() {
    let listeners = |listeners: Value| json!({"gatewayClassName": "c", "listeners": listeners});
    let addresses = |addresses: Value| json!({"gatewayClassName": "c", "listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}], "addresses": addresses});
    table(
        "Gateway",
        vec![
            (
                listeners(json!([{"name": "a", "port": 80, "protocol": "HTTP"}])),
                vec![],
            ),
            (
                listeners(json!([])),
                vec![
                    "spec.listeners: Invalid value: 0: spec.listeners in body should have at least 1 items",
                ],
            ),
            (
                json!({"listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}]}),
                vec!["spec.gatewayClassName: Required value"],
            ),
            (
                listeners(
                    json!([{"name": "a", "port": 80, "protocol": "HTTP", "tls": {"certificateRefs": [{"name": "c"}]}}]),
                ),
                vec![
                    "spec.listeners: Invalid value: tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']",
                ],
            ),
            (
                listeners(
                    json!([{"name": "a", "port": 443, "protocol": "HTTPS", "tls": {"mode": "Passthrough"}}]),
                ),
                vec![
                    "spec.listeners: Invalid value: tls mode must be Terminate for protocol HTTPS",
                ],
            ),
            (
                listeners(json!([{"name": "a", "port": 443, "protocol": "HTTPS", "tls": {}}])),
                vec![
                    "spec.listeners[0].tls: Invalid value: \"object\": no such key: options evaluating rule: certificateRefs or options must be specified when mode is Terminate",
                ],
            ),
            (
                listeners(
                    json!([{"name": "a", "port": 80, "protocol": "HTTP"}, {"name": "b", "port": 80, "protocol": "HTTP"}]),
                ),
                vec![
                    "spec.listeners: Invalid value: Combination of port, protocol and hostname must be unique for each listener",
                ],
            ),
            (
                listeners(
                    json!([{"name": "a", "port": 80, "protocol": "HTTP"}, {"name": "a", "port": 81, "protocol": "HTTP"}]),
                ),
                vec![
                    r#"spec.listeners[1]: Duplicate value: {"name":"a"}"#,
                    "spec.listeners: Invalid value: Listener name must be unique within the Gateway",
                ],
            ),
            (
                listeners(
                    json!([{"name": "a", "port": 1, "protocol": "TCP", "filters": {"requests": []}}]),
                ),
                vec![
                    "spec.listeners[0]: Invalid value: filters may only be set when protocol is HTTP or HTTPS",
                ],
            ),
            (
                addresses(json!([{"value": "10.0.0.1"}, {"type": "Hostname", "value": "a.b"}])),
                vec![],
            ),
            (
                addresses(json!([{"value": "a"}])),
                vec![
                    r#"spec.addresses[0]: Invalid value: "": "spec.addresses[0]" must validate one and only one schema (oneOf). Found none valid"#,
                    r#"spec.addresses[0].value: Invalid value: "": "spec.addresses[0].value" must validate at least one schema (anyOf)"#,
                    r#"spec.addresses[0].value: Invalid value: "a": spec.addresses[0].value in body must be of type ipv4: "a""#,
                ],
            ),
            (
                addresses(json!([{"value": "10.0.0.1"}, {"value": "10.0.0.1"}])),
                vec!["spec.addresses: Invalid value: IPAddress values must be unique"],
            ),
            (
                addresses(json!([{"type": "Hostname", "value": "A"}])),
                vec![
                    "spec.addresses[0]: Invalid value: Hostname value must be empty or contain only valid characters (matching ^(\\*\\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$)",
                ],
            ),
            (
                addresses(json!([{"value": "10.0.0.1", "routability": "a.k8s.io/x"}])),
                vec![
                    r#"spec.addresses[0].routability: Invalid value: "a.k8s.io/x": Routability must be empty, Cluster, or an implementation-specific prefixed path; k8s.io and its subdomains are reserved"#,
                ],
            ),
        ],
    );
}

#[test]
fn other_routes_and_policies() {
    table(
        "GRPCRoute",
        vec![
            (
                json!({"rules": [{"matches": [{"method": {"service": "a.B", "method": "C"}}]}]}),
                vec![],
            ),
            (
                json!({"rules": [{"matches": [{"method": {}}]}]}),
                vec![
                    "spec.rules[0].matches[0].method: Invalid value: One or both of 'service' or 'method' must be specified",
                ],
            ),
            (
                json!({"rules": [{"matches": [{"method": {"service": "a/b"}}]}]}),
                vec![
                    "spec.rules[0].matches[0].method: Invalid value: service must only contain valid characters (matching ^(?i)\\.?[a-z_][a-z_0-9]*(\\.[a-z_][a-z_0-9]*)*$)",
                ],
            ),
        ],
    );
    table(
        "TLSRoute",
        vec![
            (
                json!({"hostnames": ["a.example"], "rules": [{"backendRefs": [{"name": "s", "port": 1}]}]}),
                vec![],
            ),
            (
                json!({"hostnames": ["10.0.0.1"], "rules": [{"backendRefs": [{"name": "s", "port": 1}]}]}),
                vec!["spec.hostnames: Invalid value: Hostnames cannot contain an IP"],
            ),
        ],
    );
    table(
        "TCPRoute",
        vec![(
            json!({"rules": [{}]}),
            vec!["spec.rules[0].backendRefs: Required value"],
        )],
    );
    table(
        "UDPRoute",
        vec![(
            json!({"rules": [{"backendRefs": [{"name": "s", "port": 53}]}]}),
            vec![],
        )],
    );
    table(
        "ReferenceGrant",
        vec![
            (
                json!({"from": [{"group": "", "kind": "A", "namespace": "n"}], "to": [{"group": "", "kind": "B"}]}),
                vec![],
            ),
            (
                json!({"from": [], "to": [{"group": "", "kind": "B"}]}),
                vec!["spec.from: Invalid value: 0: spec.from in body should have at least 1 items"],
            ),
        ],
    );
    table(
        "BackendTLSPolicy",
        vec![
            (
                json!({"targetRefs": [{"group": "", "kind": "Service", "name": "s"}], "validation": {"hostname": "a", "wellKnownCACertificates": "System"}}),
                vec![],
            ),
            (
                json!({"targetRefs": [{"group": "", "kind": "Service", "name": "s"}], "validation": {"hostname": "a"}}),
                vec![
                    "spec.validation: Invalid value: exactly one of the fields in [caCertificateRefs wellKnownCACertificates] must be set",
                ],
            ),
        ],
    );
    table(
        "ListenerSet",
        vec![
            (
                json!({"parentRef": {"name": "g"}, "listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}]}),
                vec![],
            ),
            (
                json!({"parentRef": {"name": "g"}, "listeners": []}),
                vec![
                    "spec.listeners: Invalid value: 0: spec.listeners in body should have at least 1 items",
                ],
            ),
        ],
    );
    table(
        "GatewayClass",
        vec![
            (json!({"controllerName": "tidegate.dev/controller"}), vec![]),
            (
                json!({"controllerName": "tidegate"}),
                vec![
                    r#"spec.controllerName: Invalid value: "tidegate": spec.controllerName in body should match '^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$'"#,
                ],
            ),
        ],
    );
}
