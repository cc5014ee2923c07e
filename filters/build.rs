//! Compiles the bundled filters to wasm32-wasip1, all in one nested cargo, and leaves them in OUT_DIR, where src/lib.rs embeds
//! them.

mod nested;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nested::{MODULE, Nested, copy, variable};

const FILTERS: [&str; 19] = [
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
    "oidc",
    "rate-limit",
    "redirect",
    "request-block",
    "rewrite",
];

fn main() {
    let filters = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = filters
        .parent()
        .expect("the filters' folder stands in the workspace's");
    let out = PathBuf::from(variable("OUT_DIR"));
    watch(&filters, workspace);

    let mut arguments = vec![String::from("--lib")];
    arguments.extend(FILTERS.map(|name| format!("--package=tidegate-filter-{name}")));
    let folder = Nested {
        what: "the bundled filters",
        workspace,
        folder: "filters",
        target: MODULE,
        arguments: &arguments,
        flags: &flags(workspace),
    }
    .build();
    for name in FILTERS {
        let module = format!("tidegate_filter_{}.wasm", name.replace('-', "_"));
        copy(&folder.join(module), &out.join(format!("{name}.wasm")));
    }
}

/// Rebuild for the filters' sources and what decides their dependencies, not for their tests and pages.
fn watch(filters: &Path, workspace: &Path) {
    for file in ["build.rs", "nested.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
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
    for package in ["filters/jose", "sdk"] {
        for part in ["src", "Cargo.toml"] {
            println!(
                "cargo::rerun-if-changed={}",
                workspace.join(package).join(part).display()
            );
        }
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
