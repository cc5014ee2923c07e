//! Answers that are remembered, as nginx's `proxy_cache` does it for `auth_request`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::Decision;

/// By what an answer is found again.
pub type Key = Vec<u8>;

/// Decisions with the times at which they end.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// How long by status; 0 for any other.
    spans: BTreeMap<u16, Duration>,
    entries: BTreeMap<Key, (Duration, Rc<Decision>)>,
}

/// Entries for each VM.
const MAX_ENTRIES: usize = 4096;

/// Longest key in bytes: a client can make cookies as long as it likes.
const MAX_KEY: usize = 8192;

impl Cache {
    pub(super) fn new(spans: BTreeMap<u16, Duration>) -> Self {
        Self {
            spans,
            entries: BTreeMap::new(),
        }
    }

    pub(super) fn get(&self, key: &Key, now: Duration) -> Option<Rc<Decision>> {
        let (end, decision) = self.entries.get(key)?;
        // A clock that went back far is no reason to remember for ever.
        let begun = self
            .spans
            .values()
            .max()
            .is_some_and(|longest| *end <= now + *longest);
        (now < *end && begun).then(|| Rc::clone(decision))
    }

    pub(super) fn insert(&mut self, key: Key, decision: &Rc<Decision>, now: Duration) {
        let span = match decision.status() {
            0 => None,
            status => self.spans.get(&status).or_else(|| self.spans.get(&0)),
        };
        // What sets a cookie is meant for one client.
        let Some(span) = span.filter(|_| !decision.sets_cookies() && key.len() <= MAX_KEY) else {
            return;
        };
        if self.entries.len() >= MAX_ENTRIES {
            self.entries.retain(|_, (end, _)| now < *end);
        }
        if self.entries.len() >= MAX_ENTRIES {
            self.entries.clear();
        }
        self.entries.insert(key, (now + *span, Rc::clone(decision)));
    }
}
