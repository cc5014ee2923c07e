//! Names and values of HTTP headers: what may be written into one, and reading lists and cookies.
//!
//! Hosts refuse some of what is checked here and Envoy passes some of it on; a filter that copies a client's text into a header
//! checks it first, whoever runs it.

use crate::ConfigError;

/// Whether `byte` may stand in a token (RFC 9110 section 5.6.2).
#[must_use]
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether `text` is a token: a method, a header name.
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_byte)
}

/// Whether `text` may be a header's value as it is: visible ASCII, with spaces and tabs only inside.
#[must_use]
pub fn is_value(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e))
        && text.trim_ascii().len() == text.len()
}

/// A header's name of a configuration, in lower case; `field` is named in errors.
///
/// # Errors
///
/// What is no name, and one of `reserved`.
pub fn name(field: &str, name: &str, reserved: &[&str]) -> Result<String, ConfigError> {
    let name = name.to_ascii_lowercase();
    match is_token(name.as_bytes()) && !reserved.contains(&name.as_str()) {
        true => Ok(name),
        false => Err(ConfigError::new(
            field,
            format!("{name:?} cannot be used here"),
        )),
    }
}

/// Checks a method of a configuration; `field` is named in errors.
///
/// # Errors
///
/// What is no method, and one with lower case in it: methods are compared with case (RFC 9110 section 9.1), so `get` would match nothing.
pub fn method(field: &str, method: &str) -> Result<(), ConfigError> {
    let upper = method.to_ascii_uppercase();
    let problem = match is_token(method.as_bytes()) {
        true if method == upper => return Ok(()),
        true => format!("{method:?} matches no request, since methods have case; write {upper}"),
        false => format!("{method:?} is no method"),
    };
    Err(ConfigError::new(field, problem))
}

/// The members of comma-separated values, in order, without surrounding white space and without empty ones.
pub fn list<V: AsRef<[u8]>>(values: &[V]) -> impl Iterator<Item = &[u8]> {
    values
        .iter()
        .flat_map(|value| value.as_ref().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// The value of the first cookie called `name` in the values of `cookie` headers.
#[must_use]
pub fn cookie<'a, V: AsRef<[u8]>>(values: &'a [V], name: &str) -> Option<&'a [u8]> {
    values
        .iter()
        .flat_map(|value| value.as_ref().split(|byte| *byte == b';'))
        .find_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (key, value) = pair.split_at(equals);
            (key.trim_ascii() == name.as_bytes()).then(|| value[1..].trim_ascii())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        assert!(is_token(b"X-Forwarded-For"));
        assert!(is_token(b"GET"));
        for bad in ["", "a b", "a:b", "a\r\nb", "\u{e9}", "a,b", "a\0"] {
            assert!(!is_token(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn values_hold_no_line_breaks_and_no_edges_of_white_space() {
        assert!(is_value(b"text/plain; charset=utf-8"));
        assert!(is_value(b""));
        for bad in ["a\r\nb", "a\nb", " a", "a ", "a\0", "\u{e9}", "a\x7f"] {
            assert!(!is_value(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn methods_are_in_upper_case() {
        assert!(method("m", "GET").is_ok() && method("m", "M-SEARCH").is_ok());
        for (bad, part) in [
            ("delete", "write DELETE"),
            ("", "no method"),
            ("A B", "no method"),
        ] {
            let problem = method("m", bad).unwrap_err().to_string();
            assert!(problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn lists_span_several_values() {
        let values = ["a, b", "", " ,c ,, "];
        let members: Vec<_> = list(&values).collect();
        assert_eq!(members, [b"a", b"b", b"c"]);
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let values = ["xid=1; id=2", "id=3; other"];
        assert_eq!(cookie(&values, "id"), Some(&b"2"[..]));
        assert_eq!(cookie(&values, "xid"), Some(&b"1"[..]));
        assert_eq!(cookie(&values, "other"), None);
        assert_eq!(cookie(&["id=a=b"], "id"), Some(&b"a=b"[..]));
    }
}
