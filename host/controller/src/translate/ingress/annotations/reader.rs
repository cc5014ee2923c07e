//! Reading the annotations of one Ingress: values by the table, and what is said about wrong ones.

use std::collections::BTreeMap;

use super::nearest::nearest;
use super::table::{self, Scope, State, Wrong};
use super::values;
use crate::translate::problem::Problem;

/// What all names of ingress-nginx begin with.
pub(crate) const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// The annotations of an Ingress, and what is found wrong with them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// By name, without the prefix.
    annotations: Vec<(&'a str, &'a str)>,
    pub(super) warnings: Vec<String>,
    /// Why requests are answered 503.
    pub(super) denied: Vec<Problem>,
    /// Why they are answered 404.
    pub(super) dropped: Vec<Problem>,
    /// Of the names that are answered 503 for, the first that concerns whole hosts.
    pub(super) shuts: Option<&'static str>,
}

/// `metadata.annotations[nginx.ingress.kubernetes.io/name]`
pub(super) fn place(name: &str) -> String {
    format!("metadata.annotations[{PREFIX}{name}]")
}

impl<'a> Reader<'a> {
    pub(super) fn new(annotations: &'a BTreeMap<String, String>) -> Self {
        // There are few, and dozens of names are asked for.
        let ours = annotations.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix(PREFIX)?;
            Some((name, value.trim()))
        });
        Self {
            annotations: ours.collect(),
            warnings: Vec::new(),
            denied: Vec::new(),
            dropped: Vec::new(),
            shuts: None,
        }
    }

    /// The value as it is written.
    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.annotations.iter().find(|(known, _)| *known == name)?;
        (!value.is_empty()).then_some(value)
    }

    /// The value of a name of the table, if it is one of its kind.
    pub(super) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        let value = self.raw(name)?;
        let checked = table::row(name).map_or(Ok(()), |row| row.value.check(value));
        match checked {
            Ok(()) => Some(value),
            Err(why) => {
                self.wrong(name, &format!("{value:?} {why}"));
                None
            }
        }
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.text(name).and_then(values::flag)
    }

    pub(super) fn integer(&mut self, name: &'static str) -> Option<i64> {
        self.text(name).and_then(|text| text.parse().ok())
    }

    pub(super) fn number(&mut self, name: &'static str) -> Option<u32> {
        self.text(name).and_then(|text| text.parse().ok())
    }

    /// Items of a list; none where the annotation is absent or wrong.
    pub(super) fn list(&mut self, name: &'static str) -> Option<Vec<&'a str>> {
        self.text(name).map(|text| values::list(text).collect())
    }

    /// Says what is wrong with a value; what follows is in the table.
    pub(super) fn wrong(&mut self, name: &str, why: &str) {
        let place = place(name);
        let wrong = match table::row(name).map(|row| row.state) {
            Some(State::Read { wrong, .. }) => wrong,
            Some(State::Unread { guards: true }) => Wrong::Denied,
            _ => Wrong::Ignored,
        };
        match wrong {
            Wrong::Ignored => self.ignore(name, why),
            Wrong::Denied => self.deny(name, why),
            Wrong::Dropped => self.dropped.push(Problem::new(
                "UnsupportedValue",
                format!(
                    "{place}: {why}; until then requests are answered 404, because ingress-nginx drops such an Ingress"
                ),
            )),
        }
    }

    /// Says that a value counts as absent.
    pub(super) fn ignore(&mut self, name: &str, why: &str) {
        self.warn(
            name,
            &format!("{why}; until then it counts as absent, as with ingress-nginx"),
        );
    }

    /// Closes the Ingress's paths: serving them without this annotation would let in whom it keeps out.
    pub(super) fn deny(&mut self, name: &str, why: &str) {
        let row = table::row(name).filter(|row| row.scope == Scope::Server);
        self.shuts = self.shuts.or(row.map(|row| row.name));
        self.denied.push(denial(name, why));
    }

    pub(super) fn warn(&mut self, name: &str, what: &str) {
        self.warnings.push(format!("{}: {what}", place(name)));
    }

    /// Says which names are not read, and which are not known.
    pub(super) fn report_unread(&mut self) {
        for (name, value) in self.annotations.clone() {
            let Some(row) = table::row(name) else {
                self.unknown(name);
                continue;
            };
            let State::Unread { guards } = row.state else {
                continue;
            };
            if value.is_empty()
                || values::flag(value) == Some(false)
                || matches!(value, "off" | "none")
            {
                // What turns something off that is not there needs no word.
                continue;
            }
            // A snippet of the server is looked at line by line.
            if guards && name != "server-snippet" {
                self.deny(name, &format!("is not read yet, and keeps clients or servers out ({} will do it); remove it, or do it with a Filter", row.policy));
            } else if name != "server-snippet" {
                self.warn(
                    name,
                    &format!(
                        "is not read yet and has no effect on {} ({})",
                        row.scope, row.policy
                    ),
                );
            }
        }
    }

    fn unknown(&mut self, name: &str) {
        if let Some((_, instead)) = table::REMOVED.iter().find(|(removed, _)| *removed == name) {
            self.warn(
                name,
                &format!("was removed from ingress-nginx and has no effect; {instead}"),
            );
            return;
        }
        match nearest(name) {
            Some(meant) => self.warn(
                name,
                &format!("is not known and has no effect; did you mean {meant}?"),
            ),
            None => self.warn(name, "is not known and has no effect; remove it"),
        }
    }
}

/// Why requests are answered 503.
pub(super) fn denial(name: &str, why: &str) -> Problem {
    Problem::new(
        "UnsupportedValue",
        format!(
            "{}: {why}; until then requests are answered 503",
            place(name)
        ),
    )
}
