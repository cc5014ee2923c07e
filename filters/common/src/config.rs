//! Reading a filter's configuration, with errors that name the field.

use std::fmt;

use serde::de::DeserializeOwned;

/// Why a configuration is refused: the field as a path (`limits[0].per`), and what is wrong with what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    field: String,
    problem: String,
}

impl ConfigError {
    /// An error about `field`; an empty field means the configuration as a whole.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// The field's path, empty for the configuration as a whole.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
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
        // The path is "." for the whole, and "?" stands where the text broke off.
        let path = error.path().to_string();
        let field = path.trim_end_matches(['.', '?']);
        ConfigError::new(field, error.inner().to_string())
    })?;
    json.end()
        .map_err(|error| ConfigError::new("", error.to_string()))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[serde(default)]
        limits: Vec<Limit>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Limit {
        #[allow(dead_code, reason = "only its type matters here")]
        requests: u32,
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
        assert!(error.to_string().contains("expected u32"), "{error}");
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
