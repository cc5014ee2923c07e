//! Configurations of bundled filters, held against the JSON Schema that each of them brings.

use std::collections::HashMap;
use std::sync::OnceLock;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value};
use tidegate_filters::Bundled;

/// A message that quotes a large value helps nobody.
const LONGEST: usize = 240;

/// Checks the text that the filter would get; `secret` keeps its values out of the message.
///
/// # Errors
/// What the schema refuses, each with its place: `spec.config.limits[0].per: …`.
pub(super) fn check(bundled: &Bundled, text: &[u8], secret: bool) -> Result<(), String> {
    let value: Value = if text.trim_ascii().is_empty() {
        Value::Object(Map::new())
    } else {
        serde_json::from_slice(text).map_err(|error| {
            format!(
                "spec.config: the bundled filter {} takes a JSON object, and this text is no JSON ({error}); write spec.config as an object",
                bundled.name
            )
        })?
    };
    check_value(bundled, &value, secret)
}

/// As [`check`], of a configuration that is JSON by its nature.
///
/// # Errors
/// What the schema refuses.
pub(super) fn check_value(bundled: &Bundled, value: &Value, secret: bool) -> Result<(), String> {
    let Some(validator) = validators().get(bundled.name) else {
        return Ok(());
    };
    if validator.is_valid(value) {
        return Ok(());
    }
    let mut problems: Vec<String> = validator
        .iter_errors(value)
        .map(|error| {
            let place = place(error.instance_path().as_str());
            format!("{place}: {}", shortened(told(bundled, &error, secret)))
        })
        .collect();
    let more = problems.len().saturating_sub(3);
    problems.truncate(3);
    let mut message = problems.join("; ");
    if more > 0 {
        message.push_str(&format!("; and {more} more"));
    }
    Err(format!(
        "{message}; `tidegate filter inspect {}` prints what the bundled filter takes",
        bundled.name
    ))
}

/// What the error says; of unknown fields also which ones are known.
fn told(bundled: &Bundled, error: &ValidationError<'_>, secret: bool) -> String {
    if let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind()
        && let Some(known) = known_fields(bundled, error.schema_path().as_str())
    {
        return format!("unknown field {}; known are {known}", unexpected.join(", "));
    }
    if secret {
        error.masked().to_string()
    } else {
        error.to_string()
    }
}

/// The fields beside the `additionalProperties` at this place of the schema.
fn known_fields(bundled: &Bundled, place: &str) -> Option<String> {
    let schema: Value = serde_json::from_str(bundled.schema).ok()?;
    let (parent, _) = place.rsplit_once('/')?;
    let fields = schema
        .pointer(&format!("{parent}/properties"))?
        .as_object()?;
    Some(
        fields
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", "),
    )
}

/// The schemas, compiled once. A schema that does not compile is a fault of the build, which a test finds.
fn validators() -> &'static HashMap<&'static str, Validator> {
    static VALIDATORS: OnceLock<HashMap<&'static str, Validator>> = OnceLock::new();
    VALIDATORS.get_or_init(|| {
        let all = tidegate_filters::all().iter();
        all.filter_map(|bundled| Some((bundled.name, compile(bundled)?)))
            .collect()
    })
}

fn compile(bundled: &Bundled) -> Option<Validator> {
    let schema = serde_json::from_str(bundled.schema).ok()?;
    jsonschema::validator_for(&schema).ok()
}

/// `/limits/0/per` as `spec.config.limits[0].per`.
fn place(pointer: &str) -> String {
    let mut place = "spec.config".to_owned();
    for token in pointer.split('/').skip(1) {
        let name = token.replace("~1", "/").replace("~0", "~");
        if name.parse::<usize>().is_ok() {
            place.push_str(&format!("[{name}]"));
        } else {
            place.push('.');
            place.push_str(&name);
        }
    }
    place
}

fn shortened(mut text: String) -> String {
    if text.len() <= LONGEST {
        return text;
    }
    // What is wrong stands at the end, behind the value.
    let mut start = text.len() - LONGEST;
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.replace_range(..start, "…");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_filter_has_a_schema_that_compiles() {
        for bundled in tidegate_filters::all() {
            assert!(compile(bundled).is_some(), "{}", bundled.name);
        }
    }

    #[test]
    fn places_are_written_like_fields() {
        assert_eq!(place(""), "spec.config");
        assert_eq!(place("/limits/0/per"), "spec.config.limits[0].per");
        assert_eq!(place("/a~1b"), "spec.config.a/b");
    }

    #[test]
    fn secrets_stay_out_of_messages() {
        let bundled = Bundled {
            name: tidegate_filters::all()[0].name,
            ..tidegate_filters::all()[0]
        };
        let error = check(&bundled, br#""hunter2""#, true).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn long_values_are_cut_at_the_front() {
        let cut = shortened(format!("{} is too long", "é".repeat(300)));
        assert!(cut.starts_with('…') && cut.ends_with(" is too long"));
    }
}
