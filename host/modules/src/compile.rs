//! Compiled modules of the process: each digest is compiled once, however many filters use it, and read from disk where an
//! earlier process has compiled it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tidegate_model::FilterId;
use tidegate_wasm::{CodeSlot, Engine, EngineError, LoadError, Module};

use crate::disk::Disk;
use crate::limits::{self, LimitError};

/// The engine, made when the first filter needs it, and what it has compiled.
pub(crate) struct Compiled {
    engine: OnceLock<Engine>,
    modules: Mutex<HashMap<Arc<str>, Slot>>,
    disk: Option<Arc<Disk>>,
}

/// Filled by whoever asks first; the others wait.
type Slot = Arc<OnceLock<Result<Module, CompileError>>>;

/// Why there is no compiled module.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error("the wasm engine cannot be made: {0}")]
    Engine(Arc<EngineError>),
    #[error("the module cannot be loaded: {0}")]
    Module(#[from] LoadError),
    #[error("{0}")]
    Limit(#[from] LimitError),
}

impl Compiled {
    pub(crate) fn new(disk: Option<Arc<Disk>>) -> Self {
        Self {
            engine: OnceLock::new(),
            modules: Mutex::default(),
            disk,
        }
    }

    /// The module of these bytes. Who asks for one that is being compiled waits for it.
    pub(crate) fn get(&self, digest: &Arc<str>, bytes: &[u8]) -> Result<Module, CompileError> {
        let engine = self
            .engine()
            .map_err(|error| CompileError::Engine(Arc::new(error)))?;
        let slot = {
            let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
            modules.entry(digest.clone()).or_default().clone()
        };
        slot.get_or_init(|| self.compile(engine, digest, bytes))
            .clone()
    }

    fn compile(&self, engine: &Engine, digest: &str, bytes: &[u8]) -> Result<Module, CompileError> {
        if let Some(disk) = &self.disk
            && let Some(module) = disk.code(engine, digest, bytes)
        {
            return Ok(module);
        }
        limits::check(bytes)?;
        let module = engine.compile(bytes)?;
        if let Some(disk) = &self.disk {
            disk.keep_code(engine, digest, &module);
        }
        Ok(module)
    }

    /// Where the code of a filter's snapshot outlives the process, if anything does.
    pub(crate) fn snapshot_slot(&self, filter: &FilterId) -> Option<impl CodeSlot> {
        let (disk, engine) = (self.disk.as_deref()?, self.engine.get()?);
        Some(disk.snapshot_slot(engine, filter))
    }

    /// Forgets modules that no filter uses.
    pub(crate) fn retain(&self, wanted: impl Fn(&str) -> bool) {
        self.modules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|digest, _| wanted(digest));
    }

    #[cfg(test)]
    pub(crate) fn has_engine(&self) -> bool {
        self.engine.get().is_some()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.modules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    fn engine(&self) -> Result<&Engine, EngineError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine = Engine::new()?;
        Ok(self.engine.get_or_init(|| engine))
    }
}
