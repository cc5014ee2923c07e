//! Secret and ConfigMap (`k8s.io/kubernetes/pkg/apis/core/validation`). No message shows what a Secret holds.

use serde_json::{Map, Value};

use super::{entries, invalid, text};
use crate::api::path::FieldPath;
use crate::schema::errors::Errors;
use crate::schema::formats::{base64, to_base64};
use crate::schema::names;

/// 1 MiB, values only.
const MAX_SIZE: usize = 1 << 20;
const REDACTED: &str = "<secret contents redacted>";

/// `stringData` is a convenience for writers: it goes into `data` and wins there.
pub(super) fn merge_string_data(object: &mut Map<String, Value>) {
    // Anything but text stays where it is, to be refused.
    let texts = |value: &Value| {
        value
            .as_object()
            .is_some_and(|map| map.values().all(Value::is_string))
    };
    if !object.get("stringData").is_some_and(texts) {
        return;
    }
    let Some(Value::Object(strings)) = object.remove("stringData") else {
        return;
    };
    let data = object
        .entry("data")
        .and_modify(|data| {
            if data.is_null() {
                *data = Value::Object(Map::new());
            }
        })
        .or_insert_with(|| Value::Object(Map::new()));
    if let Some(data) = data.as_object_mut() {
        for (key, value) in strings {
            if let Value::String(text) = value {
                data.insert(key, to_base64(text.into_bytes()));
            }
        }
    }
}

pub(super) fn check_secret(object: &Value, errors: &mut Errors) {
    let data = FieldPath::Root("data");
    let mut size = 0;
    for (key, value) in entries(object, "data") {
        invalid(errors, data.key(key), key, names::config_key(key));
        match base64(value.as_str().unwrap_or_default()) {
            Some(bytes) => size += bytes.len(),
            None => errors.invalid_text(
                data.key(key),
                REDACTED,
                "illegal base64 data; write plain text under stringData",
            ),
        }
    }
    if size > MAX_SIZE {
        errors.too_long(data, MAX_SIZE as u64);
    }
    check_type(object, &data, errors);
}

fn check_type(object: &Value, data: &FieldPath<'_>, errors: &mut Errors) {
    let has = |key: &str| {
        object
            .get("data")
            .is_some_and(|data| data.get(key).is_some())
    };
    let needed: &[&str] = match text(object, "type") {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        // Either of the two is enough.
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            &["username", "password"]
        }
        _ => &[],
    };
    for key in needed.iter().filter(|key| !has(key)) {
        errors.required(data.key(key), "");
    }
    for key in needed
        .iter()
        .filter(|key| key.starts_with(".docker") && has(key))
    {
        let bytes = base64(text(&object["data"], key)).unwrap_or_default();
        if let Err(error) = serde_json::from_slice::<Map<String, Value>>(&bytes) {
            errors.invalid_text(data.key(key), REDACTED, &error.to_string());
        }
    }
}

pub(super) fn check_config_map(object: &Value, errors: &mut Errors) {
    let (data, binary) = (FieldPath::Root("data"), FieldPath::Root("binaryData"));
    let mut size = 0;
    for (key, value) in entries(object, "data") {
        invalid(errors, data.key(key), key, names::config_key(key));
        if object
            .get("binaryData")
            .is_some_and(|binary| binary.get(key).is_some())
        {
            errors.invalid_text(data.key(key), key, "duplicate of key present in binaryData");
        }
        size += value.as_str().map_or(0, str::len);
    }
    for (key, value) in entries(object, "binaryData") {
        invalid(errors, binary.key(key), key, names::config_key(key));
        let text = value.as_str().unwrap_or_default();
        match base64(text) {
            Some(bytes) => size += bytes.len(),
            None => errors.invalid_text(binary.key(key), text, "illegal base64 data"),
        }
    }
    if size > MAX_SIZE {
        errors.too_long("", MAX_SIZE as u64);
    }
}
