use super::*;

#[test]
fn errors_name_the_field() {
    for (text, field) in [
        (r#"{"allow": [{}]}"#, "/allow/0"),
        (r#"{"allow": [{"cn": "("}]}"#, "/allow/0/cn"),
        (
            r#"{"allow": [{"fingerprints": ["12"]}]}"#,
            "/allow/0/fingerprints/0",
        ),
        (r#"{"forward": {"a b": "subject"}}"#, "/forward/a b"),
        (r#"{"forward": {"x": "issuer"}}"#, "/forward/x"),
        (r#"{"status": 200}"#, "/status"),
    ] {
        assert_eq!(
            Policy::parse(text.as_bytes()).unwrap_err().pointer(),
            field,
            "{text}"
        );
    }
}

#[test]
fn a_value_that_is_no_header_takes_the_clients_away() {
    let policy = Policy::parse(br#"{"forward": {"X-Cn": "cn"}}"#).unwrap();
    let certificate = Certificate {
        subject: String::from("CN=a\\0D\\0Ax-admin: 1"),
        ..Certificate::default()
    };
    assert_eq!(policy.headers(Some(&certificate)), [("x-cn", None)]);
}
