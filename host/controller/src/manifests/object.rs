//! From a document to an object, admitted or refused.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::file::Document;
use crate::api::{Age, Kind, Scope, Source, Version};
use crate::resources::{AnyObject, ObjectId, Rejected};
use crate::schema::{self, FieldError};

/// What one object of a file came to.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// It serves.
    Admitted {
        object: AnyObject,
        warnings: Vec<String>,
    },
    /// It was refused.
    Rejected(Rejected),
    /// It is of a kind nobody reads.
    Ignored {
        api_version: String,
        kind: String,
        source: Source,
    },
}

/// Whether an object is a list of objects: `List`, or `HTTPRouteList` and its like for kinds we read.
pub(super) fn is_list(fields: &Map<String, Value>) -> bool {
    let text = |field: &str| {
        fields
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    match text("kind").strip_suffix("List") {
        None => false,
        Some("") => text("apiVersion") == "v1",
        Some(kind) => Kind::resolve(text("apiVersion"), kind) != Version::Unknown,
    }
}

/// The items of a list, lists in it expanded too; the items of a list of one kind need not repeat it.
pub(super) fn expand(list: &Map<String, Value>, items: Vec<Document>) -> Vec<Document> {
    let text = |field: &str| list.get(field).and_then(Value::as_str).unwrap_or_default();
    let item_kind = text("kind").strip_suffix("List").unwrap_or_default();
    let mut documents = Vec::new();
    for mut document in items {
        if let Value::Object(fields) = &mut document.value {
            if is_list(fields)
                && let Some(Value::Array(inner)) = fields.remove("items")
            {
                let line = document.line;
                let inner = inner
                    .into_iter()
                    .map(|value| Document { value, line })
                    .collect();
                documents.extend(expand(fields, inner));
                continue;
            }
            if !item_kind.is_empty() {
                for (field, value) in [("apiVersion", text("apiVersion")), ("kind", item_kind)] {
                    fields.entry(field).or_insert_with(|| Value::from(value));
                }
            }
        }
        documents.push(document);
    }
    documents
}

// === impl Entry ===

impl Entry {
    /// Admits the objects of a file. An object that equals the one before is that one, and where an object
    /// is refused the one before goes on serving, as it would in a cluster.
    pub(super) fn of_documents(
        documents: Vec<Document>,
        path: &Arc<Path>,
        before: &[Self],
    ) -> Vec<Self> {
        let known: HashMap<ObjectId, &Self> = before
            .iter()
            .filter_map(|entry| match entry {
                Self::Admitted { object, .. } => Some((object.id(), entry)),
                _ => None,
            })
            .collect();
        let mut entries: Vec<_> = documents
            .into_iter()
            .enumerate()
            .map(|(position, document)| {
                let age = Age::Read {
                    path: Arc::clone(path),
                    position: u32::try_from(position).unwrap_or(u32::MAX),
                };
                let source = Source::file(Arc::clone(path), document.line);
                match Self::of_document(document.value, source, age) {
                    Self::Admitted { object, warnings } => Self::Admitted {
                        object: shared(object, &known),
                        warnings,
                    },
                    other => other,
                }
            })
            .collect();
        keep_last_good(&mut entries, &known);
        entries
    }

    fn of_document(mut value: Value, source: Source, age: Age) -> Self {
        let text = |field: &str| {
            value
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let known = match Kind::resolve(&api_version, &kind) {
            Version::Served(known) => Some(known),
            Version::Unknown if !api_version.is_empty() && !kind.is_empty() => {
                return Self::Ignored {
                    api_version,
                    kind,
                    source,
                };
            }
            Version::Unknown | Version::Withdrawn { .. } => None,
        };
        if !value.is_object() {
            let error = FieldError {
                path: String::new(),
                message: "a manifest is an object with apiVersion, kind and metadata".to_owned(),
            };
            return Self::refused(&value, source, vec![error]);
        }
        if let Some(kind) = known {
            settle_namespace(kind, &mut value);
        }
        let admission = schema::admit(&mut value);
        match known {
            Some(kind) if admission.errors.is_empty() => {
                match AnyObject::decode(kind, &value, source.clone(), age) {
                    Ok(object) => Self::Admitted {
                        object,
                        warnings: admission.warnings,
                    },
                    Err(error) => {
                        let error = FieldError {
                            path: error.path,
                            message: error.message,
                        };
                        Self::refused(&value, source, vec![error])
                    }
                }
            }
            _ => Self::refused(&value, source, admission.errors),
        }
    }

    fn refused(value: &Value, source: Source, errors: Vec<FieldError>) -> Self {
        let text =
            |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let metadata = |field: &str| {
            text(
                value
                    .get("metadata")
                    .and_then(|metadata| metadata.get(field)),
            )
        };
        Self::Rejected(Rejected {
            api_version: text(value.get("apiVersion")),
            kind: text(value.get("kind")),
            namespace: metadata("namespace"),
            name: metadata("name"),
            source,
            errors,
            last_good_kept: false,
        })
    }
}

/// No namespace means `default`; on kinds without namespaces it means nothing, as in a cluster.
fn settle_namespace(kind: Kind, object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    let metadata = fields.entry("metadata").or_insert(Value::Null);
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    match kind.scope() {
        Scope::Cluster => {
            metadata.remove("namespace");
        }
        Scope::Namespaced => {
            let absent = matches!(metadata.get("namespace"), None | Some(Value::Null))
                || metadata
                    .get("namespace")
                    .is_some_and(|namespace| namespace == "");
            if absent {
                metadata.insert("namespace".to_owned(), Value::from("default"));
            }
        }
    }
}

/// The object of the reading before, if it is equal: then its pointer says that nothing changed.
fn shared(object: AnyObject, known: &HashMap<ObjectId, &Entry>) -> AnyObject {
    match known.get(&object.id()) {
        Some(Entry::Admitted { object: before, .. }) if *before == object => before.clone(),
        _ => object,
    }
}

/// Adds what was admitted before for each object that is refused now.
fn keep_last_good(entries: &mut Vec<Entry>, known: &HashMap<ObjectId, &Entry>) {
    let mut serving: HashSet<_> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Admitted { object, .. } => Some(object.id()),
            _ => None,
        })
        .collect();
    let mut kept = Vec::new();
    for entry in entries.iter_mut() {
        if let Entry::Rejected(rejected) = entry
            && let Some(id) = rejected.id()
            && let Some(last_good) = known.get(&id)
            && serving.insert(id)
        {
            rejected.last_good_kept = true;
            kept.push((*last_good).clone());
        }
    }
    entries.extend(kept);
}
