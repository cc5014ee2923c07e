//! Modules that are at hand: bundled, in a file, in a ConfigMap. What is elsewhere is [`fetch`](crate::fetch)'s business.

use std::io::Read;
use std::path::PathBuf;

use bytes::Bytes;
use tidegate_model::ModuleSource;

/// Bytes that a module may have, wherever it comes from.
pub(crate) const MOST_BYTES: u64 = 64 << 20;

/// Why there are no bytes.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No bundled filter has this name.
    #[error("spec.module.builtin: there is no bundled filter {0:?}; there are {1}")]
    NoBuiltin(String, String),
    /// The file cannot be read.
    #[error("spec.module.file: {path}: {error}; put the module there or correct the path")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A pipe, a device or a folder: reading it might never end.
    #[error("spec.module.file: {} is no regular file; put the module there or correct the path", .0.display())]
    NoFile(PathBuf),
    /// More bytes than a module may have.
    #[error("spec.module: it is larger than {} MiB, which is the most that a module may have", MOST_BYTES >> 20)]
    TooLarge,
    /// Nothing at hand.
    #[error("spec.module: it is elsewhere")]
    Elsewhere,
}

/// Reads a module. Blocks; run it where that is fine.
pub(crate) fn read(source: &ModuleSource) -> Result<Bytes, SourceError> {
    match source {
        ModuleSource::Builtin(name) => match tidegate_filters::get(name) {
            Some(bundled) => Ok(Bytes::from_static(bundled.module)),
            None => {
                let names: Vec<_> = tidegate_filters::all()
                    .iter()
                    .map(|bundled| bundled.name)
                    .collect();
                Err(SourceError::NoBuiltin(name.to_string(), names.join(", ")))
            }
        },
        ModuleSource::File(path) => {
            let failed = |error| SourceError::File {
                path: path.clone(),
                error,
            };
            // Before it is opened: that alone would wait for a pipe's writer.
            if !std::fs::metadata(path).map_err(failed)?.is_file() {
                return Err(SourceError::NoFile(path.clone()));
            }
            let mut bytes = Vec::new();
            let file = std::fs::File::open(path).map_err(failed)?;
            // One byte more than allowed tells a file that is too large from one that just fits.
            file.take(MOST_BYTES + 1)
                .read_to_end(&mut bytes)
                .map_err(failed)?;
            if bytes.len() as u64 > MOST_BYTES {
                Err(SourceError::TooLarge)
            } else {
                Ok(bytes.into())
            }
        }
        ModuleSource::ConfigMap { bytes, .. } => Ok(bytes.clone()),
        ModuleSource::Image { .. } | ModuleSource::Url { .. } | ModuleSource::Refused { .. } => {
            Err(SourceError::Elsewhere)
        }
    }
}

/// What tells cheaply that a file may have changed: its length and its time of modification.
pub(crate) fn stamp(source: &ModuleSource) -> Option<(u64, std::time::SystemTime)> {
    let ModuleSource::File(path) = source else {
        return None;
    };
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}
