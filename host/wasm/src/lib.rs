//! The proxy-wasm host on wasmtime, without any I/O: bytes in, actions and effects out.
//!
//! ```text
//!   Engine (process) ─ compile ─► Module (digest) ─ start ─► Vm (worker and key) ─ add_root ─► root context (plugin)
//!                                                             └─ create_stream ─► stream context (request and plugin)
//!
//!   data plane:  attach(StreamIo) → call(Callback) → Action, effects() → perform them → … → end_stream: Log, Done, delete
//! ```
//!
//! Calls are synchronous and short: hostcalls never block, what takes time comes back as an [`Effect`]. A guest is bounded in
//! CPU time, memory, contexts, pending calls, log lines and whatever else it could make the host keep. A trap, a passed
//! deadline or a lack of memory kills its [`Vm`] and nothing else.
//!
//! The ABI is the one of Envoy, statuses included: SDKs panic on those that they do not expect. Where Envoy is unsafe, this
//! host is not: see the notes at the hostcalls.
//!
//! A thread that calls into a VM needs 2 MiB of stack: guests may use one.

mod action;
mod body;
mod code;
mod component;
mod config;
mod contexts;
mod cpu;
mod effect;
mod engine;
mod exports;
mod expression;
mod failure;
mod guest;
mod guest_log;
mod headers;
mod host;
mod hostcalls;
mod limits;
mod module;
mod pages;
mod pairs;
mod property;
mod protobuf;
mod shared;
mod snapshot;
mod status;
mod stream;
mod ticker;
mod vm;
mod wasi;

pub use action::{Action, Callback, Direction};
pub use body::BodyData;
pub use code::{CodeKey, CodeSlot};
pub use component::{has_wasi, world_of};
pub use config::{Capabilities, Limits, PluginConfig, Ungranted, VmConfig};
pub use effect::{ContextId, Effect, GrpcTarget, HttpCallResponse, LocalReply, RootId, VmId};
pub use engine::Engine;
pub use failure::{Cause, CodeError, EngineError, Failure, LoadError};
pub use module::{AbiVersion, Callbacks, Module};
pub use shared::{Histogram, MetricSample, MetricValue, Shared, SharedLimits};
pub use snapshot::{Pool, Snapshot, SnapshotError};
pub use status::grpc_status_of;
pub use stream::{
    Attributes, ConnectionAttributes, FilterState, PseudoSet, StreamIo, TlsAttributes,
    UpstreamAttributes,
};
pub use vm::Vm;
