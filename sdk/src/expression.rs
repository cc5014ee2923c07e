//! Regular expressions in configurations, bounded in size: matching takes at most the compiled size times the text's length, so
//! bounds of size are bounds of time. Of the feature `regex`.

use regex_lite::RegexBuilder;
pub use regex_lite::{Captures, Regex};

use crate::ConfigError;

/// Longest expression, in bytes.
pub const MAX_PATTERN: usize = 4096;

/// Bytes of a compiled expression.
pub const MAX_PROGRAM: usize = 64 * 1024;

/// Nesting of groups where a filter has no reason for less: regex-lite's own limit.
pub const MAX_NESTING: u32 = 50;

/// Compiles the expression of a field.
///
/// # Errors
///
/// One that is too long, too large when compiled, nested deeper than `max_nesting`, or malformed.
pub fn compile(field: &str, pattern: &str, max_nesting: u32) -> Result<Regex, ConfigError> {
    if pattern.len() > MAX_PATTERN {
        return Err(ConfigError::new(
            field,
            format!("is longer than {MAX_PATTERN} bytes"),
        ));
    }
    RegexBuilder::new(pattern)
        .size_limit(MAX_PROGRAM)
        .nest_limit(max_nesting)
        .build()
        .map_err(|error| {
            ConfigError::new(
                field,
                format!("{pattern:?} is no usable expression: {error}"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_refused_by_the_name_of_its_field() {
        let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
        for (pattern, part) in [
            ("a".repeat(MAX_PATTERN + 1), "longer than"),
            (String::from("(a{1000}){1000}"), "no usable expression"),
            (nested(33), "no usable expression"),
            (String::from("("), "no usable expression"),
        ] {
            let error = compile("rules[0].path", &pattern, 32).unwrap_err();
            assert_eq!(error.field(), "rules[0].path");
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(compile("path", &nested(33), MAX_NESTING).is_ok());
    }
}
