//! The engine: wasmtime's configuration, the host functions of each ABI version, and the epoch's thread.

use std::collections::HashSet;
use std::sync::Arc;

use wasmtime::{Config, Linker, WasmBacktraceDetails};

use crate::failure::{EngineError, LoadError};
use crate::host::Host;
use crate::module::{AbiVersion, Module};
use crate::ticker::Ticker;
use crate::{code, component, hostcalls, wasi};

/// Stack that a guest may use. The thread's own must be larger.
const GUEST_STACK: usize = 1 << 20;

/// One per process, made when the first filter appears. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    wasmtime: wasmtime::Engine,
    /// In the order of [`AbiVersion`].
    functions: [Functions; 4],
    /// For components.
    component: wasmtime::component::Linker<Host>,
    ticker: Ticker,
    compatibility: String,
}

/// The host functions of one ABI version.
pub(crate) struct Functions {
    pub(crate) linker: Linker<Host>,
    /// Module and name of each: asked before a module is compiled.
    pub(crate) names: HashSet<(&'static str, &'static str)>,
}

// === impl Engine ===

impl Engine {
    /// Starts wasmtime and the thread that advances the epoch, which rests while no guest runs.
    pub fn new() -> Result<Self, EngineError> {
        let wasmtime = wasmtime::Engine::new(&config()).map_err(refused)?;
        let functions = [
            Functions::of(&wasmtime, AbiVersion::V0_1_0).map_err(refused)?,
            Functions::of(&wasmtime, AbiVersion::V0_2_0).map_err(refused)?,
            Functions::of(&wasmtime, AbiVersion::V0_2_1).map_err(refused)?,
            Functions::of(&wasmtime, AbiVersion::V0_2_100).map_err(refused)?,
        ];
        let component = component::linker(&wasmtime).map_err(refused)?;
        let ticker = Ticker::start(wasmtime.clone())?;
        let compatibility = code::compatibility(&wasmtime);
        Ok(Self {
            inner: Arc::new(Inner {
                wasmtime,
                functions,
                component,
                ticker,
                compatibility,
            }),
        })
    }

    /// Checks a module and compiles it: for a thread that may take its time, never a worker.
    pub fn compile(&self, wasm: &[u8]) -> Result<Module, LoadError> {
        Module::compile(self, wasm)
    }

    /// What a module or component says that it is, by its names alone. Compiling it may still find something wrong.
    ///
    /// # Errors
    ///
    /// It is no filter, or imports what filters do not have.
    pub fn look(&self, wasm: &[u8]) -> Result<AbiVersion, LoadError> {
        Module::look(self, wasm)
    }

    /// Hexadecimal hash of everything that decides whether compiled code of one engine runs in another: part of the key of a
    /// cache of [`Module::serialize`]d code.
    pub fn compatibility(&self) -> &str {
        &self.inner.compatibility
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.wasmtime
    }

    pub(crate) fn ticker(&self) -> &Ticker {
        &self.inner.ticker
    }

    pub(crate) fn linker(&self, abi: AbiVersion) -> &Linker<Host> {
        &self.functions(abi).linker
    }

    pub(crate) fn component_linker(&self) -> &wasmtime::component::Linker<Host> {
        &self.inner.component
    }

    /// Names the first import that this ABI version does not have.
    pub(crate) fn check_imports(
        &self,
        abi: AbiVersion,
        imports: &[(String, String)],
    ) -> Result<(), LoadError> {
        let names = &self.functions(abi).names;
        match imports
            .iter()
            .find(|(module, name)| !names.contains(&(module.as_str(), name.as_str())))
        {
            None => Ok(()),
            Some((module, name)) => Err(LoadError::UnknownImport {
                module: module.clone(),
                name: name.clone(),
                abi: abi.as_str(),
            }),
        }
    }

    pub(crate) fn functions(&self, abi: AbiVersion) -> &Functions {
        &self.inner.functions[abi as usize]
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

// === impl Functions ===

impl Functions {
    fn of(engine: &wasmtime::Engine, abi: AbiVersion) -> wasmtime::Result<Self> {
        let mut functions = Self {
            linker: Linker::new(engine),
            names: HashSet::new(),
        };
        hostcalls::register(&mut functions, abi)?;
        wasi::register(&mut functions)?;
        Ok(functions)
    }
}

/// Static memories of 4 GiB behind guard pages and signal-based traps are wasmtime's defaults; they are what makes loads and
/// stores cheap.
fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK)
        .wasm_memory64(false)
        // For components: what connects two modules in one copies from memory to memory. Modules with several are refused.
        .wasm_multi_memory(true)
        // Names come from the name section. Reading a tenant's DWARF at each trap would cost time that no deadline bounds.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn refused(error: wasmtime::Error) -> EngineError {
    EngineError::Wasmtime(format!("{error:#}"))
}
