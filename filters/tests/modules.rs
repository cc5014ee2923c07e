//! The embedded modules are what a proxy-wasm host expects, and carry their schema.

use std::collections::BTreeSet;

use tidegate_filters::{Bundled, SCHEMA_SECTION, all, get};
use wasmparser::{Parser, Payload};

/// Bytes of a module at the most. Cryptography with public keys takes more.
fn max_size(name: &str) -> usize {
    match name {
        "jwt" | "oidc" => 1024 * 1024,
        _ => 400 * 1024,
    }
}

/// What Envoy provides beside the hostcalls of the ABI, of which the Rust toolchain uses these.
const WASI: [&str; 6] = [
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_write",
    "proc_exit",
    "random_get",
];

struct Contents {
    exports: BTreeSet<String>,
    imports: Vec<(String, String)>,
    schema: Vec<u8>,
    debug: Vec<String>,
}

fn contents(filter: &Bundled) -> Contents {
    let mut contents = Contents {
        exports: BTreeSet::new(),
        imports: Vec::new(),
        schema: Vec::new(),
        debug: Vec::new(),
    };
    for payload in Parser::new(0).parse_all(filter.module) {
        match payload.expect("a valid module") {
            Payload::ExportSection(section) => {
                let names = section
                    .into_iter()
                    .map(|export| export.expect("a valid export").name.to_owned());
                contents.exports.extend(names);
            }
            Payload::ImportSection(section) => {
                let imports = section
                    .into_imports()
                    .map(|import| import.expect("a valid import"));
                contents.imports.extend(
                    imports.map(|import| (import.module.to_owned(), import.name.to_owned())),
                );
            }
            Payload::CustomSection(section) if section.name() == SCHEMA_SECTION => {
                contents.schema.extend_from_slice(section.data());
            }
            Payload::CustomSection(section)
                if section.name().starts_with(".debug") || section.name() == "name" =>
            {
                contents.debug.push(section.name().to_owned());
            }
            _ => {}
        }
    }
    contents
}

#[test]
fn filters_are_found_by_name() {
    let names: Vec<_> = all().iter().map(|filter| filter.name).collect();
    assert!(names.is_sorted() && names.len() == 19, "{names:?}");
    for name in names {
        assert_eq!(get(name).unwrap().name, name);
    }
    assert!(get("").is_none());
    assert!(get("CORS").is_none());
}

#[test]
fn modules_are_small_and_stripped() {
    for filter in all() {
        assert!(filter.module.starts_with(b"\0asm"), "{}", filter.name);
        assert!(
            filter.module.len() <= max_size(filter.name),
            "{} has {} bytes",
            filter.name,
            filter.module.len()
        );
        assert_eq!(contents(filter).debug, [""; 0], "{}", filter.name);
    }
}

#[test]
fn modules_export_the_abi() {
    for filter in all() {
        let Contents { exports, .. } = contents(filter);
        for name in [
            "proxy_abi_version_0_2_1",
            "_initialize",
            "memory",
            "proxy_on_memory_allocate",
            "proxy_on_context_create",
            "proxy_on_configure",
            "proxy_on_request_headers",
        ] {
            assert!(exports.contains(name), "{} lacks {name}", filter.name);
        }
    }
}

/// What is called for a body, and for what a filter waits for.
const BEYOND_HEADS: [&str; 8] = [
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_http_call_response",
    "proxy_on_grpc_receive",
    "proxy_on_grpc_close",
    "proxy_on_tick",
];

#[test]
fn modules_that_decide_by_heads_are_called_for_nothing_else() {
    let waits = [
        "body-limit",
        "error-pages",
        "ext-auth",
        "fault",
        "hmac",
        "jwt",
        "oidc",
        "rate-limit",
        "request-block",
    ];
    for filter in all() {
        let Contents { exports, .. } = contents(filter);
        for name in BEYOND_HEADS {
            assert_eq!(
                exports.contains(name),
                waits.contains(&filter.name),
                "{name} of {}",
                filter.name
            );
        }
    }
}

#[test]
fn modules_import_nothing_that_envoy_lacks() {
    for filter in all() {
        for (module, name) in contents(filter).imports {
            let known = match module.as_str() {
                "env" => name.starts_with("proxy_") && name != "proxy_get_log_level",
                "wasi_snapshot_preview1" => WASI.contains(&name.as_str()),
                _ => false,
            };
            assert!(known, "{} imports {module}.{name}", filter.name);
        }
    }
}

#[test]
fn modules_carry_their_schema() {
    for filter in all() {
        assert_eq!(
            String::from_utf8(contents(filter).schema).unwrap(),
            filter.schema,
            "{}",
            filter.name
        );
    }
}

#[test]
fn modules_hold_no_path_of_the_machine_that_built_them() {
    for filter in all() {
        for path in [env!("CARGO_MANIFEST_DIR"), "/.cargo/registry/"] {
            let found = filter
                .module
                .windows(path.len())
                .any(|window| window == path.as_bytes());
            assert!(!found, "{} holds {path}", filter.name);
        }
    }
}
