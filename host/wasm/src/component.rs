//! Filters that are components: the world `tidegate:filter/filter` of `wit/`, beside the modules of proxy-wasm.
//!
//! A component runs in the same VM, under the same limits and with the same contexts and effects as a module; only the way in
//! ([`ComponentExports`]) and the functions it calls ([`imports`], [`wasi`]) differ. It has no snapshots: its instances may hold
//! several memories and tables, so `isolation: Request` starts a VM for each request.

mod exports;
mod imports;
mod scan;
mod wasi;
mod world;

use wasmtime::Store;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::engine::Engine;
use crate::failure::LoadError;
use crate::host::Host;

pub(crate) use exports::ComponentExports;
pub(crate) use scan::{Scan, is_component};
pub use wasi::has_wasi;
pub use world::world_of;
pub(crate) use world::{INTERFACES, WORLD};

/// The package of the world, as imports and exports are named.
const PACKAGE: &str = "tidegate:filter/";

/// A component that is ready to be instantiated.
pub(crate) struct Code {
    pre: InstancePre<Host>,
    exports: exports::Indices,
}

/// The functions of the world.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    imports::add_to_linker(&mut linker)?;
    Ok(linker)
}

// === impl Code ===

impl Code {
    pub(crate) fn compile(engine: &Engine, wasm: &[u8], scan: &Scan) -> Result<Self, LoadError> {
        let component = Component::new(engine.wasmtime(), wasm)
            .map_err(|error| LoadError::Invalid(format!("{:#}", error.root_cause())))?;
        Self::link(engine, &component, scan)
    }

    pub(crate) fn link(
        engine: &Engine,
        component: &Component,
        scan: &Scan,
    ) -> Result<Self, LoadError> {
        let mut linker = engine.component_linker().clone();
        for version in scan.wasi_versions() {
            wasi::add_to_linker(&mut linker, version).map_err(mismatch)?;
        }
        // What is left of WASI: files, sockets and the like, which filters do not have. Calling it is a trap.
        linker
            .define_unknown_imports_as_traps(component)
            .map_err(mismatch)?;
        let pre = linker.instantiate_pre(component).map_err(mismatch)?;
        Ok(Self {
            exports: exports::Indices::of(component)?,
            pre,
        })
    }

    pub(crate) fn callbacks(&self) -> crate::module::Callbacks {
        self.exports.callbacks()
    }

    pub(crate) fn component(&self) -> &Component {
        self.pre.component()
    }

    /// An instance, with what calls need of it looked up.
    pub(crate) fn instantiate(
        &self,
        store: &mut Store<Host>,
    ) -> wasmtime::Result<ComponentExports> {
        let instance = self.pre.instantiate(&mut *store)?;
        self.exports.find(&instance, store)
    }
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn mismatch(error: wasmtime::Error) -> LoadError {
    LoadError::WorldType(format!("{error:#}"))
}
