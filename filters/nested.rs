//! A cargo within cargo: compiles wasm modules for a build script (`filters/build.rs`, `host/wasm/guests/build.rs`).
//!
//! It runs in a target directory of its own, since in the outer one it would wait for the lock that the outer cargo holds, and
//! starts from a clean environment, so that clippy, coverage or sanitizer flags of the outer build neither break it nor change
//! the modules' bytes.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// Core modules that speak proxy-wasm.
pub(crate) const MODULE: &str = "wasm32-wasip1";
/// Components for the world of `wit/`.
#[allow(
    dead_code,
    reason = "not every build script that shares this file has some"
)]
pub(crate) const COMPONENT: &str = "wasm32-wasip2";
const PROFILE: &str = "filter";

/// Settings of the outer build that must not reach the modules: wrappers (clippy, sccache, coverage), flags, targets, profiles.
const FOREIGN: [&str; 13] = [
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS",
    "CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CLIPPY_ARGS",
    "LLVM_PROFILE_FILE",
];

/// A build of modules.
pub(crate) struct Nested<'a> {
    /// What the modules are, for messages.
    pub(crate) what: &'a str,
    /// The workspace's folder.
    pub(crate) workspace: &'a Path,
    /// The name of the target directory, within the outer one.
    pub(crate) folder: &'a str,
    /// [`MODULE`] or [`COMPONENT`].
    pub(crate) target: &'a str,
    /// What is built: packages, examples.
    pub(crate) arguments: &'a [String],
    /// Flags for rustc, encoded for `CARGO_ENCODED_RUSTFLAGS`.
    pub(crate) flags: &'a OsStr,
}

impl Nested<'_> {
    /// Builds them. Returns the folder in which they lie.
    pub(crate) fn build(&self) -> PathBuf {
        self.require_target();
        let target_dir = outer().join(self.folder);
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(&cargo);
        command
            .current_dir(self.workspace)
            .args(["build", "--locked", "--profile", PROFILE])
            .args(["--target", self.target])
            .arg("--target-dir")
            .arg(&target_dir)
            .args(self.arguments);
        for name in FOREIGN {
            command.env_remove(name);
        }
        // Set, it overrides flags in configuration files too.
        command.env("CARGO_ENCODED_RUSTFLAGS", self.flags);
        match command.status() {
            Ok(status) if status.success() => target_dir.join(self.target).join(PROFILE),
            Ok(status) => fail(&format!(
                "{} do not compile ({status}): {command:?}",
                self.what
            )),
            Err(error) => fail(&format!("cannot run {}: {error}", cargo.display())),
        }
    }

    fn require_target(&self) {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(&rustc)
            .args(["--print", "target-libdir", "--target", self.target])
            .output();
        let installed = output
            .is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir());
        if !installed {
            fail(&format!(
                "the Rust target {}, which {} are compiled for, is not installed; run `rustup toolchain install` in the \
                 repository, which installs what rust-toolchain.toml names",
                self.target, self.what
            ));
        }
    }
}

/// The target directory that the outer build runs in. Cargo marks it with a file; without one the modules stay in OUT_DIR.
fn outer() -> PathBuf {
    let out = PathBuf::from(variable("OUT_DIR"));
    let marked = out
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists());
    marked.unwrap_or(&out).to_owned()
}

/// Copies a module to where the outer crate embeds it from.
pub(crate) fn copy(from: &Path, to: &Path) {
    if let Err(error) = std::fs::copy(from, to) {
        fail(&format!(
            "cannot copy {} to {}: {error}",
            from.display(),
            to.display()
        ));
    }
}

/// A variable that cargo sets for build scripts.
pub(crate) fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| fail(&format!("{name} is not set: run this through cargo")))
}

/// Ends the build with a message.
pub(crate) fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
