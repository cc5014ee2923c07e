//! Compiles the bundled filters to wasm32-wasip1 and leaves them in OUT_DIR, where src/lib.rs embeds them.
//!
//! One nested cargo builds them all, in a target directory of its own: in the outer one it would wait for the lock that the outer
//! cargo holds. It starts from a clean environment, so that clippy, coverage or sanitizer flags of the outer build neither break
//! it nor change the modules' bytes.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const TARGET: &str = "wasm32-wasip1";
const PROFILE: &str = "filter";
const FILTERS: [&str; 18] = [
    "api-key",
    "basic-auth",
    "body-limit",
    "client-cert",
    "cookie-rewrite",
    "cors",
    "csrf",
    "error-pages",
    "ext-auth",
    "fault",
    "headers",
    "hmac",
    "ip-acl",
    "jwt",
    "rate-limit",
    "redirect",
    "request-block",
    "rewrite",
];

/// Settings of the outer build that must not reach the guests: wrappers (clippy, sccache, coverage), flags, targets, profiles.
const FOREIGN: [&str; 12] = [
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CLIPPY_ARGS",
    "LLVM_PROFILE_FILE",
];

fn main() {
    let filters = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = filters
        .parent()
        .expect("the filters' folder stands in the workspace's");
    let out = PathBuf::from(variable("OUT_DIR"));
    watch(&filters, workspace);
    require_target();

    let target_dir = target_dir(&out).join("filters");
    build(workspace, &target_dir);
    for name in FILTERS {
        let file = format!("tidegate_filter_{}.wasm", name.replace('-', "_"));
        let module = target_dir.join(TARGET).join(PROFILE).join(file);
        copy(&module, &out.join(format!("{name}.wasm")));
    }
}

/// Rebuild for the filters' sources and what decides their dependencies, not for their tests and pages.
fn watch(filters: &Path, workspace: &Path) {
    println!("cargo::rerun-if-changed=build.rs");
    for file in ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(file).display());
    }
    for name in FILTERS {
        for part in ["src", "Cargo.toml", "schema.json"] {
            println!(
                "cargo::rerun-if-changed={}",
                filters.join(name).join(part).display()
            );
        }
    }
    for part in ["src", "Cargo.toml"] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join("sdk").join(part).display()
        );
    }
}

fn require_target() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    let installed = output
        .is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir());
    if !installed {
        fail(&format!(
            "the Rust target {TARGET}, which the bundled filters are compiled for, is not installed; run `rustup toolchain \
             install` in the repository, which installs what rust-toolchain.toml names"
        ));
    }
}

/// The target directory that this build runs in. Cargo marks it with a file; without one the modules stay in OUT_DIR.
fn target_dir(out: &Path) -> &Path {
    out.ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .unwrap_or(out)
}

fn build(workspace: &Path, target_dir: &Path) {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command
        .current_dir(workspace)
        .args(["build", "--lib", "--locked", "--profile", PROFILE])
        .args(["--target", TARGET])
        .arg("--target-dir")
        .arg(target_dir);
    for name in FILTERS {
        command.arg(format!("--package=tidegate-filter-{name}"));
    }
    for name in FOREIGN {
        command.env_remove(name);
    }
    // Set, it overrides flags in configuration files too.
    command.env("CARGO_ENCODED_RUSTFLAGS", flags(workspace));
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!(
            "the bundled filters do not compile ({status}): {command:?}"
        )),
        Err(error) => fail(&format!("cannot run {}: {error}", cargo.display())),
    }
}

/// Paths of the building machine stay out of the modules, so that equal sources give equal digests.
fn flags(workspace: &Path) -> OsString {
    let mut flags = OsString::new();
    let home = env::var_os("CARGO_HOME").map_or_else(
        || env::home_dir().unwrap_or_default().join(".cargo"),
        PathBuf::from,
    );
    for (from, to) in [(workspace, "/tidegate"), (home.as_path(), "/cargo")] {
        if !flags.is_empty() {
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    flags
}

fn copy(from: &Path, to: &Path) {
    if let Err(error) = std::fs::copy(from, to) {
        fail(&format!(
            "cannot copy {} to {}: {error}",
            from.display(),
            to.display()
        ));
    }
}

fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| fail(&format!("{name} is not set: run this through cargo")))
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
