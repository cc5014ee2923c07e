//! The table, its cases and its documentation belong together.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::table::{REMOVED, Row, State, TABLE, Wrong};

const BEGIN: &str = "<!-- table: begin -->\n";
const END: &str = "<!-- table: end -->\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read_names() -> impl Iterator<Item = &'static Row> {
    TABLE
        .iter()
        .filter(|row| matches!(row.state, State::Read { .. }))
}

#[test]
fn every_name_that_is_read_has_its_cases() {
    for row in read_names() {
        for folder in [
            "host/controller/tests/golden/annotations",
            "host/tests/annotations",
        ] {
            let folder = root().join(folder).join(row.name);
            let cases = std::fs::read_dir(&folder)
                .map(Iterator::count)
                .unwrap_or_default();
            assert!(
                cases > 0,
                "{} has no case in {}",
                row.name,
                folder.display()
            );
        }
    }
}

/// `UPDATE_DOCS=1` writes it.
#[test]
fn the_documentation_has_the_table() {
    let file = root().join("docs/ingress-nginx.md");
    let text = std::fs::read_to_string(&file).expect("docs/ingress-nginx.md");
    let (head, rest) = text.split_once(BEGIN).expect("the beginning of the table");
    let (actual, tail) = rest.split_once(END).expect("its end");
    let expected = documented();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, format!("{head}{BEGIN}{expected}{END}{tail}")).expect("written");
    } else {
        assert!(
            actual == expected,
            "docs/ingress-nginx.md differs from the table; run with UPDATE_DOCS=1"
        );
    }
}

fn documented() -> String {
    let mut text = String::from(
        "| Annotation | Value | Concerns | Becomes | A wrong value | Since |\n|---|---|---|---|---|---|\n",
    );
    for row in read_names() {
        let State::Read { since, wrong } = row.state else {
            continue;
        };
        let wrong = match wrong {
            Wrong::Ignored => "counts as absent",
            Wrong::Denied => "503",
            Wrong::Dropped => "404",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {wrong} | {since} |",
            row.name, row.value, row.scope, row.policy
        );
    }
    text.push_str("\nNot read yet: a warning names each of these. Those with 503 keep somebody out, so paths that have them are closed; \
         where they concern the host, so are its paths in other Ingresses of the namespace, and those of other namespaces are told.\n\n");
    text.push_str("| Annotation | Concerns | Will become | Meanwhile |\n|---|---|---|---|\n");
    for row in TABLE {
        let State::Unread { guards } = row.state else {
            continue;
        };
        let meanwhile = match (row.name, guards) {
            ("server-snippet", _) => "503 where it has lines that keep clients out",
            (_, true) => "503",
            (_, false) => "no effect",
        };
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {meanwhile} |",
            row.name, row.scope, row.policy
        );
    }
    text.push_str("\nGone from ingress-nginx itself: ");
    let removed: Vec<String> = REMOVED
        .iter()
        .map(|(name, instead)| format!("`{name}` ({instead})"))
        .collect();
    let _ = writeln!(text, "{}.", removed.join(", "));
    text
}
