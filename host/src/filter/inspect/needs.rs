//! What a filter may ask its host for, as its imports tell, and which field of a Filter grants it.
//!
//! Imports are more than needs: the SDK of proxy-wasm for Rust imports whatever it knows. What a filter does ask for shows when it
//! is tried out (`tidegate check`), and is refused there if it is not granted.

use serde_json::{Value, json};

use super::read::Contents;

/// Something that a Filter grants.
pub(super) struct Need {
    pub(super) name: &'static str,
    /// The functions that make it possible to ask for it.
    functions: Vec<&'static str>,
}

const CAPABILITIES: &str = "spec.capabilities";

/// A function of an interface of `tidegate:filter`.
type Method = (&'static str, &'static str);
/// Name of a group, and the functions of modules (`env`) and of components in it.
type Group = (&'static str, &'static [&'static str], &'static [Method]);

const GROUPS: [Group; 7] = [
    (
        "clusters",
        &["proxy_http_call", "proxy_grpc_call", "proxy_grpc_stream"],
        &[
            ("http", "[method]plugin.http-call"),
            ("http", "[method]plugin.grpc-call"),
        ],
    ),
    (
        "shared-data",
        &["proxy_get_shared_data", "proxy_set_shared_data"],
        &[("shared-data", "get"), ("shared-data", "set")],
    ),
    (
        "shared-queues",
        &[
            "proxy_register_shared_queue",
            "proxy_resolve_shared_queue",
            "proxy_enqueue_shared_queue",
            "proxy_dequeue_shared_queue",
        ],
        &[],
    ),
    (
        "metrics",
        &[
            "proxy_define_metric",
            "proxy_increment_metric",
            "proxy_record_metric",
            "proxy_get_metric",
        ],
        &[
            ("metrics", "[static]metric.define"),
            ("metrics", "[method]metric.increment"),
            ("metrics", "[method]metric.observe"),
            ("metrics", "[method]metric.value"),
        ],
    ),
    (
        "timers",
        &["proxy_set_tick_period_milliseconds"],
        &[("http", "[method]plugin.set-tick-period")],
    ),
    (
        "properties",
        &["proxy_get_property", "proxy_set_property"],
        &[
            ("http", "[method]plugin.property"),
            ("http", "[method]exchange.property"),
            ("http", "[method]exchange.set-property"),
        ],
    ),
    ("foreign-functions", &["proxy_call_foreign_function"], &[]),
];

/// What its imports make possible, in the order of the documentation.
pub(super) fn of(contents: &Contents) -> Vec<Need> {
    let of_module = contents.imports.get("env");
    let is_imported = |name: &&&str| of_module.is_some_and(|names| names.contains(**name));
    let is_wanted = |(interface, name): &&Method| {
        let prefix = format!("tidegate:filter/{interface}@");
        let mut matching = contents.imports.iter();
        matching.any(|(import, names)| import.starts_with(&prefix) && names.contains(*name))
    };
    GROUPS
        .iter()
        .filter_map(|(name, functions, methods)| {
            let functions = functions.iter().filter(is_imported).copied();
            let methods = methods.iter().filter(is_wanted).map(|(_, name)| *name);
            let functions: Vec<_> = functions.chain(methods).collect();
            (!functions.is_empty()).then_some(Need { name, functions })
        })
        .collect()
}

impl Need {
    pub(super) fn about(&self) -> Value {
        let field = match self.name {
            "clusters" => "spec.clusters",
            _ => CAPABILITIES,
        };
        json!({"name": self.name, "field": field, "because": self.functions})
    }
}
