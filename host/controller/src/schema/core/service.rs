//! Service (`k8s.io/kubernetes/pkg/apis/core/validation`), as far as a gateway reads it.

use serde_json::{Map, Value, json};

use super::{entries, invalid, items, number, text};
use crate::api::path::FieldPath;
use crate::schema::errors::Errors;
use crate::schema::names;

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// `targetPort` is `port` where it is absent.
pub(super) fn default_target_ports(object: &mut Map<String, Value>) {
    let ports = object
        .get_mut("spec")
        .and_then(|spec| spec.get_mut("ports"))
        .and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        let unset = matches!(port.get("targetPort"), None | Some(Value::Null))
            || port
                .get("targetPort")
                .is_some_and(|t| *t == json!(0) || *t == json!(""));
        if let Some(number) = port.get("port").cloned().filter(|_| unset) {
            port.insert("targetPort".to_owned(), number);
        }
    }
}

pub(super) fn check(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    let path = FieldPath::Root("spec");
    let kind = text(spec, "type");
    let ports = items(spec, "ports");
    let headless = text(spec, "clusterIP") == "None";
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.required(path.field("ports"), "");
    }
    match kind {
        "ClusterIP" => {}
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid_text(path.field("clusterIPs").index(0), "None", &detail);
        }
        "LoadBalancer" | "NodePort" => {}
        "ExternalName" => check_external_name(spec, &path, errors),
        _ => errors.unsupported(
            path.field("type"),
            &spec["type"],
            ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        ),
    }
    check_ports(ports, kind, &path.field("ports"), errors);
    for (key, value) in entries(spec, "selector") {
        let value = value.as_str().unwrap_or_default();
        invalid(errors, path.field("selector"), key, names::label_key(key));
        invalid(
            errors,
            path.field("selector"),
            value,
            names::label_value(value),
        );
    }
    if !matches!(text(spec, "sessionAffinity"), "ClientIP" | "None") {
        errors.unsupported(
            path.field("sessionAffinity"),
            &spec["sessionAffinity"],
            ["ClientIP", "None"],
        );
    }
}

fn check_external_name(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if !text(spec, "clusterIP").is_empty() || !items(spec, "clusterIPs").is_empty() {
        errors.forbidden(
            path.field("clusterIPs"),
            "may not be set for ExternalName services",
        );
    }
    let name = text(spec, "externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.required(path.field("externalName"), ""),
        name => invalid(
            errors,
            path.field("externalName"),
            name,
            names::dns1123_subdomain(name),
        ),
    }
}

fn check_ports(ports: &[Value], kind: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut taken_names = Vec::new();
    let mut taken = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        match text(port, "name") {
            "" if ports.len() > 1 => errors.required(path.field("name"), ""),
            "" => {}
            name => {
                invalid(errors, path.field("name"), name, names::dns1123_label(name));
                if taken_names.contains(&name) {
                    errors.duplicate(path.field("name"), &Value::from(name));
                }
                taken_names.push(name);
            }
        }
        check_port(port, &path, errors);
        if kind == "ClusterIP" && number(port, "nodePort") != 0 {
            errors.forbidden(
                path.field("nodePort"),
                "may not be used when `type` is 'ClusterIP'",
            );
        }
        let key = (text(port, "protocol"), number(port, "port"));
        if taken.contains(&key) {
            errors.duplicate(path, &json!({"protocol": key.0, "port": key.1}));
        }
        taken.push(key);
    }
}

fn check_port(port: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let value = number(port, "port");
    for detail in names::port_number(value) {
        errors.invalid(path.field("port"), &Value::from(value), &detail);
    }
    if !PROTOCOLS.contains(&text(port, "protocol")) {
        errors.unsupported(path.field("protocol"), &port["protocol"], PROTOCOLS);
    }
    let wrong = match port.get("targetPort") {
        Some(Value::String(name)) => names::port_name(name),
        Some(target) => names::port_number(target.as_i64().unwrap_or_default()),
        // Only where `port` is absent too, which is reported.
        None => Vec::new(),
    };
    for detail in wrong {
        errors.invalid(path.field("targetPort"), &port["targetPort"], &detail);
    }
    if let Some(protocol) = port.get("appProtocol").and_then(Value::as_str) {
        invalid(
            errors,
            path.field("appProtocol"),
            protocol,
            names::label_key(protocol),
        );
    }
}
