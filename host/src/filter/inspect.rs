//! `tidegate filter inspect`: what a module is, and what it needs, without running it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidegate_filters::SCHEMA_SECTION;
use wasmparser::{ExternalKind, KnownCustom, Parser, Payload};

use super::arguments::Inspect;
use super::test::bundled_names;
use crate::args::Output;
use crate::{FINE, REFUSED};

/// Exports that say which ABI a module speaks begin so.
const ABI: &str = "proxy_abi_version_";
/// Exports that a host calls begin so.
const CALLBACK: &str = "proxy_on_";
/// A page of linear memory.
const PAGE: u64 = 64 << 10;

/// What hostcalls need of a Filter's `spec.capabilities`, or of `spec.clusters`.
const NEEDS: [(&str, &[&str]); 7] = [
    (
        "clusters",
        &["proxy_http_call", "proxy_grpc_call", "proxy_grpc_stream"],
    ),
    (
        "shared-data",
        &["proxy_get_shared_data", "proxy_set_shared_data"],
    ),
    (
        "shared-queues",
        &[
            "proxy_register_shared_queue",
            "proxy_resolve_shared_queue",
            "proxy_enqueue_shared_queue",
            "proxy_dequeue_shared_queue",
        ],
    ),
    (
        "metrics",
        &[
            "proxy_define_metric",
            "proxy_increment_metric",
            "proxy_record_metric",
            "proxy_get_metric",
        ],
    ),
    ("timers", &["proxy_set_tick_period_milliseconds"]),
    ("properties", &["proxy_get_property", "proxy_set_property"]),
    ("foreign-functions", &["proxy_call_foreign_function"]),
];

/// What was read of a module.
#[derive(Default)]
struct Module {
    imports: Vec<(String, String)>,
    exports: Vec<String>,
    memory: Option<(u64, Option<u64>)>,
    functions: usize,
    producers: Vec<(String, String, String)>,
    schema: Option<String>,
    custom: Vec<(String, usize)>,
}

/// Prints what is known. The status is 1 where it is no filter.
pub(crate) fn run(arguments: &Inspect) -> anyhow::Result<u8> {
    let name = &arguments.module;
    let bundled = tidegate_filters::get(name);
    let bytes = match bundled {
        Some(filter) => filter.module.to_vec(),
        None => std::fs::read(name).with_context(|| {
            let names = bundled_names();
            format!(
                "{name}: neither a bundled filter nor a file that can be read; bundled are: {names}"
            )
        })?,
    };
    if bytes.starts_with(b"\0asm") && bytes.get(4..8) != Some(&[1, 0, 0, 0]) {
        bail!("{name}: this is a WebAssembly component, not a module; build for wasm32-wasip1");
    }
    let module =
        Module::read(&bytes).map_err(|error| anyhow!("{name}: no WebAssembly module: {error}"))?;
    let about = module.about(name, &bytes, bundled);
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&about)?),
        Output::Text => print!("{}", text(&about)),
    }
    Ok(if module.abi().is_empty() {
        REFUSED
    } else {
        FINE
    })
}

// === impl Module ===

