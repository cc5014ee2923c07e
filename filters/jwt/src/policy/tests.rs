//! What the black-box cases do not reach.

use super::*;

fn policy(extra: &str) -> Policy {
    let text = format!(
        r#"{{"providers": [{{"secret": "a-secret-of-at-least-thirty-two-bytes", "claimsToHeaders": {{"X-User": "sub"}}}}]{extra}}}"#
    );
    Policy::parse(text.as_bytes()).unwrap()
}

fn header(value: &'static str) -> impl Fn(&str) -> Vec<Vec<u8>> {
    move |name| match name {
        "authorization" => vec![value.into()],
        _ => Vec::new(),
    }
}

#[test]
fn an_issuer_that_nobody_names_belongs_to_the_provider_of_any() {
    let policy = policy("");
    // {"alg":"HS256"} . {} . wrong
    let found = policy.find(b"/", &header("Bearer eyJhbGciOiJIUzI1NiJ9.e30.AAAA"));
    let (place, token) = found.unwrap().unwrap();
    assert_eq!(place, 0);
    assert_eq!(
        policy.provider_of(&token).unwrap().verifier().issuer(),
        None
    );
}

#[test]
fn two_tokens_in_one_header_are_two() {
    let policy = policy("");
    let found = policy.find(b"/", &header("Bearer a.b.c, d.e.f"));
    assert_eq!(found.unwrap_err(), Denied::Several);
}

#[test]
fn tokens_in_two_places_are_two() {
    let policy = policy(
        r#", "from": [{"header": "Authorization", "prefix": "Bearer "}, {"header": "Authorization"}, {"query": "token"}]"#,
    );
    let bearer = header("Bearer eyJhbGciOiJIUzI1NiJ9.e30.AAAA");
    let (place, _) = policy.find(b"/?x=1", &bearer).unwrap().unwrap();
    assert_eq!(place, 0, "one header in two places is one token");
    let both = policy.find(b"/?token=eyJhbGciOiJIUzI1NiJ9.e30.AAAA", &bearer);
    assert_eq!(both.unwrap_err(), Denied::Several);
}

#[test]
fn headers_of_claims_never_come_from_a_client_without_a_token() {
    let policy = policy(r#", "optional": true"#);
    assert!(policy.lets_anonymous_pass());
    assert_eq!(
        policy.edits_without_token(),
        [Edit::Remove(String::from("x-user"))]
    );
}
