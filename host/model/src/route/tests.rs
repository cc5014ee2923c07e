use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::rule::{RuleOrigin, Timeouts};

fn rule() -> Arc<Rule> {
    Arc::new(Rule {
        origin: RuleOrigin::new("HTTPRoute", "d", "r", 0, None),
        filters: Vec::new(),
        backends: Vec::new(),
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
        access_log: true,
    })
}

fn entry(matches: RouteMatch, place: usize) -> RouteEntry {
    RouteEntry {
        matches,
        age: Age {
            place: (place, 0),
            ..Age::default()
        },
        rule: rule(),
    }
}

fn head(method: Method, target: &str, headers: &[(&'static str, &str)]) -> RequestHead {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).expect("a header"));
    }
    RequestHead {
        method,
        scheme: http::uri::Scheme::HTTP,
        authority: HeaderValue::from_static("a.test"),
        path: target.parse().expect("a path"),
        headers: map,
    }
}

fn find(table: &RouteTable, head: &RequestHead) -> Option<usize> {
    let query = RouteQuery {
        head,
        path: crate::path::canonical(head.path.path()),
    };
    table.find(&query).map(|entry| entry.age.place.0)
}

#[test]
fn prefixes_match_segments() {
    // The table of the Ingress documentation (kubernetes.io, "Examples" of path types).
    let table = [
        ("/", "/anything", true),
        ("/foo", "/foo", true),
        ("/foo", "/foo/", true),
        ("/foo/", "/foo", true),
        ("/foo/", "/foo/", true),
        ("/aaa/bb", "/aaa/bbb", false),
        ("/aaa/bbb", "/aaa/bbb", true),
        ("/aaa/bbb/", "/aaa/bbb", true),
        ("/aaa/bbb", "/aaa/bbb/ccc", true),
        ("/aaa/bbb", "/aaa/bbbxyz", false),
        ("/aaa/bbb", "/ccc", false),
    ];
    for (prefix, path, expected) in table {
        assert_eq!(
            PathMatch::prefix(prefix).matches(path),
            expected,
            "{prefix} {path}"
        );
    }
    assert!(!PathMatch::Exact("/foo".into()).matches("/foo/"));
    assert!(!PathMatch::Exact("/foo/".into()).matches("/foo"));
}

#[test]
fn the_older_route_wins_between_equals() {
    let table = RouteTable::new([
        entry(RouteMatch::path(PathMatch::prefix("/a")), 1),
        entry(RouteMatch::path(PathMatch::prefix("/a")), 0),
    ]);
    assert_eq!(find(&table, &head(Method::GET, "/a", &[])), Some(0));
}

#[test]
fn a_longer_path_outranks_a_method_and_headers() {
    let with_header = RouteMatch {
        method: Some(Method::GET),
        headers: vec![(HeaderName::from_static("x"), ValueMatch::Exact("1".into()))],
        ..RouteMatch::path(PathMatch::prefix("/"))
    };
    let table = RouteTable::new([
        entry(with_header, 0),
        entry(RouteMatch::path(PathMatch::prefix("/a")), 1),
    ]);
    assert_eq!(
        find(&table, &head(Method::GET, "/a", &[("x", "1")])),
        Some(1)
    );
    assert_eq!(
        find(&table, &head(Method::GET, "/b", &[("x", "1")])),
        Some(0)
    );
    assert_eq!(find(&table, &head(Method::POST, "/b", &[("x", "1")])), None);
}

#[test]
fn repeated_headers_are_one_value_and_the_first_parameter_counts() {
    let matches = RouteMatch {
        headers: vec![(
            HeaderName::from_static("x"),
            ValueMatch::Exact("1,2".into()),
        )],
        query: vec![("q p".into(), ValueMatch::Exact("é".into()))],
        ..RouteMatch::path(PathMatch::prefix("/"))
    };
    let table = RouteTable::new([entry(matches, 0)]);
    assert_eq!(
        find(
            &table,
            &head(Method::GET, "/?q+p=%C3%A9&q+p=x", &[("x", "1"), ("x", "2")])
        ),
        Some(0)
    );
    assert_eq!(
        find(
            &table,
            &head(Method::GET, "/?q+p=x&q+p=%C3%A9", &[("x", "1"), ("x", "2")])
        ),
        None
    );
    assert_eq!(
        find(&table, &head(Method::GET, "/?q+p=%C3%A9", &[("x", "1")])),
        None
    );
}

fn path() -> impl Strategy<Value = String> {
    "(/[ab]{1,2}){0,3}/?".prop_map(|p| if p.is_empty() { "/".to_owned() } else { p })
}

fn any_match() -> impl Strategy<Value = RouteMatch> {
    let paths = prop_oneof![
        path().prop_map(|p| PathMatch::Exact(p.into())),
        path().prop_map(|p| PathMatch::prefix(&p)),
        "[ab]{1,2}".prop_map(|method| PathMatch::GrpcMethod(method.into())),
        "/[ab.]{1,3}[*]?"
            .prop_map(|p| PathMatch::Regex(Pattern::whole(&p).expect("an expression"))),
    ];
    let value = || {
        prop_oneof![
            Just(ValueMatch::Exact("1".into())),
            Just(ValueMatch::Exact("2".into()))
        ]
    };
    let method = prop_oneof![
        Just(None),
        Just(Some(Method::GET)),
        Just(Some(Method::POST))
    ];
    let headers = proptest::collection::vec(
        (
            prop_oneof![
                Just(HeaderName::from_static("x")),
                Just(HeaderName::from_static("y"))
            ],
            value(),
        ),
        0..3,
    );
    let query = proptest::collection::vec(
        (
            prop_oneof![Just(Arc::from("p")), Just(Arc::from("q"))],
            value(),
        ),
        0..3,
    );
    (paths, method, headers, query).prop_map(|(path, method, headers, query)| RouteMatch {
        path,
        method,
        headers,
        query,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The oracle asks every match and takes the greatest: the table must find the same one.
    #[test]
    fn the_table_agrees_with_asking_every_match(
        matches in proptest::collection::vec(any_match(), 0..20),
        path in path(),
        post in any::<bool>(),
        headers in proptest::collection::vec((prop_oneof![Just("x"), Just("y")], prop_oneof![Just("1"), Just("2")]), 0..3),
        query in prop_oneof![Just(""), Just("?p=1"), Just("?q=2&p=2"), Just("?p=1&q=1")],
    ) {
        let entries: Vec<_> = matches.into_iter().enumerate().map(|(at, m)| entry(m, at)).collect();
        let head = head(if post { Method::POST } else { Method::GET }, &format!("{path}{query}"), &headers);
        let asked = RouteQuery { head: &head, path: crate::path::canonical(head.path.path()) };
        let oracle = entries
            .iter()
            .filter(|entry| entry.matches.matches(&asked))
            .max_by_key(|entry| entry.precedence())
            .map(|entry| entry.age.place.0);
        let table = RouteTable::new(entries.clone());
        prop_assert_eq!(find(&table, &head), oracle);
    }
}
