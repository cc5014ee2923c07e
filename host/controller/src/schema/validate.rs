//! The checks of a structural schema, with the messages of `k8s.io/kube-openapi/pkg/validation` as an API
//! server passes them on.

use std::collections::HashSet;
use std::fmt;

use serde_json::{Map, Number, Value};

use super::errors::Errors;
use super::formats::Format;
use super::node::{Limit, ListType, Node, Type};
use crate::api::path::FieldPath;

const NOT: &str = "not validate the schema (not)";

/// Checks everything but rules in CEL.
///
/// A wrong type does not end it: each keyword looks at values of its own type, whatever the schema's is.
pub(crate) fn check(value: &Value, node: &Node, path: &FieldPath<'_>, errors: &mut Errors) {
    check_type(value, node, path, errors);
    if !value.is_null() {
        check_combinations(value, node, path, errors);
    }
    match value {
        Value::String(text) => check_text(text, node, path, errors),
        Value::Number(number) => check_number(number, value, node, path, errors),
        Value::Array(items) => check_items(items, node, path, errors),
        Value::Object(fields) => check_fields(fields, node, path, errors),
        Value::Null | Value::Bool(_) => {}
    }
    if !node.choices.is_empty() && !node.choices.contains(value) {
        let choices: Vec<_> = node.choices.iter().map(spelled).collect();
        errors.unsupported(path, value, choices.iter().map(String::as_str));
    }
}

/// Where a number has a format, an API server names the format instead of the type it found
/// (`must be of type int32: ""`); we say what is there in any case.
fn check_type(value: &Value, node: &Node, path: &FieldPath<'_>, errors: &mut Errors) {
    let actual = match value {
        Value::Null if node.nullable => return,
        Value::Null => None,
        Value::Object(_) => Some(Type::Object),
        Value::Array(_) => Some(Type::Array),
        Value::String(_) => Some(Type::String),
        Value::Bool(_) => Some(Type::Boolean),
        Value::Number(number) if is_integer(number) => Some(Type::Integer),
        Value::Number(_) => Some(Type::Number),
    };
    let fits = |wanted: &Type| {
        Some(*wanted) == actual || (*wanted == Type::Number && actual == Some(Type::Integer))
    };
    if !node.types.is_empty() && !node.types.iter().any(fits) {
        errors.type_invalid(path, actual.map_or("null", Type::name), &type_names(node));
    }
}

/// `80.0` is an integer too.
fn is_integer(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|f| f.fract() == 0.0)
}

fn type_names(node: &Node) -> String {
    let names: Vec<_> = node.types.iter().map(|t| t.name()).collect();
    names.join(",")
}

