//! What the black-box cases do not reach: what is sealed, and cookies as a browser sends them back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use tidegate_sdk::Reply;

use super::login::{Login, return_target};
use super::token::Tokens;
use super::*;

const KEY: &str = "key-of-the-tests-0123456789abcdef";

fn policy(more: &str) -> Policy {
    let text = format!(
        r#"{{"issuer": "https://idp.example", "cluster": "idp", "clientId": "shop", "clientSecret": "s", "cookieKeys": ["{KEY}"],
            "endpoints": {{"authorization": "https://idp.example/auth", "token": "https://idp.example/token", "jwks": "https://idp.example/keys"}}
            {more}}}"#
    );
    Policy::parse(text.as_bytes()).unwrap()
}

fn session(refresh_token: &str) -> Session {
    Session {
        subject: String::from("ann"),
        begun: 1000,
        expires: 2000,
        claims: BTreeMap::new(),
        id_token: None,
        access_token: None,
        refresh_token: Some(refresh_token.to_owned()),
    }
}

/// The browser's `cookie` header after these `Set-Cookie` lines.
fn jar<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Vec<u8>> {
    let mut jar = BTreeMap::new();
    for line in lines {
        let (pair, attributes) = line.split_once(';').unwrap();
        assert!(line.len() <= 4096, "browsers drop {} bytes", line.len());
        let (name, value) = pair.split_once('=').unwrap();
        match attributes.contains("Max-Age=0;") {
            true => jar.remove(name),
            false => jar.insert(name, value),
        };
    }
    let pairs: Vec<String> = jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
    vec![pairs.join("; ").into_bytes()]
}

fn set_cookies(reply: &Reply) -> impl Iterator<Item = &str> {
    let headers = reply.headers.iter();
    headers
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, value)| value.as_str())
}

fn head(target: &str, cookies: Vec<Vec<u8>>) -> Head {
    Head {
        method: b"GET".to_vec(),
        target: target.into(),
        scheme: b"https".to_vec(),
        authority: b"shop.example".to_vec(),
        cookies,
        ..Head::default()
    }
}

const NOW: Duration = Duration::from_secs(1500);

#[test]
fn a_log_in_comes_back_with_the_verifier_of_its_challenge() {
    let policy = policy("");
    let metadata = policy.discovery().known().unwrap();
    let entropy: login::Entropy = std::array::from_fn(|index| index as u8);
    let reply = policy.begin(
        &head("/a?b", Vec::new()),
        &metadata,
        &entropy,
        [7; seal::NONCE],
        NOW,
    );
    let location = reply
        .headers
        .iter()
        .find(|(name, _)| name == "location")
        .unwrap();
    let query = location.1.split_once('?').unwrap().1.as_bytes();
    let parameter = |name| String::from_utf8(template::parameter(query, name).unwrap()).unwrap();
    let state = parameter("state");
    let cookies = jar(set_cookies(&reply));
    let target = format!("/oauth2/callback?code=c&state={state}");
    let authorized = policy
        .authorized(&head(&target, cookies.clone()), NOW)
        .unwrap();
    let body = policy.code_body(&authorized);
    let verifier = template::parameter(body.as_bytes(), "code_verifier").unwrap();
    let challenge = {
        use base64::Engine as _;
        use sha2::Digest as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(&verifier))
    };
    assert_eq!(challenge, parameter("code_challenge"));
    assert_eq!(authorized.login.nonce, parameter("nonce"));
    assert_eq!(authorized.login.target, "/a?b");
    assert!(verifier.len() >= 43, "RFC 7636 section 4.1");
    // Nothing of it is to be read in the cookie, and the end of the log-in takes it away.
    let text = String::from_utf8(cookies[0].clone()).unwrap();
    assert!(!text.contains(&state) && !text.contains("/a?b"));
    let done = policy.finish(&authorized.login, Vec::new());
    let lines = set_cookies(&reply).chain(set_cookies(&done));
    assert_eq!(jar(lines), [b"".to_vec()]);
}

#[test]
fn a_session_of_any_size_comes_back_whole_or_is_refused() {
    let policy = policy("");
    let mut last = 0;
    for size in [0, 100, 2000, 2700, 2800, 5000, 5600, 5700, 8000, 8300, 9000] {
        let session = session(&"r".repeat(size));
        let sealed = policy.seal_session(&session, [1; seal::NONCE]);
        let head = head("/", Vec::new());
        match policy.session_cookies(&head, &session, &sealed, NOW) {
            Ok(lines) => {
                let cookies = jar(lines.iter().map(String::as_str));
                let found = policy.session(&self::head("/", cookies), NOW).unwrap();
                assert_eq!(found, session);
                last = sealed.len();
            }
            Err(reply) => {
                assert!(sealed.len() > cookie::MAX_SESSION && last <= cookie::MAX_SESSION);
                assert_eq!(
                    (reply.status, reply.details),
                    (500, "oidc_session_too_large")
                );
                assert!(last > 10_000, "three cookies were filled before");
                return;
            }
        }
    }
    panic!("9000 bytes are too many");
}

