//! Why a filter cannot run.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Trap, WasmBacktrace};

use crate::component::WORLD;

/// The engine could not be created.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused its configuration on this machine.
    #[error("wasmtime cannot run here: {0}")]
    Wasmtime(String),
    /// No thread for the epoch.
    #[error("the epoch thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// A module cannot be a filter.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// Neither core wasm nor a component.
    #[error(
        "not a WebAssembly module: it does not start with \\0asm; build with `cargo build --target wasm32-wasip1` or the like"
    )]
    NotWasm,
    /// A component that is no filter.
    #[error(
        "this component is for another world, {}: it exports {}; this host runs {WORLD}, which exports tidegate:filter/on-plugin@0.1.0: build it against that",
        crate::component::world_of(exports.split(", ")),
        or_nothing(exports)
    )]
    OtherWorld {
        /// Names of what it exports.
        exports: String,
    },
    /// A component that imports what no filter has.
    #[error(
        "the component imports {name}; a filter may import interfaces of tidegate:filter and of WASI 0.2 alone: rebuild it without"
    )]
    ForeignImport {
        /// The import.
        name: String,
    },
    /// A component that imports an interface of the world's package that this version does not have.
    #[error(
        "the component imports {name}; {WORLD}, which this host runs, has the interfaces {}: build it against that version",
        crate::component::INTERFACES.join(", ")
    )]
    UnknownInterface {
        /// The import.
        name: String,
    },
    /// A component that has the right names with other types.
    #[error(
        "the component does not fit tidegate:filter@0.1.0: {0}; build it against this version of the world"
    )]
    WorldType(String),
    /// It does not validate or compile.
    #[error("invalid module: {0}")]
    Invalid(String),
    /// No `proxy_abi_version_*` export.
    #[error(
        "missing or unknown proxy-wasm ABI version: the module must export one of proxy_abi_version_0_1_0, _0_2_0 or _0_2_1, as every proxy-wasm SDK does"
    )]
    NoAbi,
    /// An import that this host does not have for the module's ABI version.
    #[error(
        "unknown import `{module}.{name}`: proxy-wasm {abi} has no such function; rebuild the filter without it"
    )]
    UnknownImport {
        /// Module part of the import.
        module: String,
        /// Name part of the import.
        name: String,
        /// The ABI version the module claims.
        abi: &'static str,
    },
    /// A known import with another type.
    #[error("import of another type than the host's: {0}")]
    ImportType(String),
    /// The host could not give it any data.
    #[error("the module exports neither `malloc` nor `proxy_on_memory_allocate`")]
    NoAllocator,
    /// No memory to share.
    #[error("the module does not export its memory as `memory`")]
    NoMemory,
    /// A callback with the wrong parameters or results.
    #[error(
        "`{export}` must have {parameters} i32 parameters and {results} i32 results in proxy-wasm {abi}; the module's has {found}"
    )]
    Signature {
        /// Name of the callback.
        export: String,
        /// Expected number of parameters.
        parameters: usize,
        /// Expected number of results.
        results: usize,
        /// What the module has.
        found: String,
        /// The ABI version the module claims.
        abi: &'static str,
    },
}

fn or_nothing(names: &str) -> &str {
    if names.is_empty() { "nothing" } else { names }
}

/// Compiled code could not be kept or brought back.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CodeError {
    /// The operating system has no randomness.
    #[error("no random bytes for the key of the code cache")]
    Random,
    /// wasmtime could not write it.
    #[error("compiled code cannot be serialized: {0}")]
    Serialize(String),
    /// Damaged, or not made by this host for this module and engine.
    #[error(
        "the compiled code is damaged, or was not made by this host for this module and engine; it is not run: delete it, the module is compiled anew"
    )]
    Foreign,
    /// Ours, but wasmtime does not take it.
    #[error("the compiled code does not fit this engine: {0}")]
    Incompatible(String),
    /// The module cannot be a filter.
    #[error(transparent)]
    Load(LoadError),
}

