//! Modules: what is checked before a filter may run, and what is known about it afterwards.

mod scan;

use std::sync::Arc;

use wasmtime::{ExternType, InstancePre, UnknownImportError, ValType};

use crate::engine::Engine;
use crate::failure::LoadError;
use crate::host::Host;
use scan::Scan;

/// A compiled filter. Cheap to clone; any number of VMs start from it.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    pre: InstancePre<Host>,
    abi: AbiVersion,
    callbacks: Callbacks,
    custom_sections: Vec<(String, Vec<u8>)>,
}

/// The version of the proxy-wasm ABI that a module says it speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum AbiVersion {
    /// Rust SDK before 0.2, early C++ SDKs.
    V0_1_0,
    /// The Go SDK.
    V0_2_0,
    /// Current Rust, C++ and AssemblyScript SDKs; also what Higress' SDK calls `0_2_100`.
    V0_2_1,
}

/// The callbacks that a module exports; what it lacks need not be called.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Callbacks {
    /// `proxy_on_request_headers`
    pub request_headers: bool,
    /// `proxy_on_request_body`
    pub request_body: bool,
    /// `proxy_on_request_trailers`
    pub request_trailers: bool,
    /// `proxy_on_response_headers`
    pub response_headers: bool,
    /// `proxy_on_response_body`
    pub response_body: bool,
    /// `proxy_on_response_trailers`
    pub response_trailers: bool,
    /// `proxy_on_log`
    pub log: bool,
    /// `proxy_on_done`
    pub done: bool,
    /// `proxy_on_delete`
    pub delete: bool,
    /// `proxy_on_tick`
    pub tick: bool,
    /// `proxy_on_queue_ready`
    pub queue_ready: bool,
    /// `proxy_on_http_call_response`
    pub http_call_response: bool,
    /// `proxy_on_grpc_receive` or `proxy_on_grpc_close`
    pub grpc: bool,
}

/// Callbacks, with their parameters and results, all i32. Exports of other names are the module's own business.
const SIGNATURES: [(&str, usize, usize); 23] = [
    ("proxy_on_context_create", 2, 0),
    ("proxy_on_vm_start", 2, 1),
    ("proxy_validate_configuration", 2, 1),
    ("proxy_on_configure", 2, 1),
    ("proxy_on_tick", 1, 0),
    ("proxy_on_queue_ready", 2, 0),
    ("proxy_on_request_headers", 3, 1),
    ("proxy_on_request_body", 3, 1),
    ("proxy_on_request_trailers", 2, 1),
    ("proxy_on_response_headers", 3, 1),
    ("proxy_on_response_body", 3, 1),
    ("proxy_on_response_trailers", 2, 1),
    ("proxy_on_http_call_response", 5, 0),
    ("proxy_on_grpc_receive_initial_metadata", 3, 0),
    ("proxy_on_grpc_receive", 3, 0),
    ("proxy_on_grpc_receive_trailing_metadata", 3, 0),
    ("proxy_on_grpc_close", 3, 0),
    ("proxy_on_done", 1, 1),
    ("proxy_on_log", 1, 0),
    ("proxy_on_delete", 1, 0),
    ("proxy_on_foreign_function", 3, 0),
    ("proxy_on_memory_allocate", 1, 1),
    ("malloc", 1, 1),
];

// === impl Module ===

