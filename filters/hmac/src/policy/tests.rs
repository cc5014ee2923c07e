use super::*;

const SECRET: &str = "It's a Secret to Everybody";

fn parse(text: &str) -> Result<Policy, tidegate_sdk::ConfigError> {
    Policy::parse(text.as_bytes())
}

/// The example of GitHub's documentation on validating webhook deliveries.
#[test]
fn the_example_of_github() {
    let policy = parse(&format!(
        r#"{{"signature": {{"header": "X-Hub-Signature-256", "prefix": "sha256="}}, "secrets": {{"a": "{SECRET}"}}}}"#
    ))
    .unwrap();
    let values = |name: &str| match name {
        "x-hub-signature-256" => vec![
            b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17".to_vec(),
        ],
        _ => Vec::new(),
    };
    let signed = policy.read(&values, Duration::ZERO).unwrap();
    let around = [Vec::new(), Vec::new()];
    assert!(policy.verify(&signed, &around, b"Hello, World!").is_ok());
    assert!(policy.verify(&signed, &around, b"Hello, World").is_err());
}

#[test]
fn errors_name_the_field_and_not_the_secret() {
    let with = |rest: &str| {
        format!(r#"{{"signature": {{"header": "X-S"}}, "secrets": {{"a": "{SECRET}"}}{rest}}}"#)
    };
    for (text, field) in [
        (
            String::from(r#"{"signature": {"header": "x"}, "secrets": {"a": "hunter2"}}"#),
            "/secrets/a",
        ),
        (
            String::from(r#"{"signature": {"header": "x"}, "secrets": {}}"#),
            "/secrets",
        ),
        (
            String::from(r#"{"signature": {"header": "a b"}, "secrets": {}}"#),
            "/signature/header",
        ),
        (with(r#", "message": """#), "/message"),
        (with(r#", "message": "${body}${body}""#), "/message"),
        (with(r#", "message": "${timestamp}.${body}""#), "/message"),
        (with(r#", "timestamp": {"header": "x-t"}"#), "/message"),
        (with(r#", "maxBody": 99999999"#), "/maxBody"),
        (with(r#", "algorithm": "md5""#), "/algorithm"),
    ] {
        let error = parse(&text).unwrap_err();
        assert_eq!(error.pointer(), field, "{text}");
        assert!(!error.to_string().contains("hunter2"));
    }
    assert!(!format!("{:?}", parse(&with("")).unwrap()).contains("Everybody"));
}
