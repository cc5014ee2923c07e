//! Collects the SDK's source for `tidegate filter new`: what a filter of an author's own is built with lies in the binary.
//!
//! Files are embedded as they are. The manifests alone are changed: what they inherit from this workspace is written out, so that
//! they build beside nothing but crates.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose files are embedded, and manifests.
const FOLDERS: [&str; 3] = ["sdk/src", "sdk/cases/src", "wit"];
const MANIFESTS: [&str; 2] = ["sdk/Cargo.toml", "sdk/cases/Cargo.toml"];
const PAGES: [&str; 2] = ["sdk/README.md", "sdk/cases/README.md"];

fn main() {
    let host = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let workspace = host.parent().expect("host stands in the workspace");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for folder in FOLDERS {
        // A folder: files that are added to it count, too.
        watch(&workspace.join(folder));
        collect(workspace, Path::new(folder), &mut files);
    }
    for page in PAGES {
        files.push((page.to_owned(), workspace.join(page)));
    }
    files.push(("sdk/LICENSE".to_owned(), workspace.join("LICENSE")));
    let root = read(&workspace.join("Cargo.toml"));
    for manifest in MANIFESTS {
        let alone = standalone(&read(&workspace.join(manifest)), &root);
        assert!(
            !alone.contains("workspace"),
            "{manifest} inherits what host/build.rs does not know how to write out:\n{alone}"
        );
        let path = out.join(manifest.replace('/', "-"));
        write(&path, &alone);
        files.push((manifest.to_owned(), path));
        watch(&workspace.join(manifest));
    }
    files.sort();
    let mut source = String::from("/// Paths within a new project, and what stands there.\n");
    source.push_str("const SDK: &[(&str, &str)] = &[\n");
    for (name, path) in &files {
        watch(path);
        writeln!(source, "    ({name:?}, include_str!({path:?})),")
            .expect("writing to a string cannot fail");
    }
    source.push_str("];\n");
    write(&out.join("sdk.rs"), &source);
    watch(&workspace.join("Cargo.toml"));
    watch(Path::new("build.rs"));
}

fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn collect(workspace: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) {
    let entries = fs::read_dir(workspace.join(folder))
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let name = entry.expect("an entry").file_name();
        let path = folder.join(&name);
        if workspace.join(&path).is_dir() {
            collect(workspace, &path, files);
        } else if matches!(
            path.extension().and_then(|e| e.to_str()),
            Some("rs" | "wit")
        ) {
            let name = path.to_str().expect("our own names are text");
            files.push((name.to_owned(), workspace.join(&path)));
        }
    }
}

/// A manifest with what it inherits from the workspace's written out, and without its lints, which are this workspace's affair.
fn standalone(manifest: &str, root: &str) -> String {
    let mut out = String::new();
    let mut section = String::new();
    for line in manifest.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        }
        if section == "lints" || section.starts_with("lints.") {
            continue;
        }
        out.push_str(&inherited(line, &section, root).unwrap_or_else(|| line.to_owned()));
        out.push('\n');
    }
    // Where lints stood between two sections, their comment is left.
    out.replace(
        "# The workspace's lints with one exception: the ABI itself, in src/abi, is made of raw memory and exported functions.\n",
        "",
    )
}

/// A line that inherits, written out.
fn inherited(line: &str, section: &str, root: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    if let Some(name) = key.strip_suffix(".workspace") {
        if section == "package" {
            let value = entry(root, "workspace.package", name);
            return Some(format!("{name} = {value}"));
        }
        return Some(format!("{name} = {}", dependency(root, name, "")));
    }
    let more = value.strip_prefix("{ workspace = true")?;
    let more = more.strip_suffix('}')?.trim().trim_start_matches(',');
    Some(format!("{key} = {}", dependency(root, key, more.trim())))
}

/// A dependency as the workspace has it, with more keys of its own.
fn dependency(root: &str, name: &str, more: &str) -> String {
    if name == "tidegate-sdk" {
        return "{ path = \"..\" }".to_owned();
    }
    let value = entry(root, "workspace.dependencies", name);
    if more.is_empty() {
        return value;
    }
    match value.strip_prefix('{') {
        Some(keys) => format!("{{ {}, {more} }}", keys.trim_end_matches('}').trim()),
        None => format!("{{ version = {value}, {more} }}"),
    }
}

/// A value of a section of the workspace's manifest, all on one line.
fn entry(root: &str, section: &str, name: &str) -> String {
    let begin = format!("[{section}]");
    let lines = root.lines().skip_while(|line| **line != *begin).skip(1);
    let mut lines = lines.take_while(|line| !line.starts_with('['));
    let value = lines.find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    value.unwrap_or_else(|| panic!("{name} is not in [{section}] of the workspace's Cargo.toml"))
}
