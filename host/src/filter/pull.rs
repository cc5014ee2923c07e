//! `tidegate filter pull`: a filter out of a registry, as a Filter would get it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tidegate_model::ImageReference;

use super::arguments::Pull;
use super::registry::{access, block_on, image};
use crate::{FINE, REFUSED};

/// Pulls, writes the file, and says what it is. The status is 1 where the registry or the image refuses.
pub(crate) fn run(arguments: &Pull) -> anyhow::Result<u8> {
    let image = image(&arguments.image)?;
    let file = match &arguments.output {
        Some(file) => file.clone(),
        None => own_name(&image)?,
    };
    let access = access(&arguments.registry, &image)?;
    let pulled = match block_on(tidegate_modules::pull(&image, &access))? {
        Ok(pulled) => pulled,
        Err(error) => {
            eprintln!("tidegate: {error}");
            return Ok(REFUSED);
        }
    };
    write(&file, &pulled.bytes)?;
    eprintln!(
        "pulled {}: {} bytes, {}",
        file.display(),
        pulled.bytes.len(),
        pulled.module
    );
    println!("{}", image.resolved(&pulled.manifest));
    Ok(FINE)
}

/// The last part of the repository's name, where nothing is overwritten.
fn own_name(image: &ImageReference) -> anyhow::Result<PathBuf> {
    let repository = image.repository();
    let name = repository.rsplit('/').next().unwrap_or(repository);
    let file = PathBuf::from(format!("{name}.wasm"));
    if file.exists() {
        bail!(
            "{} exists; name a file with -o, which is overwritten",
            file.display()
        );
    }
    Ok(file)
}

/// All of it or nothing: who reads the file meanwhile sees no half of it.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    let partial = PathBuf::from(partial);
    std::fs::write(&partial, bytes).with_context(|| partial.display().to_string())?;
    std::fs::rename(&partial, path).with_context(|| path.display().to_string())
}
