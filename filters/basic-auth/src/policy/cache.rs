//! Remembers successful verifications for a while, so that a slow hash is not paid for on each request of a page.
//!
//! Failures are not remembered: an attacker would fill the cache with them. Neither names nor passwords are kept, only a keyed
//! digest of both.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use sha2::{Digest, Sha256};

/// Entries at the most; the oldest goes first.
const CAPACITY: usize = 1024;

/// How long a verification holds, in nanoseconds.
const TTL: u64 = 60 * 1_000_000_000;

/// Digest of a user's name and password under the cache's secret.
pub(super) type Key = [u8; 32];

/// A bounded set of digests with the time at which each was verified.
pub(super) struct Cache {
    secret: [u8; 32],
    verified: HashMap<Key, u64>,
    order: VecDeque<Key>,
}

impl Cache {
    /// An empty cache; `secret` is random and never leaves the VM.
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            verified: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The digest of a name and a password.
    pub(super) fn key(&self, user: &str, password: &[u8]) -> Key {
        // The length keeps apart what the concatenation would not.
        Sha256::new()
            .chain_update(self.secret)
            .chain_update((user.len() as u64).to_le_bytes())
            .chain_update(user)
            .chain_update(password)
            .finalize()
            .into()
    }

    /// Whether the pair was verified within the last minute. A clock that went backwards proves nothing.
    pub(super) fn contains(&self, key: &Key, now: u64) -> bool {
        self.verified
            .get(key)
            .and_then(|verified| now.checked_sub(*verified))
            .is_some_and(|age| age < TTL)
    }

    /// Remembers a verified pair.
    pub(super) fn insert(&mut self, key: Key, now: u64) {
        if self.verified.insert(key, now).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.verified.remove(&oldest);
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("entries", &self.order.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verification_holds_for_a_minute() {
        let mut cache = Cache::new([7; 32]);
        let key = cache.key("ann", b"secret");
        assert!(!cache.contains(&key, 1000));
        cache.insert(key, 1000);
        assert!(cache.contains(&key, 1000));
        assert!(cache.contains(&key, 1000 + TTL - 1));
        assert!(!cache.contains(&key, 1000 + TTL));
        cache.insert(key, 1000 + TTL);
        assert!(cache.contains(&key, 1000 + TTL));
    }

    #[test]
    fn nothing_holds_when_the_clock_goes_backwards() {
        let mut cache = Cache::new([7; 32]);
        let key = cache.key("ann", b"secret");
        cache.insert(key, u64::MAX);
        assert!(!cache.contains(&key, 0));
        cache.insert(key, 0);
        assert!(cache.contains(&key, 1));
    }

    #[test]
    fn keys_depend_on_the_secret_and_on_where_the_name_ends() {
        let cache = Cache::new([7; 32]);
        assert_ne!(cache.key("ab", b"c"), cache.key("a", b"bc"));
        assert_ne!(cache.key("ann", b"x"), Cache::new([8; 32]).key("ann", b"x"));
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut cache = Cache::new([7; 32]);
        let key = |cache: &Cache, index: usize| cache.key("ann", &index.to_le_bytes());
        for index in 0..CAPACITY + 10 {
            cache.insert(key(&cache, index), 0);
        }
        assert_eq!(cache.verified.len(), CAPACITY);
        assert_eq!(cache.order.len(), CAPACITY);
        assert!(!cache.contains(&key(&cache, 9), 0));
        assert!(cache.contains(&key(&cache, 10), 0));
    }
}
