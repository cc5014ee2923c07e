//! GEP-1767, the Gateway API's conformance cases, and ingress-nginx.

use proptest::prelude::*;

use super::*;

fn cors(config: &str) -> Cors {
    Cors::parse(config.as_bytes()).unwrap()
}

fn request(method: &str, headers: &[(&str, &str)]) -> Request {
    let values = |name: &str| {
        headers
            .iter()
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value.as_bytes().to_vec())
            .collect()
    };
    Request {
        method: method.as_bytes().to_vec(),
        origin: values("origin"),
        request_method: values("access-control-request-method"),
        request_headers: values("access-control-request-headers"),
    }
}

fn preflight(cors: &Cors, origin: &str, method: &str, headers: Option<&str>) -> Reply {
    let mut all = vec![
        ("origin", origin),
        ("access-control-request-method", method),
    ];
    all.extend(headers.map(|headers| ("access-control-request-headers", headers)));
    match cors.request(&request("OPTIONS", &all)) {
        Decision::Reply(reply) => reply,
        Decision::Continue(grant) => panic!("the preflight went on with {grant:?}"),
    }
}

fn get<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    let mut values = reply.headers.iter().filter(|(key, _)| key == name);
    let value = values.next().map(|(_, value)| value.as_str());
    assert_eq!(values.next(), None, "{name} occurs twice");
    value
}

fn grant(cors: &Cors, method: &str, origin: Option<&str>) -> Grant {
    let headers: Vec<_> = origin
        .map(|origin| ("origin", origin))
        .into_iter()
        .collect();
    match cors.request(&request(method, &headers)) {
        Decision::Continue(grant) => grant,
        Decision::Reply(reply) => panic!("answered with {reply:?}"),
    }
}

fn edit(edits: &[Edit], name: &str) -> Option<Option<String>> {
    edits
        .iter()
        .find(|edit| edit.0 == name)
        .map(|edit| edit.1.clone())
}

const LISTED: &str = r#"{"allowOrigins": ["https://www.foo.com", "https://*.bar.com"], "allowMethods": ["GET", "OPTIONS"],
    "allowHeaders": ["x-header-1", "x-header-2"], "exposeHeaders": ["x-header-3", "x-header-4"], "allowCredentials": true,
    "maxAge": 3600}"#;

#[test]
fn a_preflight_from_a_listed_origin_gets_everything_configured() {
    let cors = cors(LISTED);
    for origin in [
        "https://www.foo.com",
        "https://www.bar.com",
        "https://xpto.www.bar.com",
    ] {
        let reply = preflight(&cors, origin, "GET", Some("x-header-1, x-header-2"));
        assert_eq!(reply.status, 204);
        assert_eq!(get(&reply, ALLOW_ORIGIN), Some(origin));
        assert_eq!(get(&reply, ALLOW_METHODS), Some("GET, OPTIONS"));
        assert_eq!(get(&reply, ALLOW_HEADERS), Some("x-header-1, x-header-2"));
        assert_eq!(get(&reply, EXPOSE_HEADERS), Some("x-header-3, x-header-4"));
        assert_eq!(get(&reply, MAX_AGE), Some("3600"));
        assert_eq!(get(&reply, ALLOW_CREDENTIALS), Some("true"));
        assert_eq!(get(&reply, "vary"), Some("Origin"));
    }
}

#[test]
fn a_preflight_from_another_origin_is_answered_without_cors_headers() {
    let reply = preflight(&cors(LISTED), "https://foobar.com", "GET", None);
    assert_eq!(reply.status, 204);
    assert_eq!(
        reply.headers,
        [(String::from("vary"), String::from("Origin"))]
    );
}

