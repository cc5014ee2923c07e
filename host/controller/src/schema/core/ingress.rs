//! Ingress and IngressClass (`k8s.io/kubernetes/pkg/apis/networking/validation`).

use std::net::IpAddr;

use serde_json::Value;

use super::{invalid, items, number, text};
use crate::api::core::INGRESS_CLASS_ANNOTATION;
use crate::api::path::FieldPath;
use crate::schema::errors::Errors;
use crate::schema::names;

const MUST_NOT_CONTAIN: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const MUST_NOT_END_WITH: [&str; 2] = ["/..", "/."];

pub(super) fn check_ingress(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    let path = FieldPath::Root("spec");
    let rules = items(spec, "rules");
    if let Some(backend) = spec.get("defaultBackend") {
        check_backend(backend, &path.field("defaultBackend"), errors);
    } else if rules.is_empty() {
        let empty = spec.get("rules").unwrap_or(&Value::Null);
        errors.invalid(
            path,
            empty,
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    let list = path.field("rules");
    for (index, rule) in rules.iter().enumerate() {
        check_rule(rule, &list.index(index), errors);
    }
    check_tls(spec, &path.field("tls"), errors);
    let class = spec.get("ingressClassName").and_then(Value::as_str);
    if let Some(class) = class {
        invalid(
            errors,
            path.field("ingressClassName"),
            class,
            names::dns1123_subdomain(class),
        );
    }
    let legacy = object["metadata"]["annotations"]
        .get(INGRESS_CLASS_ANNOTATION)
        .and_then(Value::as_str);
    if let (Some(class), Some(legacy)) = (class, legacy)
        && class != legacy
    {
        errors.invalid_text(
            FieldPath::Root("annotations").field(INGRESS_CLASS_ANNOTATION),
            legacy,
            "must match `ingressClassName` when both are specified",
        );
    }
}

fn check_rule(rule: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let host = text(rule, "host");
    if !host.is_empty() {
        let field = path.field("host");
        if host.parse::<IpAddr>().is_ok() {
            errors.invalid_text(field, host, "must be a DNS name, not an IP address");
        }
        invalid(errors, field, host, host_errors(host));
    }
    let Some(http) = rule.get("http") else {
        return;
    };
    let http_path = path.field("http");
    let list = http_path.field("paths");
    let paths = items(http, "paths");
    if paths.is_empty() {
        errors.required(list, "");
    }
    for (index, path) in paths.iter().enumerate() {
        check_path(path, &list.index(index), errors);
    }
}

fn host_errors(host: &str) -> Vec<String> {
    if host.contains('*') {
        names::wildcard_subdomain(host)
    } else {
        names::dns1123_subdomain(host)
    }
}

fn check_path(value: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let Some(path_type) = value.get("pathType") else {
        return errors.required(path.field("pathType"), "pathType must be specified");
    };
    let (text, field) = (text(value, "path"), path.field("path"));
    let relative = !text.starts_with('/');
    match path_type.as_str() {
        Some("Exact" | "Prefix") => {
            if relative {
                errors.invalid_text(field, text, "must be an absolute path");
            }
            for part in MUST_NOT_CONTAIN.iter().filter(|part| text.contains(**part)) {
                errors.invalid_text(field, text, &format!("must not contain '{part}'"));
            }
            for end in MUST_NOT_END_WITH.iter().filter(|end| text.ends_with(**end)) {
                errors.invalid_text(field, text, &format!("cannot end with '{end}'"));
            }
        }
        Some("ImplementationSpecific") => {
            if relative && !text.is_empty() {
                errors.invalid_text(field, text, "must be an absolute path");
            }
        }
        _ => errors.unsupported(
            path.field("pathType"),
            path_type,
            ["Exact", "ImplementationSpecific", "Prefix"],
        ),
    }
    check_backend(
        value.get("backend").unwrap_or(&Value::Null),
        &path.field("backend"),
        errors,
    );
}

fn check_backend(backend: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    match (backend.get("resource"), backend.get("service")) {
        (Some(_), Some(_)) => {
            errors.invalid_text(path, "", "cannot set both resource and service backends")
        }
        (Some(resource), None) => check_reference(resource, &path.field("resource"), errors),
        (None, Some(service)) => check_service(service, path, errors),
        (None, None) => errors.invalid_text(path, "", "resource or service backend is required"),
    }
}

fn check_service(service: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let field = path.field("service");
    match text(service, "name") {
        "" => errors.required(field.field("name"), ""),
        name => invalid(
            errors,
            field.field("name"),
            name,
            names::dns1123_label(name),
        ),
    }
    let port = service.get("port").unwrap_or(&Value::Null);
    let port_path = field.field("port");
    match (text(port, "name"), number(port, "number")) {
        ("", 0) => errors.required(path, "port name or number is required"),
        ("", port) => {
            for detail in names::port_number(port) {
                errors.invalid(port_path.field("number"), &Value::from(port), &detail);
            }
        }
        (name, 0) => invalid(
            errors,
            port_path.field("name"),
            name,
            names::port_name(name),
        ),
        _ => errors.invalid_text(path, "", "cannot set both port name & port number"),
    }
}

/// A reference with `apiGroup`, `kind` and `name`.
fn check_reference(reference: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if let Some(group) = reference.get("apiGroup").and_then(Value::as_str) {
        invalid(
            errors,
            path.field("apiGroup"),
            group,
            names::dns1123_subdomain(group),
        );
    }
    for field in ["kind", "name"] {
        match text(reference, field) {
            "" => errors.required(path.field(field), ""),
            value => invalid(errors, path.field(field), value, names::path_segment(value)),
        }
    }
}

fn check_tls(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    for (index, tls) in items(spec, "tls").iter().enumerate() {
        let path = path.index(index);
        let hosts = path.field("hosts");
        for (index, host) in items(tls, "hosts")
            .iter()
            .filter_map(Value::as_str)
            .enumerate()
        {
            invalid(errors, hosts.index(index), host, host_errors(host));
        }
        let secret = text(tls, "secretName");
        if !secret.is_empty() {
            invalid(
                errors,
                path.field("secretName"),
                secret,
                names::dns1123_subdomain(secret),
            );
        }
    }
}

pub(super) fn check_class(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    let path = FieldPath::Root("spec");
    check_controller(text(spec, "controller"), &path.field("controller"), errors);
    let Some(parameters) = spec.get("parameters") else {
        return;
    };
    let path = path.field("parameters");
    check_reference(parameters, &path, errors);
    let namespace = parameters.get("namespace").and_then(Value::as_str);
    match (text(parameters, "scope"), namespace) {
        ("Namespace", None) => errors.required(
            path.field("namespace"),
            "`parameters.scope` is set to 'Namespace'",
        ),
        ("Namespace", Some(namespace)) => {
            invalid(
                errors,
                path.field("namespace"),
                namespace,
                names::dns1123_label(namespace),
            );
        }
        ("Cluster", Some(_)) => {
            errors.forbidden(
                path.field("namespace"),
                "`parameters.scope` is set to 'Cluster'",
            );
        }
        ("Cluster", None) => {}
        _ => errors.unsupported(
            path.field("scope"),
            &parameters["scope"],
            ["Cluster", "Namespace"],
        ),
    }
}

/// A DNS name, `/` and a path.
fn check_controller(controller: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    if controller.len() > 250 {
        errors.too_long(path, 250);
    }
    if controller.is_empty() {
        return errors.required(path, "");
    }
    let Some((host, rest)) = controller
        .split_once('/')
        .filter(|(h, r)| !h.is_empty() && !r.is_empty())
    else {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return errors.invalid_text(path, controller, detail);
    };
    invalid(errors, *path, host, names::dns1123_subdomain(host));
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !rest.bytes().all(allowed) {
        errors.invalid_text(
            path,
            rest,
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        );
    }
}
