//! Changing the parameters of a query and leaving the others exactly as they came.

use super::uri;

/// The query with the parameters called `name` gone.
pub(super) fn remove(query: &str, name: &str) -> String {
    let kept: Vec<_> = query.split('&').filter(|pair| !is(pair, name)).collect();
    kept.join("&")
}

/// The query with one parameter `name=value` (both encoded already): where the first of that name was, or at the end.
pub(super) fn set(query: &str, name: &str, encoded_name: &str, value: &str) -> String {
    let mut new = Some(format!("{encoded_name}={value}"));
    let mut pairs: Vec<String> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if is(pair, name) {
            pairs.extend(new.take());
        } else {
            pairs.push(pair.to_owned());
        }
    }
    pairs.extend(new);
    pairs.join("&")
}

/// Whether a parameter has this name, however it is encoded.
fn is(pair: &str, name: &str) -> bool {
    let key = pair.split('=').next().unwrap_or(pair);
    let key = key.replace('+', " ");
    uri::decode(key.as_bytes()) == name.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_however_they_are_encoded() {
        assert_eq!(remove("a=1&b=2&%61=3&a", "a"), "b=2");
        assert_eq!(remove("a=1", "a"), "");
        assert_eq!(remove("x+y=1&x%20y=2&z", "x y"), "z");
        assert_eq!(remove("aa=1&=2", "a"), "aa=1&=2");
    }

    #[test]
    fn a_parameter_is_set_once_and_in_its_place() {
        assert_eq!(set("a=1&b=2&a=3", "a", "a", "9"), "a=9&b=2");
        assert_eq!(set("b=2", "a", "a", "9"), "b=2&a=9");
        assert_eq!(set("", "a", "a", "9"), "a=9");
        assert_eq!(set("&&b", "x y", "x%20y", ""), "b&x%20y=");
    }
}
