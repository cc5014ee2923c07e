//! Notices that manifests may have changed.
//!
//! The kernel's notices are a hint only: they can be lost, do not follow links to other file systems, and
//! say nothing of a folder that is yet to come. So every few seconds counts as a change too; a reading that
//! finds nothing new costs next to nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// A burst of writes is one change: how long it must be quiet.
const HOLD_OFF: Duration = Duration::from_millis(30);
/// How long a change may wait for quiet.
const MAX_HOLD_OFF: Duration = Duration::from_millis(500);
/// How often to look without having been told.
const RESCAN: Duration = Duration::from_secs(5);

/// Tells when to read again.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    /// `None` where the kernel has no watches left: then only time tells.
    watcher: Option<RecommendedWatcher>,
    /// What is watched, with its identity when the watch was set: a folder that is replaced needs a new one.
    armed: BTreeMap<PathBuf, Identity>,
    dirty: Arc<Notify>,
    /// When to look without having been told. Kept here, and so is the burst: whoever waits gives up and comes back all
    /// the time, because other things happen meanwhile.
    rescan: Instant,
    /// Changes that were told and are not over yet.
    burst: Option<Burst>,
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    /// When it is over, unless there is more.
    quiet: Instant,
    /// When it counts as over in any case.
    latest: Instant,
}

#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = ();

impl Watch {
    /// Starts to watch files and folders. What changes from here on is noticed, so read once after this and
    /// then whenever [`changed`](Self::changed) says so.
    pub fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let dirty = Arc::new(Notify::new());
        let bell = Arc::clone(&dirty);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| !is_reading(event.kind)) {
                bell.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(%error, "files cannot be watched; they are looked at every few seconds instead");
            })
            .ok();
        let mut watch = Self {
            paths: paths.into_iter().map(Into::into).collect(),
            watcher,
            armed: BTreeMap::new(),
            dirty,
            rescan: Instant::now() + RESCAN,
            burst: None,
        };
        watch.arm();
        watch
    }

    /// Waits until something may have changed and a burst of changes is over. Cancel safe: a change that was
    /// noticed meanwhile is not lost, and giving up however often puts nothing off.
    pub async fn changed(&mut self) {
        if self.burst.is_none() && timeout_at(self.rescan, self.dirty.notified()).await.is_ok() {
            let now = Instant::now();
            self.burst = Some(Burst {
                quiet: now + HOLD_OFF,
                latest: now + MAX_HOLD_OFF,
            });
        }
        while let Some(burst) = self.burst {
            let over = burst.quiet.min(burst.latest);
            // The time is asked first: what is written without a pause rings without end.
            let more = Instant::now() < burst.latest
                && timeout_at(over, self.dirty.notified()).await.is_ok();
            self.burst = more.then(|| Burst {
                quiet: Instant::now() + HOLD_OFF,
                ..burst
            });
        }
        self.rescan = Instant::now() + RESCAN;
        self.arm();
    }

    /// Sets watches on what is there and not watched yet.
    fn arm(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for (path, mode) in self.paths.iter().filter_map(|path| target(path)) {
            let Some(identity) = fs::metadata(&path).ok().map(|metadata| identity(&metadata))
            else {
                continue;
            };
            if self.armed.get(&path) == Some(&identity) {
                continue;
            }
            if self.armed.remove(&path).is_some() {
                // The watch of a folder that is gone is gone with it; an error says no more than that.
                let _ = watcher.unwatch(&path);
            }
            match watcher.watch(&path, mode) {
                Ok(()) => {
                    self.armed.insert(path, identity);
                }
                Err(error) => tracing::debug!(path = %path.display(), %error, "cannot be watched"),
            }
        }
    }
}

/// A folder is watched as a whole; a file through its folder, because editors and mounts replace files.
fn target(path: &Path) -> Option<(PathBuf, RecursiveMode)> {
    if path.is_dir() {
        return Some((path.to_owned(), RecursiveMode::Recursive));
    }
    let parent = path.parent()?;
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    Some((parent.to_owned(), RecursiveMode::NonRecursive))
}

/// Our own reading must not look like a change.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_metadata: &fs::Metadata) -> Identity {}

#[cfg(test)]
mod tests;
