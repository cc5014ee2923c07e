//! From what the API server sends to what is kept.

use std::collections::HashSet;
use std::sync::Arc;

use kube::core::DynamicObject;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::kinds;
use crate::api::tidegate::PinnedImage;
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
    /// Words of it that may be names of Secrets or ConfigMaps.
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
    let status = kinds::has_status(kind)
        .then(|| fields.shift_remove("status"))
        .flatten();
    let pinned = status.as_ref().and_then(pinned);
    let status = status.as_ref().map(text);
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
    if kinds::names_others(kind) {
        fields.values().for_each(|value| collect(value, &mut words));
    }
    let value = Value::Object(fields);
    let raw = raw.then(|| {
        let mut whole = value.clone();
        whole["apiVersion"] = kind.api_version().into();
        whole["kind"] = kind.name().into();
        text(&whole)
    });
    let mut decoded = AnyObject::decode(kind, &value, Source::Cluster, Age::Unknown);
    if let Ok(AnyObject::Filter(filter)) = &mut decoded {
        Arc::make_mut(filter).spec.pinned = pinned;
    }
    Read {
        decoded,
        resource_version: metadata.resource_version.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        key,
        status,
        raw,
        words,
    }
}

/// The one part of a status that is read: what the tag of a Filter's image has come to.
fn pinned(status: &Value) -> Option<PinnedImage> {
    PinnedImage::deserialize(status).ok()
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
    fn what_an_image_came_to_is_read_from_the_status() {
        let object = |status: Value| -> DynamicObject {
            serde_json::from_value(json!({
                "metadata": {"name": "a", "namespace": "b"},
                "spec": {"module": {"image": "r.test/a:1"}},
                "status": status,
            }))
            .unwrap()
        };
        let pinned = |status: Value| match read(Kind::Filter, object(status), false).decoded {
            Ok(AnyObject::Filter(filter)) => filter.spec.pinned.clone(),
            other => panic!("{other:?}"),
        };
        let known = json!({"image": "r.test/a:1@sha256:00", "digest": "sha256:11", "abi": "0.2.1"});
        assert_eq!(
            pinned(known),
            Some(PinnedImage {
                image: "r.test/a:1@sha256:00".into(),
                digest: "sha256:11".into(),
            })
        );
        assert_eq!(pinned(json!({"image": "r.test/a:1@sha256:00"})), None);
        assert_eq!(pinned(json!({"image": 7, "digest": []})), None);
        assert_eq!(pinned(json!(null)), None);
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
