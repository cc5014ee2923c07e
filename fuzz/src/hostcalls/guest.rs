//! The guest that interprets programs: each callback runs steps until one returns.

use std::fmt::Write as _;
use std::sync::LazyLock;

use tidegate_wasm::Module;

use super::table::FUNCTIONS;
use crate::limits;

/// Where the configuration lies in the guest's memory: the allocator's mode and the end of the steps, the steps, the data.
pub(super) const PROGRAM: usize = 0x1_0000;
pub(super) const STEPS: usize = PROGRAM + 64;
pub(super) const DATA: usize = 0x2_0000;
/// Bytes of a step: what to do, then its arguments. The upper half of the first word says which of them are addresses of values.
pub(super) const STEP: usize = 64;
/// What a step can be.
pub(super) const RETURN: u32 = 0;
pub(super) const TRAP: u32 = 1;
pub(super) const GROW: u32 = 2;
pub(super) const FIRST_CALL: u32 = 3;

/// Callbacks that return something, and how many parameters each has.
const ASKED: [(&str, usize); 9] = [
    ("proxy_on_vm_start", 2),
    ("proxy_on_configure", 2),
    ("proxy_on_done", 1),
    ("proxy_on_request_body", 3),
    ("proxy_on_request_trailers", 2),
    ("proxy_on_response_body", 3),
    ("proxy_on_response_trailers", 2),
    ("proxy_on_request_headers", 3),
    ("proxy_on_response_headers", 3),
];
/// Those that return nothing.
const TOLD: [(&str, usize); 10] = [
    ("proxy_on_context_create", 2),
    ("proxy_on_log", 1),
    ("proxy_on_delete", 1),
    ("proxy_on_tick", 1),
    ("proxy_on_queue_ready", 2),
    ("proxy_on_http_call_response", 5),
    ("proxy_on_grpc_receive_initial_metadata", 3),
    ("proxy_on_grpc_receive", 3),
    ("proxy_on_grpc_receive_trailing_metadata", 3),
    ("proxy_on_grpc_close", 3),
];

static CURRENT: LazyLock<Module> = LazyLock::new(|| compile(false));
static OLD: LazyLock<Module> = LazyLock::new(|| compile(true));

/// The guest, for version 0.2.1 or 0.1.0 of the ABI.
pub(super) fn module(old: bool) -> &'static Module {
    if old { &OLD } else { &CURRENT }
}

fn compile(old: bool) -> Module {
    let wasm = wat::parse_str(text(old)).expect("the guest is WAT");
    limits::engine()
        .compile(&wasm)
        .expect("the guest is a filter")
}

