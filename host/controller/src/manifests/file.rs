//! One file: read again when it may have changed, and what it held when it was last readable.

use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::object::Entry;
use super::{json, yaml};
use crate::api::Source;
use crate::resources::Problem;

/// More than any set of manifests; a file beyond it was not meant.
const MAX_SIZE: u64 = 64 << 20;

/// Two writes within one tick of a file system's clock have equal times, and ticks may be two seconds. A file
/// younger than this when it was read is read again.
const CLOCK_TICK: Duration = Duration::from_secs(3);

/// A file that was seen.
#[derive(Debug, Default)]
pub(super) struct File {
    stamp: Option<Stamp>,
    digest: Option<[u8; 32]>,
    entries: Vec<Entry>,
    problem: Option<Problem>,
}

/// What became of a file since it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refreshed {
    Same,
    Changed,
    Gone,
}

/// What a file system tells of a file without reading it.
#[derive(Clone, Debug, PartialEq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    identity: Identity,
}

#[cfg(unix)]
type Identity = (u64, u64, i64, i64);
#[cfg(not(unix))]
type Identity = ();

/// A document, or an item of a list, with its first line.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) value: serde_json::Value,
    pub(super) line: u32,
}

/// Why a file cannot be parsed.
#[derive(Debug, PartialEq)]
pub(super) struct ParseError {
    pub(super) line: u32,
    pub(super) message: String,
}

// === impl File ===

impl File {
    /// Reads the file if it may have changed.
    pub(super) fn refresh(&mut self, path: &Arc<Path>) -> Refreshed {
        let now = SystemTime::now();
        match self.read(path) {
            Ok(None) => Refreshed::Same,
            Ok(Some((stamp, bytes))) => {
                self.stamp = Some(stamp).filter(|stamp| stamp.settled(now));
                let digest: [u8; 32] = Sha256::digest(&bytes).into();
                if self.digest == Some(digest) {
                    return Refreshed::Same;
                }
                self.digest = Some(digest);
                self.parse(path, &bytes);
                Refreshed::Changed
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Refreshed::Gone,
            Err(error) => {
                self.stamp = None;
                // The same content must be parsed again once it is back: the problem is forgotten then.
                self.digest = None;
                let problem = Some(self.failure(path, 0, format!("cannot be read: {error}")));
                let same = self.problem == problem;
                self.problem = problem;
                if same {
                    Refreshed::Same
                } else {
                    Refreshed::Changed
                }
            }
        }
    }

    /// What the file holds, or held.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Why it cannot be read now.
    pub(super) fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }

    /// `None` when it cannot have changed.
    fn read(&self, path: &Path) -> io::Result<Option<(Stamp, Vec<u8>)>> {
        if self.stamp.as_ref() == Some(&Stamp::of(&fs::metadata(path)?)) {
            return Ok(None);
        }
        let file = fs::File::open(path)?;
        // Of the open file, so that stamp and content belong together when the path is swapped meanwhile.
        let stamp = Stamp::of(&file.metadata()?);
        let mut bytes = Vec::new();
        file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_SIZE {
            return Err(io::Error::other("it is larger than 64 MiB"));
        }
        Ok(Some((stamp, bytes)))
    }

    fn parse(&mut self, path: &Arc<Path>, bytes: &[u8]) {
        let json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        let documents = if json {
            json::parse(bytes)
        } else {
            yaml::parse(bytes)
        };
        match documents {
            Ok(documents) => {
                let entries = Entry::of_documents(documents, path, &self.entries);
                self.entries = entries;
                self.problem = None;
            }
            Err(error) => self.problem = Some(self.failure(path, error.line, error.message)),
        }
    }

    fn failure(&self, path: &Arc<Path>, line: u32, mut message: String) -> Problem {
        if !self.entries.is_empty() {
            message.push_str("; what it held before is kept");
        }
        Problem {
            source: Source::file(Arc::clone(path), line),
            message,
        }
    }
}

// === impl Stamp ===

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            modified: metadata.modified().ok(),
            size: metadata.len(),
            identity: identity(metadata),
        }
    }

    /// Whether a later write is sure to give another stamp.
    fn settled(&self, now: SystemTime) -> bool {
        self.modified
            .and_then(|modified| now.duration_since(modified).ok())
            .is_some_and(|age| age > CLOCK_TICK)
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (
        metadata.dev(),
        metadata.ino(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> Identity {}
