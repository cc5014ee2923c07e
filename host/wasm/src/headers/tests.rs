use super::*;

fn head() -> RequestHead {
    let mut headers = HeaderMap::new();
    headers.append("accept", HeaderValue::from_static("a"));
    headers.append("cookie", HeaderValue::from_static("x=1"));
    headers.append("cookie", HeaderValue::from_static("y=2"));
    RequestHead {
        method: Method::POST,
        scheme: Scheme::HTTPS,
        authority: HeaderValue::from_static("shop.test:8443"),
        path: PathAndQuery::from_static("/p?q=1"),
        headers,
    }
}

fn listed(view: View<'_>) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    view.iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

#[test]
fn envoys_order() {
    let head = head();
    let names: Vec<String> = listed(View::Request(&head, PseudoSet::NONE))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        names,
        [
            ":authority",
            ":path",
            ":method",
            ":scheme",
            "accept",
            "cookie",
            "cookie"
        ]
    );
    assert_eq!(View::Request(&head, PseudoSet::NONE).len(), 7);
    assert_eq!(View::Request(&head, PseudoSet::PATH).len(), 6);
}

#[test]
fn look_up_ignores_case_and_takes_the_first() {
    let head = head();
    let view = View::Request(&head, PseudoSet::NONE);
    let cases: [(&str, Option<&str>); 10] = [
        ("COOKIE", Some("x=1")),
        (":path", Some("/p?q=1")),
        (":PATH", Some("/p?q=1")),
        ("Host", Some("shop.test:8443")),
        (":authority", Some("shop.test:8443")),
        (":scheme", Some("https")),
        (":method", Some("POST")),
        (":status", None),
        ("te", None),
        ("not a name", None),
    ];
    for (name, expected) in cases {
        assert_eq!(
            view.get(name.as_bytes()),
            expected.map(str::as_bytes),
            "{name}"
        );
    }
    assert_eq!(view.get(b"\xff\xfe"), None);
    assert_eq!(View::Request(&head, PseudoSet::PATH).get(b":path"), None);
}

#[test]
fn adding_joins_where_envoy_does() {
    let (mut head, mut missing) = (head(), PseudoSet::NONE);
    let mut fields = Fields::Request(&mut head, &mut missing);
    fields.add(b":path", b"/new").unwrap();
    fields.add(b"Host", b"b.test").unwrap();
    fields.add(b"accept", b"b").unwrap();
    fields.add(b"cookie", b"z=3").unwrap();
    fields.add(b"X-New", b"1").unwrap();
    assert_eq!(fields.add(b":method", b"GET"), Err(Status::BadArgument));
    assert_eq!(head.path.as_str(), "/p?q=1,/new");
    assert_eq!(head.authority, "shop.test:8443,b.test");
    assert_eq!(head.headers["accept"], "a,b");
    assert_eq!(head.headers.get_all("cookie").iter().count(), 3);
    assert_eq!(head.headers["x-new"], "1");
    assert!(!head.headers.contains_key("host"));
}

#[test]
fn invalid_values_are_refused_and_change_nothing() {
    let cases: [(&[u8], &[u8]); 14] = [
        (b"x", b"a\r\nb"),
        (b"x", b"\0"),
        (b"", b"a"),
        (b"x(", b"a"),
        (b"x y", b"a"),
        (b"x:y", b"a"),
        (b":status", b"200"),
        (b":path", b""),
        (b":path", b"no-slash"),
        (b":path", b"/a#b"),
        (b":path", b"/a b"),
        (b":method", b"G T"),
        (b":scheme", b"1://"),
        (b"host", b"a\nb"),
    ];
    for (name, value) in cases {
        let (mut head, mut missing) = (head(), PseudoSet::NONE);
        let result = Fields::Request(&mut head, &mut missing).replace(name, value);
        assert_eq!(result, Err(Status::BadArgument), "{name:?} {value:?}");
        assert_eq!(
            listed(View::Request(&head, missing)),
            listed(View::Request(&self::head(), PseudoSet::NONE))
        );
    }
}

