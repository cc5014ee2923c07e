//! Reading a filter's configuration, with errors that name the field.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_path_to_error::Segment;

/// Why a configuration is refused: the field, and what is wrong with what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    field: String,
    problem: String,
}

impl ConfigError {
    /// An error about `field`, written as `limits[0].per` or as a JSON pointer (`/limits/0/per`, needed where a name has a dot or a
    /// bracket in it); an empty field means the configuration as a whole.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// The field as it was given, empty for the configuration as a whole.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The field as a JSON pointer (RFC 6901), empty for the configuration as a whole.
    #[must_use]
    pub fn pointer(&self) -> String {
        if self.field.is_empty() || self.field.starts_with('/') {
            return self.field.clone();
        }
        format!(
            "/{}",
            self.field
                .replace('[', "/")
                .replace(']', "")
                .replace('.', "/")
        )
    }

    /// The same error about a field that lies within `outer`, itself a field or a JSON pointer.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        let outer = Self::new(outer, "").pointer();
        Self {
            field: format!("{outer}{}", self.pointer()),
            problem: self.problem,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            write!(f, "configuration: {}", self.problem)
        } else {
            write!(f, "{}: {}", self.field, self.problem)
        }
    }
}

impl std::error::Error for ConfigError {}

/// A time span as configurations write it, in the words of the Gateway API (GEP-2257): `1h30m`, `10s`, `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Reads one; `None` for what is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut milliseconds: u64 = 0;
        // Each unit at most once and in this order, as GEP-2257 has it.
        for (unit, factor) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (found, after) = after.split_at(letters);
            if found != unit {
                continue;
            }
            if !(1..=5).contains(&digits) {
                return None;
            }
            let number: u64 = number.parse().ok()?;
            milliseconds += number * factor;
            rest = after;
        }
        (rest.is_empty() && !text.is_empty()).then(|| Self(Duration::from_millis(milliseconds)))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is no time span such as 10s, 1m30s or 250ms"
            ))
        })
    }
}

/// A name as one step of a JSON pointer.
#[must_use]
pub fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Parses the JSON text of a configuration. An absent (empty) text is an empty object, so that a filter whose fields all have
/// defaults needs none.
///
/// # Errors
///
/// Text that is no JSON, and fields that are missing, unknown or of the wrong type.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, ConfigError> {
    let text = if text.trim_ascii().is_empty() {
        b"{}"
    } else {
        text
    };
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let problem = without_text(error.inner().to_string());
        ConfigError::new(field(error.path()), problem)
    })?;
    json.end()
        .map_err(|error| ConfigError::new("", error.to_string()))?;
    Ok(value)
}

/// serde quotes a text that stands where something else belongs. It may come from a Secret, and errors are logged.
fn without_text(problem: String) -> String {
    let quoted = problem.strip_prefix("invalid type: string \"");
    match quoted.and_then(|rest| rest.rsplit_once("\", expected ")) {
        Some((_, wanted)) => format!("invalid type: string, expected {wanted}"),
        None => problem,
    }
}

/// A path in the dotted form where that is unambiguous, else as a JSON pointer.
fn field(path: &serde_path_to_error::Path) -> String {
    let plain = |name: &str| !name.contains(['.', '[', ']', '/', '~']);
    let dotted = path.iter().all(|segment| match segment {
        Segment::Map { key } => plain(key),
        _ => true,
    });
    let mut field = String::new();
    for segment in path.iter() {
        let written = match segment {
            Segment::Seq { index } if dotted => write!(field, "[{index}]"),
            Segment::Seq { index } => write!(field, "/{index}"),
            Segment::Map { key } | Segment::Enum { variant: key } if dotted => {
                let dot = if field.is_empty() { "" } else { "." };
                write!(field, "{dot}{key}")
            }
            Segment::Map { key } | Segment::Enum { variant: key } => {
                write!(field, "/{}", escape(key))
            }
            // Stands where the text broke off.
            Segment::Unknown => Ok(()),
        };
        written.expect("writing to a string cannot fail");
    }
    field
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[serde(default)]
        limits: Vec<Limit>,
        #[serde(default)]
        #[allow(dead_code, reason = "only its type matters here")]
        named: BTreeMap<String, Limit>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Limit {
        #[allow(dead_code, reason = "only its type matters here")]
        requests: u32,
    }

    #[test]
    fn spans() {
        for (text, expected) in [
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("10s", Some(10_000)),
            ("1h2m3s4ms", Some(3_723_004)),
            ("5m", Some(300_000)),
            ("", None),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1s1m", None),
            ("1s1s", None),
            ("1.5s", None),
            ("123456s", None),
            ("1d", None),
        ] {
            let span = Span::parse(text).map(|span| span.0.as_millis());
            assert_eq!(span, expected, "{text}");
        }
    }

    #[test]
    fn an_absent_text_is_an_empty_object() {
        assert!(parse::<Example>(b"").unwrap().limits.is_empty());
        assert!(parse::<Example>(b" \n").unwrap().limits.is_empty());
    }

    #[test]
    fn an_error_names_the_field_by_its_path() {
        let error = parse::<Example>(br#"{"limits": [{"requests": 1}, {"requests": "x"}]}"#);
        let error = error.unwrap_err();
        assert_eq!(error.field(), "limits[1].requests");
        assert_eq!(error.pointer(), "/limits/1/requests");
        assert!(error.to_string().contains("expected u32"), "{error}");
    }

    #[test]
    fn an_error_quotes_no_text_of_the_wrong_type() {
        for text in ["hunter2", r#"\", expected hunter2"#] {
            let text = format!(r#"{{"limits": [{{"requests": "{text}"}}]}}"#);
            let error = parse::<Example>(text.as_bytes()).unwrap_err().to_string();
            let problem = "limits[0].requests: invalid type: string, expected u32";
            assert!(error.starts_with(problem), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_name_with_a_dot_or_a_slash_makes_it_a_pointer() {
        let error = parse::<Example>(br#"{"named": {"a.b/c": {"requests": -1}}}"#).unwrap_err();
        assert_eq!(error.pointer(), "/named/a.b~1c/requests");
        assert_eq!(error.field(), error.pointer());
        let outer = ConfigError::new("x.y", "z").within("rules[2]");
        assert_eq!(outer.pointer(), "/rules/2/x/y");
    }

    #[test]
    fn unknown_fields_and_missing_ones_are_named() {
        let error = parse::<Example>(br#"{"limit": []}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `limit`"));
        let error = parse::<Example>(br#"{"limits": [{}]}"#).unwrap_err();
        assert_eq!(error.field(), "limits[0]");
        assert!(error.to_string().contains("missing field `requests`"));
    }

    #[test]
    fn text_that_is_no_json_or_goes_on_after_it_is_refused() {
        for text in ["{", "{} {}", "nonsense", "{\"limits\": ["] {
            let error = parse::<Example>(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("at line 1"), "{text}: {error}");
        }
    }
}
