//! A guest that is scripted: its configuration lists, for each callback, which hostcalls to make and what to return. Every
//! callback and the outcome of every hostcall is logged, so that two hosts can be compared line by line. It calls the hostcalls
//! itself and does without an SDK, because SDKs panic on statuses that they do not expect. Empty but on wasm32.
//!
//! ```json
//! {"request_headers": [["get", "request", "x-a"], ["replace", "request", "x-b", "1"], ["return", 0]]}
//! ```
//!
//! host/differential/README.md describes the language.

#![cfg(target_arch = "wasm32")]

mod callbacks;
mod format;
mod hostcalls;
mod pairs;
mod script;
mod state;
