//! Random valid modules with the shape of a filter, and modules whose bytes were damaged.

use std::sync::{Arc, LazyLock};

use arbitrary::Unstructured;
use bytes::Bytes;
use tidegate_wasm::{Shared, Vm};
use wasm_smith::Config;

use crate::{events, limits};

/// What a random module may import: hostcalls of all shapes.
const IMPORTS: &str = r#"(module
    (import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_value" (func (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_header_map_pairs" (func (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_buffer_bytes" (func (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_buffer_bytes" (func (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_property" (func (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_send_local_response" (func (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_shared_data" (func (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_define_metric" (func (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_record_metric" (func (param i32 i64) (result i32)))
    (import "env" "proxy_set_effective_context" (func (param i32) (result i32)))
    (import "env" "proxy_done" (func (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#;

/// What it exports.
const EXPORTS: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "malloc") (param i32) (result i32) i32.const 0)
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const 1)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 0)
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) i32.const 0)
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) i32.const 0)
    (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) i32.const 0)
    (func (export "proxy_on_tick") (param i32))
    (func (export "proxy_on_log") (param i32))
    (func (export "proxy_on_done") (param i32) (result i32) i32.const 1)
    (func (export "proxy_on_delete") (param i32)))"#;

static SHAPE: LazyLock<[Vec<u8>; 2]> =
    LazyLock::new(|| [IMPORTS, EXPORTS].map(|text| wat::parse_str(text).expect("WAT")));

/// How far a module came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The bytes were too few to make one.
    Unmade,
    /// It was refused.
    Refused,
    /// It does not start.
    Compiled,
    /// It refuses its configuration, or traps on it.
    Started,
    /// It got streams.
    Served,
}

/// Runs one case.
pub(crate) fn run(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Stage> {
    let wasm = module(bytes)?;
    let wasm = if bytes.ratio(1_u8, 4_u8)? {
        damaged(bytes, wasm)?
    } else {
        wasm
    };
    // A refusal is as good as a module: only panics are looked for.
    let Ok(module) = limits::engine().compile(&wasm) else {
        return Ok(Stage::Refused);
    };
    let vm = Vm::start(&module, Arc::new(limits::vm_config()), Shared::new());
    let Ok(mut vm) = vm else {
        return Ok(Stage::Compiled);
    };
    let plugin = Arc::new(limits::plugin(Bytes::from_static(b"{}")));
    let Ok(root) = vm.add_root(plugin.clone()) else {
        return Ok(Stage::Started);
    };
    events::run(bytes, &mut vm, root, &plugin);
    Ok(Stage::Served)
}

fn module(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let [imports, exports] = &*SHAPE;
    let shaped = bytes.ratio(5_u8, 6_u8)?;
    // What the engine has switched off must be refused, which a random module finds out too.
    let unusual = bytes.ratio(1_u8, 8_u8)?;
    let config = Config {
        available_imports: Some(imports.clone()),
        exports: shaped.then(|| exports.clone()),
        allow_start_export: bytes.arbitrary()?,
        min_funcs: 1,
        max_funcs: 24,
        max_instructions: 200,
        max_memories: if unusual { 2 } else { 1 },
        max_memory32_bytes: 8 << 20,
        max_tables: 4,
        max_table_elements: 1_000,
        max_data_segments: 8,
        // Only functions are referred to by filters: what else this brings needs a collector, which the engine has not.
        reference_types_enabled: unusual,
        exceptions_enabled: unusual,
        gc_enabled: unusual,
        memory64_enabled: unusual,
        threads_enabled: unusual,
        tail_call_enabled: unusual,
        relaxed_simd_enabled: unusual,
        wide_arithmetic_enabled: false,
        custom_page_sizes_enabled: false,
        ..Config::default()
    };
    let mut module = wasm_smith::Module::new(config, bytes)?;
    // Now and then a loop may last until its deadline.
    if bytes.ratio(15_u8, 16_u8)? {
        // A module that cannot be given fuel runs into its deadline instead.
        let _ = module.ensure_termination(10_000);
    }
    Ok(module.to_bytes())
}

fn damaged(bytes: &mut Unstructured<'_>, mut wasm: Vec<u8>) -> arbitrary::Result<Vec<u8>> {
    for _ in 0..bytes.int_in_range(1..=8)? {
        if wasm.is_empty() {
            break;
        }
        let at = bytes.choose_index(wasm.len())?;
        match bytes.int_in_range(0..=2)? {
            0 => wasm[at] = bytes.arbitrary()?,
            1 => wasm.truncate(at),
            _ => wasm.insert(at, bytes.arbitrary()?),
        }
    }
    Ok(wasm)
}
