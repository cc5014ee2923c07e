//! Paths of hosts on which some Ingress uses expressions: all of them are, and each matches what begins like it.

use tidegate_model::{PathMatch, Pattern};

use super::redirects::ACME;
use crate::api::core::HTTPIngressPath;
use crate::translate::problem::Problem;

/// A path as nginx's `location ~* "^path"`: without regard to case, from the beginning, the longer before the shorter. Prefix and
/// Exact paths are expressions, too.
///
/// # Errors
/// An expression that cannot be read, and what matches every path that it could have matched.
pub(in crate::translate::ingress) fn expression(
    written: &HTTPIngressPath,
) -> Result<PathMatch, (Problem, PathMatch)> {
    let text = text(written);
    match Pattern::standing_for(text, &located(text)) {
        Ok(pattern) => Ok(PathMatch::Regex(pattern)),
        Err(error) => {
            let reason = error.to_string();
            let last = reason.lines().last().unwrap_or_default().trim();
            let problem = Problem::new(
                "UnsupportedValue",
                format!(
                    "path {text:?} is no regular expression that is known here ({last}); write it without look-around and back references; until then what it may match is answered 503"
                ),
            );
            Err((problem, literal_beginning(text)))
        }
    }
}

/// The expression of a path as nginx's `location ~*` reads it.
pub(super) fn located(path: &str) -> String {
    format!("(?i)^{path}")
}

/// What is written, an absent path being `/`.
pub(in crate::translate::ingress) fn text(written: &HTTPIngressPath) -> &str {
    written
        .path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or("/")
}

/// Whether the path is one that certificate issuers ask.
pub(super) fn is_acme(path: &str) -> bool {
    path.starts_with(ACME) || path == ACME.trim_end_matches('/')
}

/// Matches at least what the expression matches: everything behind the letters that it begins with, ranked like the whole.
fn literal_beginning(text: &str) -> PathMatch {
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '/' | '-' | '_' | '~'))
        .unwrap_or(text.len());
    let mut beginning = &text[..end];
    // `ab*`, `ab?` and `ab{0}` do without the b, and `ab|c` without all of it.
    if text[end..].starts_with(['*', '?', '{', '+']) {
        beginning = &beginning[..beginning.len().saturating_sub(1)];
    }
    if text.contains('|') {
        beginning = "";
    }
    let pattern = Pattern::standing_for(text, &format!("(?i)^{}", regex::escape(beginning)));
    pattern.map_or_else(|_| PathMatch::prefix("/"), PathMatch::Regex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(path: &str) -> HTTPIngressPath {
        HTTPIngressPath {
            path: Some(path.to_owned()),
            ..HTTPIngressPath::default()
        }
    }

    #[test]
    fn paths_are_expressions_without_an_end() {
        let path = expression(&written("/api/v[0-9]")).expect("an expression");
        for (request, expected) in [
            ("/api/v1", true),
            ("/API/V2/x", true),
            ("/api/vx", false),
            ("/x/api/v1", false),
        ] {
            assert_eq!(path.matches(request), expected, "{request}");
        }
        // Not grouped, as with nginx.
        assert!(
            expression(&written("/a|/b"))
                .expect("an expression")
                .matches("/x/b")
        );
    }

    #[test]
    fn what_cannot_be_read_closes_all_that_it_may_have_matched() {
        for (path, closed, open) in [
            ("/admin(?=/x)", "/Admin/x", Some("/user")),
            ("/adm?(?!x)", "/ad", Some("/b")),
            ("/a|(?=b)", "/anything", None),
        ] {
            let (problem, all) = expression(&written(path)).expect_err(path);
            assert!(problem.message.contains("503"), "{}", problem.message);
            assert!(all.matches(closed), "{path} {closed}");
            assert!(
                open.is_none_or(|open| !all.matches(open)),
                "{path} {open:?}"
            );
        }
    }
}
