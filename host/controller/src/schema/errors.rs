//! What an API server answers when it refuses an object, in its own words
//! (`k8s.io/apimachinery/pkg/util/validation/field/errors.go`).

use std::fmt;

use serde_json::Value;

/// A field that an API server would refuse.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldError {
    /// `spec.rules[0].matches[0].path.value`; empty when it is the object as a whole.
    pub path: String,
    /// `Required value`, `Invalid value: "x": …`.
    pub message: String,
}

/// Errors as they are found.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    list: Vec<FieldError>,
    blocking: bool,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

// === impl Errors ===

impl Errors {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn any(&self, says: impl Fn(&str) -> bool) -> bool {
        self.list.iter().any(|error| says(&error.message))
    }

    /// Whether an error is of a sort after which rules are not evaluated: they could stumble over it.
    pub(crate) fn blocking(&self) -> bool {
        self.blocking
    }

    pub(crate) fn into_list(self) -> Vec<FieldError> {
        self.list
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.blocking |= other.blocking;
        self.list.extend(other.list);
    }

    pub(crate) fn push(&mut self, path: impl fmt::Display, message: impl Into<String>) {
        self.list.push(FieldError {
            path: path.to_string(),
            message: message.into(),
        });
    }

    pub(crate) fn required(&mut self, path: impl fmt::Display, detail: &str) {
        self.blocking = true;
        self.push(path, with_detail("Required value".to_owned(), detail));
    }

    pub(crate) fn forbidden(&mut self, path: impl fmt::Display, detail: &str) {
        self.push(path, with_detail("Forbidden".to_owned(), detail));
    }

    pub(crate) fn invalid(&mut self, path: impl fmt::Display, value: &Value, detail: &str) {
        self.push(
            path,
            with_detail(format!("Invalid value: {}", shown(value)), detail),
        );
    }

    /// As [`invalid`](Self::invalid), for text.
    pub(crate) fn invalid_text(&mut self, path: impl fmt::Display, value: &str, detail: &str) {
        self.push(
            path,
            with_detail(format!("Invalid value: {value:?}"), detail),
        );
    }

    /// A value whose type is wrong; `actual` is what is there instead.
    pub(crate) fn type_invalid(&mut self, path: impl fmt::Display, actual: &str, wanted: &str) {
        self.blocking = true;
        let message = format!(
            "Invalid value: {actual:?}: {path} in body must be of type {wanted}: {actual:?}"
        );
        self.push(path, message);
    }

    pub(crate) fn unsupported<'a>(
        &mut self,
        path: impl fmt::Display,
        value: &Value,
        supported: impl IntoIterator<Item = &'a str>,
    ) {
        self.blocking = true;
        let supported: Vec<_> = supported.into_iter().map(|s| format!("{s:?}")).collect();
        let message = format!(
            "Unsupported value: {}: supported values: {}",
            shown(value),
            supported.join(", ")
        );
        self.push(path, message);
    }

    pub(crate) fn duplicate(&mut self, path: impl fmt::Display, value: &Value) {
        self.push(path, format!("Duplicate value: {}", shown(value)));
    }

    pub(crate) fn too_long(&mut self, path: impl fmt::Display, max: u64) {
        self.blocking = true;
        let unit = if max == 1 { "byte" } else { "bytes" };
        self.push(path, format!("Too long: may not be more than {max} {unit}"));
    }

    pub(crate) fn too_many(&mut self, path: impl fmt::Display, actual: usize, max: u64) {
        self.blocking = true;
        let unit = if max == 1 { "item" } else { "items" };
        self.push(
            path,
            format!("Too many: {actual}: must have at most {max} {unit}"),
        );
    }
}

fn with_detail(mut message: String, detail: &str) -> String {
    if !detail.is_empty() {
        message.push_str(": ");
        message.push_str(detail);
    }
    message
}

/// Strings quoted, everything else as JSON with sorted keys.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        other => {
            let mut sorted = other.clone();
            sorted.sort_all_objects();
            sorted.to_string()
        }
    }
}
