//! `tidegate filter inspect`: what a module or component is, and what it needs, without running it.

mod needs;
mod read;
mod text;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidegate_filters::Bundled;
use tidegate_wasm::{AbiVersion, Engine, LoadError, has_wasi, world_of};

use super::arguments::Inspect;
use super::test::bundled_names;
use crate::args::Output;
use crate::{FINE, REFUSED};
use read::{Contents, Kind};

/// Exports that say which ABI a module speaks begin so.
const ABI: &str = "proxy_abi_version_";
/// Exports that a host calls begin so: of a module, and of a component.
const CALLBACKS: [&str; 2] = ["proxy_on_", "tidegate:filter/on-"];
/// A page of linear memory.
const PAGE: u64 = 64 << 10;

/// Prints what is known. The status is 1 where this host would not load it.
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
    let contents = Contents::read(&bytes).map_err(|error| {
        anyhow!("{name}: neither a WebAssembly module nor a component: {error}")
    })?;
    let looked = Engine::new()?.look(&bytes);
    let mut about = about(name, &bytes, &contents, &looked);
    if let Some(bundled) = bundled {
        say_bundled(&mut about, bundled);
    }
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&about)?),
        Output::Text => print!("{}", text::of(&about)),
    }
    Ok(if looked.is_ok() { FINE } else { REFUSED })
}

fn about(
    name: &str,
    bytes: &[u8],
    contents: &Contents,
    looked: &Result<AbiVersion, LoadError>,
) -> Value {
    let digest: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let is_callback = |name: &&String| CALLBACKS.iter().any(|start| name.starts_with(start));
    let callbacks: Vec<_> = contents.exports.iter().filter(is_callback).collect();
    let others = contents
        .exports
        .iter()
        .filter(|name| !name.starts_with(ABI));
    let others: Vec<_> = others.filter(|name| !is_callback(name)).collect();
    let producers = contents
        .producers
        .iter()
        .map(|one| json!({"field": one.field, "name": one.name, "version": one.version}));
    let sections = contents
        .custom
        .iter()
        .map(|(name, bytes)| json!({"name": name, "bytes": bytes}));
    let memories = contents.memories.iter().map(
        |(initial, maximum)| json!({"initialBytes": initial * PAGE, "maximumBytes": maximum.map(|pages| pages * PAGE)}),
    );
    let memories: Vec<Value> = memories.collect();
    let needs = needs::of(contents);
    let schema = contents.schema.as_deref();
    let schema = schema
        .map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())));
    json!({
        "module": name,
        "kind": contents.kind.as_str(),
        "loads": looked.is_ok(),
        "problem": looked.as_ref().err().map(ToString::to_string),
        "bytes": bytes.len(),
        "digest": format!("sha256:{digest}"),
        "abi": abi(contents),
        "world": world(contents),
        "languages": contents.languages(),
        "producers": producers.collect::<Vec<_>>(),
        "memory": memories.first(),
        "memories": memories,
        "functions": contents.functions,
        "callbacks": callbacks,
        "exports": others,
        "imports": contents.imported(),
        "wasi": wasi(contents),
        "needs": needs.iter().map(|need| need.name).collect::<Vec<_>>(),
        "grants": needs.iter().map(needs::Need::about).collect::<Vec<_>>(),
        "customSections": sections.collect::<Vec<_>>(),
        "schema": schema,
    })
}

/// What the host knows of its own filters beside their bytes.
fn say_bundled(about: &mut Value, bundled: &Bundled) {
    let millis = |limit: std::time::Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    about["description"] = bundled.description.into();
    about["headersWaitForBody"] = bundled.holds_head.into();
    about["callTimeoutMs"] = bundled.call_timeout.map(millis).into();
}

/// Versions of the proxy-wasm ABI that a module says it speaks.
fn abi(contents: &Contents) -> Vec<String> {
    let versions = contents
        .exports
        .iter()
        .filter_map(|name| name.strip_prefix(ABI));
    versions.map(|version| version.replace('_', ".")).collect()
}

/// The world of a component, as its exports tell it.
fn world(contents: &Contents) -> Option<String> {
    let exports = contents.exports.iter().map(String::as_str);
    (contents.kind == Kind::Component).then(|| world_of(exports))
}

/// What of WASI it wants: what filters have, and what ends it when it is called. Modules get the whole of preview 1, as in Envoy.
fn wasi(contents: &Contents) -> Value {
    let wanted = contents
        .imports
        .keys()
        .filter(|name| name.starts_with("wasi"));
    let is_there = |name: &&String| contents.kind == Kind::Module || has_wasi(name);
    let (there, absent): (Vec<&String>, Vec<&String>) = wanted.partition(is_there);
    json!({"there": there, "absent": absent})
}
