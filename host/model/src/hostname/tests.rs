use proptest::prelude::*;

use super::*;

fn many(text: &str) -> HostPattern {
    HostPattern::parse(text, Labels::Many)
}

fn one(text: &str) -> HostPattern {
    HostPattern::parse(text, Labels::One)
}

#[test]
fn wildcards_match_labels_not_letters() {
    assert!(many("*.example.com").matches("a.example.com"));
    assert!(many("*.example.com").matches("a.b.example.com"));
    assert!(!many("*.example.com").matches("example.com"));
    assert!(!many("*.example.com").matches(".example.com"));
    assert!(!many("*.example.com").matches("badexample.com"));
    assert!(one("*.example.com").matches("a.example.com"));
    assert!(!one("*.example.com").matches("a.b.example.com"));
}

#[test]
fn intersections_are_the_narrower_of_two_nested_patterns() {
    let table = [
        ("", "a.test", Some("a.test")),
        ("*.test", "a.test", Some("a.test")),
        ("*.test", "*.a.test", Some("*.a.test")),
        ("*.a.test", "*.test", Some("*.a.test")),
        ("*.a.test", "*.b.test", None),
        ("a.test", "b.test", None),
        ("*.test", "test", None),
        ("*.test", "", Some("*.test")),
    ];
    for (a, b, expected) in table {
        assert_eq!(
            many(a).intersect(&many(b)),
            expected.map(many),
            "{a} and {b}"
        );
    }
    assert_eq!(
        one("*.test").intersect(&one("*.a.test")),
        None,
        "one label never reaches two"
    );
}

#[test]
fn the_most_specific_name_comes_first() {
    let mut map = HostMap::default();
    for name in ["", "*.test", "*.a.test", "x.a.test"] {
        map.insert(&many(name), name);
    }
    map.insert(&one("*.a.test"), "one");
    assert_eq!(
        map.matching("x.a.test").copied().collect::<Vec<_>>(),
        ["x.a.test", "one", "*.a.test", "*.test", ""]
    );
    assert_eq!(
        map.matching("y.x.a.test").copied().collect::<Vec<_>>(),
        ["*.a.test", "*.test", ""]
    );
    assert_eq!(map.find("other"), Some(&""));
}

fn host() -> impl Strategy<Value = String> {
    proptest::collection::vec("[ab]", 1..4).prop_map(|labels| labels.join("."))
}

fn pattern() -> impl Strategy<Value = HostPattern> {
    prop_oneof![
        Just(HostPattern::Any),
        host().prop_map(|h| many(&h)),
        host().prop_map(|h| many(&format!("*.{h}"))),
        host().prop_map(|h| one(&format!("*.{h}"))),
    ]
}

proptest! {
    #[test]
    fn the_map_agrees_with_asking_each_pattern(patterns in proptest::collection::vec(pattern(), 0..12), host in host()) {
        let mut map = HostMap::default();
        for pattern in &patterns {
            map.insert(pattern, pattern.clone());
        }
        let found: Vec<_> = map.matching(&host).cloned().collect();
        let mut expected: Vec<_> = map.iter().map(|(p, _)| p).filter(|p| p.matches(&host)).collect();
        expected.sort_by_key(|p| std::cmp::Reverse(p.specificity()));
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(map.find(&host), expected.first());
    }

    #[test]
    fn an_intersection_matches_what_both_match(a in pattern(), b in pattern(), host in host()) {
        let both = a.matches(&host) && b.matches(&host);
        let met = a.intersect(&b).is_some_and(|p| p.matches(&host));
        prop_assert_eq!(met, both);
    }
}
