//! Wrong manifests, and every word that is said about them.
//!
//! Each `wrong/<case>.yaml`, and each folder `wrong/<case>/`, is read, admitted and translated as `tidegate check` would.
//! What is said must be exactly the lines that begin with `#= ` in the file, or the lines of `.expected` in the folder: a
//! message names the object, the field, what is wrong and what to do. `UPDATE_WRONG=1` writes them; they are to be read
//! with the eyes of whoever made the mistake before they are kept.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tidegate_controller::manifests::Manifests;
use tidegate_controller::status::{Condition, ObjectStatus, Statuses};
use tidegate_controller::translate::{Options, translate};
use tidegate_model::FilterVerdicts;

/// Relative, as tests run in the folder of the package: so places read alike everywhere.
const ROOT: &str = "tests/wrong";
const MARK: &str = "#= ";

#[test]
fn messages() {
    let update = std::env::var_os("UPDATE_WRONG").is_some();
    let mut failures = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    for case in &cases {
        let actual = complaints(case);
        if update {
            keep(case, &actual);
            continue;
        }
        let expected = expected(case);
        if actual.is_empty() {
            failures.push(format!("{}: nothing is said", case.display()));
        } else if actual != expected {
            failures.push(format!(
                "{}\n  expected:\n    {}\n  actual:\n    {}",
                case.display(),
                expected.join("\n    "),
                actual.join("\n    ")
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(ROOT).expect("the folder is there");
    let mut cases: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    cases.sort();
    cases
}

/// Everything that is said, a line each.
fn complaints(case: &Path) -> Vec<String> {
    let loaded = Manifests::new([case]).reload();
    let translation = translate(
        &loaded.resources,
        &FilterVerdicts::default(),
        &Options::default(),
    );
    let mut lines: Vec<String> = errors(&translation.statuses);
    lines.extend(
        translation
            .warnings
            .iter()
            .map(|warning| format!("warning: {warning}")),
    );
    for status in translation.statuses.objects.values() {
        about(status, &mut lines);
    }
    let prefix = format!("{ROOT}/");
    lines
        .iter()
        .map(|line| line.replace(&prefix, "").replace('\n', "\\n"))
        .collect()
}

fn errors(statuses: &Statuses) -> Vec<String> {
    let errors = statuses.errors.iter();
    errors
        .map(|error| format!("{}: {}", error.source, error.message))
        .collect()
}

fn about(status: &ObjectStatus, lines: &mut Vec<String>) {
    let name = format!("{} {}", status.kind, status.key);
    let troubles = status
        .conditions
        .iter()
        .filter(|condition| is_trouble(condition));
    // That nothing can be loaded follows from what is said before it.
    let told = troubles
        .clone()
        .any(|condition| condition.r#type != "Loaded");
    for condition in troubles.filter(|condition| !told || condition.r#type != "Loaded") {
        lines.push(format!("{name}: {}", shown(condition)));
    }
    for parent in &status.parents {
        let reference = &parent.parent_ref;
        for condition in parent
            .conditions
            .iter()
            .filter(|condition| is_trouble(condition))
        {
            lines.push(format!(
                "{name}, parent {} {}: {}",
                reference.kind,
                reference.name,
                shown(condition)
            ));
        }
    }
    for ancestor in &status.ancestors {
        let reference = &ancestor.ancestor_ref;
        let news = |condition: &&Condition| {
            is_trouble(condition) && !status.conditions.contains(condition)
        };
        for condition in ancestor.conditions.iter().filter(news) {
            lines.push(format!(
                "{name}, for {} {}: {}",
                reference.kind,
                reference.name,
                shown(condition)
            ));
        }
    }
    for listener in &status.listeners {
        for condition in listener
            .conditions
            .iter()
            .filter(|condition| is_trouble(condition))
        {
            lines.push(format!(
                "{name}, listener {}: {}",
                listener.name,
                shown(condition)
            ));
        }
    }
    lines.extend(
        status
            .warnings
            .iter()
            .map(|warning| format!("{name}: warning: {warning}")),
    );
    lines.extend(
        status
            .ignored
            .iter()
            .map(|why| format!("{name}: ignored: {why}")),
    );
}

fn shown(condition: &Condition) -> String {
    let Condition {
        r#type,
        status,
        reason,
        message,
        ..
    } = condition;
    format!("{type}={status:?} {reason}: {message}")
}

/// Most conditions are good when they hold; these are not.
fn is_trouble(condition: &Condition) -> bool {
    let bad_news = ["Conflicted", "OverlappingTLSConfig", "PartiallyInvalid"];
    match format!("{:?}", condition.status).as_str() {
        "True" => bad_news.contains(&condition.r#type),
        "False" => !bad_news.contains(&condition.r#type),
        _ => false,
    }
}

fn expected(case: &Path) -> Vec<String> {
    if case.is_dir() {
        let text = fs::read_to_string(case.join(".expected")).unwrap_or_default();
        return text.lines().map(str::to_owned).collect();
    }
    let text = fs::read_to_string(case).expect("the case can be read");
    text.lines()
        .filter_map(|line| line.strip_prefix(MARK))
        .map(str::to_owned)
        .collect()
}

fn keep(case: &Path, lines: &[String]) {
    if case.is_dir() {
        let text: String = lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        });
        fs::write(case.join(".expected"), text).expect("the messages can be written");
        return;
    }
    let text = fs::read_to_string(case).expect("the case can be read");
    let mut kept: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with(MARK))
        .map(str::to_owned)
        .collect();
    // At the end, where they move no line of the manifest.
    kept.extend(lines.iter().map(|line| format!("{MARK}{line}")));
    fs::write(case, kept.join("\n") + "\n").expect("the messages can be written");
}
