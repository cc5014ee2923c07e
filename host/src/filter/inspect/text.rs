//! The same for people.

use std::fmt::Write as _;

use serde_json::Value;
use tidegate_filters::SCHEMA_SECTION;

struct Lines(String);

impl Lines {
    fn line(&mut self, name: &str, value: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{name:<12}{value}");
    }

    /// A line for what is there.
    fn text(&mut self, name: &str, value: &Value) {
        if let Some(text) = value.as_str() {
            self.line(name, text);
        }
    }
}

/// The lines of `tidegate filter inspect`.
pub(super) fn of(about: &Value) -> String {
    let mut out = Lines(String::new());
    let kind = about["kind"].as_str().unwrap_or_default();
    out.text(kind, &about["module"]);
    out.text("does", &about["description"]);
    match about["problem"].as_str() {
        Some(problem) => out.line("loads", &format!("no: {problem}")),
        None => out.line("loads", "yes, as far as its names tell"),
    }
    let bytes = about["bytes"].as_u64().unwrap_or(0);
    let functions = &about["functions"];
    let kib = bytes.div_ceil(1024);
    out.line(
        "size",
        &format!("{bytes} bytes ({kib} KiB), {functions} functions"),
    );
    out.text("digest", &about["digest"]);
    if kind == "module" {
        out.line("abi", &list(&about["abi"]));
    }
    out.text("world", &about["world"]);
    out.line("languages", &list(&about["languages"]));
    made_by(&mut out, about);
    memory(&mut out, about);
    needs(&mut out, about);
    out.line("callbacks", &list(&about["callbacks"]));
    out.line("exports", &list(&about["exports"]));
    out.line("imports", &list(&about["imports"]));
    let absent = &about["wasi"]["absent"];
    if kind == "component" {
        out.line("wasi", &list(&about["wasi"]["there"]));
    }
    if absent.as_array().is_some_and(|absent| !absent.is_empty()) {
        let absent = list(absent);
        out.line(
            "",
            &format!("not there, and a trap when it is called: {absent}"),
        );
    }
    match &about["schema"] {
        Value::Null => out.line("schema", &format!("none (custom section {SCHEMA_SECTION})")),
        schema => {
            let schema = serde_json::to_string_pretty(schema).unwrap_or_default();
            out.line("schema", &format!("of its configuration:\n{schema}"));
        }
    }
    out.0
}

fn made_by(out: &mut Lines, about: &Value) {
    let producers = about["producers"].as_array().into_iter().flatten();
    let tools = producers.filter(|one| one["field"] != "language");
    let tools = tools.map(|one| {
        let part = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        format!("{} {}", part("name"), part("version"))
            .trim()
            .to_owned()
    });
    let tools: Vec<String> = tools.collect();
    if !tools.is_empty() {
        out.line("made by", &tools.join(", "));
    }
}

fn memory(out: &mut Lines, about: &Value) {
    for memory in about["memories"].as_array().into_iter().flatten() {
        let initial = memory["initialBytes"].as_u64().unwrap_or(0) / 1024;
        let most = match memory["maximumBytes"].as_u64() {
            None => "no limit of its own".to_owned(),
            Some(most) => format!("at most {} KiB", most / 1024),
        };
        out.line("memory", &format!("{initial} KiB at first, {most}"));
    }
}

fn needs(out: &mut Lines, about: &Value) {
    out.line("may ask for", &list(&about["needs"]));
    for grant in about["grants"].as_array().into_iter().flatten() {
        let part = |name: &str| grant[name].as_str().unwrap_or_default();
        let because = list(&grant["because"]);
        let (name, field) = (part("name"), part("field"));
        let granted = match name {
            "clusters" => format!("{field} declares each place that it may call ({because})"),
            name => format!("{name} in {field}, or no such list ({because})"),
        };
        out.line("", &granted);
    }
    if let Some(field) = about["headersWaitForBody"].as_str() {
        out.line(
            "",
            &format!("headersWaitForBody: true where its configuration has {field}"),
        );
    }
    if let Some(limit) = about["callTimeoutMs"].as_u64() {
        out.line(
            "",
            &format!("limits.callTimeout: {limit}ms (what it has if nothing else is said)"),
        );
    }
}

fn list(value: &Value) -> String {
    let words = value.as_array().into_iter().flatten();
    let words: Vec<&str> = words.filter_map(Value::as_str).collect();
    match words[..] {
        [] => "none".to_owned(),
        _ => words.join(", "),
    }
}
