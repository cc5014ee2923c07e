//! The `Authorization` header of the scheme `Basic` (RFC 7617 section 2).

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// Longest name and password together, in bytes: some hashes cost time by the length of what they hash.
const MAX_LENGTH: usize = 1024;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A name and a password as a client sent them.
pub(super) struct Credentials {
    pub(super) user: String,
    /// Not necessarily UTF-8.
    pub(super) password: Vec<u8>,
}

impl Credentials {
    /// Reads the header's value; `None` for whatever RFC 7617 does not allow, control characters included.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let space = value.iter().position(|byte| *byte == b' ')?;
        let (scheme, token) = value.split_at(space);
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return None;
        }
        let token = token.trim_ascii();
        if token.len() > MAX_LENGTH.div_ceil(3) * 4 {
            return None;
        }
        let decoded = BASE64.decode(token).ok()?;
        if decoded.len() > MAX_LENGTH || decoded.iter().any(u8::is_ascii_control) {
            return None;
        }
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        Some(Self {
            user: String::from_utf8(decoded[..colon].to_vec()).ok()?,
            password: decoded[colon + 1..].to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Option<(String, Vec<u8>)> {
        Credentials::parse(value.as_bytes()).map(|parsed| (parsed.user, parsed.password))
    }

    fn encode(text: &[u8]) -> String {
        format!("Basic {}", BASE64.encode(text))
    }

    #[test]
    fn the_first_colon_ends_the_name() {
        assert_eq!(
            parse("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            Some(("Aladdin".into(), b"open sesame".to_vec()))
        );
        assert_eq!(
            parse(&encode(b"a:b:c")),
            Some(("a".into(), b"b:c".to_vec()))
        );
        assert_eq!(parse(&encode(b"a:")), Some(("a".into(), Vec::new())));
        assert_eq!(parse(&encode(b":")), Some((String::new(), Vec::new())));
    }

    #[test]
    fn the_scheme_has_no_case_and_padding_may_be_missing() {
        for value in [
            "basic YTpi",
            "BASIC   YTpi ",
            "Basic YTpiYg",
            "Basic YTpiYg==",
        ] {
            assert_eq!(parse(value).unwrap().0, "a", "{value}");
        }
    }

    #[test]
    fn names_are_utf8_and_passwords_any_bytes() {
        assert_eq!(parse(&encode("jörg:x".as_bytes())).unwrap().0, "jörg");
        assert_eq!(parse(&encode(b"a:\xff\xfe")).unwrap().1, b"\xff\xfe");
        assert_eq!(parse(&encode(b"\xff:x")), None);
    }

    #[test]
    fn what_is_refused() {
        let long = encode(&[b"a:".as_slice(), &[b'x'; 2000]].concat());
        for value in [
            "",
            "Basic",
            "Basic ",
            "Bearer YTpi",
            "Basic YTpi,Basic YTpi",
            "Basic YTpi YTpi",
            "Basic !!!!",
            "Basic YQ==",
            "Basic Y",
            "Basic YTpi=",
            "Basic YTpiYh==",
            "BasicYTpi",
            "Basic\tYTpi",
            " Basic YTpi",
            &long,
            &encode(b"a:b\r\nx: y"),
            &encode(b"a\0:b"),
            &encode(b"a:b\x7f"),
        ] {
            assert_eq!(parse(value), None, "{value:?}");
        }
        assert!(Credentials::parse(b"Basic \xff\xfe").is_none());
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_sent_is_read_or_refused(value in proptest::collection::vec(proptest::num::u8::ANY, 0..60), basic: bool) {
            let value = if basic { encode(&value).into_bytes() } else { value };
            if let Some(credentials) = Credentials::parse(&value) {
                assert!(basic || value.starts_with(b"Basic "));
                assert!(!credentials.user.contains([':', '\n', '\r', '\0']));
            }
        }
    }

    #[test]
    fn the_longest_that_is_read() {
        let fits = [b"a:".as_slice(), &[b'x'; MAX_LENGTH - 2]].concat();
        assert!(parse(&encode(&fits)).is_some());
        let longer = [fits.as_slice(), b"x"].concat();
        assert_eq!(parse(&encode(&longer)), None);
    }
}
