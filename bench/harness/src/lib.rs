//! What the measuring programs share: the built binary as a process, a client, an upstream, and tables of times.
//!
//! ```text
//!   Client (one thread each) ──► Gateway (the binary) ──► backend (a thread for each connection)
//! ```

pub mod backend;
mod client;
pub mod figures;
mod gateway;

pub use client::{Answer, Client};
pub use figures::Samples;
pub use gateway::{Gateway, free_port};
