//! Whole decisions.

use super::*;

const USERS: &str = r#""users": {"ann": "{PLAIN}a:b", "bob": "$2y$04$D8DrhtSNCHdomCuz4BKD3eEy94sqxu/YE2EXne0.MYt3ckfUhX7fu"}"#;

/// `ann` with `a:b`, `bob` with `correct horse`.
const ANN: &str = "Basic YW5uOmE6Yg==";
const BOB: &str = "Basic Ym9iOmNvcnJlY3QgaG9yc2U=";

fn parse(config: &str) -> Result<BasicAuth, tidegate_sdk::ConfigError> {
    BasicAuth::parse(config.as_bytes(), [7; 32])
}

fn auth(config: &str) -> BasicAuth {
    parse(config).unwrap()
}

#[test]
fn the_right_password_gives_the_name() {
    let auth = auth(&format!("{{{USERS}}}"));
    assert_eq!(auth.authenticate(&[ANN], 1), Ok("ann".into()));
    assert_eq!(auth.authenticate(&[BOB], 1), Ok("bob".into()));
}

#[test]
fn everything_else_is_asked_for_credentials() {
    let auth = auth(&format!(
        r#"{{"realm": "The \"inner\" \\ circle", {USERS}}}"#
    ));
    let two = [ANN, ANN];
    let joined = [&*format!("{ANN},{ANN}")];
    let cases: [&[&str]; 8] = [
        &[],
        &two,
        &joined,
        &["Basic !"],
        &["Basic YW5uOg=="],
        &["Basic Og=="],
        &["Basic ZXZlOmE6Yg=="],
        &["Bearer YW5uOmE6Yg=="],
    ];
    for values in cases {
        let reply = auth.authenticate(values, 1).unwrap_err();
        assert_eq!(reply.status, 401, "{values:?}");
        let challenge = r#"Basic realm="The \"inner\" \\ circle", charset="UTF-8""#;
        assert_eq!(
            reply.headers,
            [("www-authenticate".into(), challenge.into())]
        );
    }
}

#[test]
fn a_verified_pair_is_remembered_and_another_password_of_the_same_user_is_not() {
    let auth = auth(&format!("{{{USERS}}}"));
    auth.authenticate(&[BOB], 1).unwrap();
    let key = auth.cache.borrow().key("bob", b"correct horse");
    assert!(auth.cache.borrow().contains(&key, 2));
    assert_eq!(auth.authenticate(&[BOB], 2), Ok("bob".into()));
    // bob:wrong
    assert!(auth.authenticate(&["Basic Ym9iOndyb25n"], 2).is_err());
    let key = auth.cache.borrow().key("bob", b"wrong");
    assert!(!auth.cache.borrow().contains(&key, 2));
}

#[test]
fn without_users_everybody_is_refused() {
    for users in [r#""""#, "{}"] {
        let auth = auth(&format!(r#"{{"users": {users}}}"#));
        assert!(auth.warnings()[0].contains("names nobody"));
        assert!(auth.authenticate(&[ANN], 1).is_err());
    }
    assert_eq!(auth(&format!("{{{USERS}}}")).warnings(), [""; 0]);
}

#[test]
fn slow_hashes_are_warned_of() {
    let auth = auth(
        r#"{"users": {"ann": "$2y$13$D8DrhtSNCHdomCuz4BKD3eEy94sqxu/YE2EXne0.MYt3ckfUhX7fu"}}"#,
    );
    assert!(auth.warnings()[0].contains("callTimeout"));
}

#[test]
fn the_defaults_pass_the_credentials_on_and_forward_no_name() {
    let auth = auth(&format!("{{{USERS}}}"));
    assert!(!auth.strips_authorization());
    assert_eq!(auth.forward_user(), None);
    let auth = self::auth(&format!(
        r#"{{"forwardUser": "X-User", "stripAuthorization": true, {USERS}}}"#
    ));
    assert!(auth.strips_authorization());
    assert_eq!(auth.forward_user(), Some("x-user"));
}

#[test]
fn refused_configurations_name_the_field() {
    for (config, field) in [
        (String::new(), ""),
        (String::from("{}"), ""),
        (String::from(r#"{"users": 1}"#), "users"),
        (String::from(r#"{"users": {"ann": 1}}"#), "users.ann"),
        (String::from(r#"{"users": {"ann": "secret"}}"#), "users.ann"),
        (String::from(r#"{"users": "ann:secret"}"#), "users"),
        (format!(r#"{{"realm": "a\r\nb", {USERS}}}"#), "realm"),
        (
            format!(r#"{{"realm": "{}", {USERS}}}"#, "x".repeat(257)),
            "realm",
        ),
        (
            format!(r#"{{"forwardUser": "a b", {USERS}}}"#),
            "forwardUser",
        ),
        (format!(r#"{{"forwardUser": "", {USERS}}}"#), "forwardUser"),
        (
            format!(r#"{{"forwardUser": ":path", {USERS}}}"#),
            "forwardUser",
        ),
        (
            format!(r#"{{"forwardUser": "Host", {USERS}}}"#),
            "forwardUser",
        ),
        (
            format!(r#"{{"stripAuthorization": "yes", {USERS}}}"#),
            "stripAuthorization",
        ),
    ] {
        assert_eq!(parse(&config).unwrap_err().field(), field, "{config}");
    }
    let error = parse(&format!(r#"{{"realms": "x", {USERS}}}"#)).unwrap_err();
    assert!(
        error.to_string().contains("unknown field `realms`"),
        "{error}"
    );
    let error = parse(r#"{"users": {"ann": "hunter2"}}"#).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
