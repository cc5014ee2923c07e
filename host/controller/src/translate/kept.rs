//! What was computed of objects and is kept from translation to translation.
//!
//! A translation is a function of the objects, and stays one: what is kept here follows from one object alone, and is given
//! out for that very object, the same in memory, which nobody can change. It goes with the object.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Results by object.
#[derive(Debug)]
pub(super) struct Kept<K, V> {
    results: Mutex<Option<ByAddress<K, V>>>,
}

/// As long as the [`Weak`] is here, no other object can have the address.
type ByAddress<K, V> = HashMap<usize, (Weak<K>, V)>;

impl<K, V: Clone> Kept<K, V> {
    /// Nothing is kept yet.
    pub(super) const fn new() -> Self {
        Self {
            results: Mutex::new(None),
        }
    }

    /// What was computed of the object before, or is now.
    pub(super) fn get(&self, object: &Arc<K>, compute: impl FnOnce(&K) -> V) -> V {
        let address = Arc::as_ptr(object).addr();
        let known = self.lock().as_ref().and_then(|results| {
            let (owner, result) = results.get(&address)?;
            // Its address alone would do; this says so.
            (owner.as_ptr() == Arc::as_ptr(object)).then(|| result.clone())
        });
        if let Some(known) = known {
            return known;
        }
        let result = compute(object);
        let kept = (Arc::downgrade(object), result.clone());
        self.lock().get_or_insert_default().insert(address, kept);
        result
    }

    /// Forgets what was computed of objects that are gone.
    pub(super) fn sweep(&self) {
        if let Some(results) = self.lock().as_mut() {
            results.retain(|_, (owner, _)| owner.strong_count() > 0);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<ByAddress<K, V>>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_is_computed_once_and_forgotten_when_it_is_gone() {
        let kept = Kept::new();
        let (first, equal) = (Arc::new(7), Arc::new(7));
        let mut count = 0;
        for object in [&first, &equal, &first] {
            let result = kept.get(object, |seven| {
                count += 1;
                seven * 2
            });
            assert_eq!(result, 14);
        }
        assert_eq!(count, 2, "one for each object, not for each value");
        drop(first);
        kept.sweep();
        assert_eq!(kept.lock().as_ref().map(HashMap::len), Some(1));
        assert_eq!(kept.get(&equal, |_| 0), 14);
    }
}
