//! SHA-256, as names of content have it.

use std::fmt::Write as _;
use std::sync::Arc;

/// `sha256:…` of these bytes.
pub(crate) fn digest(bytes: &[u8]) -> Arc<str> {
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

/// `sha256:…`, as people write it in `spec.sha256`.
pub(crate) fn normal(written: &str) -> Arc<str> {
    let digits = written.trim_start_matches("sha256:").to_ascii_lowercase();
    format!("sha256:{digits}").into()
}

/// Whether this is `sha256:` and 64 digits: what others call a digest becomes part of an address.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|digits| {
        digits.len() == 64
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn digests_are_hexadecimal() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(&*super::digest(b""), empty);
        assert_eq!(&*super::normal(&empty[7..].to_uppercase()), empty);
        assert!(super::is_digest(empty));
        for odd in [
            &empty[7..],
            "sha256:../../x",
            "sha512:00",
            &empty.to_uppercase(),
        ] {
            assert!(!super::is_digest(odd), "{odd}");
        }
    }
}
