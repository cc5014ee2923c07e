//! What outlives the process: fetched modules by digest, compiled code by digest and engine, and what tags have come to.
//!
//! ```text
//!   modules/<tenant>-<digest>.wasm      checked against the digest in its name when it is read
//!   code/<digest>-<engine>.code         sealed with `key`: code of another host or with one bit changed is not run
//!   code/<filter>-<engine>.snapshot     the same of a filter with `isolation: Request`, once it is configured
//!   tags/<filter and image>             the digests that a tag has come to
//!   key                                 32 random bytes, 0600
//! ```
//!
//! Only what this process's user alone can write is used. Whatever else goes wrong, a full disk above all, costs the cache and
//! nothing more: it is said once, and everything goes on from memory.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_model::FilterId;
use tidegate_wasm::{CodeKey, CodeSlot, Engine, Module};

use crate::digest::digest;
use crate::source::MOST_BYTES;

/// Compiled code is some times as large as what it was made from.
const MOST_CODE: u64 = 8 * MOST_BYTES;
/// Bytes in the folder beyond which the files that were used longest ago go.
const MOST_OVER_ALL: u64 = 2 << 30;
const FOLDERS: [&str; 3] = ["modules", "code", "tags"];

/// The folder.
pub(crate) struct Disk {
    root: PathBuf,
    key: CodeKey,
    bytes: AtomicU64,
    next: AtomicU64,
    /// Whether it has been said that nothing can be written.
    said: AtomicBool,
}

/// What a tag has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tag {
    pub(crate) manifest: String,
    pub(crate) module: String,
}

/// The place of one snapshot's code.
struct SnapshotSlot<'a> {
    disk: &'a Disk,
    path: PathBuf,
}

// === impl Disk ===

impl Disk {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    /// It cannot be made or used, or it is somebody else's.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        own(root)?;
        for folder in FOLDERS {
            own(&root.join(folder))?;
        }
        let disk = Self {
            root: root.to_owned(),
            key: key(root)?,
            bytes: AtomicU64::new(0),
            next: AtomicU64::new(0),
            said: AtomicBool::new(false),
        };
        disk.sweep();
        Ok(disk)
    }

    /// The module of that digest, if this tenant has fetched it before. Blocks.
    pub(crate) fn module(&self, namespace: &str, wanted: &str) -> Option<Bytes> {
        let path = self.module_path(namespace, wanted);
        let bytes = read(&path, MOST_BYTES)?;
        if *digest(&bytes) == *wanted {
            return Some(bytes.into());
        }
        tracing::warn!(path = %path.display(), "a kept module is damaged; it is fetched again");
        self.remove(&path);
        None
    }

    /// Keeps a module. Blocks.
    pub(crate) fn keep_module(&self, namespace: &str, digest: &str, bytes: &[u8]) {
        self.write(&self.module_path(namespace, digest), bytes);
    }

    /// Compiled code of a module, if this host has made it. Blocks.
    pub(crate) fn code(&self, engine: &Engine, digest: &str, wasm: &[u8]) -> Option<Module> {
        let path = self.code_path(engine, digest);
        let sealed = read(&path, MOST_CODE)?;
        match Module::deserialize(engine, wasm, &sealed, &self.key) {
            Ok(module) => Some(module),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "kept code is of no use");
                self.remove(&path);
                None
            }
        }
    }

    /// Keeps compiled code. Blocks.
    pub(crate) fn keep_code(&self, engine: &Engine, digest: &str, module: &Module) {
        match module.serialize(&self.key) {
            Ok(sealed) => self.write(&self.code_path(engine, digest), &sealed),
            Err(error) => tracing::debug!(%error, "compiled code is not kept"),
        }
    }

    /// Where the code of a filter's snapshot is kept: the latest one, since each configuration has another.
    pub(crate) fn snapshot_slot<'a>(
        &'a self,
        engine: &Engine,
        filter: &FilterId,
    ) -> impl CodeSlot + use<'a> {
        let filter = digest(filter.to_string().as_bytes());
        let name = format!(
            "{}-{}.snapshot",
            hexadecimal(&filter),
            engine.compatibility()
        );
        SnapshotSlot {
            disk: self,
            path: self.root.join("code").join(name),
        }
    }

    /// What the tag of that use has come to. Blocks.
    pub(crate) fn tag(&self, of: &str) -> Option<Tag> {
        let path = self.tag_path(of);
        let bytes = read(&path, 4096)?;
        let tag = serde_json::from_slice(&bytes).ok();
        if tag.is_none() {
            self.remove(&path);
        }
        tag
    }

    /// Keeps what the tag of that use has come to. Blocks.
    pub(crate) fn keep_tag(&self, of: &str, tag: &Tag) {
        if self.tag(of).as_ref() != Some(tag)
            && let Ok(json) = serde_json::to_vec(tag)
        {
            self.write(&self.tag_path(of), &json);
        }
    }

    /// Forgets it. Blocks.
    pub(crate) fn forget_tag(&self, of: &str) {
        self.remove(&self.tag_path(of));
    }

    fn module_path(&self, namespace: &str, digest: &str) -> PathBuf {
        let tenant = hexadecimal(&crate::digest::digest(namespace.as_bytes())).to_owned();
        let name = format!("{}-{}.wasm", &tenant[..16], hexadecimal(digest));
        self.root.join("modules").join(name)
    }

    fn code_path(&self, engine: &Engine, digest: &str) -> PathBuf {
        let name = format!("{}-{}.code", hexadecimal(digest), engine.compatibility());
        self.root.join("code").join(name)
    }

    fn tag_path(&self, of: &str) -> PathBuf {
        self.root
            .join("tags")
            .join(hexadecimal(&digest(of.as_bytes())))
    }

    /// Writes a file whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let partial = path.with_extension(format!("partial-{}-{number}", std::process::id()));
        let written = create(&partial, bytes).and_then(|()| {
            let before = fs::symlink_metadata(path).map_or(0, |metadata| metadata.len());
            fs::rename(&partial, path)?;
            Ok(before)
        });
        match written {
            Ok(before) => {
                self.said.store(false, Ordering::Relaxed);
                let more = (bytes.len() as u64).saturating_sub(before);
                if self.bytes.fetch_add(more, Ordering::Relaxed) + more > MOST_OVER_ALL {
                    self.sweep();
                }
            }
            Err(error) => {
                let _ = fs::remove_file(&partial);
                if !self.said.swap(true, Ordering::Relaxed) {
                    tracing::warn!(path = %path.display(), %error, "the module cache cannot be written; going on from memory");
                }
            }
        }
    }

    fn remove(&self, path: &Path) {
        let bytes = fs::symlink_metadata(path).map_or(0, |metadata| metadata.len());
        if fs::remove_file(path).is_ok() {
            let all = self.bytes.load(Ordering::Relaxed);
            self.bytes
                .store(all.saturating_sub(bytes), Ordering::Relaxed);
        }
    }

    /// Removes what a process that died left half written, and the oldest files if there is too much.
    fn sweep(&self) {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for folder in FOLDERS {
            let entries = fs::read_dir(self.root.join(folder)).into_iter().flatten();
            for path in entries.flatten().map(|entry| entry.path()) {
                let Ok(metadata) = fs::symlink_metadata(&path) else {
                    continue;
                };
                let age = metadata.modified().ok().and_then(|at| at.elapsed().ok());
                let partial = path
                    .extension()
                    .is_some_and(|extension| extension.to_string_lossy().starts_with("partial-"));
                // A fresh one may be another process's, which shares the folder.
                if partial && age.is_some_and(|age| age.as_secs() > 600) {
                    let _ = fs::remove_file(&path);
                } else if metadata.is_file() {
                    let at = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    files.push((at, metadata.len(), path));
                }
            }
        }
        files.sort();
        let mut all: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in files {
            // Down to well below the limit, so that the next file does not start this again.
            if all <= MOST_OVER_ALL / 4 * 3 {
                break;
            }
            if fs::remove_file(path).is_ok() {
                all -= length;
            }
        }
        self.bytes.store(all, Ordering::Relaxed);
    }
}

