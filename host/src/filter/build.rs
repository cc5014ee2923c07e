//! `tidegate filter build`: cargo with the target, the profile and the flags that filters are built with.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::arguments::Build;
use crate::args::Output;
use crate::{FINE, REFUSED};

/// Core modules that speak proxy-wasm, and components for the world of `wit/`.
const MODULE: &str = "wasm32-wasip1";
const COMPONENT: &str = "wasm32-wasip2";

/// What cargo knows of the filter.
struct Package {
    name: String,
    manifest: PathBuf,
}

/// Builds the filter, and leaves it in its folder. The status is 1 where it does not compile, or to nothing that a host loads.
pub(crate) fn run(arguments: &Build) -> anyhow::Result<u8> {
    let folder = arguments.path.as_deref().unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!(
            "--path {}: no folder is there; name the filter's, where its Cargo.toml is",
            folder.display()
        );
    }
    let target = if arguments.component {
        COMPONENT
    } else {
        MODULE
    };
    require_target(folder, target)?;
    let package = Package::read(folder)?;
    let Some(built) = package.build(folder, target)? else {
        return Ok(REFUSED);
    };
    let form = if arguments.component {
        "component.wasm"
    } else {
        "wasm"
    };
    let path = folder.join(format!("{}.{form}", package.name));
    let bytes = std::fs::read(&built).with_context(|| built.display().to_string())?;
    if let Err(error) = tidegate_modules::check(&bytes) {
        eprintln!(
            "tidegate: {} is not written, no host would load it: {error}",
            path.display()
        );
        return Ok(REFUSED);
    }
    std::fs::write(&path, &bytes).with_context(|| path.display().to_string())?;
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    match arguments.output {
        Output::Json => println!(
            "{:#}",
            serde_json::json!({"file": path, "target": target, "bytes": bytes.len(), "sha256": digest})
        ),
        Output::Text => {
            println!("file    {}", path.display());
            println!(
                "size    {} bytes ({} KiB)",
                bytes.len(),
                bytes.len().div_ceil(1024)
            );
            println!("sha256  {digest}");
        }
    }
    Ok(FINE)
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Says what to install before cargo says that it cannot find `core`.
fn require_target(folder: &Path, target: &str) -> anyhow::Result<()> {
    let output = Command::new("rustc")
        .current_dir(folder)
        .args(["--print", "target-libdir", "--target", target])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| {
            format!("--path {}: rustc cannot be run here; filters in Rust need it, as rustup (https://rustup.rs) installs it", folder.display())
        })?;
    let library = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || !Path::new(library.trim()).is_dir() {
        bail!(
            "the Rust target {target} is not installed; run `rustup target add {target}`, or `rustup toolchain install` in {} where \
             rust-toolchain.toml names it",
            folder.display()
        );
    }
    Ok(())
}

impl Package {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let manifest = folder.join("Cargo.toml");
        let manifest = std::fs::canonicalize(&manifest).with_context(|| {
            format!("{}: no package is here; --path says where the filter is, and `tidegate filter new` makes one", manifest.display())
        })?;
        let output = Command::new(cargo())
            .current_dir(folder)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("cargo cannot be run; filters in Rust need it, as rustup (https://rustup.rs) installs it")?;
        if !output.status.success() {
            bail!("{}: cargo cannot read it", manifest.display());
        }
        let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
        let mut packages = metadata["packages"].as_array().into_iter().flatten();
        let package = packages
            .find(|package| package["manifest_path"].as_str().map(Path::new) == Some(&manifest))
            .with_context(|| {
                format!(
                    "{}: this is a workspace; --path has to name the filter's own folder",
                    manifest.display()
                )
            })?;
        let is_library = |target: &Value| {
            let types = target["crate_types"].as_array();
            types.is_some_and(|types| types.iter().any(|kind| kind == "cdylib"))
        };
        if !package["targets"]
            .as_array()
            .is_some_and(|targets| targets.iter().any(is_library))
        {
            bail!(
                "{}: nothing in it becomes a module; a filter needs [lib] crate-type = [\"cdylib\", \"rlib\"]",
                manifest.display()
            );
        }
        Ok(Self {
            name: package["name"].as_str().unwrap_or_default().to_owned(),
            manifest,
        })
    }

    /// The module that cargo made; nothing where it does not compile, which cargo has told.
    fn build(&self, folder: &Path, target: &str) -> anyhow::Result<Option<PathBuf>> {
        let mut command = Command::new(cargo());
        command
            .current_dir(folder)
            .args(["build", "--lib", "--release", "--target", target])
            .args(["--message-format", "json-render-diagnostics"])
            .arg("--manifest-path")
            .arg(&self.manifest)
            .arg("--config")
            .arg(self.flags(target)?)
            .stderr(Stdio::inherit());
        let output = command.output().context("cargo cannot be run")?;
        if !output.status.success() {
            return Ok(None);
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let mut modules = said
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["reason"] == "compiler-artifact")
            .filter(|message| {
                message["manifest_path"].as_str().map(Path::new) == Some(&self.manifest)
            })
            .flat_map(|message| {
                let files = message["filenames"].as_array().cloned().unwrap_or_default();
                files
                    .into_iter()
                    .filter_map(|file| file.as_str().map(PathBuf::from))
            })
            .filter(|path| path.extension() == Some(OsStr::new("wasm")));
        let module = modules.next_back().with_context(|| {
            format!(
                "{}: cargo made no .wasm file of it",
                self.manifest.display()
            )
        })?;
        Ok(Some(module))
    }

    /// Paths of the building machine stay out of the module, so that equal sources give equal digests.
    fn flags(&self, target: &str) -> anyhow::Result<String> {
        let home = std::env::var_os("CARGO_HOME").map_or_else(
            || std::env::home_dir().unwrap_or_default().join(".cargo"),
            PathBuf::from,
        );
        let folder = self.manifest.parent().unwrap_or(Path::new("/"));
        let flags: Vec<String> = [(folder, "/filter"), (home.as_path(), "/cargo")]
            .iter()
            .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
            .collect();
        // A list of strings is written in TOML as in JSON.
        Ok(format!(
            "target.{target}.rustflags={}",
            serde_json::to_string(&flags)?
        ))
    }
}