impl Module {
    fn read(bytes: &[u8]) -> Result<Self, wasmparser::BinaryReaderError> {
        let mut module = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        module
                            .imports
                            .push((import.module.to_owned(), import.name.to_owned()));
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if export.kind == ExternalKind::Func {
                            module.exports.push(export.name.to_owned());
                        }
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        let memory = memory?;
                        module.memory = Some((memory.initial, memory.maximum));
                    }
                }
                Payload::FunctionSection(section) => {
                    module.functions = section.count() as usize;
                }
                Payload::CustomSection(section) => module.custom(&section)?,
                _ => {}
            }
        }
        Ok(module)
    }

    fn custom(
        &mut self,
        section: &wasmparser::CustomSectionReader<'_>,
    ) -> Result<(), wasmparser::BinaryReaderError> {
        self.custom
            .push((section.name().to_owned(), section.data().len()));
        if section.name() == SCHEMA_SECTION {
            self.schema = Some(String::from_utf8_lossy(section.data()).into_owned());
        }
        if let KnownCustom::Producers(producers) = section.as_known() {
            for field in producers {
                let field = field?;
                for value in field.values {
                    let value = value?;
                    self.producers.push((
                        field.name.to_owned(),
                        value.name.to_owned(),
                        value.version.to_owned(),
                    ));
                }
            }
        }
        Ok(())
    }

    fn abi(&self) -> Vec<String> {
        let versions = self
            .exports
            .iter()
            .filter_map(|name| name.strip_prefix(ABI));
        versions.map(|version| version.replace('_', ".")).collect()
    }

    fn needs(&self) -> Vec<&'static str> {
        let imported = |name: &&str| self.imports.iter().any(|(_, import)| import == name);
        let needed = NEEDS
            .iter()
            .filter(|(_, calls)| calls.iter().any(&imported));
        needed.map(|(need, _)| *need).collect()
    }

    fn about(
        &self,
        name: &str,
        bytes: &[u8],
        bundled: Option<&tidegate_filters::Bundled>,
    ) -> Value {
        let digest: String = Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let names: BTreeSet<&String> = self.exports.iter().collect();
        let callbacks: Vec<&&String> = names
            .iter()
            .filter(|name| name.starts_with(CALLBACK))
            .collect();
        let others: Vec<&&String> = names
            .iter()
            .filter(|name| !name.starts_with(CALLBACK) && !name.starts_with(ABI))
            .collect();
        let imports: BTreeSet<String> = self
            .imports
            .iter()
            .map(|(module, name)| format!("{module}.{name}"))
            .collect();
        let memory = self.memory.map(|(initial, maximum)| {
            json!({"initialBytes": initial * PAGE, "maximumBytes": maximum.map(|pages| pages * PAGE)})
        });
        let producers = self.producers.iter().map(
            |(field, name, version)| json!({"field": field, "name": name, "version": version}),
        );
        let sections = self
            .custom
            .iter()
            .map(|(name, bytes)| json!({"name": name, "bytes": bytes}));
        json!({
            "module": name,
            "description": bundled.map(|filter| filter.description),
            "bytes": bytes.len(),
            "digest": format!("sha256:{digest}"),
            "abi": self.abi(),
            "producers": producers.collect::<Vec<_>>(),
            "memory": memory,
            "functions": self.functions,
            "callbacks": callbacks,
            "exports": others,
            "imports": imports,
            "needs": self.needs(),
            "headersWaitForBody": bundled.and_then(|filter| filter.holds_head),
            "callTimeoutMs": bundled.and_then(|filter| filter.call_timeout).map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
            "customSections": sections.collect::<Vec<_>>(),
            "schema": self.schema.as_deref().map(|schema| serde_json::from_str(schema).unwrap_or_else(|_| Value::String(schema.to_owned()))),
        })
    }
}

fn list(value: &Value) -> String {
    let words: Vec<&str> = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match words[..] {
        [] => "none".to_owned(),
        _ => words.join(", "),
    }
}

fn text(about: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<12}{value}");
    };
    line("module", about["module"].as_str().unwrap_or_default());
    if let Some(description) = about["description"].as_str() {
        line("does", description);
    }
    let bytes = about["bytes"].as_u64().unwrap_or(0);
    line(
        "size",
        &format!(
            "{bytes} bytes ({} KiB), {} functions",
            bytes.div_ceil(1024),
            about["functions"]
        ),
    );
    line("digest", about["digest"].as_str().unwrap_or_default());
    match list(&about["abi"]).as_str() {
        "none" => line(
            "abi",
            "none: this is no proxy-wasm module, and no host runs it as a filter",
        ),
        abi => line("abi", abi),
    }
    let producers: Vec<String> = about["producers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|producer| {
            format!(
                "{} {}",
                producer["name"].as_str().unwrap_or_default(),
                producer["version"].as_str().unwrap_or_default()
            )
            .trim()
            .to_owned()
        })
        .collect();
    if !producers.is_empty() {
        line("made by", &producers.join(", "));
    }
    let memory = &about["memory"];
    if let Some(initial) = memory["initialBytes"].as_u64() {
        let most = memory["maximumBytes"].as_u64().map_or_else(
            || "no limit of its own".to_owned(),
            |most| format!("at most {} KiB", most / 1024),
        );
        line(
            "memory",
            &format!("{} KiB at first, {most}", initial / 1024),
        );
    }
    line("needs", &list(&about["needs"]));
    if let Some(field) = about["headersWaitForBody"].as_str() {
        line(
            "",
            &format!("headersWaitForBody: true where its configuration has {field}"),
        );
    }
    if let Some(limit) = about["callTimeoutMs"].as_u64() {
        line(
            "",
            &format!("limits.callTimeout: {limit}ms (what it has if nothing else is said)"),
        );
    }
    line("callbacks", &list(&about["callbacks"]));
    line("exports", &list(&about["exports"]));
    line("imports", &list(&about["imports"]));
    match &about["schema"] {
        Value::Null => line("schema", &format!("none (custom section {SCHEMA_SECTION})")),
        schema => {
            let schema = serde_json::to_string_pretty(schema).unwrap_or_default();
            line("schema", &format!("of its configuration:\n{schema}"));
        }
    }
    out
}
