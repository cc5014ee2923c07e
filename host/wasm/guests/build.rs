//! Compiles the guest programs: those in Rust by a nested cargo to wasm32-wasip1, in a target directory of its own (in the outer
//! one it would wait for the lock that the outer cargo holds), the components by another one, those in WAT right here. Then writes
//! a constant for each, and the macro that names them all.

#[path = "../../../filters/nested.rs"]
mod nested;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use nested::{COMPONENT, MODULE, Nested, copy, fail, variable};

const PACKAGE: &str = "tidegate-wasm-guest-programs";

fn main() {
    let guests = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = guests
        .ancestors()
        .nth(3)
        .expect("guests lie three folders below the workspace");
    let out = PathBuf::from(variable("OUT_DIR"));
    for path in ["build.rs", "wat", "programs", "component"] {
        println!("cargo::rerun-if-changed={}", guests.join(path).display());
    }
    println!(
        "cargo::rerun-if-changed={}",
        workspace.join("Cargo.lock").display()
    );
    for path in ["filters/nested.rs", "wit"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }

    let arguments = ["--examples", "--package", PACKAGE].map(String::from);
    let folder = Nested {
        what: "the guest programs",
        workspace,
        folder: "guests",
        target: MODULE,
        arguments: &arguments,
        flags: OsStr::new(""),
    }
    .build();
    let mut names = components(workspace, &out);
    for name in stems(&guests.join("programs/examples"), "rs") {
        let module = folder.join("examples").join(format!("{name}.wasm"));
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

/// Compiles the guest components; their names.
fn components(workspace: &Path, out: &Path) -> Vec<String> {
    let arguments = [
        "--lib",
        "--examples",
        "--package",
        "tidegate-wasm-guest-component",
    ]
    .map(String::from);
    let folder = Nested {
        what: "the guest components",
        workspace,
        folder: "guests",
        target: COMPONENT,
        arguments: &arguments,
        flags: OsStr::new(""),
    }
    .build();
    let files = [
        ("component", "tidegate_wasm_guest_component.wasm"),
        ("directed", "examples/directed.wasm"),
    ];
    for (name, file) in files {
        copy(&folder.join(file), &out.join(format!("{name}.wasm")));
    }
    files.map(|(name, _)| name.to_owned()).into()
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

fn write(path: &Path, bytes: &[u8]) {
    if let Err(error) = std::fs::write(path, bytes) {
        fail(&format!("cannot write {}: {error}", path.display()));
    }
}
