//! Interning: what is used gets a slot in the snapshot, once.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_model::{Backend, FilterSpec};

/// What has a stable name and a slot.
pub(super) trait Slotted {
    /// The name under which equal things meet.
    fn key(&self) -> Arc<str>;
    /// Writes the slot.
    fn put(&mut self, slot: usize);
}

/// Things in order of first use.
#[derive(Debug)]
pub(super) struct Slots<T> {
    items: Vec<Arc<T>>,
    by_key: HashMap<Arc<str>, usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            by_key: HashMap::new(),
        }
    }
}

impl<T: Slotted> Slots<T> {
    /// The thing known under this name, or this one with a slot of its own.
    pub(super) fn intern(&mut self, mut item: T) -> Arc<T> {
        let key = item.key();
        if let Some(slot) = self.by_key.get(&key) {
            return self.items[*slot].clone();
        }
        let slot = self.items.len();
        item.put(slot);
        let item = Arc::new(item);
        self.items.push(item.clone());
        self.by_key.insert(key, slot);
        item
    }

    /// Whether something is known under this name.
    pub(super) fn contains(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// The thing known under this name.
    pub(super) fn get(&self, key: &str) -> Option<&Arc<T>> {
        self.by_key.get(key).map(|slot| &self.items[*slot])
    }

    /// How many there are; for [`Slots::forget_after`].
    pub(super) fn mark(&self) -> usize {
        self.items.len()
    }

    /// Forgets what was interned since the mark: the route that needed it is attached nowhere.
    pub(super) fn forget_after(&mut self, mark: usize) {
        for item in self.items.drain(mark..) {
            self.by_key.remove(&item.key());
        }
    }

    /// All of them, by slot.
    pub(super) fn into_items(self) -> Vec<Arc<T>> {
        self.items
    }
}

impl Slotted for Backend {
    fn key(&self) -> Arc<str> {
        self.key.clone()
    }

    fn put(&mut self, slot: usize) {
        self.slot = slot;
    }
}

impl Slotted for FilterSpec {
    fn key(&self) -> Arc<str> {
        self.id.to_string().into()
    }

    fn put(&mut self, slot: usize) {
        self.slot = slot;
    }
}
