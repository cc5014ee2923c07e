//! Defaults, as an API server applies them when it decodes an object
//! (`apiextensions-apiserver/pkg/apiserver/schema/defaulting`), and fields nobody declared.

use serde_json::{Map, Value};

use super::node::Node;
use crate::api::path::FieldPath;

/// Puts defaults where a field is absent and its parent is there, and drops nulls of fields that may not
/// be null.
pub(crate) fn apply(value: &mut Value, node: &Node) {
    match value {
        Value::Object(fields) => apply_to_fields(fields, node),
        Value::Array(items) => {
            if let Some(child) = &node.items {
                for item in items {
                    if item.is_null()
                        && !child.nullable
                        && let Some(default) = &child.default
                    {
                        *item = default.clone();
                    }
                    apply(item, child);
                }
            }
        }
        _ => {}
    }
}

fn apply_to_fields(fields: &mut Map<String, Value>, node: &Node) {
    for (name, child) in &node.properties {
        let Some(default) = &child.default else {
            continue;
        };
        if fields
            .get(name)
            .is_none_or(|field| field.is_null() && !child.nullable)
        {
            fields.insert(name.clone(), default.clone());
        }
    }
    let child_of = |name: &str| node.properties.get(name).or(node.additional.as_deref());
    fields.retain(|name, field| {
        !(field.is_null() && child_of(name).is_some_and(|child| !child.nullable))
    });
    for (name, field) in fields.iter_mut() {
        if let Some(child) = child_of(name) {
            apply(field, child);
        }
    }
}

/// Fields that the schema does not have, in the words of an API server that was asked to warn of them.
pub(crate) fn unknown_fields(
    value: &Value,
    node: &Node,
    path: &FieldPath<'_>,
    warnings: &mut Vec<String>,
) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = path.field(name);
                match node.properties.get(name).or(node.additional.as_deref()) {
                    Some(child) => unknown_fields(field, child, &path, warnings),
                    None if node.preserve_unknown => {}
                    None => warnings.push(format!("unknown field \"{path}\"")),
                }
            }
        }
        Value::Array(items) => {
            // A list where none belongs: nothing in it is known.
            let nothing = Node::default();
            let child = match &node.items {
                Some(child) => child,
                None if node.preserve_unknown => return,
                None => &nothing,
            };
            for (index, item) in items.iter().enumerate() {
                unknown_fields(item, child, &path.index(index), warnings);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_where_the_parent_is() {
        let node = Node::parse(&json!({"type": "object", "properties": {
            "a": {"type": "string", "default": "x"},
            "n": {"type": "string", "nullable": true, "default": "y"},
            "plain": {"type": "string"},
            "deep": {"type": "object", "properties": {"b": {"type": "integer", "default": 1}}},
            "made": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 2}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"c": {"type": "boolean", "default": true}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"d": {"type": "integer", "default": 3}}}}
        }}))
        .unwrap();
        let cases = [
            (json!({}), json!({"a": "x", "n": "y", "made": {"b": 2}})),
            (
                json!({"a": null, "n": null, "plain": null, "deep": {}, "made": {"b": 5}, "list": [{}, {"c": false}], "map": {"k": {}}, "other": null}),
                json!({"a": "x", "n": null, "deep": {"b": 1}, "made": {"b": 5}, "list": [{"c": true}, {"c": false}],
                       "map": {"k": {"d": 3}}, "other": null}),
            ),
        ];
        for (mut value, expected) in cases {
            apply(&mut value, &node);
            assert_eq!(value, expected);
        }
    }
}
