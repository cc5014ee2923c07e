use super::*;

struct Example {
    scheme: &'static str,
    host: &'static str,
    target: &'static [u8],
}

impl Source for Example {
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            ":method" => Some(b"GET".to_vec()),
            ":scheme" => Some(self.scheme.into()),
            ":authority" => Some(self.host.into()),
            ":path" => Some(self.target.to_vec()),
            "x-forwarded-proto" => Some(b"https".to_vec()),
            _ => None,
        }
    }

    fn address(&self) -> Option<IpAddr> {
        None
    }

    fn property(&self, _: &[&str]) -> Option<Vec<u8>> {
        None
    }
}

fn location(config: &str, host: &'static str, target: &'static [u8]) -> Option<(u16, String)> {
    let policy = Policy::parse(config.as_bytes()).unwrap();
    let scheme = "http";
    let reply = policy.redirect(&Example {
        scheme,
        host,
        target,
    })?;
    Some((reply.status, reply.headers.first()?.1.clone()))
}

#[test]
fn captures_of_path_and_host() {
    let config = r#"{"rules": [{"match": {"host": "^(?<shop>[a-z]+)\\.test$", "path": "^/old/(.*)$"}, "to": "https://new.test/${shop}/${1}", "status": 301}]}"#;
    assert_eq!(
        location(config, "Blue.test:80", b"/old/a/b?x"),
        Some((301, "https://new.test/blue/a/b".into()))
    );
    assert_eq!(location(config, "blue.test", b"/new"), None);
    assert_eq!(location(config, "blue.example", b"/old/"), None);
}

#[test]
fn a_client_cannot_choose_the_host() {
    let config = r#"{"rules": [{"match": {"path": "^/go(/.*)$"}, "to": "${request.path}/"}]}"#;
    assert_eq!(
        location(config, "a.test", b"/go/x"),
        Some((302, "/go/x/".into()))
    );
    let config = r#"{"rules": [{"to": "${request.target}"}]}"#;
    assert_eq!(
        location(config, "a.test", b"//evil.test/x"),
        Some((302, "/evil.test/x".into()))
    );
    let config = r#"{"rules": [{"to": "/${query.next}"}]}"#;
    for (target, expected) in [
        (&b"/?next=%5Cevil.test"[..], "/%5Cevil.test"),
        (b"/?next=/%5C/evil.test", "/%5C/evil.test"),
        (b"/?next=%09/evil.test", "/%09/evil.test"),
        (b"/?next=///evil.test", "/evil.test"),
    ] {
        let expected = Some((302, expected.into()));
        assert_eq!(location(config, "a.test", target), expected);
    }
    let config = r#"{"rules": [{"to": "${request.target}"}]}"#;
    assert_eq!(
        location(config, "a.test", b"/a\xff\r\nb c"),
        Some((302, "/a%FFb%20c".into()))
    );
}

#[test]
fn locations_of_the_upstream() {
    let config = r#"{"location": [{"from": "http://10.0.0.1:8080/", "to": "/"}, {"from": "~*^http://([a-z]+)\\.internal/", "to": "https://$1.example/"}]}"#;
    let policy = Policy::parse(config.as_bytes()).unwrap();
    for (name, value, expected) in [
        ("location", "http://10.0.0.1:8080/a", Some("/a")),
        (
            "location",
            "HTTP://shop.internal/b",
            Some("https://shop.example/b"),
        ),
        ("location", "https://elsewhere/", None),
        (
            "location",
            "http://10.0.0.1:8080//evil.test/b",
            Some("/evil.test/b"),
        ),
        (
            "location",
            "http://10.0.0.1:8080/\\\t/evil.test",
            Some("/evil.test"),
        ),
        (
            "refresh",
            "0;url=http://10.0.0.1:8080/\\evil.test",
            Some("0;url=/evil.test"),
        ),
        (
            "refresh",
            "5; URL=http://10.0.0.1:8080/c",
            Some("5; URL=/c"),
        ),
        ("refresh", "5", None),
    ] {
        assert_eq!(policy.location(name, value).as_deref(), expected, "{value}");
    }
}

#[test]
fn a_host_that_the_upstream_or_the_configuration_names_stays() {
    let config = r#"{"location": [{"from": "~\\.internal/", "to": ".example/"}, {"from": "~^http://([a-z]+)/", "to": "//$1.test/"}, {"from": "~^//10\\.0\\.0\\.1/", "to": "/"}]}"#;
    let policy = Policy::parse(config.as_bytes()).unwrap();
    for (value, expected) in [
        ("//shop.internal/a", "//shop.example/a"),
        ("http://shop/a", "//shop.test/a"),
        ("//10.0.0.1//evil.test", "/evil.test"),
    ] {
        assert_eq!(policy.location("location", value).unwrap(), expected);
    }
}

#[test]
fn errors_name_the_field() {
    for (text, field) in [
        (
            r#"{"rules": [{"to": "/", "status": 200}]}"#,
            "/rules/0/status",
        ),
        (r#"{"rules": [{"to": "${header.x}"}]}"#, "/rules/0/to"),
        (r#"{"rules": [{"to": "${1}"}]}"#, "/rules/0/to"),
        (r#"{"rules": [{"to": "/a b"}]}"#, "/rules/0/to"),
        (
            r#"{"rules": [{"to": "/", "match": {"methods": ["get"]}}]}"#,
            "/rules/0/match/methods",
        ),
        (r#"{"rules": [{"to": "javascript:x"}]}"#, "/rules/0/to"),
        (
            r#"{"rules": [{"to": "/", "match": {"path": "("}}]}"#,
            "/rules/0/match/path",
        ),
        (
            r#"{"rules": [{"to": "/", "match": {"scheme": "ftp"}}]}"#,
            "/rules/0/match/scheme",
        ),
        (r#"{"except": ["x"]}"#, "/except/0"),
        (
            r#"{"location": [{"from": "", "to": "/"}]}"#,
            "/location/0/from",
        ),
    ] {
        assert_eq!(
            Policy::parse(text.as_bytes()).unwrap_err().pointer(),
            field,
            "{text}"
        );
    }
}