#[test]
fn a_shorter_session_takes_the_pieces_of_a_longer_one_away() {
    let policy = policy("");
    let long = session(&"r".repeat(6000));
    let sealed = policy.seal_session(&long, [1; seal::NONCE]);
    let first = policy.session_cookies(&head("/", Vec::new()), &long, &sealed, NOW);
    let first = first.unwrap();
    assert_eq!(first.len(), 3);
    let before = jar(first.iter().map(String::as_str));
    let short = session("r");
    let sealed = policy.seal_session(&short, [2; seal::NONCE]);
    let second = policy.session_cookies(&head("/", before), &short, &sealed, NOW);
    let second = second.unwrap();
    let after = jar(first.iter().chain(&second).map(String::as_str));
    let text = String::from_utf8(after[0].clone()).unwrap();
    assert_eq!(text.matches("__Host-oidc").count(), 1, "{text}");
    assert_eq!(policy.session(&head("/", after), NOW), Some(short));
}

#[test]
fn tokens_that_nothing_needs_are_not_kept() {
    let lean = policy(r#", "logout": {"endSession": false}"#);
    let full = policy(r#", "forwardAccessToken": true"#);
    let answer = br#"{"id_token": "i", "access_token": "a", "refresh_token": "r2", "token_type": "bearer", "expires_in": "100"}"#;
    let before = session("r1");
    for (policy, id_token, access_token) in [(lean, None, None), (full, Some("i"), Some("a"))] {
        let tokens = Tokens::parse(answer).unwrap();
        let renewed = policy.renewed(&before, tokens, None, NOW).unwrap();
        assert_eq!(renewed.id_token.as_deref(), id_token);
        assert_eq!(renewed.access_token.as_deref(), access_token);
        assert_eq!(renewed.refresh_token.as_deref(), Some("r2"));
        // Ten seconds early, so that what goes upstream does not end on its way.
        assert_eq!((renewed.begun, renewed.expires), (1000, 1590));
    }
}

#[test]
fn a_lifetime_is_of_the_session_and_not_of_its_tokens() {
    let session = session("r");
    let hour = Duration::from_secs(3600);
    assert_eq!(session.left(hour, Duration::from_secs(1000)), hour);
    assert_eq!(
        session.left(hour, Duration::from_secs(4600)),
        Duration::ZERO
    );
    // Clocks of hosts differ by a minute, not by more.
    assert!(!session.left(hour, Duration::from_secs(940)).is_zero());
    assert!(session.left(hour, Duration::from_secs(939)).is_zero());
    assert!(session.is_fresh(Duration::from_secs(1999)));
    assert!(!session.is_fresh(Duration::from_secs(2000)));
}

#[test]
fn what_looks_exempt_is_exempt() {
    let policy = policy(r#", "exempt": ["/public/*", "/x"]"#);
    for (target, expected) in [
        ("/public/", Step::Pass),
        ("/public/a?next=/../b", Step::Pass),
        ("/x?y", Step::Pass),
        ("/x/", Step::Protected),
        ("/public", Step::Protected),
        ("/public/%2E./a", Step::Protected),
        ("/public/a/..", Step::Protected),
        ("/public/a%2fb", Step::Protected),
        ("/public/\\..\\a", Step::Protected),
        ("/oauth2/callback", Step::Callback),
        ("/oauth2/callback/", Step::Protected),
        ("/oauth2/logout?x", Step::Logout),
    ] {
        assert_eq!(policy.step(&head(target, Vec::new())), expected, "{target}");
    }
}

#[test]
fn client_secrets_are_encoded_as_forms_are() {
    let auth = ClientAuth::Basic(String::from("a:b c%"));
    // "my%20app:a%3Ab%20c%25"
    assert_eq!(
        auth.header("my app").unwrap(),
        "Basic bXklMjBhcHA6YSUzQWIlMjBjJTI1"
    );
}

proptest! {
    /// Resolved as browsers do it, the target stays on the host: no authority and no scheme can begin in it.
    #[test]
    fn a_target_is_on_this_host(target in proptest::collection::vec(any::<u8>(), 0..40)) {
        for text in [&target[..], &[b"/", &target[..]].concat(), &[b"//", &target[..]].concat(), &[b"/\\", &target[..]].concat()] {
            let found = return_target(text);
            // The URL standard drops tabs and line breaks, and reads backslashes as slashes.
            let read: String = found.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).map(|c| if c == '\\' { '/' } else { c }).collect();
            prop_assert!(read.starts_with('/') && !read.starts_with("//"), "{found:?}");
        }
    }

    /// Nothing that was not sealed here opens, whatever a client makes of it.
    #[test]
    fn a_changed_session_does_not_open(at in 0..1000usize, bit in 0..6u8) {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let policy = policy("");
        let sealed = policy.seal_session(&session("r"), [3; seal::NONCE]);
        let mut bytes = sealed.clone().into_bytes();
        let at = at % bytes.len();
        let place = LETTERS.iter().position(|letter| *letter == bytes[at]).unwrap();
        bytes[at] = LETTERS[place ^ (1 << bit)];
        let changed = String::from_utf8(bytes).unwrap();
        prop_assert!(policy.open_session(&sealed).is_some());
        prop_assert!(policy.open_session(&changed).is_none());
        prop_assert!(policy.open_session(&sealed[..at]).is_none());
    }

    #[test]
    fn anything_in_a_cookie_is_no_session(text in ".{0,200}") {
        let cookies = vec![format!("__Host-oidc={text}").into_bytes()];
        prop_assert!(policy("").session(&head("/", cookies), NOW).is_none());
    }

    #[test]
    fn a_login_comes_back_as_it_was(target in "/[!-~]{0,60}") {
        let login = Login::new(&[9; 64], target.as_bytes(), String::from("https://shop.example/oauth2/callback"), NOW);
        let text = serde_json::to_vec(&login).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Login>(&text).unwrap(), login);
    }
}
