//! The configuration of a Filter as its module gets it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tidegate_model::{Config, Secrets};

use super::{REFERENCE, pointer, schema};
use crate::api::Kind;
use crate::api::tidegate::{self as api, ConfigFrom, ConfigSource};
use crate::translate::absent::absent;
use crate::translate::context::Context;
use crate::translate::problem::Problem;

/// `config` with everything of `configFrom` put in: JSON as compact text, a string as it is, absence as no bytes. What a
/// bundled filter gets is held against its schema.
///
/// # Errors
/// A reference that leads nowhere, a value that cannot be put where it should go, or what the schema refuses.
pub(super) fn read(context: &Context<'_>, object: &api::Filter) -> Result<Config, Problem> {
    let written = &object.spec;
    let mut value = written.config.clone();
    let mut secret = false;
    let mut texts = Vec::new();
    for (index, from) in written.config_from.iter().enumerate() {
        let place = format!("spec.configFrom[{index}]");
        let found = fetch(context, &object.meta.namespace, from, &place)?;
        if matches!(from.source, ConfigSource::Secret(_)) {
            secret = true;
            match &found {
                Value::Object(all) => texts.extend(all.values().cloned()),
                text => texts.push(text.clone()),
            }
        }
        if matches!(value, Some(Value::String(_))) && !from.path.is_empty() {
            return Err(invalid(format!(
                "{place}.path: spec.config is text, into which nothing can be put at {:?}; write spec.config as an object",
                from.path
            )));
        }
        let target = value.get_or_insert_with(|| Value::Object(Map::new()));
        pointer::set(target, &from.path, found).map_err(|what| {
            invalid(format!(
                "{place}.path: {what} of spec.config; correct the path or spec.config"
            ))
        })?;
    }
    let bytes = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.into_bytes(),
        Some(json) => json.to_string().into_bytes(),
    };
    if let api::ModuleSource::Builtin(name) = &written.module
        && let Some(bundled) = tidegate_filters::get(name)
    {
        schema::check(bundled, &bytes, secret).map_err(invalid)?;
    }
    Ok(Config {
        bytes: bytes.into(),
        secret,
        secrets: Secrets::new(texts.iter().filter_map(Value::as_str)),
    })
}

fn invalid(message: String) -> Problem {
    Problem::new("InvalidConfiguration", message)
}

/// The value of a Secret or ConfigMap: with a key its text, without an object of all keys.
fn fetch(
    context: &Context<'_>,
    namespace: &str,
    from: &ConfigFrom,
    place: &str,
) -> Result<Value, Problem> {
    let (field, kind, name) = match &from.source {
        ConfigSource::Secret(name) => ("secretRef", Kind::Secret, name),
        ConfigSource::ConfigMap(name) => ("configMapRef", Kind::ConfigMap, name),
    };
    let problem = |message: String| Problem::new(REFERENCE, format!("{place}.{field}: {message}"));
    let entries = entries(context, namespace, &from.source)
        .ok_or_else(|| problem(absent(context.resources, kind, namespace, name)))?;
    let text = |key: &str, bytes: &[u8]| {
        std::str::from_utf8(bytes).map(|text| Value::String(text.to_owned())).map_err(|_| {
            problem(format!(
                "key {key:?} of {kind} {namespace}/{name} is not UTF-8 text, which JSON cannot hold; store it in base64 text"
            ))
        })
    };
    let Some(key) = &from.key else {
        let all = entries
            .iter()
            .map(|(key, bytes)| Ok(((*key).to_owned(), text(key, bytes)?)));
        return all
            .collect::<Result<Map<_, _>, Problem>>()
            .map(Value::Object);
    };
    match entries.get(key.as_str()) {
        Some(bytes) => text(key, bytes),
        None => {
            let keys: Vec<&str> = entries.keys().copied().collect();
            Err(problem(format!(
                "{kind} {namespace}/{name} has no key {key:?}; its keys are {}",
                if keys.is_empty() {
                    "none".to_owned()
                } else {
                    keys.join(", ")
                }
            )))
        }
    }
}

fn entries<'a>(
    context: &Context<'a>,
    namespace: &str,
    source: &ConfigSource,
) -> Option<BTreeMap<&'a str, &'a [u8]>> {
    match source {
        ConfigSource::Secret(name) => {
            let secret = context.secret(namespace, name)?;
            let data = secret.spec.data.iter();
            Some(
                data.map(|(key, bytes)| (key.as_str(), bytes.0.as_slice()))
                    .collect(),
            )
        }
        ConfigSource::ConfigMap(name) => {
            let map = context.config_map(namespace, name)?;
            let data = map
                .spec
                .data
                .iter()
                .map(|(key, text)| (key.as_str(), text.as_bytes()));
            let binary = map.spec.binary_data.iter();
            Some(
                data.chain(binary.map(|(key, bytes)| (key.as_str(), bytes.0.as_slice())))
                    .collect(),
            )
        }
    }
}
