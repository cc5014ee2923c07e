//! What a request path means: the one reading that routes are matched on and that the upstream gets to see.
//!
//! A rule that guards `/admin` must also guard every other spelling that some upstream reads as `/admin`. So dot segments are
//! resolved before anything looks at the path (RFC 3986 section 5.2.4, as Envoy's `normalize_path` and nginx do), what has no
//! single reading is refused, and matching ignores spelling: encoded letters, doubled slashes and path parameters.

use std::borrow::Cow;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// `%2f` or `%5c`: some upstreams read a separator, some a letter.
    EncodedSlash,
    /// `\`, which some upstreams read as `/`.
    Backslash,
    /// An encoded control character, `%00` above all.
    EncodedControl,
    /// `%` without two hexadecimal digits.
    BadEscape,
    /// `..;x` or `.;x`: a dot segment to some upstreams only. Also a segment of parameters alone, `/;/`.
    ParameterOnDots,
}

impl PathError {
    /// A word for response details and the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EncodedSlash => "path_encoded_slash",
            Self::Backslash => "path_backslash",
            Self::EncodedControl => "path_encoded_control",
            Self::BadEscape => "path_bad_escape",
            Self::ParameterOnDots => "path_parameter_on_dots",
        }
    }
}

/// Whether the path is plain: no byte in it has more than one reading, so [`resolve`] and [`canonical`] return it as it is.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    let mut previous = 0;
    for &byte in bytes {
        match byte {
            b'%' | b';' | b'\\' => return false,
            b'/' | b'.' if previous == b'/' => return false,
            _ => previous = byte,
        }
    }
    true
}

/// The path (without query) that goes to the filters and the upstream: dot segments resolved, everything else byte for byte.
///
/// # Errors
/// [`PathError`] for what has no single reading; the request is to be answered 400.
pub fn resolve(path: &str) -> Result<Cow<'_, str>, PathError> {
    if is_plain(path) {
        return Ok(Cow::Borrowed(path));
    }
    check(path)?;
    let dotted = path.split('/').any(|segment| dots(segment).is_some());
    if !dotted {
        return Ok(Cow::Borrowed(path));
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match dots(segment) {
            None => kept.push(segment),
            Some(count) => {
                if count == 2 {
                    kept.pop();
                }
                if last {
                    // `/a/..` names the folder, so the slash stays.
                    kept.push("");
                }
            }
        }
    }
    Ok(Cow::Owned(format!("/{}", kept.join("/"))))
}

/// The path as routes see it: letters decoded that never need encoding, parameters (`;x=y`) and empty segments dropped.
/// Expects what [`resolve`] returned.
pub fn canonical(path: &str) -> Cow<'_, str> {
    if is_plain(path) {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    let mut in_parameters = false;
    let mut rest = path;
    while let Some(letter) = rest.chars().next() {
        let mut width = letter.len_utf8();
        match letter {
            '/' => {
                in_parameters = false;
                if !out.ends_with('/') {
                    out.push('/');
                }
            }
            ';' => in_parameters = true,
            _ if in_parameters => {}
            '%' => match escape(rest.as_bytes()) {
                // Some upstreams decode before they cut parameters off.
                Some(b';') => in_parameters = true,
                Some(byte) if is_unreserved(byte) => {
                    out.push(char::from(byte));
                    width = 3;
                }
                _ => out.push('%'),
            },
            other => out.push(other),
        }
        rest = &rest[width..];
    }
    Cow::Owned(out)
}

fn check(path: &str) -> Result<(), PathError> {
    let bytes = path.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\\' => return Err(PathError::Backslash),
            b'%' => match escape(&bytes[at..]) {
                None => return Err(PathError::BadEscape),
                Some(b'/' | b'\\') => return Err(PathError::EncodedSlash),
                Some(0..=0x1f | 0x7f) => return Err(PathError::EncodedControl),
                Some(_) => {}
            },
            _ => {}
        }
    }
    for segment in path.split('/') {
        let Some((name, _)) = split_parameters(segment) else {
            continue;
        };
        if name.is_empty() || dots(name).is_some() {
            return Err(PathError::ParameterOnDots);
        }
    }
    Ok(())
}

/// The name and the parameters of a segment, where it has parameters; `%3b` counts as `;`.
fn split_parameters(segment: &str) -> Option<(&str, &str)> {
    let plain = segment.find(';');
    let encoded = segment.to_ascii_lowercase().find("%3b");
    let at = match (plain, encoded) {
        (Some(a), Some(b)) => a.min(b),
        (a, b) => a.or(b)?,
    };
    Some((&segment[..at], &segment[at..]))
}

/// 1 for `.`, 2 for `..`, in any mix of plain and encoded dots.
fn dots(segment: &str) -> Option<u8> {
    let mut count = 0;
    let mut rest = segment;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
        } else if rest.len() >= 3
            && rest.is_char_boundary(3)
            && rest[..3].eq_ignore_ascii_case("%2e")
        {
            rest = &rest[3..];
        } else {
            return None;
        }
        count += 1;
    }
    matches!(count, 1 | 2).then_some(count)
}

fn escape(bytes: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    u8::try_from(digit(1)? * 16 + digit(2)?).ok()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_resolved_in_every_spelling() {
        let table = [
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/../../b", "/b"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a/...", "/a/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a//b", "/a//b"),
            ("/a%20b", "/a%20b"),
            ("/a;v=1/b", "/a;v=1/b"),
        ];
        for (path, expected) in table {
            assert_eq!(resolve(path).as_deref(), Ok(expected), "{path}");
        }
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        let table = [
            ("/a%2fb", PathError::EncodedSlash),
            ("/a%5Cb", PathError::EncodedSlash),
            ("/a\\b", PathError::Backslash),
            ("/a%00", PathError::EncodedControl),
            ("/a%0d%0ab", PathError::EncodedControl),
            ("/a%", PathError::BadEscape),
            ("/a%zz", PathError::BadEscape),
            ("/a/..;/b", PathError::ParameterOnDots),
            ("/;/admin", PathError::ParameterOnDots),
            ("/%2e%2e;x/b", PathError::ParameterOnDots),
            ("/%3b/admin", PathError::ParameterOnDots),
        ];
        for (path, expected) in table {
            assert_eq!(resolve(path), Err(expected), "{path}");
        }
    }

    #[test]
    fn routes_see_one_spelling() {
        let table = [
            ("/admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("//admin", "/admin"),
            ("/admin;x=y", "/admin"),
            ("/admin%3Bx=y/z", "/admin/z"),
            ("/a%20b", "/a%20b"),
            ("/a/;/b", "/a/b"),
            ("/é", "/é"),
        ];
        for (path, expected) in table {
            assert_eq!(canonical(path), expected, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_panics_and_resolving_is_done_once(path in "/[/.a%25eEfF;\\\\é]{0,12}") {
            if let Ok(resolved) = resolve(&path) {
                let again = resolve(&resolved);
                proptest::prop_assert_eq!(again.as_deref(), Ok(&*resolved));
                let canonical = canonical(&resolved);
                proptest::prop_assert!(!canonical.contains("//"));
                proptest::prop_assert!(canonical.split('/').all(|s| s != ".."));
            }
        }
    }
}
