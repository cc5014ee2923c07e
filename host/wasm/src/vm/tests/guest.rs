//! Guests made of hostcalls: a test says which calls a callback makes, runs it, and reads statuses and results out of the
//! guest's memory.

mod material;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

pub(super) use material::{compile, engine, exchange, headers, pairs, plugin, unpairs, vm_config};

use crate::vm::Vm;
use crate::{
    Action, Callback, ContextId, Effect, Failure, LoadError, Module, PluginConfig, RootId, Shared,
    StreamIo, VmConfig,
};

/// What each slot holds before a call writes to it.
pub(super) const UNTOUCHED: u32 = 0xdddd_dddd;

const SLOTS: usize = 4096;
const STRINGS: usize = 32 << 10;
const HEAP: usize = 128 << 10;
const PAGES: usize = 8;

/// Host functions with their parameters; `l` is i64.
const FUNCTIONS: [(&str, &str); 37] = [
    ("proxy_log", "iii"),
    ("proxy_get_log_level", "i"),
    ("proxy_get_current_time_nanoseconds", "i"),
    ("proxy_set_tick_period_milliseconds", "i"),
    ("proxy_set_effective_context", "i"),
    ("proxy_done", ""),
    ("proxy_get_header_map_value", "iiiii"),
    ("proxy_add_header_map_value", "iiiii"),
    ("proxy_replace_header_map_value", "iiiii"),
    ("proxy_remove_header_map_value", "iii"),
    ("proxy_get_header_map_pairs", "iii"),
    ("proxy_set_header_map_pairs", "iii"),
    ("proxy_get_header_map_size", "ii"),
    ("proxy_get_buffer_bytes", "iiiii"),
    ("proxy_get_buffer_status", "iii"),
    ("proxy_set_buffer_bytes", "iiiii"),
    ("proxy_get_property", "iiii"),
    ("proxy_set_property", "iiii"),
    ("proxy_send_local_response", "iiiiiiii"),
    ("proxy_continue_stream", "i"),
    ("proxy_close_stream", "i"),
    ("proxy_http_call", "iiiiiiiiii"),
    ("proxy_get_status", "iii"),
    ("proxy_grpc_call", "iiiiiiiiiiii"),
    ("proxy_grpc_stream", "iiiiiiiii"),
    ("proxy_grpc_send", "iiii"),
    ("proxy_grpc_cancel", "i"),
    ("proxy_grpc_close", "i"),
    ("proxy_get_shared_data", "iiiii"),
    ("proxy_set_shared_data", "iiiii"),
    ("proxy_register_shared_queue", "iii"),
    ("proxy_resolve_shared_queue", "iiiii"),
    ("proxy_enqueue_shared_queue", "iii"),
    ("proxy_dequeue_shared_queue", "iii"),
    ("proxy_define_metric", "iiii"),
    ("proxy_get_metric", "ii"),
    ("proxy_call_foreign_function", "iiiiii"),
];

/// Functions with i64 parameters, and those that only 0.1.0 has.
const LONG_FUNCTIONS: [(&str, &str); 2] = [
    ("proxy_increment_metric", "il"),
    ("proxy_record_metric", "il"),
];
const OLD_FUNCTIONS: [(&str, &str); 4] = [
    ("proxy_get_configuration", "ii"),
    ("proxy_continue_request", ""),
    ("proxy_continue_response", ""),
    ("proxy_clear_route_cache", ""),
];
const WASI_FUNCTIONS: [(&str, &str); 20] = [
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "ili"),
    ("random_get", "ii"),
    ("poll_oneoff", "iiii"),
    ("sched_yield", ""),
    ("fd_write", "iiii"),
    ("fd_read", "iiii"),
    ("fd_seek", "ilii"),
    ("fd_close", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_filestat_get", "ii"),
    ("path_open", "iiiiillii"),
    ("path_filestat_get", "iiiii"),
];

/// An argument of a hostcall.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arg<'a> {
    Int(i64),
    /// Pointer and length.
    Bytes(&'a [u8]),
    /// A pointer to a slot that the call fills.
    Out,
    /// The value that a former call left in its first slot.
    Result(&'a Call),
}

/// Where to find what a call did.
#[derive(Clone, Debug)]
pub(super) struct Call {
    status: usize,
    outs: Vec<usize>,
}

/// A guest under construction.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub(super) abi: &'static str,
    /// Functions of which ABI are imported.
    old: bool,
    wasi: Option<&'static str>,
    bodies: BTreeMap<&'static str, String>,
    results: BTreeMap<&'static str, u32>,
    strings: Vec<u8>,
    slots: usize,
    /// More top-level WAT.
    pub(super) extra: String,
    /// Body of the allocator, for those that lie.
    pub(super) allocator: Option<&'static str>,
}

/// A guest that runs, with one stream.
pub(super) struct Running {
    pub(super) vm: Vm,
    pub(super) root: RootId,
    pub(super) stream: ContextId,
}

// === impl Call ===

impl Call {
    /// Number of out slots.
    pub(super) fn outs(&self) -> usize {
        self.outs.len()
    }
}

