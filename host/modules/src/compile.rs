//! Compiled modules of the process: each digest is compiled once, however many filters use it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sha2::{Digest, Sha256};
use tidegate_wasm::{Engine, EngineError, LoadError, Module};

/// The engine, made when the first filter needs it, and what it has compiled.
#[derive(Default)]
pub(crate) struct Compiled {
    engine: OnceLock<Engine>,
    modules: Mutex<HashMap<Arc<str>, Slot>>,
}

/// Filled by whoever asks first; the others wait.
type Slot = Arc<OnceLock<Result<Module, String>>>;

/// Why there is no compiled module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error("the wasm engine cannot be made: {0}")]
    Engine(#[from] EngineError),
    #[error("the module cannot be loaded: {0}")]
    Module(String),
}

impl Compiled {
    /// The module of these bytes. Who asks for one that is being compiled waits for it.
    pub(crate) fn get(&self, digest: &Arc<str>, bytes: &[u8]) -> Result<Module, CompileError> {
        let engine = self.engine()?;
        let slot = {
            let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
            modules.entry(digest.clone()).or_default().clone()
        };
        let compiled = slot.get_or_init(|| {
            engine
                .compile(bytes)
                .map_err(|error: LoadError| error.to_string())
        });
        compiled.clone().map_err(CompileError::Module)
    }

    /// Forgets modules that no filter uses.
    pub(crate) fn retain(&self, wanted: impl Fn(&str) -> bool) {
        self.modules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|digest, _| wanted(digest));
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

/// `sha256:…` of these bytes.
pub(crate) fn digest(bytes: &[u8]) -> Arc<str> {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

#[cfg(test)]
mod tests {
    #[test]
    fn digests_are_hexadecimal() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(&*super::digest(b""), empty);
    }
}
