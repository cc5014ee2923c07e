//! Writing HTTP filters: typed requests, responses, calls and state over proxy-wasm, and a mock host to test them natively.
//!
//! ```text
//!   your filter: impl Filter ── request(), response(): straight-line async code
//!        │
//!   Request, Response, http::Call, shared, metrics, time, property        this crate's API: no word of the ABI in it
//!        │
//!   runtime: contexts, futures polled by the host's callbacks
//!        │
//!   abi (wasm32-wasip1: proxy-wasm 0.2.1)   or   component (wasm32-wasip2: the world of wit/)   or   mock (cargo test)
//! ```
//!
//! A filter is one type:
//!
//! ```
//! use tidegate_sdk::{ConfigError, Filter, Reply, Request, Response, config};
//!
//! #[derive(serde::Deserialize)]
//! struct Teapot {
//!     header: String,
//! }
//!
//! impl Filter for Teapot {
//!     type Memo = ();
//!
//!     fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
//!         config::parse(configuration)
//!     }
//!
//!     async fn request(&self, request: &Request) -> Result<(), Reply> {
//!         match request.headers().get(&self.header) {
//!             Some(_) => Ok(()),
//!             None => Err(Reply::new(418)),
//!         }
//!     }
//! }
//! ```
//!
//! `tidegate_sdk::filter!(Teapot, "../schema.json")` in the crate's root makes it, built for wasm32-wasip1, a module that Envoy and Tidegate load, and
//! built for wasm32-wasip2, a component that Tidegate loads. No line of the filter differs.
//!
//! The functions of the ABI are bound here and not by the crate `proxy-wasm`: that one panics on statuses that hosts do return
//! (a full store, a capability that is not granted, a header map that is out of its phase), and it loses the answer to a call
//! whose stream has ended, which a call that several streams wait for must not.

#[cfg(all(target_arch = "wasm32", not(target_env = "p2")))]
#[doc(hidden)]
#[allow(missing_docs, reason = "for `filter!` alone")]
pub mod abi;
pub mod address;
#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
mod component;
pub mod config;
pub mod credential;
#[cfg(feature = "regex")]
pub mod expression;
mod filter;
pub mod flight;
pub mod grpc;
pub mod header;
mod headers;
mod hostcalls;
pub mod http;
pub mod log;
pub mod metrics;
#[cfg(not(target_arch = "wasm32"))]
pub mod mock;
pub mod net;
pub mod property;
pub mod reply;
mod request;
mod response;
mod runtime;
pub mod shared;
pub mod template;
pub mod time;

pub use config::ConfigError;
pub use filter::Filter;
#[doc(hidden)]
pub use filter::{Part, start};
pub use headers::Headers;
pub use reply::Reply;
pub use request::{BodyError, Chunk, Request};
pub use response::Response;