// === impl Guest ===

impl Guest {
    pub(super) fn new() -> Self {
        Self {
            abi: "0_2_1",
            old: false,
            wasi: None,
            bodies: BTreeMap::new(),
            results: BTreeMap::new(),
            strings: Vec::new(),
            slots: 0,
            extra: String::new(),
            allocator: None,
        }
    }

    /// One of ABI 0.1.0.
    pub(super) fn old() -> Self {
        Self {
            abi: "0_1_0",
            old: true,
            ..Self::new()
        }
    }

    /// One that imports WASI under that name.
    pub(super) fn wasi(module: &'static str) -> Self {
        Self {
            wasi: Some(module),
            ..Self::new()
        }
    }

    /// Adds a hostcall to a callback.
    pub(super) fn call(
        &mut self,
        callback: &'static str,
        function: &str,
        args: &[Arg<'_>],
    ) -> Call {
        let mut call = Call {
            status: self.slot(),
            outs: Vec::new(),
        };
        let mut text = format!("(i32.store (i32.const {}) (call ${function}", call.status);
        let mut position = 0;
        for arg in args {
            let index = position;
            position += if matches!(arg, Arg::Bytes(_)) { 2 } else { 1 };
            match arg {
                Arg::Int(value) => {
                    let ty = if is_long(function, index) {
                        "i64"
                    } else {
                        "i32"
                    };
                    write!(text, " ({ty}.const {value})").unwrap();
                }
                Arg::Bytes(bytes) => {
                    write!(
                        text,
                        " (i32.const {}) (i32.const {})",
                        STRINGS + self.strings.len(),
                        bytes.len()
                    )
                    .unwrap();
                    self.strings.extend_from_slice(bytes);
                }
                Arg::Out => {
                    let slot = self.slot();
                    call.outs.push(slot);
                    write!(text, " (i32.const {slot})").unwrap();
                }
                Arg::Result(other) => {
                    write!(text, " (i32.load (i32.const {}))", other.outs[0]).unwrap()
                }
            }
        }
        text.push_str("))");
        self.raw(callback, &text);
        call
    }

    /// Adds WAT to a callback.
    pub(super) fn raw(&mut self, callback: &'static str, text: &str) {
        let body = self.bodies.entry(callback).or_default();
        body.push_str("\n    ");
        body.push_str(text);
    }

    /// What a callback returns; 1 where nothing is said on start and done, else 0.
    pub(super) fn returns(&mut self, callback: &'static str, value: u32) {
        self.bodies.entry(callback).or_default();
        self.results.insert(callback, value);
    }

    pub(super) fn wat(&self) -> String {
        let mut text = String::from("(module\n");
        let imports = |text: &mut String, module: &str, functions: &[(&str, &str)]| {
            for (name, parameters) in functions {
                let parameters: String = parameters
                    .chars()
                    .map(|c| if c == 'l' { " i64" } else { " i32" })
                    .collect();
                writeln!(text, "(import \"{module}\" \"{name}\" (func ${name} (param{parameters}) (result i32)))").unwrap();
            }
        };
        let (newer, common): (Vec<_>, Vec<_>) = FUNCTIONS.into_iter().partition(|(name, _)| {
            matches!(
                *name,
                "proxy_get_log_level" | "proxy_continue_stream" | "proxy_close_stream"
            )
        });
        imports(&mut text, "env", &common);
        imports(&mut text, "env", &LONG_FUNCTIONS);
        imports(
            &mut text,
            "env",
            if self.old { &OLD_FUNCTIONS } else { &newer },
        );
        if let Some(module) = self.wasi {
            imports(&mut text, module, &WASI_FUNCTIONS);
            writeln!(
                text,
                "(import \"{module}\" \"proc_exit\" (func $proc_exit (param i32)))"
            )
            .unwrap();
        }
        writeln!(text, "(memory (export \"memory\") {PAGES})").unwrap();
        writeln!(text, "(global $heap (mut i32) (i32.const {HEAP}))").unwrap();
        let allocator = self.allocator.unwrap_or(
            "(local $ptr i32) (local.set $ptr (global.get $heap))
             (global.set $heap (i32.add (global.get $heap) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))
             (local.get $ptr)",
        );
        writeln!(text, "(func (export \"proxy_on_memory_allocate\") (param $size i32) (result i32) {allocator})").unwrap();
        writeln!(text, "(func (export \"proxy_abi_version_{}\"))", self.abi).unwrap();
        let untouched: String = "\\dd".repeat(self.slots * 8);
        writeln!(text, "(data (i32.const {SLOTS}) \"{untouched}\")").unwrap();
        let strings: String = self
            .strings
            .iter()
            .map(|byte| format!("\\{byte:02x}"))
            .collect();
        writeln!(text, "(data (i32.const {STRINGS}) \"{strings}\")").unwrap();
        for (name, body) in &self.bodies {
            self.write_function(&mut text, name, body);
        }
        text.push_str(&self.extra);
        text.push(')');
        text
    }

    pub(super) fn module(&self) -> Result<Module, LoadError> {
        compile(&self.wat())
    }

    /// Starts it with a root, and with a stream on [`exchange`].
    pub(super) fn start(&self) -> Running {
        self.start_with(vm_config(), plugin())
    }

    pub(super) fn start_with(&self, vm: VmConfig, plugin: PluginConfig) -> Running {
        let module = self.module().unwrap_or_else(|error| panic!("{error}"));
        let mut vm = Vm::start(&module, Arc::new(vm), Shared::new()).unwrap();
        let root = vm.add_root(Arc::new(plugin)).unwrap();
        let stream = vm.create_stream(root).unwrap();
        vm.attach(stream, Box::new(exchange()));
        Running { vm, root, stream }
    }

    fn write_function(&self, text: &mut String, name: &str, body: &str) {
        let (parameters, result) = self.signature(name);
        let parameters: String = (0..parameters)
            .map(|n| format!(" (param $p{n} i32)"))
            .collect();
        let default = u32::from(matches!(
            name,
            "proxy_on_vm_start" | "proxy_on_configure" | "proxy_on_done"
        ));
        let value = self
            .results
            .get(name)
            .copied()
            .unwrap_or(default)
            .cast_signed();
        let (result, value) = if result {
            ("(result i32)", format!("(i32.const {value})"))
        } else {
            ("", String::new())
        };
        writeln!(
            text,
            "(func (export \"{name}\"){parameters} {result} {body}\n    {value})"
        )
        .unwrap();
    }

    fn signature(&self, name: &str) -> (usize, bool) {
        match name {
            "_initialize" | "_start" => (0, false),
            "__main_void" => (0, true),
            "main" => (2, true),
            "proxy_on_tick" | "proxy_on_log" | "proxy_on_delete" => (1, false),
            "proxy_on_done" => (1, true),
            "proxy_on_context_create" | "proxy_on_queue_ready" => (2, false),
            "proxy_on_http_call_response" => (5, false),
            "proxy_on_request_headers" | "proxy_on_response_headers" if self.old => (2, true),
            "proxy_on_request_headers"
            | "proxy_on_response_headers"
            | "proxy_on_request_body"
            | "proxy_on_response_body" => (3, true),
            name if name.starts_with("proxy_on_grpc") => (3, false),
            _ => (2, true),
        }
    }

    /// 8 bytes, so that a call may write a long number.
    fn slot(&mut self) -> usize {
        let slot = SLOTS + 8 * self.slots;
        self.slots += 1;
        assert!(slot < STRINGS);
        slot
    }
}

// === impl Running ===

impl Running {
    pub(super) fn callback(&mut self, callback: Callback) -> Result<Action, Failure> {
        self.vm.call(self.stream, callback)
    }

