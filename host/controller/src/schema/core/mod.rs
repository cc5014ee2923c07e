//! Core kinds, which an API server validates in Go rather than by a schema. Their shape and defaults are
//! written as schemas in [`schemas`]; what a schema cannot say is checked here, field by field, with the
//! same messages.

mod discovery;
mod ingress;
pub(super) mod schemas;
mod secret;
mod service;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::errors::Errors;
use crate::api::Kind;
use crate::api::path::FieldPath;

/// Does what decoding does besides defaults: `stringData` becomes `data`, a Namespace is labelled with its
/// name.
pub(super) fn prepare(kind: Kind, object: &mut Map<String, Value>) {
    match kind {
        Kind::Secret => secret::merge_string_data(object),
        Kind::Service => service::default_target_ports(object),
        Kind::Namespace => label_namespace(object),
        _ => {}
    }
}

/// Checks a core kind whose shape is right; nothing for other kinds.
pub(super) fn check(kind: Kind, object: &Value, errors: &mut Errors) {
    match kind {
        Kind::Ingress => ingress::check_ingress(object, errors),
        Kind::IngressClass => ingress::check_class(object, errors),
        Kind::Service => service::check(object, errors),
        Kind::EndpointSlice => discovery::check(object, errors),
        Kind::Secret => secret::check_secret(object, errors),
        Kind::ConfigMap => secret::check_config_map(object, errors),
        _ => {}
    }
}

/// Selectors by name rest on this label.
fn label_namespace(object: &mut Map<String, Value>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(name) = metadata.get("name").cloned().filter(Value::is_string) else {
        return;
    };
    let labels = metadata
        .entry("labels")
        .or_insert_with(|| Value::Object(Map::new()));
    if labels.is_null() {
        *labels = Value::Object(Map::new());
    }
    if let Some(labels) = labels.as_object_mut() {
        labels.insert("kubernetes.io/metadata.name".to_owned(), name);
    }
}

/// A field's text; empty where it is absent.
fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A field's number; 0 where it is absent, as in Go.
fn number(value: &Value, field: &str) -> i64 {
    value.get(field).and_then(Value::as_i64).unwrap_or_default()
}

/// A field's items; none where it is absent.
fn items<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A field's entries; none where it is absent.
fn entries<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    value
        .get(field)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn invalid(errors: &mut Errors, path: FieldPath<'_>, value: &str, wrong: Vec<String>) {
    for detail in wrong {
        errors.invalid_text(path, value, &detail);
    }
}
