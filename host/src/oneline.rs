//! `tidegate proxy`: one line, no manifests. It writes the manifests that say the same, and serves those: one way through everything.

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tidegate_controller::translate::Options;

use crate::args::OneLine;
use crate::serve;
use crate::source::Origin;

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(arguments: &OneLine) -> anyhow::Result<u8> {
    if arguments.config.len() > arguments.filter.len() {
        bail!(
            "there are more --config than --filter; each --config belongs to the filter at the same place"
        );
    }
    let objects = manifests(arguments)?;
    let folder = tempfile::tempdir().context("no folder for the manifests")?;
    let path = folder.path().join("proxy.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(&path, serde_json::to_vec_pretty(&list)?)?;
    let options = Options {
        bind: vec![arguments.listen.ip()],
        ..Options::default()
    };
    let origin = Origin::Files(vec![folder.path().to_owned()]);
    serve::serve(origin, options, &arguments.process, None)
}

fn manifests(arguments: &OneLine) -> anyhow::Result<Vec<Value>> {
    let to = &arguments.to;
    let (Some(scheme), Some(host)) = (to.scheme_str(), to.host()) else {
        bail!("--to {to}: expected a URL, as http://127.0.0.1:3000");
    };
    if !matches!(scheme, "http" | "https") || !matches!(to.path(), "" | "/") {
        bail!("--to {to}: expected http:// or https://, a host and a port, without a path");
    }
    let port = to
        .port_u16()
        .unwrap_or(if scheme == "https" { 443 } else { 80 });
    let address: Option<std::net::IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let mut objects = vec![
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "proxy"},
            "spec": {"gatewayClassName": "tidegate",
                "listeners": [{"name": "http", "port": arguments.listen.port(), "protocol": "HTTP"}]}}),
    ];
    let service = json!({"name": "to", "port": port});
    match address {
        Some(address) => {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            objects.push(
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "to"},
                "spec": {"ports": [{"port": port}]}}),
            );
            objects.push(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": "to", "labels": {"kubernetes.io/service-name": "to"}},
                "addressType": family, "ports": [{"port": port}], "endpoints": [{"addresses": [address]}]}));
        }
        None => objects.push(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "to"},
            "spec": {"type": "ExternalName", "externalName": host, "ports": [{"port": port}]}}),
        ),
    }
    if scheme == "https" {
        objects.push(
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy",
            "metadata": {"name": "to"},
            "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "to"}],
                "validation": {"hostname": host, "wellKnownCACertificates": "System"}}}),
        );
    }
    let mut references = Vec::new();
    for (at, filter) in arguments.filter.iter().enumerate() {
        let name = format!("filter-{at}");
        objects.push(filter_object(&name, filter, arguments.config.get(at))?);
        references.push(json!({"type": "ExtensionRef",
            "extensionRef": {"group": "tidegate.dev", "kind": "Filter", "name": name}}));
    }
    objects.push(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "proxy"},
        "spec": {"parentRefs": [{"name": "proxy"}], "rules": [{"filters": references, "backendRefs": [service]}]}}));
    Ok(objects)
}

fn filter_object(name: &str, filter: &str, config: Option<&String>) -> anyhow::Result<Value> {
    let module = if tidegate_filters::get(filter).is_some() {
        json!({"builtin": filter})
    } else {
        let path = std::fs::canonicalize(filter).with_context(|| {
            format!("--filter {filter}: neither a bundled filter nor a file that can be read")
        })?;
        json!({"file": path})
    };
    let mut spec = json!({"module": module});
    if let Some(config) = config {
        // What is JSON is passed as JSON; anything else as the text it is.
        spec["config"] =
            serde_json::from_str(config).unwrap_or_else(|_| Value::String(config.clone()));
    }
    Ok(
        json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "Filter", "metadata": {"name": name}, "spec": spec}),
    )
}