fn spelled(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn check_text(text: &str, node: &Node, path: &FieldPath<'_>, errors: &mut Errors) {
    let before = errors.len();
    check_length_and_pattern(text, node, path, errors);
    if errors.len() == before
        && let Some(format) = node.format
        && !format.accepts(text)
    {
        errors.type_invalid(path, text, format.name());
    }
}

/// The first of them that fails is reported, alone.
fn check_length_and_pattern(text: &str, node: &Node, path: &FieldPath<'_>, errors: &mut Errors) {
    let length = || u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
    if let Some(max) = node.length.max.filter(|max| length() > *max) {
        return errors.too_long(path, max);
    }
    if let Some(min) = node.length.min.filter(|min| length() < *min) {
        let detail = format!("{path} in body should be at least {min} chars long");
        return errors.invalid_text(path, text, &detail);
    }
    if let Some(pattern) = &node.pattern {
        let detail = match pattern.regex() {
            Ok(regex) if regex.is_match(text) => return,
            Ok(_) => format!("{path} in body should match '{}'", pattern.source),
            Err(error) => format!(
                "{path} in body should match '{}, but pattern is invalid: {error}'",
                pattern.source
            ),
        };
        errors.invalid_text(path, text, &detail);
    }
}

fn check_number(
    number: &Number,
    value: &Value,
    node: &Node,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    let float = number.as_f64().unwrap_or(f64::NAN);
    if node.types.contains(&Type::Integer) && !in_range(number, float, node.format) {
        let format = match node.format {
            Some(format) => format!("with format {}", format.name()),
            None => "(default format)".to_owned(),
        };
        errors.push(
            path,
            format!(
                "Invalid value: \"\": Checked value must be of type integer {format} in {path}"
            ),
        );
    }
    let mut told = |sign: &str, limit: Limit| {
        let equal = if limit.exclusive { "" } else { " or equal to" };
        let detail = format!(
            "{path} in body should be {sign} than{equal} {}",
            limit.value
        );
        errors.invalid(path, value, &detail);
    };
    if let Some(limit) = node
        .maximum
        .filter(|l| float > l.value || (l.exclusive && float >= l.value))
    {
        told("less", limit);
    }
    if let Some(limit) = node
        .minimum
        .filter(|l| float < l.value || (l.exclusive && float <= l.value))
    {
        told("greater", limit);
    }
    if let Some(factor) = node
        .multiple_of
        .filter(|factor| (float / factor).fract() != 0.0)
    {
        errors.invalid(
            path,
            value,
            &format!("{path} in body should be a multiple of {factor}"),
        );
    }
}

fn in_range(number: &Number, float: f64, format: Option<Format>) -> bool {
    match (number.as_i64(), format) {
        (Some(int), Some(Format::Int32)) => i32::try_from(int).is_ok(),
        (Some(_), _) => true,
        (None, Some(Format::Int32)) => (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&float),
        // 2^63, the first that does not fit, is a float exactly.
        (None, _) => (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&float),
    }
}

fn check_items(items: &[Value], node: &Node, path: &FieldPath<'_>, errors: &mut Errors) {
    let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
    if let Some(child) = &node.items {
        for (index, item) in items.iter().enumerate() {
            check(item, child, &path.index(index), errors);
        }
    }
    if let Some(min) = node.size.min.filter(|min| count < *min) {
        let detail = format!("{path} in body should have at least {min} items");
        errors.invalid(path, &Value::from(count), &detail);
    }
    if let Some(max) = node.size.max.filter(|max| count > *max) {
        errors.too_many(path, items.len(), max);
    }
    if node.unique {
        let distinct: HashSet<String> = items.iter().map(Value::to_string).collect();
        if distinct.len() != items.len() {
            errors.push(
                path,
                format!("Invalid value: \"\": {path} in body shouldn't contain duplicates"),
            );
        }
    }
    match &node.list {
        ListType::Atomic => {}
        ListType::Set => check_unique(items.iter().cloned(), path, errors),
        ListType::Map(keys) => check_keys(items, keys, path, errors),
    }
}

fn check_keys(items: &[Value], keys: &[String], path: &FieldPath<'_>, errors: &mut Errors) {
    match items
        .iter()
        .position(|item| !item.is_object() && !item.is_null())
    {
        Some(index) => errors.invalid(
            path.index(index),
            &items[index],
            "must be an object for an array of list-type map",
        ),
        None => check_unique(items.iter().map(|item| key_of(item, keys)), path, errors),
    }
}

fn key_of(item: &Value, keys: &[String]) -> Value {
    let key = |name: &String| Some((name.clone(), item.get(name)?.clone()));
    Value::Object(keys.iter().filter_map(key).collect())
}

/// Each value that occurs again is reported once, where it occurs for the second time.
fn check_unique(values: impl Iterator<Item = Value>, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut seen = Vec::<(Value, bool)>::new();
    for (index, value) in values.enumerate() {
        match seen.iter_mut().find(|(other, _)| *other == value) {
            None => seen.push((value, false)),
            Some((_, reported @ false)) => {
                *reported = true;
                errors.duplicate(path.index(index), &value);
            }
            Some(_) => {}
        }
    }
}

fn check_fields(
    fields: &Map<String, Value>,
    node: &Node,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    let count = u64::try_from(fields.len()).unwrap_or(u64::MAX);
    if let Some(min) = node.count.min.filter(|min| count < *min) {
        let detail = format!("{path} in body should have at least {min} properties");
        errors.invalid(path, &Value::from(count), &detail);
    }
    if let Some(max) = node.count.max.filter(|max| count > *max) {
        errors.too_many(path, fields.len(), max);
    }
    for (name, field) in fields {
        if let Some(child) = node.properties.get(name).or(node.additional.as_deref()) {
            check(field, child, &path.field(name), errors);
        }
    }
    for name in &node.required {
        if !fields.contains_key(name) {
            errors.required(path.field(name), "");
        }
    }
}

fn check_combinations(value: &Value, node: &Node, path: &FieldPath<'_>, errors: &mut Errors) {
    if !node.any_of.is_empty() && !node.any_of.iter().any(|child| accepts(value, child)) {
        must(errors, path, "validate at least one schema (anyOf)");
        errors.extend(closest(value, &node.any_of, path));
    }
    if !node.one_of.is_empty() {
        match node
            .one_of
            .iter()
            .filter(|child| accepts(value, child))
            .count()
        {
            1 => {}
            0 => {
                must(
                    errors,
                    path,
                    "validate one and only one schema (oneOf). Found none valid",
                );
                errors.extend(closest(value, &node.one_of, path));
            }
            several => must(
                errors,
                path,
                &format!(
                    "validate one and only one schema (oneOf). Found {several} valid alternatives"
                ),
            ),
        }
    }
    let before = errors.len();
    for child in &node.all_of {
        check(value, child, path, errors);
    }
    if errors.len() > before {
        must(errors, path, "validate all the schemas (allOf)");
    }
    if node.not.as_ref().is_some_and(|child| accepts(value, child)) {
        must(errors, path, NOT);
    }
}

fn must(errors: &mut Errors, path: impl fmt::Display, what: &str) {
    errors.push(
        &path,
        format!("Invalid value: \"\": \"{path}\" must {what}"),
    );
}

fn accepts(value: &Value, node: &Node) -> bool {
    let mut errors = Errors::default();
    check(value, node, &FieldPath::OBJECT, &mut errors);
    errors.is_empty()
}

/// What the nearest alternative has to say. One that is excluded by `not` says nothing about what the value
/// should be, so the others go before it; of several the first.
fn closest(value: &Value, alternatives: &[Node], path: &FieldPath<'_>) -> Errors {
    alternatives
        .iter()
        .map(|child| {
            let mut errors = Errors::default();
            check(value, child, path, &mut errors);
            errors
        })
        .min_by_key(|errors| errors.any(|message| message.ends_with(NOT)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
