//! Guest programs for the tests and benchmarks of the wasm host: `programs/examples/*.rs` with the plain proxy-wasm SDK for Rust,
//! and `wat/*.wat` for what SDKs do not do. Each is a constant here with its module.
//!
//! [`foreach_guest`] hands the name of each to a macro, so that a test file can demand a test for every one of them: a program
//! without one does not compile.

include!(concat!(env!("OUT_DIR"), "/guests.rs"));
