//! `metadata`, the same for every kind (`k8s.io/apimachinery/pkg/api/validation/objectmeta.go`).

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::build::{any, int64, list, object, string, text_map};
use super::errors::Errors;
use super::node::Node;
use super::{names, validate};
use crate::api::path::FieldPath;
use crate::api::{Kind, Scope};

/// 256 KiB, keys and values together.
const ANNOTATIONS_SIZE: usize = 256 << 10;

static SCHEMA: LazyLock<Node> = LazyLock::new(|| {
    let schema = object([
        ("name", string()),
        ("generateName", string()),
        ("namespace", string()),
        ("labels", text_map()),
        ("annotations", text_map()),
        ("uid", string()),
        ("resourceVersion", string()),
        ("generation", int64()),
        (
            "creationTimestamp",
            string().with("format", "date-time").with("nullable", true),
        ),
        (
            "deletionTimestamp",
            string().with("format", "date-time").with("nullable", true),
        ),
        ("deletionGracePeriodSeconds", int64()),
        ("finalizers", list(string())),
        ("ownerReferences", list(any())),
        ("managedFields", list(any())),
        ("selfLink", string()),
    ]);
    Node::parse(&schema.into_value()).expect("a constant, read by every test")
});

/// The schema of `metadata`.
pub(super) fn schema() -> &'static Node {
    &SCHEMA
}

/// Checks types, the name, the namespace, labels and annotations.
pub(super) fn check(kind: Kind, metadata: &Value, errors: &mut Errors) {
    let path = FieldPath::Root("metadata");
    let empty = Value::Object(Map::new());
    let metadata = if metadata.is_null() { &empty } else { metadata };
    let before = errors.len();
    validate::check(metadata, schema(), &path, errors);
    let Some(metadata) = metadata.as_object().filter(|_| errors.len() == before) else {
        return;
    };
    check_name(kind, metadata, &path, errors);
    for (key, value) in strings(metadata, "labels") {
        invalid(errors, &path.field("labels"), key, names::label_key(key));
        invalid(
            errors,
            &path.field("labels"),
            value,
            names::label_value(value),
        );
    }
    let mut size = 0;
    for (key, value) in strings(metadata, "annotations") {
        size += key.len() + value.len();
        let lower = key.to_lowercase();
        invalid(
            errors,
            &path.field("annotations"),
            key,
            names::label_key(&lower),
        );
    }
    if size > ANNOTATIONS_SIZE {
        errors.too_long(path.field("annotations"), ANNOTATIONS_SIZE as u64);
    }
}

fn check_name(
    kind: Kind,
    metadata: &Map<String, Value>,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    let text = |field: &str| {
        metadata
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    match text("name") {
        "" if text("generateName").is_empty() => {
            errors.required(path.field("name"), "name or generateName is required");
        }
        "" => errors.required(
            path.field("name"),
            "generateName needs an API server; write a name",
        ),
        name => {
            let wrong = match kind {
                Kind::Service | Kind::Namespace => names::dns1123_label(name),
                _ => names::dns1123_subdomain(name),
            };
            invalid(errors, &path.field("name"), name, wrong);
        }
    }
    match (kind.scope(), text("namespace")) {
        (Scope::Namespaced, "") => errors.required(path.field("namespace"), ""),
        (Scope::Namespaced, namespace) => {
            invalid(
                errors,
                &path.field("namespace"),
                namespace,
                names::dns1123_label(namespace),
            );
        }
        (Scope::Cluster, "") => {}
        (Scope::Cluster, _) => {
            errors.forbidden(path.field("namespace"), "not allowed on this type")
        }
    }
}

fn strings<'m>(
    metadata: &'m Map<String, Value>,
    field: &str,
) -> impl Iterator<Item = (&'m String, &'m str)> {
    metadata
        .get(field)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
}

fn invalid(errors: &mut Errors, path: &FieldPath<'_>, value: &str, wrong: Vec<String>) {
    for detail in wrong {
        errors.invalid_text(path, value, &detail);
    }
}