    /// `proxy_on_request_headers` with a body to follow.
    pub(super) fn request_headers(&mut self) -> Action {
        self.callback(Callback::RequestHeaders {
            end_of_stream: false,
        })
        .unwrap()
    }

    pub(super) fn io(&mut self) -> &mut StreamIo {
        self.vm.io_mut(self.stream).unwrap()
    }

    /// The status that the call returned, or [`UNTOUCHED`] if it was not made.
    pub(super) fn status(&self, call: &Call) -> u32 {
        self.u32_at(call.status)
    }

    /// What the call left in its nth out slot.
    pub(super) fn out(&self, call: &Call, n: usize) -> u32 {
        self.u32_at(call.outs[n])
    }

    pub(super) fn out_u64(&self, call: &Call, n: usize) -> u64 {
        u64::from_le_bytes(self.memory(call.outs[n], 8).try_into().unwrap())
    }

    /// The bytes that the first two out slots point to.
    pub(super) fn bytes(&self, call: &Call) -> Vec<u8> {
        let (ptr, len) = (self.out(call, 0), self.out(call, 1));
        if len == 0 {
            assert_eq!(ptr, 0, "an empty value is the null pointer");
        }
        self.memory(ptr as usize, len as usize).to_vec()
    }

    /// Status, and the bytes as text where it is 0.
    pub(super) fn text(&self, call: &Call) -> Result<String, u32> {
        match self.status(call) {
            0 => Ok(String::from_utf8(self.bytes(call)).unwrap()),
            status => Err(status),
        }
    }

    pub(super) fn memory(&self, at: usize, len: usize) -> &[u8] {
        let memory = self.vm.store.data().memory.unwrap();
        &memory.data(&self.vm.store)[at..at + len]
    }

    pub(super) fn effects(&mut self) -> Vec<Effect> {
        self.vm.effects().collect()
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.memory(at, 4).try_into().unwrap())
    }
}

/// Whether a parameter is i64.
fn is_long(function: &str, index: usize) -> bool {
    let known = LONG_FUNCTIONS
        .iter()
        .chain(&WASI_FUNCTIONS)
        .find(|(name, _)| *name == function);
    known.is_some_and(|(_, parameters)| parameters.as_bytes().get(index) == Some(&b'l'))
}
