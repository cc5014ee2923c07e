//! Shared data: keys, values and compare-and-swap, in shards so that workers seldom meet at a lock.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

use bytes::Bytes;

use super::locked;
use crate::status::Status;

const SHARDS: usize = 16;
/// What an entry costs beside its key and value, roughly.
const OVERHEAD: usize = 96;

#[derive(Default)]
pub(super) struct Data {
    hasher: RandomState,
    shards: [Mutex<HashMap<Box<[u8]>, Entry>>; SHARDS],
}

struct Entry {
    value: Bytes,
    cas: u32,
}

impl Data {
    pub(super) fn get(&self, key: &[u8]) -> Option<(Bytes, u32)> {
        locked(self.shard(key))
            .get(key)
            .map(|entry| (entry.value.clone(), entry.cas))
    }

    /// As in proxy-wasm-cpp-host: a new key takes any `cas`, an old one its own or 0. `resize` accounts for the bytes.
    pub(super) fn set(
        &self,
        key: &[u8],
        value: &[u8],
        cas: u32,
        resize: impl FnOnce(usize, usize) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let mut shard = locked(self.shard(key));
        match shard.get_mut(key) {
            Some(entry) if cas != 0 && cas != entry.cas => Err(Status::CasMismatch),
            Some(entry) => {
                resize(entry.value.len(), value.len())?;
                entry.value = Bytes::copy_from_slice(value);
                entry.cas = entry.cas.checked_add(1).unwrap_or(1);
                Ok(())
            }
            None => {
                resize(0, key.len() + value.len() + OVERHEAD)?;
                shard.insert(
                    key.into(),
                    Entry {
                        value: Bytes::copy_from_slice(value),
                        cas: 1,
                    },
                );
                Ok(())
            }
        }
    }

    /// Takes an entry over as it is elsewhere, unless there is one here.
    pub(super) fn adopt(
        &self,
        key: &[u8],
        value: Bytes,
        cas: u32,
        resize: impl FnOnce(usize, usize) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let mut shard = locked(self.shard(key));
        if !shard.contains_key(key) {
            resize(0, key.len() + value.len() + OVERHEAD)?;
            shard.insert(key.into(), Entry { value, cas });
        }
        Ok(())
    }

    fn shard(&self, key: &[u8]) -> &Mutex<HashMap<Box<[u8]>, Entry>> {
        let hash = self.hasher.hash_one(key);
        // The remainder is below SHARDS, so the cast loses nothing.
        &self.shards[(hash % SHARDS as u64) as usize]
    }
}
