//! Putting a value into JSON at a pointer (RFC 6901).

use serde_json::{Map, Value};

/// Sets `value` at `pointer`. Objects on the way are made where nothing is; an item of a list must exist or be the next
/// one (`-` names it too); the empty pointer stands for the whole.
///
/// # Errors
/// What is in the way.
pub(super) fn set(target: &mut Value, pointer: &str, value: Value) -> Result<(), String> {
    let mut place = target;
    let mut walked = String::new();
    for token in pointer.split('/').skip(1) {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        let name = token.replace("~1", "/").replace("~0", "~");
        place = match place {
            Value::Object(fields) => fields.entry(name).or_insert(Value::Null),
            Value::Array(items) => item(items, &name).ok_or_else(|| {
                format!(
                    "{walked:?} is a list, in which {name:?} is neither an item nor the next one"
                )
            })?,
            _ => {
                return Err(format!(
                    "{walked:?} is neither an object nor a list, so nothing can be put at {pointer:?}"
                ));
            }
        };
        walked.push('/');
        walked.push_str(token);
    }
    *place = value;
    Ok(())
}

fn item<'v>(items: &'v mut Vec<Value>, name: &str) -> Option<&'v mut Value> {
    // No leading zeros (RFC 6901 section 4).
    let plain = name == "0" || !name.starts_with('0');
    let index = if name == "-" {
        items.len()
    } else {
        name.parse().ok().filter(|_| plain)?
    };
    if index == items.len() {
        items.push(Value::Null);
    }
    items.get_mut(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_put_in() {
        let cases = [
            (json!({}), "/a", json!({"a": 1})),
            (json!({"a": 0}), "/a", json!({"a": 1})),
            (json!({}), "/a/b", json!({"a": {"b": 1}})),
            (json!({"a": null}), "/a/b", json!({"a": {"b": 1}})),
            (json!({"a": [0, 0]}), "/a/1", json!({"a": [0, 1]})),
            (json!({"a": [0]}), "/a/1", json!({"a": [0, 1]})),
            (json!({"a": [0]}), "/a/-", json!({"a": [0, 1]})),
            (json!({}), "/a~1b/~0", json!({"a/b": {"~": 1}})),
            (json!({"a": 0}), "", json!(1)),
            (json!({}), "/", json!({"": 1})),
        ];
        for (mut target, pointer, expected) in cases {
            assert_eq!(set(&mut target, pointer, json!(1)), Ok(()), "{pointer}");
            assert_eq!(target, expected, "{pointer}");
        }
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let cases = [
            (
                json!({"a": "x"}),
                "/a/b",
                "\"/a\" is neither an object nor a list",
            ),
            (json!({"a": [0]}), "/a/2", "\"/a\" is a list"),
            (json!({"a": [0]}), "/a/00", "\"/a\" is a list"),
            (json!({"a": [0]}), "/a/b", "\"/a\" is a list"),
        ];
        for (mut target, pointer, expected) in cases {
            let error = set(&mut target, pointer, json!(1)).unwrap_err();
            assert!(error.starts_with(expected), "{pointer}: {error}");
        }
    }
}