fn text(old: bool) -> String {
    let mut imports = String::new();
    let mut blocks = String::new();
    let mut targets = String::from("0 1 2");
    for (number, function) in FUNCTIONS.iter().enumerate() {
        let (label, parameters) = (number + FIRST_CALL as usize, function.parameters());
        // Writing to a String cannot fail.
        let _ = write!(targets, " {label}");
        if !function.is_in(old) {
            let _ = writeln!(blocks, ") (br $next)");
            continue;
        }
        let _ = writeln!(
            imports,
            "(import \"{}\" \"{}\" (func $f{number} (param {}) (result i32)))",
            function.module,
            function.name,
            parameters.join(" ")
        );
        let _ = write!(blocks, ") (i32.store (i32.const 8) (call $f{number}");
        for (at, kind) in parameters.iter().enumerate() {
            let argument = format!("(call $argument (local.get $pc) (i32.const {at}))");
            let _ = match *kind {
                "i64" => write!(blocks, " (i64.extend_i32_s {argument})"),
                _ => write!(blocks, " {argument}"),
            };
        }
        let _ = writeln!(blocks, ")) (br $next)");
    }
    let opened = "(block ".repeat(FUNCTIONS.len() + FIRST_CALL as usize);
    let (abi, callbacks) = callbacks(old);
    format!(
        r#"(module {imports}
        (memory (export "memory") 16)
        (global $pc (mut i32) (i32.const 0)) (global $heap (mut i32) (i32.const 0x40000)) (global $loaded (mut i32) (i32.const 0))
        (func (export "{abi}"))
        (func $argument (param $pc i32) (param $at i32) (result i32) (local $value i32)
          (local.set $value (i32.load offset=4 (i32.add (local.get $pc) (i32.shl (local.get $at) (i32.const 2)))))
          (if (i32.and (i32.shr_u (i32.load16_u offset=2 (local.get $pc)) (local.get $at)) (i32.const 1))
            (then (local.set $value (i32.load (i32.and (local.get $value) (i32.const 0xfffc))))))
          (local.get $value))
        (func $run (result i32) (local $pc i32)
          (if (i32.eqz (global.get $pc)) (then (return (i32.const 0))))
          (loop $next
            (local.set $pc (global.get $pc))
            (if (i32.ge_u (local.get $pc) (i32.load (i32.const {end}))) (then (return (i32.const 0))))
            (global.set $pc (i32.add (local.get $pc) (i32.const {STEP})))
            {opened}
              (br_table {targets} 0 (i32.load16_u (local.get $pc)))
            ) (return (call $argument (local.get $pc) (i32.const 0)))
            ) unreachable
            ) (drop (memory.grow (call $argument (local.get $pc) (i32.const 0)))) (br $next)
            {blocks})
          (i32.const 0))
        (func (export "proxy_on_memory_allocate") (param $size i32) (result i32) (local $mode i32) (local $at i32)
          (if (i32.eqz (global.get $loaded)) (then (global.set $loaded (i32.const 1)) (return (i32.const {PROGRAM}))))
          (local.set $mode (i32.load (i32.const {PROGRAM})))
          (if (i32.eq (local.get $mode) (i32.const 1)) (then (return (i32.const 0))))
          (if (i32.eq (local.get $mode) (i32.const 2)) (then (return (i32.const -16))))
          (if (i32.eq (local.get $mode) (i32.const 3)) (then unreachable))
          (if (i32.eq (local.get $mode) (i32.const 4)) (then (drop (call $run))))
          (if (i32.eq (local.get $mode) (i32.const 5)) (then (drop (memory.grow (i32.const 1)))))
          (if (i32.eq (local.get $mode) (i32.const 6)) (then (return (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 1)))))
          (local.set $at (i32.add (global.get $heap) (i32.eq (local.get $mode) (i32.const 7))))
          (global.set $heap (i32.add (local.get $at) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))
          (if (i32.gt_u (global.get $heap) (i32.const 0xe0000)) (then (global.set $heap (i32.const 0x40000))))
          (local.get $at))
        {callbacks})"#,
        end = PROGRAM + 4,
    )
}

/// The mark of the version, and the callbacks.
fn callbacks(old: bool) -> (&'static str, String) {
    let parameters = |name: &str, count: usize| {
        let fewer = usize::from(old && name.ends_with("_headers"));
        "i32 ".repeat(count - fewer)
    };
    let mut text = String::new();
    for (name, count) in ASKED {
        let body = match name {
            "proxy_on_vm_start" => "(i32.const 1)",
            // Loads the program first.
            "proxy_on_configure" => {
                if old {
                    "(drop (call $configuration)) (global.set $pc (i32.const 0x10040)) (drop (call $run)) (i32.const 1)"
                } else {
                    "(drop (call $load)) (global.set $pc (i32.const 0x10040)) (drop (call $run)) (i32.const 1)"
                }
            }
            _ => "(call $run)",
        };
        let _ = writeln!(
            text,
            "(func (export \"{name}\") (param {}) (result i32) {body})",
            parameters(name, count)
        );
    }
    for (name, count) in TOLD {
        let _ = writeln!(
            text,
            "(func (export \"{name}\") (param {}) (drop (call $run)))",
            parameters(name, count)
        );
    }
    let number = |name: &str| {
        let at = FUNCTIONS.iter().position(|function| function.name == name);
        at.expect("it is in the table")
    };
    let _ = writeln!(
        text,
        "(func $load (result i32) (call $f{} (i32.const 7) (i32.const 0) (i32.const 0x30000) (i32.const 0) (i32.const 4)))",
        number("proxy_get_buffer_bytes")
    );
    if old {
        let _ = writeln!(
            text,
            "(func $configuration (result i32) (call $f{} (i32.const 0) (i32.const 4)))",
            number("proxy_get_configuration")
        );
        ("proxy_abi_version_0_1_0", text)
    } else {
        ("proxy_abi_version_0_2_1", text)
    }
}
