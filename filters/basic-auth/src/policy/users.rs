//! Who may log in: an htpasswd file, or an object of names and hashes.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use tidegate_sdk::ConfigError;

use super::cache::Key;
use super::hash::Hash;

/// The two layouts of ingress-nginx's `auth-secret-type`.
pub(super) enum Source {
    /// auth-file: lines of `name:hash`.
    File(String),
    /// auth-map: a Secret's keys are names, its values hashes.
    Map(Vec<(String, String)>),
}

/// Names and hashes. Hashes stand in a list of their own so that one can be picked for a name that is not there.
#[derive(Debug, Default)]
pub(super) struct Users {
    index: HashMap<String, usize>,
    hashes: Vec<Hash>,
}

// === impl Users ===

impl Users {
    /// Reads the field `users`.
    ///
    /// # Errors
    ///
    /// A line that is no `name:hash`, a name that cannot be one, and a malformed hash.
    pub(super) fn compile(source: &Source) -> Result<Self, ConfigError> {
        let mut users = Self::default();
        match source {
            Source::Map(entries) => {
                for (name, hash) in entries {
                    let field = format!("users.{}", name.escape_debug());
                    users
                        .add(name, hash)
                        .map_err(|problem| ConfigError::new(field, problem))?;
                }
            }
            Source::File(text) => {
                for (number, line) in (1..).zip(text.lines()) {
                    users.add_line(line).map_err(|problem| {
                        ConfigError::new("users", format!("line {number}: {problem}"))
                    })?;
                }
            }
        }
        Ok(users)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether a check of somebody's password may take long.
    pub(super) fn are_slow(&self) -> bool {
        self.hashes.iter().any(Hash::is_slow)
    }

    /// Whether `password` is the one of `user`. A name that is not there costs what one of the names that are there costs, the
    /// same one each time: `stand_in`, a digest of the name that nobody outside can predict, picks it.
    pub(super) fn verify(&self, user: &str, password: &[u8], stand_in: &Key) -> bool {
        let known = self.index.get(user).copied();
        let picked = stand_in.iter().fold(0, |sum, byte| {
            (sum << 8 | usize::from(*byte)) % self.hashes.len().max(1)
        });
        let matches = self
            .hashes
            .get(known.unwrap_or(picked))
            .is_some_and(|hash| hash.verify(password));
        matches && known.is_some()
    }

    fn add_line(&mut self, line: &str) -> Result<(), String> {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (name, rest) = line
            .split_once(':')
            .ok_or("expected name:hash, as htpasswd writes it")?;
        // What follows a second colon is a comment for nginx; no hash has one. A plain password may.
        let hash = match rest.starts_with("{PLAIN}") {
            true => rest,
            false => rest.split(':').next().unwrap_or(rest),
        };
        // The first line of a name counts, as for Apache and nginx; a later one is checked all the same.
        self.add(name, hash)
            .map_err(|problem| format!("user {name:?}: {problem}"))
    }

    fn add(&mut self, name: &str, hash: &str) -> Result<(), String> {
        if name.is_empty()
            || name.trim() != name
            || name.contains(':')
            || name.contains(char::is_control)
        {
            return Err(String::from(
                "a name must not be empty, hold a colon or a control character, or begin or end with white space",
            ));
        }
        let hash = Hash::parse(hash)?;
        if !self.index.contains_key(name) {
            self.index.insert(name.to_owned(), self.hashes.len());
            self.hashes.push(hash);
        }
        Ok(())
    }
}

// === impl Source ===

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

struct SourceVisitor;

impl<'de> Visitor<'de> for SourceVisitor {
    type Value = Source;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the text of an htpasswd file, or an object of names and hashes")
    }

    fn visit_str<E>(self, text: &str) -> Result<Source, E> {
        Ok(Source::File(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Source, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Source::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: &str = "{PLAIN}a";
    const BOB: &str = "{PLAIN}b";

    fn verify(users: &Users, user: &str, password: &str) -> bool {
        users.verify(user, password.as_bytes(), &[7; 32])
    }

    fn file(text: &str) -> Result<Users, ConfigError> {
        Users::compile(&Source::File(text.to_owned()))
    }

    #[test]
    fn both_layouts_hold_the_same_users() {
        let map =
            [("ann", ANN), ("bob", BOB)].map(|(name, hash)| (name.to_owned(), hash.to_owned()));
        let map = Users::compile(&Source::Map(map.to_vec())).unwrap();
        let file = file(&format!("# a comment\n\nann:{ANN}\r\n  bob:{BOB}\n")).unwrap();
        for users in [map, file] {
            assert!(verify(&users, "ann", "a") && verify(&users, "bob", "b"));
            assert!(!verify(&users, "ann", "b") && !verify(&users, "Ann", "a"));
        }
    }

    #[test]
    fn an_unknown_name_never_matches_whatever_stands_in() {
        let users = file(&format!("ann:{ANN}\nbob:{BOB}")).unwrap();
        for byte in 0..=255 {
            for password in [&b"a"[..], b"b"] {
                assert!(!users.verify("eve", password, &[byte; 32]));
                assert!(!users.verify("", password, &[byte; 32]));
            }
        }
    }

    #[test]
    fn without_users_nobody_matches() {
        for text in ["", "# nobody\n"] {
            let users = file(text).unwrap();
            assert!(users.is_empty());
            assert!(!verify(&users, "ann", ""));
        }
    }

    #[test]
    fn the_first_line_of_a_name_counts_and_comments_behind_a_hash_do_not() {
        let users = file("ann:{PLAIN}first\nann:{PLAIN}second\nbob:{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=:Bob, 3rd floor").unwrap();
        assert!(verify(&users, "ann", "first") && !verify(&users, "ann", "second"));
        assert!(verify(&users, "bob", "correct horse"));
    }

    #[test]
    fn errors_say_where() {
        for (text, part) in [
            ("ann", "line 1: expected name:hash"),
            (
                "ann:{PLAIN}a\n\n# x\nbob:secret",
                "line 4: user \"bob\": is no hash",
            ),
            (":{PLAIN}a", "line 1: user \"\": a name"),
            ("ann:{PLAIN}a\nann:broken", "line 2"),
        ] {
            let error = file(text).unwrap_err();
            assert_eq!(error.field(), "users");
            assert!(error.to_string().contains(part), "{error}");
        }
        for name in ["", "a:b", "a\r\nb", " a", "a\u{0}"] {
            let error =
                Users::compile(&Source::Map(vec![(name.to_owned(), ANN.to_owned())])).unwrap_err();
            assert!(error.field().starts_with("users."), "{error}");
            assert!(!error.to_string().contains('\n'), "{error:?}");
        }
    }
}