impl Module {
    /// Checks, then compiles: what is wrong with a module shows before the costly part.
    pub(crate) fn compile(engine: &Engine, wasm: &[u8]) -> Result<Self, LoadError> {
        let scan = Scan::read(wasm)?;
        let abi = scan
            .exports
            .iter()
            .find_map(|name| AbiVersion::of_export(name))
            .ok_or(LoadError::NoAbi)?;
        let has = |name: &str| scan.exports.iter().any(|export| export == name);
        if !has("malloc") && !has("proxy_on_memory_allocate") {
            return Err(LoadError::NoAllocator);
        }
        engine.check_imports(abi, &scan.imports)?;
        let module = wasmtime::Module::new(engine.wasmtime(), wasm)
            .map_err(|error| LoadError::Invalid(format!("{:#}", error.root_cause())))?;
        check_exports(&module, abi)?;
        let pre = engine
            .linker(abi)
            .instantiate_pre(&module)
            .map_err(|error| link_error(&error, abi))?;
        let callbacks = Callbacks::of(&module);
        let inner = Inner {
            engine: engine.clone(),
            pre,
            abi,
            callbacks,
            custom_sections: scan.custom_sections,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The ABI it speaks.
    pub fn abi(&self) -> AbiVersion {
        self.inner.abi
    }

    /// The callbacks it has.
    pub fn callbacks(&self) -> Callbacks {
        self.inner.callbacks
    }

    /// The content of its first custom section of that name. Debug information and sections above 64 KiB are not kept.
    pub fn custom_section(&self, name: &str) -> Option<&[u8]> {
        self.inner
            .custom_sections
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, data)| data.as_slice())
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn pre(&self) -> &InstancePre<Host> {
        &self.inner.pre
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("abi", &self.inner.abi)
            .field("callbacks", &self.inner.callbacks)
            .finish()
    }
}

// === impl AbiVersion ===

impl AbiVersion {
    /// As people write it: `0.2.1`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_2_1 => "0.2.1",
        }
    }

    fn of_export(name: &str) -> Option<Self> {
        match name.strip_prefix("proxy_abi_version_")? {
            "0_1_0" => Some(Self::V0_1_0),
            "0_2_0" => Some(Self::V0_2_0),
            "0_2_1" | "0_2_100" => Some(Self::V0_2_1),
            _ => None,
        }
    }
}

impl std::fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Callbacks ===

impl Callbacks {
    fn of(module: &wasmtime::Module) -> Self {
        let has = |name: &str| matches!(module.get_export(name), Some(ExternType::Func(_)));
        Self {
            request_headers: has("proxy_on_request_headers"),
            request_body: has("proxy_on_request_body"),
            request_trailers: has("proxy_on_request_trailers"),
            response_headers: has("proxy_on_response_headers"),
            response_body: has("proxy_on_response_body"),
            response_trailers: has("proxy_on_response_trailers"),
            log: has("proxy_on_log"),
            done: has("proxy_on_done"),
            delete: has("proxy_on_delete"),
            tick: has("proxy_on_tick"),
            queue_ready: has("proxy_on_queue_ready"),
            http_call_response: has("proxy_on_http_call_response"),
            grpc: has("proxy_on_grpc_receive") || has("proxy_on_grpc_close"),
        }
    }
}

fn check_exports(module: &wasmtime::Module, abi: AbiVersion) -> Result<(), LoadError> {
    if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
        return Err(LoadError::NoMemory);
    }
    for (name, parameters, results) in SIGNATURES {
        let headers = matches!(
            name,
            "proxy_on_request_headers" | "proxy_on_response_headers"
        );
        // 0.1.0 does not tell end_of_stream here.
        let parameters = if headers && abi == AbiVersion::V0_1_0 {
            2
        } else {
            parameters
        };
        let Some(ExternType::Func(found)) = module.get_export(name) else {
            continue;
        };
        if !i32s(found.params(), parameters) || !i32s(found.results(), results) {
            return Err(LoadError::Signature {
                export: name.to_owned(),
                parameters,
                results,
                found: found.to_string(),
                abi: abi.as_str(),
            });
        }
    }
    Ok(())
}

fn i32s(types: impl ExactSizeIterator<Item = ValType>, count: usize) -> bool {
    types.len() == count && { types }.all(|ty| matches!(ty, ValType::I32))
}

fn link_error(error: &wasmtime::Error, abi: AbiVersion) -> LoadError {
    match error.downcast_ref::<UnknownImportError>() {
        Some(unknown) => LoadError::UnknownImport {
            module: unknown.module().to_owned(),
            name: unknown.name().to_owned(),
            abi: abi.as_str(),
        },
        None => LoadError::ImportType(format!("{error:#}")),
    }
}
