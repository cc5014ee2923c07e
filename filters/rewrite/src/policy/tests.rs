//! Whole rewrites.

use proptest::prelude::*;

use super::*;

fn rewrite(config: &str) -> Rewrite {
    Rewrite::parse(config.as_bytes()).unwrap()
}

/// One rule for the path.
fn path_rule(pattern: &str, replacement: &str) -> Rewrite {
    let rule = serde_json::json!({"rules": [{"match": {"path": pattern}, "path": replacement}]});
    rewrite(&rule.to_string())
}

fn path(rewrite: &Rewrite, target: &str) -> Option<String> {
    match rewrite.apply(target.as_bytes(), b"a.test") {
        Outcome::Pass { path, host: None } => path,
        other => panic!("{target}: {other:?}"),
    }
}

fn status(rewrite: &Rewrite, target: &[u8], host: &[u8]) -> Option<u16> {
    match rewrite.apply(target, host) {
        Outcome::Refuse(reply) => Some(reply.status),
        Outcome::Pass { .. } => None,
    }
}

#[test]
fn captures_make_the_new_path_and_the_query_stays() {
    let strip = path_rule("(?i)^/something(/|$)(.*)", "/$2");
    for (target, expected) in [
        ("/something/new", Some("/new")),
        ("/SomeThing/new?a=1&b", Some("/new?a=1&b")),
        ("/something", Some("/")),
        ("/something/", Some("/")),
        ("/something/a%2Fb%20c", Some("/a%2Fb%20c")),
        ("/other?x", None),
        ("/somethingelse", None),
    ] {
        assert_eq!(path(&strip, target).as_deref(), expected, "{target}");
    }
}

#[test]
fn a_question_mark_in_the_replacement_adds_to_the_query_and_one_at_the_end_drops_it() {
    for (replacement, expected) in [
        ("/show?user=$1", "/show?user=ann&a=1"),
        ("/show?user=$1?", "/show?user=ann"),
        ("/show?", "/show"),
        ("/show", "/show?a=1"),
        ("/show?a=2&b", "/show?a=2&b&a=1"),
    ] {
        let rewrite = path_rule("^/users/([^/]+)$", replacement);
        assert_eq!(
            path(&rewrite, "/users/ann?a=1").as_deref(),
            Some(expected),
            "{replacement}"
        );
    }
    let rewrite = path_rule("^/users/([^/]+)$", "/show?user=$1");
    assert_eq!(
        path(&rewrite, "/users/ann").as_deref(),
        Some("/show?user=ann")
    );
    assert_eq!(
        path(&rewrite, "/users/ann?").as_deref(),
        Some("/show?user=ann")
    );
}

#[test]
fn what_was_captured_cannot_leave_its_place() {
    let rewrite = path_rule("^/u/(.*)$", "/show?user=$1&role=guest");
    for (target, expected) in [
        ("/u/x&role=admin", "/show?user=x%26role%3Dadmin&role=guest"),
        ("/u/x#frag", "/show?user=x%23frag&role=guest"),
        ("/u/x y", "/show?user=x%20y&role=guest"),
        ("/u/x%26y", "/show?user=x%26y&role=guest"),
        ("/u/x%zz", "/show?user=x%25zz&role=guest"),
    ] {
        assert_eq!(
            path(&rewrite, target).as_deref(),
            Some(expected),
            "{target}"
        );
    }
    let echo = path_rule("^/e/(.*)$", "/x/$1");
    for (target, expected) in [
        (&b"/e/a\r\nset-cookie: b"[..], "/x/a%0D%0Aset-cookie:%20b"),
        (b"/e/\xff\xc3", "/x/%FF%C3"),
        (b"/e/a\0", "/x/a%00"),
        (b"/e/\"<>\\^`{|}", "/x/%22%3C%3E%5C%5E%60%7B%7C%7D"),
    ] {
        let passed = Outcome::Pass {
            path: Some(expected.into()),
            host: None,
        };
        assert_eq!(echo.apply(target, b"a.test"), passed);
    }
}

