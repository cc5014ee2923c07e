//! Durations as the Gateway API writes them (GEP-2257): `500ms`, `1m30s`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// Reads a duration of the form `([0-9]{1,5}(h|m|s|ms)){1,4}`.
///
/// # Errors
/// Says what the form is.
pub fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || {
        format!(
            "invalid duration {text:?}: write up to four numbers with the units h, m, s or ms, such as 1m30s"
        )
    };
    let mut rest = text;
    let mut total = Duration::ZERO;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = match digits {
            1..=5 => rest[..digits].parse().map_err(|_| invalid())?,
            _ => return Err(invalid()),
        };
        rest = &rest[digits..];
        let unit = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        total += match &rest[..unit] {
            "h" => Duration::from_secs(number * 3600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return Err(invalid()),
        };
        rest = &rest[unit..];
        if rest.is_empty() {
            return Ok(total);
        }
    }
    Err(invalid())
}

/// For `#[serde(deserialize_with)]` on an optional field.
///
/// # Errors
/// As [`parse`].
pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Option::<String>::deserialize(deserializer)?
        .map(|text| parse(&text).map_err(de::Error::custom))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gep_2257() {
        let cases = [
            ("0s", 0),
            ("10ms", 10),
            ("1h30m", 5_400_000),
            ("1m1s1ms", 61_001),
            ("99999s", 99_999_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "1",
            "s",
            "-1s",
            "1.5h",
            "100000s",
            "1d",
            "1s1s1s1s1s",
            "1µs",
            " 1s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
