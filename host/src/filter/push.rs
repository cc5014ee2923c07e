//! `tidegate filter push`: a filter into a registry, in the layout that hosts look for.

use std::path::Path;

use anyhow::{Context, anyhow};
use serde_json::json;
use tidegate_modules::{Layout, check};

use super::arguments::{Push, PushLayout};
use super::registry::{access, block_on, image};
use crate::args::Output;
use crate::{FINE, REFUSED};

/// Pushes, and prints the reference with its digest. The status is 1 where the file or the push is refused.
pub(crate) fn run(arguments: &Push) -> anyhow::Result<u8> {
    let image = image(&arguments.image)?;
    let wasm = read(&arguments.file)?;
    let access = access(&arguments.registry, &image)?;
    let file = arguments.file.display();
    let abi = match check(&wasm) {
        Ok(abi) => abi,
        Err(error) => {
            eprintln!("tidegate: {file} is not pushed, no host would load it: {error}");
            return Ok(REFUSED);
        }
    };
    let layout = match arguments.layout {
        None => Layout::of(&wasm),
        Some(PushLayout::Compat) => Layout::Compat,
        Some(PushLayout::Cncf) => Layout::Cncf,
    };
    let bytes = wasm.len();
    let pushed = match block_on(tidegate_modules::push(&image, wasm.into(), layout, &access))? {
        Ok(pushed) => pushed,
        Err(error) => {
            eprintln!("tidegate: {error}");
            return Ok(REFUSED);
        }
    };
    let reference = image.resolved(&pushed.manifest).to_string();
    match arguments.output {
        Output::Json => {
            let about = json!({
                "reference": reference,
                "manifest": pushed.manifest,
                "sha256": &*pushed.module,
                "layout": layout.as_str(),
                "abi": abi.as_str(),
                "bytes": bytes,
                "sentBlobs": pushed.sent,
            });
            println!("{}", serde_json::to_string_pretty(&about)?);
        }
        Output::Text => {
            eprintln!(
                "pushed {file} ({abi}, {bytes} bytes) in the layout {}; {} of {} blobs were there",
                layout.as_str(),
                pushed.blobs - pushed.sent,
                pushed.blobs
            );
            // Alone on standard output: for spec.module.image.
            println!("{reference}");
        }
    }
    Ok(FINE)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    if metadata.is_dir() {
        return Err(anyhow!(
            "{}: this is a folder; name the .wasm file",
            path.display()
        ));
    }
    std::fs::read(path).with_context(|| path.display().to_string())
}
