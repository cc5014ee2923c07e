//! The data plane: accept, TLS, HTTP/1 and HTTP/2, filter chain, upstreams, drain, access log.
//!
//! ```text
//!   Proxy (control side) ── publish ──► Worker (thread) ── Connection ── Stream (exchange) ── Chain ── upstream
//! ```
//!
//! A request's way is the story of `exchange.rs`; the strict reading of its head is `check.rs`; every answer that the host makes
//! itself is in `error.rs`. Workers share nothing but the published state.

mod access_log;
mod activity;
mod attributes;
mod body;
mod budget;
mod callout;
mod chain;
mod check;
mod client_certificate;
mod client_hello;
mod clients;
mod concurrency;
mod config;
mod connection;
mod error;
mod exchange;
mod filtered;
mod forward;
mod forwarded;
mod framing;
mod gather;
mod grpc;
mod grpc_reply;
mod layer4;
mod local;
mod metrics;
mod native;
mod plugin;
mod proxy;
mod publish;
mod request;
mod response;
mod session;
mod shadow;
mod side;
mod silence;
mod sockets;
mod stream;
mod tcp_proxy;
mod tls;
mod udp_proxy;
mod upgrade;
mod upstream;
mod wake;
mod worker;

pub use access_log::{AccessLog, AccessLogWriter};
pub use config::{Limits, Peers, ProxyConfig, Trust};
pub use plugin::{Breaker, Instances, Plugin, PluginStats};
pub use proxy::{BindError, Proxy};
pub use publish::FilterState;
pub use shadow::KINDS as SHADOW_KINDS;
