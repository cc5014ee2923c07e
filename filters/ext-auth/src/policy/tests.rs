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
        (r#"{"cluster": "a"}"#, "/url"),
        (
            r#"{"url": "http://a.test/", "grpc": {}, "cluster": "a"}"#,
            "/url",
        ),
        (
            r#"{"grpc": {}, "cluster": "a", "signIn": "http://a.test/"}"#,
            "/signIn",
        ),
        (
            r#"{"url": "http://a.test/", "cluster": "a", "responseHeaders": ["*", "x"]}"#,
            "/responseHeaders",
        ),
        (
            r#"{"url": "http://a.test/", "cluster": "a", "allowedStatuses": [200, 302]}"#,
            "/allowedStatuses/1",
        ),
        (
            r#"{"url": "http://a.test/", "cluster": "a", "forwardBody": 8388609}"#,
            "/forwardBody",
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
        Rc::new(Decision::Allow(Allowed {
            status,
            ..Allowed::default()
        }))
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

/// A CheckRequest as go-control-plane v1.39 marshals it (`proto.MarshalOptions{Deterministic: true}`): the numbers of the fields are
/// those of Envoy's definitions.
#[test]
fn messages_are_those_of_envoys_api() {
    let policy = Policy::parse(
        br#"{"grpc": {"contextExtensions": {"k": "v"}}, "cluster": "a", "forwardBody": 9}"#,
    );
    let policy = policy.unwrap();
    let Service::Grpc(service) = policy.service() else {
        panic!("it asks over gRPC");
    };
    let pair = |(name, value): (&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let facts = grpc::Facts {
        headers: [
            (":method", "POST"),
            (":path", "/a?b"),
            (":authority", "h"),
            (":scheme", "https"),
            ("x-request-id", "i"),
        ]
        .map(pair)
        .to_vec(),
        source: grpc::socket(b"192.0.2.1:40000"),
        principal: String::from("p"),
        destination: grpc::socket(b"[2001:db8::1]:443"),
        protocol: String::from("HTTP/2"),
        now: Duration::new(1_767_225_600, 5),
        has_body: true,
        body: Some(b"xyz".to_vec()),
    };
    let golden = include_str!("../../tests/check-request.hex");
    assert_eq!(hex(&policy.check_request(service, &facts)), golden.trim());
    let response = include_str!("../../tests/check-response.hex");
    let bytes: Vec<u8> = (0..response.trim().len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&response[at..at + 2], 16).unwrap())
        .collect();
    let Decision::Allow(allowed) = policy.decide_grpc(&bytes) else {
        panic!("it lets pass");
    };
    let set = |name: &str, value: &str| {
        let name = name.to_owned();
        [
            Edit::Remove(name.clone()),
            Edit::Add(name, value.as_bytes().to_vec()),
        ]
    };
    let mut request = set("x-a", "1").to_vec();
    request.push(Edit::Add("x-b".to_owned(), b"2".to_vec()));
    request.push(Edit::AddIfAbsent("x-c".to_owned(), b"3".to_vec()));
    request.push(Edit::Remove("x-d".to_owned()));
    assert_eq!(allowed.request, request);
    assert_eq!(allowed.response, set("x-e", "5"));
    assert_eq!(allowed.query.set, [("f".to_owned(), "6".to_owned())]);
    assert_eq!(allowed.query.remove, ["g"]);
}

#[test]
fn bytes_that_are_no_message_are_a_failure() {
    let policy = Policy::parse(br#"{"grpc": {}, "cluster": "a"}"#).unwrap();
    for bytes in [
        &[0xff][..],
        &[0x0a, 0x05, 0x08],
        &[0x1a, 0x03, 0x12, 0x09, 0x00],
        b"\x12\x04\x1a\x02\xff\xfe",
    ] {
        let decision = policy.decide_grpc(bytes);
        assert!(
            matches!(decision, Decision::Deny { status: 0, .. }),
            "{bytes:02x?}"
        );
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
