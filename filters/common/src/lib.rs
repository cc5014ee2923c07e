//! What the bundled filters share.
//!
//! ```text
//!   host (Envoy, Tidegate) ── glue: Root, request, reply ── policy.rs of each filter
//!                                  only on wasm32              pure, tested natively
//! ```
//!
//! [`config`], [`header`], [`address`] and [`reply`] are plain functions and run anywhere. `glue` and `shared_data` talk to
//! the host and exist on wasm32 only, so that native tests never meet a hostcall.

pub mod address;
pub mod config;
#[cfg(target_arch = "wasm32")]
pub mod glue;
pub mod header;
pub mod reply;
#[cfg(target_arch = "wasm32")]
pub mod shared_data;

pub use config::ConfigError;
pub use reply::Reply;
