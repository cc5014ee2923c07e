//! What the black-box cases of the filters do not reach.

use super::verifier::MAX_VERIFIED;
use super::*;

fn verifier() -> Verifier {
    let keys = KeySet::of_secret(b"a-secret-of-at-least-thirty-two-bytes".to_vec());
    Verifier::new(
        None,
        Algorithm::SYMMETRIC.to_vec(),
        Keys::Inline(keys),
        Rules::default(),
    )
}

fn token(text: &str) -> Token {
    Token::parse(text.as_bytes()).unwrap()
}

#[test]
fn a_token_that_is_not_believed_is_not_remembered() {
    let verifier = verifier();
    // {"alg":"HS256"} . {} . wrong
    let token = token("eyJhbGciOiJIUzI1NiJ9.e30.AAAA");
    let Keys::Inline(keys) = verifier.keys() else {
        panic!("a secret is inline");
    };
    assert!(verifier.check_with(keys, &token).is_err());
    assert!(verifier.remembered(&token).is_none());
}

#[test]
fn what_is_remembered_is_bounded() {
    let verifier = verifier();
    for number in 0..3 * MAX_VERIFIED {
        let token = token(&format!("eyJhbGciOiJIUzI1NiJ9.e30.{number:08}"));
        verifier.remember(&token);
        assert!(verifier.remembered(&token).is_some());
    }
    assert!(verifier.verified.borrow().len() <= MAX_VERIFIED);
    verifier.forget();
    assert!(verifier.verified.borrow().is_empty());
}

#[test]
fn a_point_that_is_not_on_the_curve_is_no_key() {
    let zeros = "A".repeat(43);
    let set =
        format!(r#"{{"keys": [{{"kty": "EC", "crv": "P-256", "x": "{zeros}", "y": "{zeros}"}}]}}"#);
    let problem = KeySet::parse(set.as_bytes(), true).unwrap_err();
    assert!(problem.contains("no point of the curve"), "{problem}");
}

/// The example of RFC 7515 appendix A.1.
#[test]
fn the_example_of_the_standard() {
    let token = token(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    );
    let set = br#"{"keys": [{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;
    let keys = KeySet::parse(set, true).unwrap();
    assert!(keys.verify(Algorithm::HS256, &token));
    assert!(!keys.verify(Algorithm::HS512, &token) && !keys.verify(Algorithm::RS256, &token));
    assert_eq!(token.issuer(), Some("joe"));
}

#[test]
fn another_address_is_fetched_at_once() {
    use std::time::Duration;
    let second = Duration::from_secs(1);
    let store = Store::new(Remote {
        cluster: String::from("idp"),
        cache: 300 * second,
        timeout: second,
        look_again: 30 * second,
    });
    let url = |text| tidegate_sdk::http::Url::parse(text).unwrap();
    store.set_url(url("https://idp.example/a"));
    store.postpone(500 * second);
    assert!(!store.is_due(499 * second));
    store.set_url(url("https://idp.example/a"));
    assert!(!store.is_due(499 * second));
    store.set_url(url("https://idp.example/b"));
    assert!(store.is_due(499 * second));
}
