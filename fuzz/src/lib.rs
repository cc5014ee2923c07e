//! Hostile guests, made from random bytes. What a guest passes must not panic the host, whatever it is.
//!
//! ```text
//!   bytes ── Case (a program of hostcalls, its data, the events around it) ──► one interpreting guest in a Vm
//!     └───── wasm-smith (a random valid module) or a damaged one ──► compile ──► Vm, all callbacks
//! ```
//!
//! The same functions serve `cargo fuzz` (nightly, with coverage; `fuzz_targets/`) and the test `briefly`, which runs everywhere
//! with the stable compiler. Each takes bytes and returns, or panics with what it found.

mod events;
mod hostcalls;
mod limits;
mod modules;

use std::collections::BTreeSet;

use arbitrary::Unstructured;
pub use modules::Stage;

/// Serialised header maps, well-formed and damaged, given to every hostcall that takes one.
pub fn pairs(data: &[u8]) {
    hostcalls::run(&mut Unstructured::new(data), &hostcalls::Choice::MAPS);
}

/// Property paths, read and written in every phase of a stream.
pub fn properties(data: &[u8]) {
    hostcalls::run(&mut Unstructured::new(data), &hostcalls::Choice::PROPERTIES);
}

/// Any sequence of hostcalls, under any sequence of events.
pub fn hostcalls(data: &[u8]) {
    effects(data);
}

/// The same; which kinds of effects the case led to. A test rests on it: programs that get nowhere would find nothing.
pub fn effects(data: &[u8]) -> BTreeSet<&'static str> {
    hostcalls::run(&mut Unstructured::new(data), &hostcalls::Choice::ALL)
}

/// Random valid modules, and damaged ones: loaded, started, and called in every way.
pub fn modules(data: &[u8]) {
    stage(data);
}

/// The same; how far the module came.
pub fn stage(data: &[u8]) -> Stage {
    modules::run(&mut Unstructured::new(data)).unwrap_or(Stage::Unmade)
}
