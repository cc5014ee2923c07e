//! Which files there are.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::api::Source;
use crate::resources::Problem;

/// Deep enough for any tree that people write; a loop of links ends here at the latest.
const MAX_DEPTH: usize = 32;

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By path, as found from the argument it belongs to.
    pub(super) files: BTreeSet<Arc<Path>>,
    /// Folders and arguments whose content is not known now.
    pub(super) unreadable: Vec<PathBuf>,
    /// What could not be read, and folders without manifests.
    pub(super) problems: Vec<Problem>,
}

/// Finds the manifests under files and folders. A file that is named is taken whatever it is called.
pub(super) fn scan(paths: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for path in paths {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let before = (found.files.len(), found.problems.len());
                walk(path, &mut Vec::new(), &mut found);
                if before == (found.files.len(), found.problems.len()) {
                    found.problem(
                        path,
                        "no manifests: a folder is searched for *.yaml, *.yml and *.json"
                            .to_owned(),
                    );
                }
            }
            Ok(_) => {
                found.files.insert(Arc::from(path.as_path()));
            }
            Err(error) => found.unreadable(path, &error),
        }
    }
    found
}

/// `above` holds the real paths of the folders on the way, to notice links that lead back.
fn walk(folder: &Path, above: &mut Vec<PathBuf>, found: &mut Found) {
    let (real, entries) =
        match fs::canonicalize(folder).and_then(|real| Ok((real, fs::read_dir(folder)?))) {
            Ok(both) => both,
            // Gone between the listing above it and now.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !above.is_empty() => return,
            Err(error) => return found.unreadable(folder, &error),
        };
    if above.contains(&real) || above.len() >= MAX_DEPTH {
        return;
    }
    above.push(real);
    for entry in entries {
        match entry {
            Ok(entry) => visit(&entry.path(), above, found),
            Err(error) => found.unreadable(folder, &error),
        }
    }
    above.pop();
}

fn visit(path: &Path, above: &mut Vec<PathBuf>, found: &mut Found) {
    let hidden = path
        .file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    if hidden {
        return;
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => walk(path, above, found),
        Ok(metadata) if metadata.is_file() && is_manifest(path) => {
            found.files.insert(Arc::from(path));
        }
        Ok(_) => {}
        Err(_) if !is_manifest(path) => {}
        // A link whose target is missing stands for a file that is to come; a file that has just gone is gone.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(path).is_ok() {
                found.unreadable(path, &error);
            }
        }
        Err(error) => found.unreadable(path, &error),
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"]
            .iter()
            .any(|known| extension == *known)
    })
}

// === impl Found ===

impl Found {
    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        self.problem(path, format!("cannot be read: {error}"));
        self.unreadable.push(path.to_owned());
    }

    fn problem(&mut self, path: &Path, message: String) {
        self.problems.push(Problem {
            source: Source::file(path, 0),
            message,
        });
    }
}
