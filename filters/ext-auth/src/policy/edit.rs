//! Changes that a service asks for: headers, and parameters of the query.

use tidegate_sdk::template::encode;

/// A change of headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// All values go.
    Remove(String),
    /// A value more.
    Add(String, Vec<u8>),
    /// A value where there is none.
    AddIfAbsent(String, Vec<u8>),
    /// This value in the place of all that are there, if any is.
    Replace(String, Vec<u8>),
    /// This value in the place of all; for pseudo-headers, which must not be missing in between.
    Set(String, Vec<u8>),
}

/// Changes of a query, names compared as they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Parameters and their only values.
    pub set: Vec<(String, String)>,
    /// Parameters that go.
    pub remove: Vec<String>,
}

/// Headers that say how a message is framed, or belong to one connection: no service decides about them.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

impl Edit {
    /// The header.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Remove(name)
            | Self::Add(name, _)
            | Self::AddIfAbsent(name, _)
            | Self::Replace(name, _)
            | Self::Set(name, _) => name,
        }
    }
}

impl Query {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// A path and its query, changed.
    #[must_use]
    pub fn apply(&self, target: &[u8]) -> Vec<u8> {
        let (path, query) = tidegate_sdk::template::split(target);
        let named = |name: &[u8]| {
            let mut gone = self
                .remove
                .iter()
                .chain(self.set.iter().map(|(name, _)| name));
            gone.any(|other| other.as_bytes() == name)
        };
        let kept = query
            .split(|byte| *byte == b'&')
            .filter(|pair| !pair.is_empty())
            .filter(|pair| !named(pair.split(|byte| *byte == b'=').next().unwrap_or_default()));
        let mut pairs: Vec<Vec<u8>> = kept.map(<[u8]>::to_vec).collect();
        for (name, value) in &self.set {
            let mut pair = Vec::new();
            encode(name.as_bytes(), &mut pair);
            pair.push(b'=');
            encode(value.as_bytes(), &mut pair);
            pairs.push(pair);
        }
        match pairs.is_empty() {
            true => path.to_vec(),
            false => [path, b"?", &pairs.join(&b'&')].concat(),
        }
    }
}

/// Whether a service may change the header, whose name is in lower case.
pub(super) fn is_free(name: &str) -> bool {
    !FRAMING.contains(&name)
}

/// Whether bytes may stand in a header as they are.
pub(super) fn is_value(value: &[u8]) -> bool {
    let visible = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    value.iter().all(visible) && value.trim_ascii().len() == value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = Query {
            set: vec![("user".to_owned(), "a&b c".to_owned())],
            remove: vec!["token".to_owned()],
        };
        for (before, after) in [
            ("/", "/?user=a%26b%20c"),
            ("/?x=1&token=2&y", "/?x=1&y&user=a%26b%20c"),
            ("/?user=root&tokens=1&user", "/?tokens=1&user=a%26b%20c"),
        ] {
            assert_eq!(query.apply(before.as_bytes()), after.as_bytes(), "{before}");
        }
        let remove = Query {
            remove: vec!["token".to_owned()],
            ..Query::default()
        };
        assert_eq!(remove.apply(b"/a?token=1"), b"/a");
        assert!(!remove.is_empty() && Query::default().is_empty());
    }

    #[test]
    fn values() {
        assert!(is_value("J\u{fc}rgen".as_bytes()) && is_value(b""));
        for bad in ["a\r\nb", " a", "a\0", "a\x7f"] {
            assert!(!is_value(bad.as_bytes()), "{bad:?}");
        }
    }
}
