//! Why something is not as asked: a reason of the specification and a message for people.

use crate::status::Condition;

/// Why a condition does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The specification's reason.
    pub(super) reason: &'static str,
    /// What is wrong and what to do.
    pub(super) message: String,
}

impl Problem {
    /// A problem.
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// The same, said of a place in the object: `spec.rules[0]: …`.
    pub(super) fn at(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The same, where the message begins with a field of that place: `spec.rules[0].matches[1]…`.
    pub(super) fn under(mut self, place: &str) -> Self {
        self.message = format!("{place}.{}", self.message);
        self
    }

    /// All of them as one: the first reason, every message.
    pub(super) fn joined(problems: &[Self]) -> Option<Self> {
        /// A condition's message holds 32768 characters; whoever reads it wants fewer.
        const MOST: usize = 8;
        let first = problems.first()?;
        let mut messages: Vec<&str> = Vec::new();
        for problem in problems {
            if !messages.contains(&problem.message.as_str()) {
                messages.push(&problem.message);
            }
        }
        let more = messages.len().saturating_sub(MOST);
        messages.truncate(MOST);
        let mut message = messages.join("; ");
        if more > 0 {
            message.push_str(&format!("; and {more} more"));
        }
        Some(Self::new(first.reason, message))
    }

    /// The condition that it makes.
    pub(super) fn condition(&self, r#type: &'static str, generation: i64) -> Condition {
        Condition::no(r#type, self.reason, &self.message, generation)
    }
}
