//! Compiles the guest programs: those in Rust by one nested cargo to wasm32-wasip1, in a target directory of its own (in the outer
//! one it would wait for the lock that the outer cargo holds), those in WAT right here. Then writes a constant for each, and the
//! macro that names them all.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const TARGET: &str = "wasm32-wasip1";
const PROFILE: &str = "filter";
const PACKAGE: &str = "tidegate-wasm-guest-programs";

/// Settings of the outer build that must not reach the guests.
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
    let guests = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = guests
        .ancestors()
        .nth(3)
        .expect("guests lie three folders below the workspace");
    let out = PathBuf::from(variable("OUT_DIR"));
    for path in ["build.rs", "wat", "programs"] {
        println!("cargo::rerun-if-changed={}", guests.join(path).display());
    }
    println!(
        "cargo::rerun-if-changed={}",
        workspace.join("Cargo.lock").display()
    );

    let target_dir = target_dir(&out).join("guests");
    build(workspace, &target_dir);
    let mut names = Vec::new();
    for name in stems(&guests.join("programs/examples"), "rs") {
        let module = target_dir
            .join(TARGET)
            .join(PROFILE)
            .join("examples")
            .join(format!("{name}.wasm"));
        copy(&module, &out.join(format!("{name}.wasm")));
        names.push(name);
    }
    for name in stems(&guests.join("wat"), "wat") {
        let path = guests.join("wat").join(format!("{name}.wat"));
        let wasm = wat::parse_file(&path).unwrap_or_else(|error| fail(&error.to_string()));
        write(&out.join(format!("{name}.wasm")), &wasm);
        names.push(name);
    }
    names.sort();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        fail(&format!("two guest programs are named {}", pair[0]));
    }
    write(&out.join("guests.rs"), source(&names).as_bytes());
}

/// The constants and the macro.
fn source(names: &[String]) -> String {
    let mut text = String::new();
    let mut calls = String::new();
    for name in names {
        let constant = name.to_uppercase();
        let _ = writeln!(text, "/// The guest program `{name}`.");
        let _ = writeln!(
            text,
            "pub const {constant}: &[u8] = include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.wasm\"));"
        );
        let _ = write!(calls, " $with!({name});");
    }
    let _ = writeln!(
        text,
        "/// Calls a macro with the name of each guest program.\n#[macro_export]\nmacro_rules! foreach_guest {{ ($with:ident) => {{{calls} }} }}"
    );
    let all: Vec<String> = names
        .iter()
        .map(|name| format!("(\"{name}\", {})", name.to_uppercase()))
        .collect();
    let _ = writeln!(
        text,
        "/// All of them, by name.\npub const ALL: &[(&str, &[u8])] = &[{}];",
        all.join(", ")
    );
    text
}

fn stems(folder: &Path, extension: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder)
        .unwrap_or_else(|error| fail(&format!("cannot read {}: {error}", folder.display())));
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            if path.extension()? != extension {
                return None;
            }
            Some(path.file_stem()?.to_str()?.to_owned())
        })
        .collect()
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
        .args(["build", "--examples", "--locked", "--profile", PROFILE])
        .args(["--target", TARGET, "--package", PACKAGE])
        .arg("--target-dir")
        .arg(target_dir);
    for name in FOREIGN {
        command.env_remove(name);
    }
    // Set, it overrides flags in configuration files too.
    command.env("CARGO_ENCODED_RUSTFLAGS", "");
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!(
            "the guest programs do not compile ({status}; is the Rust target {TARGET} installed?): {command:?}"
        )),
        Err(error) => fail(&format!("cannot run {}: {error}", cargo.display())),
    }
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

fn write(path: &Path, bytes: &[u8]) {
    if let Err(error) = std::fs::write(path, bytes) {
        fail(&format!("cannot write {}: {error}", path.display()));
    }
}

fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| fail(&format!("{name} is not set: run this through cargo")))
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
