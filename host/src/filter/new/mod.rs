//! `tidegate filter new`: a filter that builds, and passes its tests, as it is written here.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use super::arguments::New;
use crate::FINE;

include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// The compiler that everything here is made with, and the targets.
const TOOLCHAIN: &str = include_str!("../../../../rust-toolchain.toml");

/// What is written of a filter, with places for its name.
const TEMPLATE: [(&str, &str); 9] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    (".gitignore", include_str!("template/gitignore")),
    ("README.md", include_str!("template/README.md.in")),
    ("cases.yaml", include_str!("template/cases.yaml.in")),
    ("schema.json", include_str!("template/schema.json.in")),
    ("src/lib.rs", include_str!("template/lib.rs.in")),
    ("src/policy.rs", include_str!("template/policy.rs.in")),
    ("tests/cases.rs", include_str!("template/tests.rs.in")),
    ("rust-toolchain.toml", TOOLCHAIN),
];

/// Names that a package cannot have beside what it is built with, or that rustc keeps.
const TAKEN: [&str; 22] = [
    "alloc",
    "async",
    "await",
    "core",
    "crate",
    "deps",
    "enum",
    "extern",
    "fn",
    "impl",
    "match",
    "mod",
    "move",
    "proc-macro",
    "serde",
    "serde-json",
    "std",
    "test",
    "tidegate-filter-cases",
    "tidegate-sdk",
    "type",
    "wit-bindgen",
];

/// The longest name: that of an object in Kubernetes.
const LONGEST: usize = 63;

/// Writes the new filter.
pub(crate) fn run(arguments: &New) -> anyhow::Result<u8> {
    let name = &arguments.name;
    check(name)?;
    let folder = arguments.path.as_deref().unwrap_or(Path::new(name));
    require_empty(folder)?;
    let sdk = match &arguments.sdk {
        Some(sdk) => theirs(folder, sdk)?,
        None => "sdk".to_owned(),
    };
    let fill = Fill {
        name,
        sdk: &sdk,
        is_copied: arguments.sdk.is_none(),
    };
    for (path, text) in TEMPLATE {
        write(folder, path, &fill.fill(text))?;
    }
    if fill.is_copied {
        for (path, text) in SDK {
            write(folder, path, text)?;
        }
    }
    let shown = folder.display();
    println!("{shown}: the filter {name}, and its tests");
    println!("  cd {shown} && cargo test && tidegate filter build && tidegate filter test .");
    Ok(FINE)
}

/// Names are those of objects in Kubernetes, and of packages of cargo.
fn check(name: &str) -> anyhow::Result<()> {
    let words = name.split('-');
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
    if !begins || name.len() > LONGEST || !words.into_iter().all(is_word) {
        bail!(
            "{name:?} is no name for a filter: use words of lower-case letters and digits, with a letter first and single hyphens \
             between them, at most {LONGEST} bytes, as require-team"
        );
    }
    if TAKEN.contains(&name) {
        bail!(
            "{name:?} is taken: a package of this name cannot be built; choose another, as {name}-filter"
        );
    }
    Ok(())
}

fn require_empty(folder: &Path) -> anyhow::Result<()> {
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                bail!(
                    "{}: the folder is not empty, and nothing in it is overwritten; name another one with --path",
                    folder.display()
                );
            }
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| {
            format!(
                "{}: no folder can be made here; name another one with --path",
                folder.display()
            )
        }),
    }
}

/// A folder with an SDK, as the new manifest names it.
fn theirs(folder: &Path, sdk: &Path) -> anyhow::Result<String> {
    // Relative paths are the manifest's, so it is looked for from the new folder, which has to be there for `..` to lead anywhere.
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let manifest = folder.join(sdk).join("Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| {
        format!(
            "--sdk {}: no SDK is there; the path is relative to the new folder, and without --sdk the filter gets a copy",
            sdk.display()
        )
    })?;
    if !text.contains("name = \"tidegate-sdk\"") {
        bail!(
            "--sdk {}: {} is not the manifest of tidegate-sdk",
            sdk.display(),
            manifest.display()
        );
    }
    let sdk = sdk.to_str().context("--sdk: the path is no text")?;
    Ok(sdk.trim_end_matches('/').to_owned())
}

fn write(folder: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(path);
    let parent = path.parent().expect("each has a folder");
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// What stands for the places in the template.
struct Fill<'a> {
    name: &'a str,
    sdk: &'a str,
    is_copied: bool,
}

impl Fill<'_> {
    fn fill(&self, text: &str) -> String {
        let layout = if self.is_copied {
            "| `sdk/`, `wit/` | Tidegate's SDK and its interfaces, a copy: replace it to update |\n"
        } else {
            ""
        };
        text.replace("@CRATE@", &self.name.replace('-', "_"))
            .replace("@NAME@", self.name)
            .replace("@SDK@", self.sdk)
            .replace("@RUST@", env!("CARGO_PKG_RUST_VERSION"))
            .replace("@LAYOUT@", layout)
            .replace("@CASES@", &format!("{}/cases/README.md", self.sdk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["a", "require-team", "a1-b2", "x".repeat(63).as_str()] {
            check(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        for name in [
            "",
            "-",
            "a-",
            "-a",
            "a--b",
            "1a",
            "A",
            "a_b",
            "a.b",
            "a/b",
            "ä",
            "x".repeat(64).as_str(),
            "serde",
            "test",
            "tidegate-sdk",
        ] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn no_place_is_left_in_what_is_written() {
        for is_copied in [true, false] {
            let fill = Fill {
                name: "require-team",
                sdk: "sdk",
                is_copied,
            };
            for (path, text) in TEMPLATE {
                let text = fill.fill(text);
                let mut words = text.split('@').skip(1).step_by(2);
                assert!(
                    !words.any(|word| word.chars().all(|c| c.is_ascii_uppercase())),
                    "{path}: {text}"
                );
            }
        }
    }

    #[test]
    fn the_sdk_is_whole_and_inherits_nothing() {
        let text = |name: &str| {
            let found = SDK.iter().find(|(path, _)| *path == name);
            found.unwrap_or_else(|| panic!("{name} is missing")).1
        };
        for name in [
            "sdk/src/component/exports.rs",
            "sdk/cases/src/format.rs",
            "wit/host.wit",
            "sdk/LICENSE",
        ] {
            assert!(!text(name).is_empty());
        }
        for name in ["sdk/Cargo.toml", "sdk/cases/Cargo.toml"] {
            assert!(!text(name).contains("workspace"), "{}", text(name));
            assert!(text(name).contains("edition = \"2024\""));
        }
        assert!(
            text("sdk/Cargo.toml")
                .contains("regex-lite = { version = \"0.1.9\", optional = true }")
        );
        assert!(text("sdk/cases/Cargo.toml").contains("tidegate-sdk = { path = \"..\" }"));
    }
}
