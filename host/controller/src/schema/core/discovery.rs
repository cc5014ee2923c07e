//! EndpointSlice (`k8s.io/kubernetes/pkg/apis/discovery/validation`).
//!
//! One thing is left out on purpose: without a cluster endpoints may be loopback and link-local addresses.

use std::net::IpAddr;

use serde_json::Value;

use super::{invalid, items, text};
use crate::api::path::FieldPath;
use crate::schema::errors::Errors;
use crate::schema::names;

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

pub(super) fn check(object: &Value, errors: &mut Errors) {
    let root = FieldPath::OBJECT;
    let address_type = text(object, "addressType");
    match address_type {
        "" => errors.required("addressType", ""),
        "IPv4" | "IPv6" | "FQDN" => {}
        _ => errors.unsupported(
            "addressType",
            &object["addressType"],
            ["FQDN", "IPv4", "IPv6"],
        ),
    }
    check_ports(items(object, "ports"), &root.field("ports"), errors);
    let endpoints = items(object, "endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        return errors.too_many("endpoints", endpoints.len(), MAX_ENDPOINTS as u64);
    }
    let list = root.field("endpoints");
    for (index, endpoint) in endpoints.iter().enumerate() {
        check_endpoint(endpoint, address_type, &list.index(index), errors);
    }
}

fn check_ports(ports: &[Value], path: &FieldPath<'_>, errors: &mut Errors) {
    if ports.len() > MAX_PORTS {
        return errors.too_many(path, ports.len(), MAX_PORTS as u64);
    }
    let mut taken = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            invalid(errors, path.field("name"), name, names::dns1123_label(name));
        }
        if taken.contains(&name) {
            errors.duplicate(path.field("name"), &Value::from(name));
        }
        taken.push(name);
        if !PROTOCOLS.contains(&text(port, "protocol")) {
            errors.unsupported(path.field("protocol"), &port["protocol"], PROTOCOLS);
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
}

fn check_endpoint(endpoint: &Value, address_type: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.field("addresses");
    let addresses = items(endpoint, "addresses");
    if addresses.is_empty() {
        errors.required(list, "must contain at least 1 address");
    } else if addresses.len() > MAX_ADDRESSES {
        errors.too_many(list, addresses.len(), MAX_ADDRESSES as u64);
    }
    for (index, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
        let path = list.index(index);
        match address_type {
            "IPv4" | "IPv6" => check_ip(address, address_type, &list, &path, errors),
            "FQDN" => check_fqdn(address, &path, errors),
            _ => {}
        }
    }
    if let Some(node) = endpoint.get("nodeName").and_then(Value::as_str) {
        invalid(
            errors,
            path.field("nodeName"),
            node,
            names::dns1123_subdomain(node),
        );
    }
    if let Some(hostname) = endpoint.get("hostname").and_then(Value::as_str) {
        invalid(
            errors,
            path.field("hostname"),
            hostname,
            names::dns1123_label(hostname),
        );
    }
}

fn check_ip(
    address: &str,
    address_type: &str,
    list: &FieldPath<'_>,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    let wrong = names::ip(address);
    if !wrong.is_empty() {
        return invalid(errors, *path, address, wrong);
    }
    let Ok(ip) = address.parse::<IpAddr>() else {
        return;
    };
    if ip.is_ipv4() != (address_type == "IPv4") {
        errors.invalid_text(list, address, &format!("must be an {address_type} address"));
    }
    if ip.is_unspecified() {
        errors.invalid_text(
            path,
            address,
            &format!("may not be unspecified ({address})"),
        );
    }
}

fn check_fqdn(name: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let wrong = names::dns1123_subdomain(name);
    if !wrong.is_empty() {
        errors.invalid_text(path, name, &wrong.join(","));
    } else if !name.contains('.') {
        errors.invalid_text(
            path,
            name,
            "should be a domain with at least two segments separated by dots",
        );
    }
}
