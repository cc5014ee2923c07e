//! Files and folders as the source of truth, when there is no cluster.
//!
//! ```text
//!   paths ─▶ scan ─▶ changed files only: parse ─▶ for each object: default namespace, admit, decode ─▶ Resources
//!             ▲                            (a file that fails keeps what it held)
//!          watch: something changed (or a few seconds went by)
//! ```
//!
//! A folder is read recursively: `*.yaml`, `*.yml` and `*.json`, several documents each, lists expanded; names
//! that start with a dot are skipped, and links are followed, because a mounted ConfigMap is a folder of
//! links that are swapped all at once.

mod file;
mod json;
mod object;
mod scan;
mod watch;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use watch::Watch;

use crate::api::Source;
use crate::resources::{IgnoredKind, ObjectId, Problem, Resources};
use file::{File, Refreshed};
use object::Entry;

/// Manifests, and what they held when they were last readable.
#[derive(Debug)]
pub struct Manifests {
    paths: Vec<PathBuf>,
    files: BTreeMap<Arc<Path>, File>,
    /// Of the last look at the folders.
    scan_problems: Vec<Problem>,
    /// Kinds that were told of already.
    reported: BTreeSet<(String, String)>,
    last: Option<Arc<Resources>>,
}

/// The outcome of a reading.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// All objects; what is wrong is in `errors`, `rejected`, `warnings` and `ignored`.
    pub resources: Arc<Resources>,
    /// Whether they differ from those of the reading before.
    pub changed: bool,
}

impl Manifests {
    /// Files and folders to read; nothing is read yet.
    pub fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self {
            paths: paths.into_iter().map(Into::into).collect(),
            files: BTreeMap::new(),
            scan_problems: Vec::new(),
            reported: BTreeSet::new(),
            last: None,
        }
    }

    /// The files and folders.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Reads what changed since the last time. It blocks on the disk: call it off the data threads.
    pub fn reload(&mut self) -> Loaded {
        let found = scan::scan(&self.paths);
        let mut changed = self.scan_problems != found.problems;
        let before = self.files.len();
        // What a folder held that cannot be read now is kept, as a file's content is.
        self.files.retain(|path, _| {
            found.files.contains(path) || found.unreadable.iter().any(|gone| path.starts_with(gone))
        });
        changed |= self.files.len() != before;
        for path in found.files {
            let file = self.files.entry(Arc::clone(&path)).or_default();
            match file.refresh(&path) {
                Refreshed::Same => {}
                Refreshed::Changed => changed = true,
                Refreshed::Gone => {
                    self.files.remove(&path);
                    changed = true;
                }
            }
        }
        self.scan_problems = found.problems;
        match &self.last {
            Some(last) if !changed => Loaded {
                resources: Arc::clone(last),
                changed: false,
            },
            _ => self.collect(),
        }
    }

    fn collect(&mut self) -> Loaded {
        let mut resources = Resources {
            errors: self.scan_problems.clone(),
            ..Resources::default()
        };
        self.fill(&mut resources);
        resources.errors.sort();
        self.report_ignored(&resources);
        if let Some(last) = self.last.as_ref().filter(|last| ***last == resources) {
            return Loaded {
                resources: Arc::clone(last),
                changed: false,
            };
        }
        let resources = Arc::new(resources);
        self.last = Some(Arc::clone(&resources));
        Loaded {
            resources,
            changed: true,
        }
    }

    /// Puts together what all files hold, in the order of their paths.
    fn fill(&self, resources: &mut Resources) {
        let mut ignored = BTreeMap::<_, IgnoredKind>::new();
        let mut places = BTreeMap::<ObjectId, Source>::new();
        resources
            .errors
            .extend(self.files.values().filter_map(File::problem).cloned());
        for entry in self.files.values().flat_map(File::entries) {
            match entry {
                Entry::Admitted { object, warnings } => {
                    let id = object.id();
                    if let Some(first) = places.get(&id) {
                        resources.errors.push(Problem {
                            source: object.source().clone(),
                            message: format!("{object} is already defined at {first}, which stays; remove one of them"),
                        });
                        continue;
                    }
                    places.insert(id.clone(), object.source().clone());
                    if !warnings.is_empty() {
                        resources.warnings.insert(id, warnings.clone());
                    }
                    resources.apply(object.clone());
                }
                Entry::Rejected(rejected) => resources.rejected.push(rejected.clone()),
                Entry::Ignored {
                    api_version,
                    kind,
                    source,
                } => {
                    ignored
                        .entry((api_version, kind))
                        .or_insert_with(|| IgnoredKind {
                            api_version: api_version.clone(),
                            kind: kind.clone(),
                            first: source.clone(),
                            count: 0,
                        })
                        .count += 1;
                }
            }
        }
        resources.ignored = ignored.into_values().collect();
    }

    fn report_ignored(&mut self, resources: &Resources) {
        for ignored in &resources.ignored {
            let name = (ignored.api_version.clone(), ignored.kind.clone());
            if self.reported.insert(name) {
                tracing::info!(
                    api_version = ignored.api_version,
                    kind = ignored.kind,
                    first = %ignored.first,
                    "this kind is not read; objects of it are ignored"
                );
            }
        }
    }
}
