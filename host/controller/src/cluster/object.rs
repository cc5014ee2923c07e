//! From what the API server sends to what is kept.

use std::collections::HashSet;

use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

use super::kinds;
use crate::api::{Age, DecodeError, Key, Kind, Source};
use crate::resources::AnyObject;

/// An object of the API server, reduced to what is needed of it.
#[derive(Debug)]
pub(super) struct Read {
    /// The name within the kind.
    pub(super) key: Key,
    /// What a translation reads, or why it cannot.
    pub(super) decoded: Result<AnyObject, DecodeError>,
    /// How the API server tells versions of it apart.
    pub(super) resource_version: String,
    /// For events about it.
    pub(super) uid: String,
    /// `status` as JSON text, of kinds whose status we write.
    pub(super) status: Option<Box<str>>,
    /// The whole as JSON text without status and managed fields, for the state file.
    pub(super) raw: Option<Box<str>>,
    /// Words of it that may be names of Secrets.
    pub(super) words: HashSet<String>,
}

/// Reduces an object; `raw` keeps its text too.
pub(super) fn read(kind: Kind, object: DynamicObject, raw: bool) -> Read {
    let DynamicObject { metadata, data, .. } = object;
    let key = Key::new(
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    );
    let mut fields = match data {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let status = if kinds::has_status(kind) {
        fields.shift_remove("status").map(|status| text(&status))
    } else {
        None
    };
    let annotations = metadata.annotations.map(|mut annotations| {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        annotations
    });
    fields.insert(
        "metadata".to_owned(),
        json!({
            "name": key.name,
            "namespace": key.namespace,
            "generation": metadata.generation,
            "uid": metadata.uid,
            "creationTimestamp": metadata.creation_timestamp,
            "labels": metadata.labels,
            "annotations": annotations,
        }),
    );
    let mut words = HashSet::new();
    if kinds::names_secrets(kind) {
        fields.values().for_each(|value| collect(value, &mut words));
    }
    let value = Value::Object(fields);
    let raw = raw.then(|| {
        let mut whole = value.clone();
        whole["apiVersion"] = kind.api_version().into();
        whole["kind"] = kind.name().into();
        text(&whole)
    });
    Read {
        decoded: AnyObject::decode(kind, &value, Source::Cluster, Age::Unknown),
        resource_version: metadata.resource_version.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        key,
        status,
        raw,
        words,
    }
}

fn text(value: &Value) -> Box<str> {
    value.to_string().into_boxed_str()
}

/// The words of all strings: names stand alone, or in annotations as `namespace/name` and in lists.
fn collect(value: &Value, words: &mut HashSet<String>) {
    match value {
        Value::String(text) => {
            for word in text.split(|c: char| c == '/' || c == ',' || c.is_whitespace()) {
                // Longer ones are no names (RFC 1123 subdomain).
                if !word.is_empty() && word.len() <= 253 {
                    words.insert(word.to_owned());
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, words)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, words)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_goes_aside_and_words_are_found() {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "shop", "namespace": "web", "resourceVersion": "7", "uid": "u", "generation": 3,
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "annotations": {"auth": "other/users, more"}},
            "spec": {"tls": [{"secretName": "cert"}]},
            "status": {"loadBalancer": {}}
        }))
        .unwrap();
        let read = read(Kind::Ingress, object, true);
        assert_eq!(read.key, Key::new("web", "shop"));
        assert_eq!(read.status.as_deref(), Some(r#"{"loadBalancer":{}}"#));
        assert!(!read.raw.as_ref().unwrap().contains("status"));
        assert!(
            ["cert", "users", "more"]
                .iter()
                .all(|word| read.words.contains(*word))
        );
        let decoded = read.decoded.unwrap();
        assert_eq!(decoded.meta().generation, 3);
        assert!(matches!(decoded.meta().age, Age::Created(_)));
    }

    #[test]
    fn what_cannot_be_decoded_is_an_error_with_a_field() {
        let object: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "b"}, "spec": {"rules": 7}
        }))
        .unwrap();
        let error = read(Kind::Ingress, object, false).decoded.unwrap_err();
        assert_eq!(error.path, "spec.rules");
    }
}