impl CodeSlot for SnapshotSlot<'_> {
    fn key(&self) -> &CodeKey {
        &self.disk.key
    }

    fn read(&self) -> Option<Vec<u8>> {
        read(&self.path, MOST_CODE)
    }

    fn write(&self, sealed: &[u8]) {
        self.disk.write(&self.path, sealed);
    }
}

/// Makes the folder, or closes it to others; fails if it is not this process's user's own.
fn own(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let metadata = fs::symlink_metadata(folder)?;
    let probe = folder.join(format!(".probe-{}", std::process::id()));
    let _ = fs::remove_file(&probe);
    let user = create(&probe, b"").and_then(|()| Ok(fs::symlink_metadata(&probe)?.uid()));
    let _ = fs::remove_file(&probe);
    if !metadata.is_dir() || metadata.uid() != user? {
        let what = format!("{} is not a folder of this user's own", folder.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// The secret that seals code: that of the folder, or a new one, which makes all code in it foreign.
fn key(root: &Path) -> io::Result<CodeKey> {
    let path = root.join("key");
    let mine = fs::symlink_metadata(&path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o077 == 0);
    if mine
        && let Some(bytes) = read(&path, 32)
        && let Ok(secret) = <[u8; 32]>::try_from(bytes)
    {
        return Ok(CodeKey::new(&secret));
    }
    let (key, secret) = CodeKey::random().map_err(|error| io::Error::other(error.to_string()))?;
    let partial = root.join(format!("key.partial-{}", std::process::id()));
    let _ = fs::remove_file(&partial);
    create(&partial, &secret)?;
    fs::rename(&partial, &path)?;
    Ok(key)
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

/// The file, if it is one and has no more than `most` bytes; its time says that it was used.
fn read(path: &Path, most: u64) -> Option<Vec<u8>> {
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let file = File::open(path).ok()?;
    let mut bytes = Vec::new();
    (&file).take(most + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > most {
        return None;
    }
    // Only for the order in which files go when there are too many.
    let _ = File::options()
        .append(true)
        .open(path)
        .and_then(|file| file.set_modified(SystemTime::now()));
    Some(bytes)
}

fn hexadecimal(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

#[cfg(test)]
mod tests;
