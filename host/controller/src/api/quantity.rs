//! Sizes as Kubernetes writes them: `64Mi`, `1G`, `1048576`.

use serde::{Deserialize, Deserializer, de};

/// Reads a Kubernetes quantity as a number of bytes; a fraction of a byte is rounded up, as the API
/// server does.
///
/// # Errors
/// Says what the form is.
pub fn parse(text: &str) -> Result<u64, String> {
    let invalid = || {
        format!("invalid size {text:?}: write a number of bytes with a unit such as Ki, Mi or Gi")
    };
    let end = text
        .bytes()
        .position(|b| !b.is_ascii_digit() && b != b'.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.is_empty() || number == "." || fraction.contains('.') || fraction.len() > 9 {
        return Err(invalid());
    }
    let scale: u128 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(invalid()),
    };
    let unit = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| invalid())?);
    let digits: u128 = format!("{whole}{fraction}")
        .parse()
        .map_err(|_| invalid())?;
    let bytes = digits
        .checked_mul(scale)
        .map(|product| product.div_ceil(unit))
        .ok_or_else(invalid)?;
    u64::try_from(bytes).map_err(|_| invalid())
}

/// For `#[serde(deserialize_with)]` on an optional field; takes a number of bytes too.
///
/// # Errors
/// As [`parse`].
pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Raw {
        Number(u64),
        Text(String),
    }
    match Option::<Raw>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Raw::Number(bytes)) => Ok(Some(bytes)),
        Some(Raw::Text(text)) => parse(&text).map(Some).map_err(de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("0", 0),
            ("1048576", 1 << 20),
            ("64Mi", 64 << 20),
            ("1.5Gi", 3 << 29),
            ("1k", 1000),
            ("0.5", 1),
            ("2T", 2_000_000_000_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            ".",
            "Mi",
            "1mi",
            "-1",
            "1.2.3Mi",
            "1 Mi",
            "99999999999999Ti",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
