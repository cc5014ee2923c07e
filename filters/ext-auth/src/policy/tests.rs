use super::*;

#[test]
fn errors_name_the_field() {
    for (text, field) in [
        (r#"{"url": "http://a.test/", "cluster": ""}"#, "/cluster"),
        (r#"{"url": "/check", "cluster": "a"}"#, "/url"),
        (
            r#"{"url": "http://${request.host}/", "cluster": "a"}"#,
            "/url",
        ),
        (
            r#"{"url": "http://a${request.path}", "cluster": "a"}"#,
            "/url",
        ),
        (
            r#"{"url": "http://a.test/", "cluster": "a", "signIn": "/login"}"#,
            "/signIn",
        ),
        (
            r#"{"url": "http://a.test/", "cluster": "a", "method": "G ET"}"#,
            "/method",
        ),
        (
            r#"{"url": "http://a.test/", "cluster": "a", "responseHeaders": ["x", "a b"]}"#,
            "/responseHeaders/1",
        ),
        (
            r#"{"url": "http://a.test/", "cluster": "a", "setHeaders": {"Host": "x"}}"#,
            "/setHeaders/Host",
        ),
        (
            r#"{"url": "http://a.test/", "cluster": "a", "cache": {"key": "all"}}"#,
            "/cache/key",
        ),
        (
            r#"{"url": "http://a.test/", "cluster": "a", "cache": {"key": "${cookie.a}", "spans": {"500": "1m"}}}"#,
            "/cache/spans/500",
        ),
        (
            r#"{"url": "http://a.test/", "cluster": "a", "timeout": "fast"}"#,
            "/timeout",
        ),
        (
            r#"{"url": "http://a.test/", "cluster": "a", "failureStatus": 200}"#,
            "/failureStatus",
        ),
        (
            r#"{"url": "http://a.test/", "cluster": "a", "except": ["a"]}"#,
            "/except/0",
        ),
    ] {
        assert_eq!(
            Policy::parse(text.as_bytes()).unwrap_err().pointer(),
            field,
            "{text}"
        );
    }
}

#[test]
fn what_is_remembered_ends_and_is_bounded() {
    let minute = Duration::from_secs(60);
    let mut cache = Cache::new([(200, minute)].into());
    let allow = |status| {
        let (edits, cookies) = (Vec::new(), Vec::new());
        Rc::new(Decision::Allow {
            status,
            edits,
            cookies,
        })
    };
    let now = Duration::from_secs(1_000_000);
    cache.insert(b"a".to_vec(), &allow(200), now);
    cache.insert(b"b".to_vec(), &allow(204), now);
    let there = |cache: &Cache, key: &[u8], now| cache.get(&key.to_vec(), now).is_some();
    assert!(there(&cache, b"a", now) && there(&cache, b"a", now + minute / 2));
    assert!(!there(&cache, b"a", now + minute) && !there(&cache, b"b", now));
    assert!(!there(&cache, b"a", now / 2), "a clock that went back");
    for number in 0..10_000_u32 {
        cache.insert(number.to_le_bytes().to_vec(), &allow(200), now);
    }
    cache.insert(vec![b'x'; 10_000], &allow(200), now);
    assert!(!there(&cache, &[b'x'; 10_000], now));
    assert!(there(&cache, &9_999_u32.to_le_bytes(), now));
}