#[test]
fn replace_and_remove() {
    let (mut head, mut missing) = (head(), PseudoSet::NONE);
    let mut fields = Fields::Request(&mut head, &mut missing);
    fields.replace(b"Cookie", b"only=1").unwrap();
    fields.replace(b":method", b"PATCH").unwrap();
    fields.remove(b"ACCEPT");
    fields.remove(b"absent");
    fields.remove(b":scheme");
    assert_eq!(head.headers.len(), 1);
    assert_eq!(head.method, Method::PATCH);
    assert_eq!(missing, PseudoSet::SCHEME);
    Fields::Request(&mut head, &mut missing)
        .replace(b":scheme", b"http")
        .unwrap();
    assert!(missing.is_empty());
}

#[test]
fn setting_all_replaces_pseudo_headers_too() {
    let (mut head, mut missing) = (head(), PseudoSet::NONE);
    Fields::Request(&mut head, &mut missing)
        .set_all(&[(b"a", b"1"), (b"b", b"2")])
        .unwrap();
    assert_eq!(missing, PseudoSet::REQUEST);
    assert_eq!(
        listed(View::Request(&head, missing)),
        [("a".into(), "1".into()), ("b".into(), "2".into())]
    );
    let all: [Pair<'_>; 4] = [
        (b":path", b"/z"),
        (b":method", b"GET"),
        (b":authority", b"c"),
        (b":scheme", b"http"),
    ];
    Fields::Request(&mut head, &mut missing)
        .set_all(&all)
        .unwrap();
    assert!(missing.is_empty());
    assert_eq!(head.path.as_str(), "/z");
    assert!(
        Fields::Request(&mut head, &mut missing)
            .set_all(&[(b"ok", b"1"), (b"b\n", b"2")])
            .is_err()
    );
    assert_eq!(head.path.as_str(), "/z");

    let mut response = ResponseHead {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
    };
    let mut missing = PseudoSet::NONE;
    Fields::Response(&mut response, &mut missing)
        .set_all(&[(b"a", b"1")])
        .unwrap();
    assert_eq!(missing, PseudoSet::STATUS);
    Fields::Response(&mut response, &mut missing)
        .replace(b":status", b"404")
        .unwrap();
    assert_eq!(
        (response.status, missing),
        (StatusCode::NOT_FOUND, PseudoSet::NONE)
    );
}

#[test]
fn maps_cannot_grow_without_end() {
    let mut fields = HeaderMap::new();
    let value = vec![b'x'; 60_000];
    let mut plain = Fields::Plain(&mut fields);
    let refused = (0..100).find(|_| plain.add(b"x", &value).is_err());
    assert_eq!(refused, Some(17));
    let mut fields = HeaderMap::new();
    let mut plain = Fields::Plain(&mut fields);
    let refused = (0..5000).find(|_| plain.add(b"x", b"y").is_err());
    assert_eq!(refused, Some(1024));
}

#[test]
fn requests_of_http_calls() {
    let head = request_of(&[
        (b":method", b"GET"),
        (b":path", b"/k"),
        (b":authority", b"idp"),
        (b"a", b"1"),
    ])
    .unwrap();
    assert_eq!((head.path.as_str(), head.scheme.as_str()), ("/k", "http"));
    assert!(request_of(&[(b":method", b"GET"), (b":path", b"/k"), (b"host", b"idp")]).is_ok());
    assert!(request_of(&[(b":method", b"GET"), (b":path", b"/k")]).is_err());
    assert!(request_of(&[(b":method", b"GET"), (b":authority", b"idp")]).is_err());
    assert!(request_of(&[(b":path", b"/"), (b":authority", b"idp")]).is_err());
    assert!(request_of(&[]).is_err());
}
