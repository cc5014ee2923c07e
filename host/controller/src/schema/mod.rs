//! What an API server does with an object before it stores it: defaults, and a verdict.
//!
//! ```text
//!   object ─▶ known kind and version? ─▶ defaults ─▶ metadata, schema ─▶ rules (CEL)  or  checks of core kinds
//! ```
//!
//! Without a cluster every manifest goes through [`admit`]. Schemas of the Gateway API come from its CRDs
//! (`crds/gateway-api.json`), our own from `own`, those of core kinds from `core`. Messages are those of
//! Kubernetes 1.36.

mod build;
mod cel;
mod core;
mod defaults;
mod errors;
mod formats;
mod metadata;
mod names;
mod node;
mod own;
mod registry;
mod validate;

#[cfg(test)]
mod tests;

use serde_json::Value;

pub use errors::FieldError;
pub use own::crds_yaml;

use crate::api::path::FieldPath;
use crate::api::{Kind, Version};
use errors::Errors;

/// The verdict on an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Why it is refused; it is admitted when there are none.
    pub errors: Vec<FieldError>,
    /// What its author should know all the same.
    pub warnings: Vec<String>,
}

/// Applies defaults to an object and checks it as an API server would on creation. `status` is dropped, as
/// there.
///
/// An object of a kind that [`Kind`] does not know is refused; whoever wants to pass over such objects asks
/// [`Kind::resolve`] first.
pub fn admit(object: &mut Value) -> Admission {
    let mut errors = Errors::default();
    let mut warnings = Vec::new();
    match identify(object) {
        Ok((kind, version)) => review(kind, &version, object, &mut errors, &mut warnings),
        Err(message) => errors.push("", message),
    }
    Admission {
        errors: errors.into_list(),
        warnings,
    }
}

fn identify(object: &Value) -> Result<(Kind, String), String> {
    let text = |field: &str| match object.get(field).and_then(Value::as_str) {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(format!(
            "{field}: Required value: every object says what it is"
        )),
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    match Kind::resolve(api_version, kind) {
        Version::Served(known) => {
            let version = api_version.rsplit('/').next().unwrap_or(api_version);
            Ok((known, version.to_owned()))
        }
        Version::Withdrawn { instead, .. } => Err(format!(
            "no matches for kind {kind:?} in version {api_version:?}; use apiVersion {instead}"
        )),
        Version::Unknown => Err(format!(
            "no matches for kind {kind:?} in version {api_version:?}"
        )),
    }
}

fn review(
    kind: Kind,
    version: &str,
    object: &mut Value,
    errors: &mut Errors,
    warnings: &mut Vec<String>,
) {
    let schema = registry::schema(kind, version);
    warnings.extend(schema.deprecation.clone());
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        core::prepare(kind, fields);
    }
    unknown_fields(object, schema, warnings);
    defaults::apply(object, &schema.node);
    metadata::check(kind, object.get("metadata").unwrap_or(&Value::Null), errors);
    let before = errors.len();
    validate::check(object, &schema.node, &FieldPath::OBJECT, errors);
    // Checks of core kinds rest on the shape alone, rules in CEL on more: an API server does not evaluate
    // them either when it would stumble over what is said already.
    if errors.len() == before {
        core::check(kind, object, errors);
    }
    if !errors.blocking() {
        cel::check(&schema.node, object, &FieldPath::OBJECT, errors);
    }
}

fn unknown_fields(object: &Value, schema: &registry::Schema, warnings: &mut Vec<String>) {
    if let Some(metadata) = object.get("metadata") {
        let path = FieldPath::Root("metadata");
        defaults::unknown_fields(metadata, metadata::schema(), &path, warnings);
    }
    let Some(fields) = object.as_object() else {
        return;
    };
    let root = FieldPath::OBJECT;
    for (name, field) in fields.iter().filter(|(name, _)| *name != "metadata") {
        let path = root.field(name);
        match schema.node.properties.get(name) {
            Some(node) => defaults::unknown_fields(field, node, &path, warnings),
            None => warnings.push(format!("unknown field \"{path}\"")),
        }
    }
}
