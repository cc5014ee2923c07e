//! Where the guests are that cases name. `host/differential/set-up` builds them.

use std::path::{Path, PathBuf};

/// The names that a case may give, each with its file under the target directory.
const MODULES: [(&str, &str); 10] = [
    ("probe", "differential/guests/probe.wasm"),
    ("probe-0.1.0", "differential/guests/probe-0.1.0.wasm"),
    ("probe-0.2.0", "differential/guests/probe-0.2.0.wasm"),
    ("go", "differential/guests/go.wasm"),
    ("assemblyscript", "differential/guests/assemblyscript.wasm"),
    ("c", "differential/guests/c.wasm"),
    ("basic-auth", "differential/guests/basic-auth.wasm"),
    ("cors", "differential/guests/cors.wasm"),
    ("rate-limit", "differential/guests/rate-limit.wasm"),
    ("rewrite", "differential/guests/rewrite.wasm"),
];

/// Every name.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODULES.iter().map(|(name, _)| *name)
}

/// The repository.
pub fn repository() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors()
        .nth(2)
        .expect("host/differential stands two levels deep")
        .to_owned()
}

/// The file of a guest.
///
/// # Panics
/// When there is none of that name, or it was not built.
pub fn path(name: &str) -> PathBuf {
    let known = MODULES.iter().find(|(known, _)| *known == name);
    let (_, file) = known.unwrap_or_else(|| panic!("no guest is named {name}"));
    part(file)
}

/// The Envoy that the set-up has brought.
///
/// # Panics
/// When it is not there.
pub fn envoy() -> PathBuf {
    part("differential/venv/bin/envoy")
}

fn part(file: &str) -> PathBuf {
    let path = repository().join("target").join(file);
    assert!(
        path.exists(),
        "{} is missing: run host/differential/set-up",
        path.display()
    );
    path
}
