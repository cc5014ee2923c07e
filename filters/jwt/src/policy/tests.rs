//! What the black-box cases do not reach.

use super::jwks::{KeySet, Keys};
use super::*;

const SECRET: &str = r#"{"providers": [{"secret": "a-secret-of-at-least-thirty-two-bytes"}]}"#;

fn header(value: &'static str) -> impl Fn(&str) -> Vec<Vec<u8>> {
    move |name| match name {
        "authorization" => vec![value.into()],
        _ => Vec::new(),
    }
}

#[test]
fn a_token_that_is_not_believed_is_not_remembered() {
    let policy = Policy::parse(SECRET.as_bytes()).unwrap();
    // {"alg":"HS256"} . {} . wrong
    let token = policy.find(b"/", &header("Bearer eyJhbGciOiJIUzI1NiJ9.e30.AAAA"));
    let token = token.unwrap().unwrap();
    let provider = &policy.providers()[policy.provider_of(&token).unwrap()];
    let Keys::Inline(keys) = provider.keys() else {
        panic!("a secret is inline");
    };
    assert!(provider.check_signature(keys, &token).is_err());
    assert!(provider.remembered(&token).is_none());
}

#[test]
fn what_is_remembered_is_bounded() {
    let policy = Policy::parse(SECRET.as_bytes()).unwrap();
    let provider = &policy.providers()[0];
    for number in 0..3 * MAX_VERIFIED {
        let text = format!("eyJhbGciOiJIUzI1NiJ9.e30.{:08}", number);
        let token = Token::parse(text.as_bytes(), 0).unwrap();
        provider.remember(&token);
        assert!(provider.remembered(&token).is_some());
    }
    assert!(provider.verified.borrow().len() <= MAX_VERIFIED);
    provider.forget();
    assert!(provider.verified.borrow().is_empty());
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
    let token = b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let set = br#"{"keys": [{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;
    let keys = KeySet::parse(set, true).unwrap();
    let token = Token::parse(token, 0).unwrap();
    assert!(keys.verify(Algorithm::HS256, &token));
    assert!(!keys.verify(Algorithm::HS512, &token) && !keys.verify(Algorithm::RS256, &token));
    assert_eq!(token.issuer(), Some("joe"));
}
