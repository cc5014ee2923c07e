//! Counters in the host's shared data, which all workers of a host see and nobody can delete from.
//!
//! A value for each key would grow without end: shared data knows neither deletion nor expiry. So each limit has a fixed number of
//! buckets; a key belongs to one of them by its digest, and a bucket holds a few counters. A counter whose time has passed says
//! nothing and makes room; in a bucket full of others the one nearest to that makes room.

use std::fmt;

use sha2::{Digest, Sha256};

use super::gcra::{Outcome, Quota};

/// Counters in a bucket.
const WAYS: usize = 8;

/// Bytes of a counter: the key's tag and the state.
const ENTRY: usize = 16;

/// How often a lost race is tried again. Each loss means that another worker got on.
const ATTEMPTS: usize = 16;

/// Compare-and-swap number for a bucket that was not there.
pub(super) const ABSENT: u32 = u32::MAX;

/// The host's shared data.
pub trait Store {
    /// The value of a key with its compare-and-swap number.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`].
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, u32)>, StoreError>;

    /// Stores a value if its number is still `cas`; `u32::MAX` for a key that was not there.
    ///
    /// # Errors
    ///
    /// Both.
    fn set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), StoreError>;
}

/// Why a counter could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Another worker was faster.
    Conflict,
    /// The host refuses: full, or not granted to this filter.
    Failed,
}

/// The counters of one limit.
pub(super) struct Table {
    /// What tells the keys of this limit from those of others.
    prefix: String,
    buckets: u64,
}

/// Where a request's counter is.
pub(super) struct Counter {
    bucket: String,
    tag: u64,
}

// === impl Table ===

impl Table {
    /// Counters for about `keys` keys at a time. Limits of equal `identity` share their counters, in all VMs that share data.
    pub(super) fn new(identity: &str, keys: u32) -> Self {
        let digest: [u8; 32] = Sha256::digest(identity).into();
        let (id, _) = halves(&digest);
        Self {
            prefix: format!("tidegate.rate-limit/{id:016x}/"),
            buckets: u64::from(keys).div_ceil(WAYS as u64).max(1),
        }
    }

    pub(super) fn counter(&self, digest: &[u8; 32]) -> Counter {
        let (index, tag) = halves(digest);
        Counter {
            bucket: format!("{}{:x}", self.prefix, index % self.buckets),
            tag,
        }
    }

    /// What would become of a request.
    pub(super) fn peek(
        &self,
        counter: &Counter,
        quota: &Quota,
        store: &dyn Store,
        now: u64,
    ) -> Result<Outcome, StoreError> {
        let read = Read::new(counter, store)?;
        let outcome = quota.take(read.bucket.find(counter.tag), now);
        read.correct(&outcome, counter, store, now);
        Ok(outcome)
    }

    /// Counts a request, unless it is refused.
    pub(super) fn take(
        &self,
        counter: &Counter,
        quota: &Quota,
        store: &dyn Store,
        now: u64,
    ) -> Result<Outcome, StoreError> {
        for _ in 0..ATTEMPTS {
            let read = Read::new(counter, store)?;
            let outcome = quota.take(read.bucket.find(counter.tag), now);
            let Outcome::Allowed { tat, .. } = outcome else {
                read.correct(&outcome, counter, store, now);
                return Ok(outcome);
            };
            match read.put(tat, counter, store, now) {
                Ok(()) => return Ok(outcome),
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict)
    }
}

/// A bucket as it was read.
struct Read {
    bucket: Bucket,
    cas: u32,
}

impl Read {
    fn new(counter: &Counter, store: &dyn Store) -> Result<Self, StoreError> {
        let (value, cas) = store
            .get(&counter.bucket)?
            .unwrap_or_else(|| (Vec::new(), ABSENT));
        let bucket = Bucket::read(&value);
        Ok(Self { bucket, cas })
    }

    fn put(
        mut self,
        tat: u64,
        counter: &Counter,
        store: &dyn Store,
        now: u64,
    ) -> Result<(), StoreError> {
        self.bucket.put(counter.tag, tat, now);
        store.set(&counter.bucket, &self.bucket.write(), self.cas)
    }

