//! Paths of Ingress rules.

use tidegate_model::{PathMatch, path};

use crate::api::core::HTTPIngressPath;
use crate::translate::problem::Problem;

/// What a path matches. `ImplementationSpecific` is `Prefix` here. The second part says what is odd about it.
///
/// # Errors
/// Why the path matches nothing.
pub(super) fn read(written: &HTTPIngressPath) -> Result<(PathMatch, Option<String>), Problem> {
    let text = written
        .path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or("/");
    if !text.starts_with('/') {
        return Err(invalid(format!(
            "path {text:?} does not begin with a slash; write \"/{text}\""
        )));
    }
    // What is compared with canonical paths must be canonical itself.
    let canonical = path::resolve(text).map(|resolved| path::canonical(&resolved).into_owned());
    let canonical = canonical.map_err(|error| {
        invalid(format!(
            "path {text:?} matches no request, because such paths are refused ({}); write it without",
            error.as_str()
        ))
    })?;
    match written.path_type.as_str() {
        "Exact" => Ok((PathMatch::Exact(canonical.into()), None)),
        "Prefix" => Ok((PathMatch::prefix(&canonical), None)),
        "ImplementationSpecific" => {
            let odd = text.contains(['(', '*', '[', '^', '$', '|']).then(|| {
                format!(
                    "path {text:?}: pathType ImplementationSpecific is read as Prefix, and not as an expression; use an HTTPRoute with path type RegularExpression"
                )
            });
            Ok((PathMatch::prefix(&canonical), odd))
        }
        other => Err(invalid(format!(
            "pathType {other:?} is not known; use Exact, Prefix or ImplementationSpecific"
        ))),
    }
}

fn invalid(message: String) -> Problem {
    Problem::new("Invalid", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(path: &str, path_type: &str) -> HTTPIngressPath {
        HTTPIngressPath {
            path: Some(path.to_owned()),
            path_type: path_type.to_owned(),
            ..HTTPIngressPath::default()
        }
    }

    /// The table of "Multiple matches" and "Examples" of the Ingress page: pathType, path, request path, match.
    #[test]
    fn the_examples_of_kubernetes() {
        let cases = [
            ("Prefix", "/", "/foo/bar", true),
            ("Exact", "/foo", "/foo", true),
            ("Exact", "/foo", "/bar", false),
            ("Exact", "/foo", "/foo/", false),
            ("Exact", "/foo/", "/foo", false),
            ("Prefix", "/foo", "/foo", true),
            ("Prefix", "/foo", "/foo/", true),
            ("Prefix", "/foo/", "/foo", true),
            ("Prefix", "/foo/", "/foo/", true),
            ("Prefix", "/aaa/bb", "/aaa/bbb", false),
            ("Prefix", "/aaa/bbb", "/aaa/bbb", true),
            ("Prefix", "/aaa/bbb/", "/aaa/bbb", true),
            ("Prefix", "/aaa/bbb", "/aaa/bbb/", true),
            ("Prefix", "/aaa/bbb", "/aaa/bbb/ccc", true),
            ("Prefix", "/aaa/bbb", "/aaa/bbbxyz", false),
            ("Prefix", "/aaa", "/AAA", false),
            ("ImplementationSpecific", "/aaa", "/aaa/b", true),
            ("ImplementationSpecific", "", "/aaa/b", true),
        ];
        for (kind, path, request, expected) in cases {
            let (matches, _) = read(&written(path, kind)).unwrap();
            assert_eq!(
                matches.matches(request),
                expected,
                "{kind} {path} {request}"
            );
        }
    }

    #[test]
    fn what_matches_nothing_is_refused() {
        for (path, kind) in [
            ("foo", "Prefix"),
            ("/a%2fb", "Exact"),
            ("/a", "Regex"),
            ("/a", ""),
        ] {
            assert!(read(&written(path, kind)).is_err(), "{kind} {path}");
        }
        assert!(
            read(&written("/a(/|$)(.*)", "ImplementationSpecific"))
                .unwrap()
                .1
                .is_some()
        );
    }
}
