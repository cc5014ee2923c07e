//! Linear memory put back to the state that a snapshot holds, without a look at what a guest did to it.
//!
//! Each page is restored in one of two ways, and every page in exactly one of them:
//!
//! - *Hot* pages, which requests usually touch, are copied from the snapshot. They stay mapped, so the next request meets no
//!   page fault.
//! - All others are given back to the kernel with `MADV_DONTNEED`, after which a private mapping shows its file again, or
//!   zeros (madvise(2)): whether the guest touched them, whether they were swapped out, moved or merged, need not be known.
//!
//! That is why wasmtime's pooling allocator with `pagemap_scan` is not used: it asks the kernel which pages are dirty, and a
//! page that is swapped out or under migration at that moment is not reported. Which pages are hot is only a guess for speed.

use crate::module::rewrite::PAGE;

/// Most hot pages: copying more would cost as much as the faults it saves.
const MAX_HOT: usize = 64;
/// Untouched pages between two hot ones that are copied along, to save a system call.
const JOIN: usize = 2;

/// How to restore the memory of one snapshot.
pub(crate) struct Restore {
    /// Size that the memory must have.
    len: usize,
    /// Offset and content of hot runs.
    copied: Vec<(usize, Box<[u8]>)>,
    /// Start and end of all the rest.
    dropped: Vec<(usize, usize)>,
}

// === impl Restore ===

impl Restore {
    /// From the snapshot's memory, and the numbers of hot pages in ascending order.
    pub(crate) fn new(snapshot: &[u8], hot: &[usize]) -> Self {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for page in hot.iter().copied().take(MAX_HOT) {
            let (start, end) = (page * PAGE, ((page + 1) * PAGE).min(snapshot.len()));
            match runs.last_mut() {
                Some((_, last)) if start <= *last + JOIN * PAGE => *last = end,
                _ => runs.push((start, end)),
            }
        }
        let mut dropped = Vec::new();
        let mut at = 0;
        for (start, end) in &runs {
            if *start > at {
                dropped.push((at, *start));
            }
            at = *end;
        }
        if at < snapshot.len() {
            dropped.push((at, snapshot.len()));
        }
        let copied = runs
            .into_iter()
            .map(|(start, end)| (start, snapshot[start..end].into()))
            .collect();
        Self {
            len: snapshot.len(),
            copied,
            dropped,
        }
    }

    /// Restores it. False if it cannot be: then the memory must not be used again.
    #[must_use]
    pub(crate) fn apply(&self, memory: &mut [u8]) -> bool {
        if memory.len() != self.len {
            return false;
        }
        // First, since a kernel with larger pages drops up to the end of its own page.
        let dropped = self
            .dropped
            .iter()
            .all(|(start, end)| drop_pages(&mut memory[*start..*end]));
        for (start, bytes) in &self.copied {
            memory[*start..start + bytes.len()].copy_from_slice(bytes);
        }
        dropped
    }

    /// Start and end of all runs, in order.
    #[cfg(test)]
    fn runs(&self) -> Vec<(usize, usize)> {
        let copied = self
            .copied
            .iter()
            .map(|(start, bytes)| (*start, start + bytes.len()));
        let mut all: Vec<_> = copied.chain(self.dropped.iter().copied()).collect();
        all.sort_unstable();
        all
    }
}

/// Gives whole pages back, so that the mapping shows what lies under it.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn drop_pages(memory: &mut [u8]) -> bool {
    #[allow(unsafe_code, reason = "std has no access to madvise")]
    // SAFETY: the declaration matches madvise(2) of 64-bit Linux.
    unsafe extern "C" {
        fn madvise(address: *mut std::ffi::c_void, length: usize, advice: i32) -> i32;
    }
    const MADV_DONTNEED: i32 = 4;

    #[allow(unsafe_code, reason = "std has no access to madvise")]
    // SAFETY: the range is exclusively borrowed memory, and every content is valid for bytes. The kernel refuses ranges that
    // do not start at a page, so nothing outside of it changes. That the range is a private mapping, and so restored, is tried
    // out for each snapshot before it is relied on.
    let result = unsafe { madvise(memory.as_mut_ptr().cast(), memory.len(), MADV_DONTNEED) };
    result == 0
}

/// Elsewhere no instance is used twice.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn drop_pages(_: &mut [u8]) -> bool {
    false
}

/// Numbers of the pages that are the guest's own by now, as far as the kernel tells: a guess, used for speed only.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) fn touched(memory: &[u8]) -> Vec<usize> {
    use std::os::unix::fs::FileExt;
    /// "Present" and "swapped", without "file-mapped or shared": Documentation/admin-guide/mm/pagemap.rst.
    const RESIDENT: u64 = 0b11 << 62;
    const OF_FILE: u64 = 1 << 61;
    let Ok(pagemap) = std::fs::File::open("/proc/self/pagemap") else {
        return Vec::new();
    };
    let mut entries = vec![0; memory.len() / PAGE * 8];
    let at = (memory.as_ptr().addr() / PAGE * 8) as u64;
    if pagemap.read_exact_at(&mut entries, at).is_err() {
        return Vec::new();
    }
    let (entries, _) = entries.as_chunks::<8>();
    entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| {
            let entry = u64::from_ne_bytes(**entry);
            entry & RESIDENT != 0 && entry & OF_FILE == 0
        })
        .map(|(index, _)| index)
        .collect()
}

/// Elsewhere nothing is known.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub(crate) fn touched(_: &[u8]) -> Vec<usize> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_page_is_restored_once(pages in 1_usize..300, hot in proptest::collection::btree_set(0_usize..300, 0..100)) {
            let hot: Vec<usize> = hot.into_iter().filter(|page| *page < pages).collect();
            let snapshot = vec![0; pages * PAGE];
            let restore = Restore::new(&snapshot, &hot);
            let mut at = 0;
            for (start, end) in restore.runs() {
                prop_assert_eq!(start, at);
                prop_assert!(end > start && start % PAGE == 0);
                at = end;
            }
            prop_assert_eq!(at, snapshot.len());
        }
    }

    #[test]
    fn another_size_is_refused() {
        let snapshot = vec![0; 16 * PAGE];
        let restore = Restore::new(&snapshot, &[]);
        assert!(!restore.apply(&mut vec![0; 17 * PAGE]));
        assert!(!restore.apply(&mut vec![0; 15 * PAGE]));
    }
}