    fn correct(self, outcome: &Outcome, counter: &Counter, store: &dyn Store, now: u64) {
        if let Outcome::Refused {
            corrected: Some(tat),
            ..
        } = outcome
        {
            // The verdict stands whether or not this is stored; the next request tries again.
            let _ = self.put(*tat, counter, store, now);
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefix)
    }
}

fn halves(digest: &[u8; 32]) -> (u64, u64) {
    let part = |start: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[start..start + 8]);
        u64::from_le_bytes(bytes)
    };
    (part(0), part(8))
}

/// The counters that share one value: tag and state of each.
struct Bucket(Vec<(u64, u64)>);

impl Bucket {
    /// What is no bucket is an empty one: the next write repairs it.
    fn read(value: &[u8]) -> Self {
        let (entries, rest) = value.as_chunks::<ENTRY>();
        if !rest.is_empty() || entries.len() > WAYS {
            return Self(Vec::new());
        }
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .rfold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        Self(
            entries
                .iter()
                .map(|entry| (number(&entry[..8]), number(&entry[8..])))
                .collect(),
        )
    }

    fn write(&self) -> Vec<u8> {
        self.0
            .iter()
            .flat_map(|(tag, tat)| [tag.to_le_bytes(), tat.to_le_bytes()])
            .flatten()
            .collect()
    }

    fn find(&self, tag: u64) -> Option<u64> {
        self.0
            .iter()
            .find(|entry| entry.0 == tag)
            .map(|entry| entry.1)
    }

    fn put(&mut self, tag: u64, tat: u64, now: u64) {
        self.0.retain(|entry| entry.0 != tag && entry.1 > now);
        if self.0.len() >= WAYS
            && let Some(nearest) = (0..self.0.len()).min_by_key(|index| self.0[*index].1)
        {
            self.0.swap_remove(nearest);
        }
        self.0.push((tag, tat));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_reads_what_it_wrote() {
        let bucket = Bucket(vec![(1, u64::MAX), (u64::MAX - 1, 2)]);
        assert_eq!(Bucket::read(&bucket.write()).0, bucket.0);
        assert_eq!(bucket.write().len(), 2 * ENTRY);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_stored_stays_within_a_bucket(value in proptest::collection::vec(proptest::num::u8::ANY, 0..200), tag: u64, tat: u64, now: u64) {
            let mut bucket = Bucket::read(&value);
            bucket.put(tag, tat, now);
            assert_eq!(bucket.find(tag), Some(tat));
            assert!(bucket.write().len() <= WAYS * ENTRY);
        }
    }

    #[test]
    fn what_is_no_bucket_is_an_empty_one() {
        for value in [&b"x"[..], &[0; ENTRY + 1], &[0; ENTRY * (WAYS + 1)]] {
            assert!(Bucket::read(value).0.is_empty());
        }
    }

    #[test]
    fn passed_counters_make_room_and_then_the_nearest_to_it() {
        let mut bucket = Bucket(Vec::new());
        for tag in 0..WAYS as u64 {
            bucket.put(tag, 100 + tag, 50);
        }
        bucket.put(90, 300, 50);
        assert_eq!(bucket.0.len(), WAYS);
        assert_eq!(bucket.find(0), None);
        assert_eq!(bucket.find(1), Some(101));
        bucket.put(91, 400, 106);
        assert_eq!(bucket.0, [(7, 107), (90, 300), (91, 400)].to_vec());
        bucket.put(90, 500, 106);
        assert_eq!(bucket.find(90), Some(500));
        assert_eq!(bucket.0.len(), 3);
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let table = Table::new("x", 20);
        let buckets: std::collections::HashSet<_> = (0..1000_u32)
            .map(|key| {
                table
                    .counter(&Sha256::digest(key.to_le_bytes()).into())
                    .bucket
            })
            .collect();
        assert_eq!(buckets.len(), 3);
        assert_eq!(Table::new("x", 0).buckets, 1);
    }
}
