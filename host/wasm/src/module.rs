//! Modules: what is checked before a filter may run, and what is known about it afterwards.

pub(crate) mod rewrite;
mod scan;

use std::sync::Arc;

use wasmtime::{ExternType, InstancePre, UnknownImportError, ValType};

use crate::code::{self, CodeSlot, Digest, digest_of};
use crate::component;
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
    code: Code,
    abi: AbiVersion,
    callbacks: Callbacks,
    custom_sections: Vec<(String, Vec<u8>)>,
    digest: Digest,
}

/// What VMs are instances of.
pub(crate) enum Code {
    Module(InstancePre<Host>),
    Component(Box<component::Code>),
}

/// The version of the proxy-wasm ABI that a module says it speaks, or of the world that a component is for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum AbiVersion {
    /// Rust SDK before 0.2, early C++ SDKs.
    V0_1_0,
    /// The Go SDK.
    V0_2_0,
    /// Current Rust, C++ and AssemblyScript SDKs.
    V0_2_1,
    /// Higress' SDK for Go: 0.2.1 and calls to Redis, which answer that they are not implemented. Envoy refuses it.
    V0_2_100,
    /// A component for the world `tidegate:filter/filter@0.1.0`.
    Filter0_1_0,
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
        if component::is_component(wasm) {
            let scan = component::Scan::read(wasm)?;
            let code = component::Code::compile(engine, wasm, &scan)?;
            return Ok(Self::of_component(engine, scan, digest_of(wasm), code));
        }
        let scan = Scan::read(wasm)?;
        let abi = scan.check(engine)?;
        let code = rewrite::with_state_exported(wasm);
        let module = wasmtime::Module::new(engine.wasmtime(), &code)
            .map_err(|error| LoadError::Invalid(format!("{:#}", error.root_cause())))?;
        Self::link(engine, scan, abi, digest_of(wasm), &module)
    }

    /// What can be said before anything is compiled.
    pub(crate) fn look(engine: &Engine, wasm: &[u8]) -> Result<AbiVersion, LoadError> {
        if component::is_component(wasm) {
            component::Scan::read(wasm)?;
            return Ok(AbiVersion::Filter0_1_0);
        }
        Scan::read(wasm)?.check(engine)
    }

    /// From code that was compiled before; `module` must come from `wasm`.
    pub(crate) fn assemble(
        engine: &Engine,
        wasm: &[u8],
        digest: Digest,
        module: &wasmtime::Module,
    ) -> Result<Self, LoadError> {
        let scan = Scan::read(wasm)?;
        let abi = scan.check(engine)?;
        Self::link(engine, scan, abi, digest, module)
    }

    /// From a component that was compiled before; `component` must come from `wasm`.
    pub(crate) fn assemble_component(
        engine: &Engine,
        wasm: &[u8],
        digest: Digest,
        component: &wasmtime::component::Component,
    ) -> Result<Self, LoadError> {
        let scan = component::Scan::read(wasm)?;
        let code = component::Code::link(engine, component, &scan)?;
        Ok(Self::of_component(engine, scan, digest, code))
    }

    fn of_component(
        engine: &Engine,
        scan: component::Scan,
        digest: Digest,
        code: component::Code,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                engine: engine.clone(),
                callbacks: code.callbacks(),
                code: Code::Component(Box::new(code)),
                abi: AbiVersion::Filter0_1_0,
                custom_sections: scan.custom_sections,
                digest,
            }),
        }
    }

    /// A module that differs from this one in what its memory and globals start with.
    pub(crate) fn variant(
        &self,
        wasm: &[u8],
        slot: Option<&dyn CodeSlot>,
    ) -> Result<Self, LoadError> {
        let engine = &self.inner.engine;
        let module = code::compile(engine, wasm, slot)?;
        let scan = Scan {
            custom_sections: self.inner.custom_sections.clone(),
            ..Scan::default()
        };
        Self::link(engine, scan, self.inner.abi, self.inner.digest, &module)
    }

    fn link(
        engine: &Engine,
        scan: Scan,
        abi: AbiVersion,
        digest: Digest,
        module: &wasmtime::Module,
    ) -> Result<Self, LoadError> {
        check_exports(module, abi)?;
        let pre = engine
            .linker(abi)
            .instantiate_pre(module)
            .map_err(|error| link_error(&error, abi))?;
        let inner = Inner {
            engine: engine.clone(),
            code: Code::Module(pre),
            abi,
            callbacks: Callbacks::of(module),
            custom_sections: scan.custom_sections,
            digest,
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

    pub(crate) fn code(&self) -> &Code {
        &self.inner.code
    }

    /// Whether it is a component, and no core module.
    pub fn is_component(&self) -> bool {
        matches!(self.inner.code, Code::Component(_))
    }

    /// SHA-256 of the WebAssembly it came from.
    pub(crate) fn digest(&self) -> &Digest {
        &self.inner.digest
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
            Self::V0_2_100 => "0.2.100",
            Self::Filter0_1_0 => "tidegate:filter@0.1.0",
        }
    }

    fn of_export(name: &str) -> Option<Self> {
        match name.strip_prefix("proxy_abi_version_")? {
            "0_1_0" => Some(Self::V0_1_0),
            "0_2_0" => Some(Self::V0_2_0),
            "0_2_1" => Some(Self::V0_2_1),
            "0_2_100" => Some(Self::V0_2_100),
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

impl Scan {
    /// The ABI version, if the names are those of a filter.
    fn check(&self, engine: &Engine) -> Result<AbiVersion, LoadError> {
        let abi = self
            .exports
            .iter()
            .find_map(|name| AbiVersion::of_export(name))
            .ok_or(LoadError::NoAbi)?;
        let has = |name: &str| self.exports.iter().any(|export| export == name);
        if !has("malloc") && !has("proxy_on_memory_allocate") {
            return Err(LoadError::NoAllocator);
        }
        engine.check_imports(abi, &self.imports)?;
        Ok(abi)
    }
}

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
