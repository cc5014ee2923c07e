//! Texts that no message may show.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

/// What stands in a text's place.
const REDACTED: &str = "<redacted>";
/// Bytes of the shortest text that is kept out: of less, messages have their own.
const SHORTEST: usize = 4;

/// Values of Secrets, line by line, as they are and as JSON writes them.
#[derive(Clone, Default)]
pub struct Secrets(Option<Arc<Known>>);

struct Known {
    /// By their first bytes, the longest first.
    texts: HashMap<[u8; SHORTEST], Vec<Box<str>>>,
    longest: usize,
}

impl Secrets {
    /// Those of these values.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all: BTreeSet<Box<str>> = BTreeSet::new();
        for line in values.into_iter().flat_map(str::lines).map(str::trim) {
            let quoted = serde_json::Value::from(line).to_string();
            all.insert(Box::from(&quoted[1..quoted.len() - 1]));
            all.insert(Box::from(line));
        }
        let mut texts: HashMap<_, Vec<Box<str>>> = HashMap::new();
        let mut longest = 0;
        for text in all {
            if let Some(start) = text.as_bytes().first_chunk() {
                longest = longest.max(text.len());
                texts.entry(*start).or_default().push(text);
            }
        }
        for texts in texts.values_mut() {
            texts.sort_unstable_by_key(|text| std::cmp::Reverse(text.len()));
        }
        Self((longest > 0).then(|| Arc::new(Known { texts, longest })))
    }

    /// Bytes of the longest text; 0 if there is none.
    pub fn longest(&self) -> usize {
        self.0.as_ref().map_or(0, |known| known.longest)
    }

    /// The message without any of the texts.
    pub fn redact<'m>(&self, message: &'m str) -> Cow<'m, str> {
        let Some(known) = &self.0 else {
            return message.into();
        };
        let mut clean = String::new();
        let mut copied = 0;
        let mut at = 0;
        while let Some(start) = message.as_bytes()[at..].first_chunk::<SHORTEST>() {
            let mut texts = known.texts.get(start).into_iter().flatten();
            match texts.find(|text| message.as_bytes()[at..].starts_with(text.as_bytes())) {
                Some(text) => {
                    // Whole characters: what is found begins and ends with one.
                    clean.push_str(&message[copied..at]);
                    clean.push_str(REDACTED);
                    at += text.len();
                    copied = at;
                }
                None => at += 1,
            }
        }
        if copied == 0 {
            return message.into();
        }
        clean.push_str(&message[copied..]);
        clean.into()
    }

    fn texts(&self) -> BTreeSet<&str> {
        let known = self.0.iter().flat_map(|known| known.texts.values());
        known.flatten().map(AsRef::as_ref).collect()
    }
}

impl PartialEq for Secrets {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) if Arc::ptr_eq(a, b) => true,
            (Some(_), Some(_)) => self.texts() == other.texts(),
            _ => false,
        }
    }
}

impl Eq for Secrets {}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_a_secret_is_left() {
        let secrets = Secrets::new([
            "hunter2",
            "hunter2-and-more\n",
            "say \"yes\"",
            "abc",
            "",
            "a\nline one\n",
        ]);
        for (message, clean) in [
            ("nothing", "nothing"),
            ("abc is too short", "abc is too short"),
            ("hunter2", "<redacted>"),
            ("hunter2-and-more, hunter2!", "<redacted>, <redacted>!"),
            ("é hunterhunter2é", "é hunter<redacted>é"),
            (
                r#"it has "say \"yes\"" or say "yes""#,
                r#"it has "<redacted>" or <redacted>"#,
            ),
            (r"a\nline one\n", r"a\n<redacted>\n"),
            ("hunter", "hunter"),
        ] {
            assert_eq!(secrets.redact(message), clean);
        }
        assert_eq!(secrets.longest(), 16);
        assert_eq!(format!("{secrets:?}"), "Secrets { .. }");
    }

    #[test]
    fn short_values_are_no_secrets() {
        assert_eq!(Secrets::new(["abc"]), Secrets::default());
        assert_eq!(Secrets::default().redact("abcd"), "abcd");
        assert_ne!(Secrets::new(["abcd"]), Secrets::new(["abce"]));
        assert_eq!(Secrets::new(["abcd"]), Secrets::new(["abcd"]));
    }
}