#[test]
fn a_new_path_begins_with_exactly_one_slash() {
    let rest = path_rule("^/proxy(.*)$", "$1");
    for (target, expected) in [
        ("/proxy", "/"),
        ("/proxy/a", "/a"),
        ("/proxy//evil.test/a", "/evil.test/a"),
        ("/proxyhttp://evil.test", "/http://evil.test"),
    ] {
        assert_eq!(path(&rest, target).as_deref(), Some(expected), "{target}");
    }
}

#[test]
fn a_new_path_does_not_climb() {
    let rewrite = path_rule("^/public/(.*)$", "/files/public/$1");
    for target in [
        "/public/../secret",
        "/public/%2e%2E/secret",
        "/public/./a",
        "/public/..",
    ] {
        assert_eq!(
            status(&rewrite, target.as_bytes(), b"a.test"),
            Some(400),
            "{target}"
        );
    }
    assert_eq!(
        path(&rewrite, "/public/a..b/...").as_deref(),
        Some("/files/public/a..b/...")
    );
    // Whether to accept it is the host's affair where no rule matches.
    assert_eq!(path(&rewrite, "/other/../secret"), None);
}

#[test]
fn an_unmatched_request_is_left_alone_byte_for_byte() {
    let rewrite = path_rule("^/api/", "/x");
    for target in [&b"/a b\xff?x y"[..], b"*", b"", b"http://a.test/api/"] {
        assert_eq!(
            rewrite.apply(target, b"A.test"),
            Outcome::Pass {
                path: None,
                host: None
            }
        );
    }
}

#[test]
fn rules_run_in_order_until_one_stops() {
    let config = |stop: bool| {
        rewrite(&format!(
            r#"{{"rules": [{{"match": {{"path": "^/a"}}, "path": "/b", "stop": {stop}}}, {{"match": {{"path": "^/b"}}, "path": "/c"}},
                {{"match": {{"path": "^/c"}}, "path": "/d"}}]}}"#
        ))
    };
    assert_eq!(path(&config(true), "/a").as_deref(), Some("/b"));
    assert_eq!(path(&config(false), "/a").as_deref(), Some("/c"));
}

#[test]
fn the_host_is_matched_without_port_and_case_and_replaced() {
    let rewrite = rewrite(
        r#"{"rules": [{"match": {"path": "^/(.*)$", "host": "^(?<tenant>[a-z]+)\\.example\\.com$"}, "path": "/${tenant}/$1",
            "host": "${tenant}.internal:8080"}]}"#,
    );
    for host in [&b"shop.example.com"[..], b"Shop.Example.COM:443"] {
        let expected = Outcome::Pass {
            path: Some("/shop/x".into()),
            host: Some("shop.internal:8080".into()),
        };
        assert_eq!(rewrite.apply(b"/x", host), expected);
    }
    assert_eq!(
        rewrite.apply(b"/x", b"shop.example.org"),
        Outcome::Pass {
            path: None,
            host: None
        }
    );
}

#[test]
fn numbers_count_the_hosts_groups_where_no_path_is_matched() {
    let rewrite = rewrite(
        r#"{"rules": [{"match": {"host": "^([a-z]+)\\.a\\.test$"}, "host": "$1.b.test"}]}"#,
    );
    assert_eq!(
        rewrite.apply(b"/x", b"w.a.test"),
        Outcome::Pass {
            path: None,
            host: Some("w.b.test".into())
        }
    );
}

