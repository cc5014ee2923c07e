//! Regular expressions of Go (RE2) for Rust's `regex`, compiled once.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use regex::Regex;

/// Enough for every pattern of every rule; patterns that come from an object do not grow it further.
const CACHED: usize = 512;

static CACHE: LazyLock<RwLock<HashMap<String, Arc<Regex>>>> = LazyLock::new(RwLock::default);

/// The compiled expression, from the cache where it is.
///
/// # Errors
/// What is wrong with the expression.
pub(super) fn cached(source: &str) -> Result<Arc<Regex>, String> {
    if let Some(regex) = CACHE
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(source)
    {
        return Ok(Arc::clone(regex));
    }
    let regex = Arc::new(go_regex(source)?);
    let mut cache = CACHE.write().unwrap_or_else(PoisonError::into_inner);
    if cache.len() < CACHED {
        cache.insert(source.to_owned(), Arc::clone(&regex));
    }
    Ok(regex)
}

/// Compiles an expression of Go: `\d`, `\w`, `\s` and `\b` are those of ASCII there.
///
/// # Errors
/// What is wrong with the expression.
pub(crate) fn go_regex(source: &str) -> Result<Regex, String> {
    let mut text = String::with_capacity(source.len());
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => text.push_str("[0-9]"),
            Some('D') => text.push_str("[^0-9]"),
            Some('w') => text.push_str("[0-9A-Za-z_]"),
            Some('W') => text.push_str("[^0-9A-Za-z_]"),
            Some('s') => text.push_str("[\\t\\n\\f\\r ]"),
            Some('S') => text.push_str("[^\\t\\n\\f\\r ]"),
            Some('b') => text.push_str("(?-u:\\b)"),
            Some(other) => text.extend(['\\', other]),
            None => text.push('\\'),
        }
    }
    Regex::new(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perl_classes_are_ascii() {
        let cases = [
            ("^\\d+$", "12", true),
            ("^\\d+$", "\u{661}", false),
            ("^[\\w-]+$", "a-b_1", true),
            ("^[\\w-]+$", "é", false),
            ("^\\S+$", "a b", false),
            ("\\bx\\b", "a x b", true),
            ("^\\\\d$", "\\d", true),
            ("^\\/[\\/\\-.]$", "//", true),
            ("^[!#$%&'*+\\-.^_\\x60|~]+$", "`", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(
                cached(pattern).unwrap().is_match(text),
                expected,
                "{pattern} {text}"
            );
        }
        assert!(cached("(").is_err());
        assert!(Arc::ptr_eq(
            &cached("^\\d+$").unwrap(),
            &cached("^\\d+$").unwrap()
        ));
    }
}
