//! Manifests that many tests begin with. Each is one or more YAML documents that begin with `---`.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// A Gateway `test` with an HTTP listener on port 80.
pub const GATEWAY: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: test}
spec:
  gatewayClassName: tidegate
  listeners:
  - {name: http, port: 80, protocol: HTTP}
";

/// A Service of that name, port 80, and its endpoints.
pub fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    service_speaking(name, endpoints, "")
}

/// The same with an `appProtocol`, as `kubernetes.io/h2c`.
pub fn service_speaking(name: &str, endpoints: &[SocketAddr], protocol: &str) -> String {
    let protocol = if protocol.is_empty() {
        String::new()
    } else {
        format!(", appProtocol: {protocol}")
    };
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports:\n  - {{name: http, port: 80{protocol}}}\n"
    );
    for (at, endpoint) in endpoints.iter().enumerate() {
        let (ip, port) = (endpoint.ip(), endpoint.port());
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-{at}\n  labels: {{kubernetes.io/service-name: {name}}}\naddressType: IPv4\nports:\n- {{name: http, port: {port}}}\nendpoints:\n- {{addresses: [{ip}], conditions: {{ready: true}}}}\n"
        );
    }
    text
}

/// A Gateway `test` with these listeners, each in YAML's flow style.
pub fn gateway(listeners: &[&str]) -> String {
    let listeners: String = listeners
        .iter()
        .map(|listener| format!("  - {listener}\n"))
        .collect();
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: test}}\nspec:\n  gatewayClassName: tidegate\n  listeners:\n{listeners}"
    )
}

/// A TLSRoute, TCPRoute or UDPRoute on the Gateway `test`; `more` is more of its spec in lines indented by two, `backends` the
/// YAML of its `backendRefs` in flow style.
pub fn stream_route(kind: &str, name: &str, more: &str, backends: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  parentRefs: [{{name: test}}]\n{more}  rules: [{{backendRefs: {backends}}}]\n"
    )
}

/// A Service of port 53 for UDP, and the endpoint behind it.
pub fn datagram_service(name: &str, endpoint: SocketAddr) -> String {
    let (ip, port) = (endpoint.ip(), endpoint.port());
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{name: dns, port: 53, protocol: UDP}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: dns, port: {port}, protocol: UDP}}]
endpoints: [{{addresses: [{ip}]}}]
"
    )
}

/// An HTTPRoute on the Gateway `test`; `rules` is the YAML of `spec.rules`, in flow style or indented by two.
pub fn route(name: &str, hostnames: &[&str], rules: &str) -> String {
    let hostnames = if hostnames.is_empty() {
        String::new()
    } else {
        format!("  hostnames: {hostnames:?}\n")
    };
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  parentRefs: [{{name: test}}]\n{hostnames}  rules: {rules}\n"
    )
}

/// A rule that sends everything to the Service `up`, with more fields of the rule as `, name: value`.
pub fn rule(more: &str) -> String {
    format!("[{{backendRefs: [{{name: up, port: 80}}]{more}}}]")
}

/// [`GATEWAY`], a Service `up` with this endpoint, and a route that sends everything there.
pub fn everything_to(endpoint: SocketAddr) -> String {
    format!(
        "{GATEWAY}{}{}",
        service("up", &[endpoint]),
        route("all", &[], &rule(""))
    )
}

/// A Filter whose module is a file; `spec` is more of its spec as `, name: value`.
pub fn filter(name: &str, file: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: tidegate.dev/v1alpha1\nkind: Filter\nmetadata: {{name: {name}}}\nspec: {{module: {{file: ./{file}}}{spec}}}\n"
    )
}

/// [`GATEWAY`], a Service `up` with this endpoint, and a route that sends everything there, past Filters whose modules are
/// `<name>.wasm`; `spec` is more of their spec.
pub fn past(endpoint: SocketAddr, names: &[&str], spec: &str) -> String {
    let filters: String = names
        .iter()
        .map(|name| filter(name, &format!("{name}.wasm"), spec))
        .collect();
    let rule = rule(&self::filters(names));
    format!(
        "{GATEWAY}{}{filters}{}",
        service("up", &[endpoint]),
        route("all", &[], &rule)
    )
}

/// `, filters: […]` of a rule or backendRef: references to Filters.
pub fn filters(names: &[&str]) -> String {
    let reference = |name: &&str| {
        format!(
            "{{type: ExtensionRef, extensionRef: {{group: tidegate.dev, kind: Filter, name: {name}}}}}"
        )
    };
    format!(
        ", filters: [{}]",
        names.iter().map(reference).collect::<Vec<_>>().join(", ")
    )
}