#[test]
fn a_host_made_of_what_a_client_sent_is_checked() {
    let rewrite =
        rewrite(r#"{"rules": [{"match": {"path": "^/to/(.*)$"}, "path": "/", "host": "$1"}]}"#);
    for target in [
        &b"/to/"[..],
        b"/to/a/b",
        b"/to/user@evil",
        b"/to/a%0d%0ax:y",
        b"/to/a:99999",
        b"/to/a b",
    ] {
        assert_eq!(status(&rewrite, target, b"a.test"), Some(400));
    }
    assert_eq!(status(&rewrite, b"/to/b.test:81", b"a.test"), None);
}

#[test]
fn the_query_is_replaced_or_edited() {
    for (query, target, expected) in [
        (r#""id=$1""#, "/i/7?a=1", Some("/i/7?id=7")),
        (r#""""#, "/i/7?a=1", Some("/i/7")),
        (r#""""#, "/i/7", None),
        (r#"{"remove": ["a"]}"#, "/i/7?a=1&b=2", Some("/i/7?b=2")),
        (r#"{"remove": ["a"]}"#, "/i/7?a=1", Some("/i/7")),
        (r#"{"remove": ["z"]}"#, "/i/7?a=1", None),
        (
            r#"{"set": {"id": "$1"}}"#,
            "/i/7?id=evil&b=2&%69d=x",
            Some("/i/7?id=7&b=2"),
        ),
        (
            r#"{"set": {"id": "$1"}}"#,
            "/i/a&b=c",
            Some("/i/a&b=c?id=a%26b%3Dc"),
        ),
        (
            r#"{"set": {"x y": "1"}, "remove": ["a"]}"#,
            "/i/7?a=1",
            Some("/i/7?x%20y=1"),
        ),
    ] {
        let rewrite = rewrite(&format!(
            r#"{{"rules": [{{"match": {{"path": "^/i/(.+)$"}}, "query": {query}}}]}}"#
        ));
        assert_eq!(
            path(&rewrite, target).as_deref(),
            expected,
            "{query} {target}"
        );
    }
}

#[test]
fn decoded_matching_sees_what_nginx_shows_its_expressions() {
    let rewrite = rewrite(
        r#"{"decode": true, "rules": [{"match": {"path": "^/café/(.*)$"}, "path": "/c/$1"}]}"#,
    );
    for (target, expected) in [
        ("/caf%C3%A9/a%2Fb", Some("/c/a/b")),
        ("/caf%c3%a9//a/./b/../c/", Some("/c/a/c/")),
        ("/caf%C3%A9/a%20%3F%23%25", Some("/c/a%20%3F%23%25")),
        ("/x/..%2Fcaf%C3%A9/%2e/y?q=%20", Some("/c/y?q=%20")),
        ("/caf%E9/x", None),
    ] {
        assert_eq!(path(&rewrite, target).as_deref(), expected, "{target}");
    }
    for target in [&b"/caf%C3%A9/../../x"[..], b"/%2e%2e/x"] {
        assert_eq!(status(&rewrite, target, b"a.test"), Some(400));
    }
}

#[test]
fn decoded_bytes_that_are_no_utf8_come_out_as_they_went_in() {
    let rewrite = rewrite(
        r#"{"decode": true, "rules": [{"match": {"path": "^/a/(.*)$"}, "path": "/b/$1"}]}"#,
    );
    assert_eq!(path(&rewrite, "/a/%FFx%E9").as_deref(), Some("/b/%FFx%E9"));
}

#[test]
fn expressions_that_backtracking_engines_die_of() {
    // An engine that backtracks would not come back from any of these.
    let long = "a".repeat(20_000);
    for pattern in [
        "^/(a+)+$",
        "^/(a|a)*$",
        "^/(a*)*b$",
        "^/(.*)*x(.*)*y$",
        "^/([a-z]+)*!$",
    ] {
        let rewrite = path_rule(pattern, "/x");
        let outcome = rewrite.apply(format!("/{long}!").as_bytes(), b"a.test");
        assert!(matches!(outcome, Outcome::Pass { .. }), "{pattern}");
    }
}

#[test]
fn targets_have_a_longest() {
    let double = path_rule("^/(.*)$", "/$1$1");
    let fits = format!("/{}", "a".repeat(MAX_TARGET / 2 - 1));
    assert!(path(&double, &fits).is_some());
    let grows = format!("/{}", "a".repeat(MAX_TARGET - 1));
    assert_eq!(status(&double, grows.as_bytes(), b"a.test"), Some(414));
    assert_eq!(
        status(&double, format!("{grows}a").as_bytes(), b"a.test"),
        Some(414)
    );
}

#[test]
fn refused_configurations_name_the_rule_and_the_field() {
    let rule = |text: &str| {
        format!(r#"{{"rules": [{{"match": {{"path": "^/(a)"}}, "path": "/x"}}, {{{text}}}]}}"#)
    };
    for (config, field, part) in [
        (String::from("{}"), "", "missing field `rules`"),
        (String::from(r#"{"rules": []}"#), "rules", "1 to 128"),
        (
            rule(r#""match": {"path": "("}, "path": "/""#),
            "rules[1].match.path",
            "no usable expression",
        ),
        (
            rule(r#""match": {"path": "^/(?=x)"}, "path": "/""#),
            "rules[1].match.path",
            "no usable expression",
        ),
        (
            rule(r#""match": {"host": "["}, "path": "/""#),
            "rules[1].match.host",
            "no usable expression",
        ),
        (
            rule(r#""match": {"path": "((a{100}){100}){100}"}, "path": "/""#),
            "rules[1].match.path",
            "no usable expression",
        ),
        (
            rule(&format!(
                r#""match": {{"path": "{}"}}, "path": "/""#,
                "a".repeat(5000)
            )),
            "rules[1].match.path",
            "longer than",
        ),
        (
            rule(&format!(
                r#""match": {{"path": "{}{}"}}, "path": "/""#,
                "(".repeat(100),
                ")".repeat(100)
            )),
            "rules[1].match.path",
            "no usable",
        ),
        (
            rule(r#""match": {}, "path": "/""#),
            "rules[1].match",
            "path, host or both",
        ),
        (
            rule(r#""match": {"path": "x"}"#),
            "rules[1]",
            "changes nothing",
        ),
        (
            rule(r#""match": {"path": "(x)"}, "path": "/$2""#),
            "rules[1].path",
            "group 2",
        ),
        (
            rule(r#""match": {"path": "(x)"}, "path": "x$1""#),
            "rules[1].path",
            "begin with /",
        ),
        (
            rule(r#""match": {"path": "(x)"}, "path": """#),
            "rules[1].path",
            "begin with /",
        ),
        (
            rule(r#""match": {"path": "(x)"}, "path": "https://evil/""#),
            "rules[1].path",
            "begin with /",
        ),
        (
            rule(r#""match": {"path": "(x)"}, "path": "/?a=$2""#),
            "rules[1].path",
            "group 2",
        ),
        (
            rule(r#""match": {"path": "(x)"}, "host": "${y}""#),
            "rules[1].host",
            "no group",
        ),
        (
            rule(r#""match": {"path": "(x)"}, "query": 1"#),
            "rules[1].query",
            "a replacement",
        ),
        (
            rule(r#""match": {"path": "(x)"}, "query": {"set": {"": "x"}}"#),
            "rules[1].query.set.",
            "needs a name",
        ),
        (
            rule(r#""match": {"path": "(x)"}, "query": {"set": {"a": "$3"}}"#),
            "rules[1].query.set.a",
            "group 3",
        ),
    ] {
        let error = Rewrite::parse(config.as_bytes()).unwrap_err();
        assert_eq!(error.field(), field, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

proptest! {
    /// Whatever a client sends, what goes upstream is a path, a query and a host.
    #[test]
    fn what_comes_out_is_a_valid_target(
        path in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"/.%2e?&=#:@"[..])], 0..40),
        host in prop::collection::vec(any::<u8>(), 0..20),
        decode in any::<bool>(),
    ) {
        let rewrite = rewrite(&format!(
            r#"{{"decode": {decode}, "rules": [
                {{"match": {{"path": "^/([^/]*)(.*)$"}}, "path": "$2/x$1?a=$1&b=$2", "query": {{"set": {{"c": "$2"}}}}, "stop": false}},
                {{"match": {{"host": "^(.*)$"}}, "host": "$1"}}]}}"#
        ));
        let path = [b"/", &path[..]].concat();
        if let Outcome::Pass { path: Some(path), host } = rewrite.apply(&path, &host) {
            prop_assert!(path.starts_with('/') && !path.starts_with("//"), "{}", path);
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
            prop_assert!(path.bytes().all(allowed), "{}", path);
            let without_query = path.split('?').next().unwrap();
            prop_assert!(!uri::has_dot_segments(without_query), "{}", path);
            prop_assert!(host.is_none_or(|host| uri::is_authority(&host)));
        }
    }
}