#[test]
fn the_default_max_age_is_five_seconds_and_empty_lists_are_left_out() {
    let reply = preflight(
        &cors(r#"{"allowOrigins": ["https://a.test"]}"#),
        "https://a.test",
        "GET",
        None,
    );
    assert_eq!(get(&reply, MAX_AGE), Some("5"));
    for name in [
        ALLOW_METHODS,
        ALLOW_HEADERS,
        EXPOSE_HEADERS,
        ALLOW_CREDENTIALS,
    ] {
        assert_eq!(get(&reply, name), None, "{name}");
    }
}

#[test]
fn without_configuration_no_origin_is_allowed() {
    let cors = cors("");
    assert_eq!(
        get(
            &preflight(&cors, "https://a.test", "GET", None),
            ALLOW_ORIGIN
        ),
        None
    );
    assert_eq!(grant(&cors, "GET", Some("https://a.test")), Grant::Denied);
}

#[test]
fn wildcards_repeat_what_was_asked_for() {
    for credentials in [true, false] {
        let cors = cors(&format!(
            r#"{{"allowOrigins": ["*"], "allowMethods": ["*"], "allowHeaders": ["*"], "exposeHeaders": ["*"], "allowCredentials": {credentials}}}"#
        ));
        let reply = preflight(
            &cors,
            "https://other.foo.com",
            "PUT",
            Some("x-header-1,authorization"),
        );
        let (origin, exposed) = match credentials {
            true => (Some("https://other.foo.com"), None),
            false => (Some("*"), Some("*")),
        };
        assert_eq!(get(&reply, ALLOW_ORIGIN), origin);
        assert_eq!(get(&reply, ALLOW_METHODS), Some("PUT"));
        assert_eq!(
            get(&reply, ALLOW_HEADERS),
            Some("x-header-1, authorization")
        );
        assert_eq!(get(&reply, EXPOSE_HEADERS), exposed);
        assert_eq!(get(&reply, ALLOW_CREDENTIALS).is_some(), credentials);
    }
}

#[test]
fn a_wildcard_without_a_question_is_a_star_only_without_credentials() {
    for (credentials, expected) in [(true, None), (false, Some("*"))] {
        let cors = cors(&format!(
            r#"{{"allowOrigins": ["https://a.test"], "allowMethods": ["*"], "allowHeaders": ["*"], "allowCredentials": {credentials}}}"#
        ));
        let reply = preflight(&cors, "https://a.test", "GET", None);
        assert_eq!(get(&reply, ALLOW_METHODS), Some("GET"));
        assert_eq!(get(&reply, ALLOW_HEADERS), expected);
    }
}

#[test]
fn nothing_is_echoed_that_is_no_list_of_names() {
    let cors = cors(
        r#"{"allowOrigins": ["*"], "allowMethods": ["*"], "allowHeaders": ["*"], "allowCredentials": true}"#,
    );
    let long = "x,".repeat(MAX_ECHO);
    for evil in ["x\r\nset-cookie: a=b", "a b", "x: y", "\u{e9}", &long] {
        let reply = preflight(&cors, "https://a.test", evil, Some(evil));
        assert_eq!(get(&reply, ALLOW_METHODS), None, "{evil:?}");
        assert_eq!(get(&reply, ALLOW_HEADERS), None, "{evil:?}");
    }
    for evil in [
        "https://a.test\r\nset-cookie: a=b",
        "https://a.test, https://b.test",
        "javascript:1",
        " ",
    ] {
        let reply = preflight(&cors, evil, "GET", None);
        assert_eq!(get(&reply, ALLOW_ORIGIN), None, "{evil:?}");
    }
}

#[test]
fn two_origins_are_none() {
    let request = request(
        "OPTIONS",
        &[
            ("origin", "https://www.foo.com"),
            ("origin", "https://www.foo.com"),
            ("access-control-request-method", "GET"),
        ],
    );
    let Decision::Reply(reply) = cors(LISTED).request(&request) else {
        panic!("a preflight went on");
    };
    assert_eq!(get(&reply, ALLOW_ORIGIN), None);
}

#[test]
fn options_that_is_no_preflight_goes_on() {
    let cors = cors(LISTED);
    assert_eq!(grant(&cors, "OPTIONS", None), Grant::Denied);
    let origin = "https://www.foo.com";
    assert_eq!(
        grant(&cors, "OPTIONS", Some(origin)),
        Grant::Allowed(origin.into())
    );
}

#[test]
fn a_response_replaces_what_the_upstream_says() {
    let cors = cors(LISTED);
    let allowed = grant(&cors, "GET", Some("https://www.foo.com"));
    let edits = cors.response(&allowed, &["Accept-Encoding"]);
    assert_eq!(
        edit(&edits, ALLOW_ORIGIN),
        Some(Some("https://www.foo.com".into()))
    );
    assert_eq!(edit(&edits, ALLOW_CREDENTIALS), Some(Some("true".into())));
    assert_eq!(
        edit(&edits, EXPOSE_HEADERS),
        Some(Some("x-header-3, x-header-4".into()))
    );
    for name in [ALLOW_METHODS, ALLOW_HEADERS, MAX_AGE] {
        assert_eq!(edit(&edits, name), Some(None), "{name}");
    }
    assert_eq!(
        edit(&edits, "vary"),
        Some(Some("Accept-Encoding, Origin".into()))
    );
}

#[test]
fn a_response_to_another_origin_or_none_loses_the_upstreams_headers() {
    let cors = cors(LISTED);
    for origin in [Some("https://foobar.com"), Some("null"), None] {
        let edits = cors.response::<&str>(&grant(&cors, "GET", origin), &[]);
        for name in OWNED {
            assert_eq!(edit(&edits, name), Some(None), "{origin:?} {name}");
        }
        assert_eq!(edit(&edits, "vary"), Some(Some("Origin".into())));
    }
}

#[test]
fn vary_is_extended_once() {
    let cors = cors(LISTED);
    for values in [&["origin"][..], &["*"], &["Accept", "ORIGIN, Cookie"]] {
        assert_eq!(
            edit(&cors.response(&Grant::Denied, values), "vary"),
            None,
            "{values:?}"
        );
    }
    let edits = cors.response(&Grant::Denied, &["Accept", "Cookie"]);
    assert_eq!(
        edit(&edits, "vary"),
        Some(Some("Accept, Cookie, Origin".into()))
    );
}

#[test]
fn a_constant_star_goes_to_everybody_and_needs_no_vary() {
    let cors = cors(r#"{"allowOrigins": ["*"]}"#);
    for origin in [None, Some("https://a.test"), Some("null")] {
        let edits = cors.response::<&str>(&grant(&cors, "GET", origin), &[]);
        assert_eq!(edit(&edits, ALLOW_ORIGIN), Some(Some("*".into())));
        assert_eq!(edit(&edits, "vary"), None);
    }
}

#[test]
fn any_origin_with_credentials_is_echoed_null_too() {
    let cors = cors(r#"{"allowOrigins": ["*"], "allowCredentials": true}"#);
    for origin in ["null", "https://a.test:8443", "HTTPS://A.test"] {
        assert_eq!(
            grant(&cors, "GET", Some(origin)),
            Grant::Allowed(origin.into())
        );
    }
    assert_eq!(grant(&cors, "GET", None), Grant::Denied);
}

#[test]
fn nginx_answers_every_options_of_an_allowed_origin() {
    let cors = cors(r#"{"preflight": "nginx", "allowOrigins": ["https://a.test"]}"#);
    let options = request("OPTIONS", &[("origin", "https://a.test")]);
    let Decision::Reply(reply) = cors.request(&options) else {
        panic!("OPTIONS went on");
    };
    assert_eq!(reply.status, 204);
    assert_eq!(
        get(&reply, ALLOW_METHODS),
        Some("GET, PUT, POST, DELETE, PATCH, OPTIONS")
    );
    assert_eq!(get(&reply, ALLOW_CREDENTIALS), Some("true"));
    assert_eq!(get(&reply, MAX_AGE), Some("1728000"));
    assert!(
        get(&reply, ALLOW_HEADERS)
            .unwrap()
            .starts_with("DNT, Keep-Alive, ")
    );
}

#[test]
fn nginx_sends_another_origin_upstream_and_leaves_its_headers_alone() {
    let cors = cors(r#"{"preflight": "nginx", "allowOrigins": ["https://a.test"]}"#);
    for origin in ["https://b.test", "xhttps://a.test", "https://a.test.evil"] {
        let headers = [("origin", origin), ("access-control-request-method", "GET")];
        assert_eq!(
            cors.request(&request("OPTIONS", &headers)),
            Decision::Continue(Grant::Denied)
        );
    }
    let edits = cors.response::<&str>(&Grant::Denied, &[]);
    assert_eq!(edits, [("vary", Some("Origin".into()))]);
}

#[test]
fn nginx_sends_a_star_together_with_credentials() {
    let cors = cors(r#"{"preflight": "nginx"}"#);
    let edits = cors.response::<&str>(&grant(&cors, "GET", None), &[]);
    assert_eq!(edit(&edits, ALLOW_ORIGIN), Some(Some("*".into())));
    assert_eq!(edit(&edits, ALLOW_CREDENTIALS), Some(Some("true".into())));
    assert_eq!(edit(&edits, MAX_AGE), Some(Some("1728000".into())));
    assert!(matches!(
        cors.request(&request("OPTIONS", &[])),
        Decision::Reply(_)
    ));
}

#[test]
fn refused_configurations_name_the_field() {
    for (config, field) in [
        (
            r#"{"allowOrigins": ["https://a.test", "b"]}"#,
            "allowOrigins[1]",
        ),
        (
            r#"{"allowOrigins": ["*", "https://a.test"]}"#,
            "allowOrigins",
        ),
        (r#"{"allowOrigins": "*"}"#, "allowOrigins"),
        (
            r#"{"allowMethods": ["GET", "PUT, POST"]}"#,
            "allowMethods[1]",
        ),
        (r#"{"allowHeaders": ["x\r\ny"]}"#, "allowHeaders[0]"),
        (r#"{"allowHeaders": ["*", "x"]}"#, "allowHeaders"),
        (r#"{"exposeHeaders": [""]}"#, "exposeHeaders[0]"),
        (r#"{"maxAge": -1}"#, "maxAge"),
        (r#"{"preflight": "envoy"}"#, "preflight"),
        (r#"{"allowOrigin": []}"#, ""),
    ] {
        let error = Cors::parse(config.as_bytes()).unwrap_err();
        // The parser names an unknown field in its text, with the path of where it stands.
        let named = error.field() == field || error.to_string().contains("unknown field");
        assert!(named, "{config}: {error}");
    }
}

proptest! {
    /// Whatever a client sends, what goes back is a header and not two.
    #[test]
    fn nothing_but_valid_header_values_goes_back(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 3),
        credentials in any::<bool>(),
        nginx in any::<bool>(),
    ) {
        let mode = if nginx { "nginx" } else { "gateway" };
        let cors = cors(&format!(
            r#"{{"preflight": "{mode}", "allowOrigins": ["*"], "allowMethods": ["*"], "allowHeaders": ["*"], "allowCredentials": {credentials}}}"#
        ));
        let request = Request {
            method: b"OPTIONS".to_vec(),
            origin: vec![values[0].clone()],
            request_method: vec![values[1].clone()],
            request_headers: vec![values[2].clone()],
        };
        let Decision::Reply(reply) = cors.request(&request) else {
            panic!("a preflight went on");
        };
        for (name, value) in reply.headers {
            prop_assert!(header::is_value(value.as_bytes()), "{}: {:?}", name, value);
        }
    }
}