/// A VM could not be started, or a call into it failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// Instantiation, `_initialize`, `main` or `_start` failed.
    #[error("the filter could not be started: {message}")]
    Start {
        /// Trap and functions.
        message: Arc<str>,
    },
    /// `proxy_on_vm_start` or `proxy_on_configure` refused, or trapped.
    #[error("the filter refused its configuration: {message}")]
    Configure {
        /// The guest's last error log line, or the trap.
        message: Arc<str>,
    },
    /// The guest trapped.
    #[error("the filter trapped: {message}")]
    Trap {
        /// Trap, functions and the guest's last error log line.
        message: Arc<str>,
    },
    /// The call used more CPU time than it may.
    #[error("the filter used more than {} ms of CPU time in one call; raise limits.callTimeout or limits.startTimeout if it needs that", limit.as_millis())]
    Deadline {
        /// The limit that was passed.
        limit: Duration,
    },
    /// The guest ran out of memory under its limit.
    #[error(
        "the filter needs more than {limit} bytes of memory; raise limits.memory if it needs that"
    )]
    Memory {
        /// The limit that was met.
        limit: usize,
    },
    /// The namespace's filters have as much memory as they may together.
    #[error(
        "the filters of namespace {namespace} need more than {limit} bytes of memory together; use smaller or fewer filters there"
    )]
    NamespaceMemory {
        /// The namespace.
        namespace: Arc<str>,
        /// The limit that was met.
        limit: usize,
    },
    /// As many requests as may be in flight have an instance of the filter.
    #[error(
        "{limit} instances of the filter are in flight already: with isolation Request each request takes one"
    )]
    Instances {
        /// The limit that was met.
        limit: usize,
    },
    /// The VM has as many contexts as it may; it lives on.
    #[error("the filter has {limit} contexts open in one VM already")]
    Contexts {
        /// The limit that was met.
        limit: usize,
    },
    /// No such context in this VM; it lives on.
    #[error("context {id} does not exist in this VM")]
    UnknownContext {
        /// The id that was given.
        id: u32,
    },
}

/// The causes that `Filter.spec.failurePolicyByCause` tells apart.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Cause {
    /// It could not be loaded or started.
    Load,
    /// It refused its configuration.
    Configure,
    /// It trapped.
    Trap,
    /// It took too much CPU time.
    Deadline,
    /// It took too much memory, or too many contexts.
    Memory,
}

/// Functions of a backtrace that a message names.
const FRAMES: usize = 8;

// === impl Failure ===

impl Failure {
    /// Which failure policy applies.
    pub const fn cause(&self) -> Cause {
        match self {
            Self::Start { .. } => Cause::Load,
            Self::Configure { .. } => Cause::Configure,
            Self::Trap { .. } | Self::UnknownContext { .. } => Cause::Trap,
            Self::Deadline { .. } => Cause::Deadline,
            Self::Memory { .. }
            | Self::NamespaceMemory { .. }
            | Self::Instances { .. }
            | Self::Contexts { .. } => Cause::Memory,
        }
    }
}

// === impl Cause ===

impl Cause {
    /// As in `failurePolicyByCause`, metrics and the access log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Configure => "configure",
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
        }
    }
}

/// One line for a trap: what, where, and what the guest said last.
pub(crate) fn describe(error: &wasmtime::Error, last_error: &str) -> String {
    let mut text = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        let names: Vec<String> = backtrace
            .frames()
            .iter()
            .take(FRAMES)
            .map(|frame| match frame.func_name() {
                Some(name) => shorten(name, 120),
                None => format!("function {}", frame.func_index()),
            })
            .collect();
        if !names.is_empty() {
            text.push_str(" in ");
            text.push_str(&names.join(" < "));
        }
    }
    if !last_error.is_empty() {
        text.push_str("; its last error log: ");
        text.push_str(last_error);
    }
    text
}

/// At most `limit` bytes of `text`, cut between characters.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn shortening_respects_characters() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abcd", 3), "abc…");
        assert_eq!(shorten("aé", 2), "a…");
    }
}
