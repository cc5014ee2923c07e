use super::*;

const KEY: &str = "k-0123456789abcdef";

fn check(config: &str, target: &str, headers: &[(&str, &str)]) -> Result<Verdict, Reply> {
    let policy = Policy::parse(config.as_bytes()).unwrap();
    policy.check(target.as_bytes(), &|name| {
        let of_name = headers.iter().filter(|(key, _)| *key == name);
        of_name
            .map(|(_, value)| value.as_bytes().to_vec())
            .collect()
    })
}

#[test]
fn keys_are_found_where_they_may_stand() {
    let config = format!(
        r#"{{"from": [{{"header": "Authorization", "prefix": "Bearer "}}, {{"query": "key"}}, {{"cookie": "key"}}], "keys": {{"ann": "{KEY}"}}}}"#
    );
    let bearer = format!("bearer {KEY}");
    let cookie = format!("a=b; key={KEY}");
    for (target, headers) in [
        ("/", vec![("authorization", bearer.as_str())]),
        ("/?x=1&key=k-0123456789abcdef", vec![]),
        ("/?k%65y=k%2D0123456789abcdef", vec![]),
        ("/", vec![("cookie", cookie.as_str())]),
    ] {
        assert_eq!(
            check(&config, target, &headers).unwrap().client,
            "ann",
            "{target} {headers:?}"
        );
    }
    for (target, headers) in [
        ("/", vec![]),
        ("/", vec![("authorization", KEY)]),
        ("/?key=", vec![]),
        ("/?key=k-0123456789abcdef&key=k-0123456789abcdef", vec![]),
        (
            "/?key=k-0123456789abcdef",
            vec![("authorization", "Bearer wrong-wrong-wrong")],
        ),
        (
            "/",
            vec![
                ("authorization", bearer.as_str()),
                ("authorization", bearer.as_str()),
            ],
        ),
    ] {
        assert_eq!(
            check(&config, target, &headers).unwrap_err().status,
            401,
            "{target} {headers:?}"
        );
    }
}

#[test]
fn stripped_keys_leave_the_rest_as_it_was() {
    let config = format!(
        r#"{{"from": [{{"query": "key"}}, {{"cookie": "key"}}], "keys": {{"ann": "{KEY}"}}, "strip": true, "forwardClient": "X-Client"}}"#
    );
    let cookie = format!("a=b; key={KEY};c=d");
    let verdict = check(
        &config,
        &format!("/p?x=1&key={KEY}&y=%20"),
        &[("cookie", &cookie)],
    )
    .unwrap();
    let expected = [
        Edit::Set(":path".into(), b"/p?x=1&y=%20".to_vec()),
        Edit::Set("cookie".into(), b"a=b; c=d".to_vec()),
        Edit::Set("x-client".into(), b"ann".to_vec()),
    ];
    assert_eq!(verdict.edits, expected);
    let verdict = check(&config, &format!("/p?key={KEY}"), &[]).unwrap();
    assert_eq!(verdict.edits[0], Edit::Set(":path".into(), b"/p".to_vec()));
}

#[test]
fn digests_and_keys_are_the_same_client() {
    let config = r#"{"keys": {"ann": ["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "another-key-of-ann\n"]}}"#;
    for (key, fine) in [
        ("test", true),
        ("another-key-of-ann", true),
        ("sha256:9f86d0", false),
    ] {
        assert_eq!(
            check(config, "/", &[("x-api-key", key)]).is_ok(),
            fine,
            "{key}"
        );
    }
}

#[test]
fn errors_name_the_field_and_not_the_key() {
    for (text, field) in [
        (r#"{"keys": {"ann": "hunter2"}}"#, "/keys/ann"),
        (r#"{"keys": {"a/b": "sha256:12"}}"#, "/keys/a~1b"),
        (
            r#"{"keys": {"ann": "0123456789abcdef", "bob": "0123456789abcdef"}}"#,
            "/keys/bob",
        ),
        (r#"{"keys": {"a\nb": "0123456789abcdef"}}"#, "/keys/a\nb"),
        (r#"{"keys": {}, "from": []}"#, "/from"),
        (
            r#"{"keys": {}, "from": [{"header": "a", "query": "b"}]}"#,
            "/from/0",
        ),
        (
            r#"{"keys": {}, "from": [{"query": "b", "prefix": "c"}]}"#,
            "/from/0",
        ),
        (
            r#"{"keys": {}, "from": [{"header": "cookie"}]}"#,
            "/from/0/header",
        ),
        (r#"{"keys": {}, "realm": "a\n"}"#, "/realm"),
    ] {
        let error = Policy::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.pointer(), field, "{text}");
        assert!(!error.to_string().contains("hunter2"));
    }
}
