//! Both ends of a proxy on loopback: HTTP/1 by the byte, ports that are free, and a real Envoy as a process.
//!
//! `tidegate filter test` is built on it, and so are the differential suite and the tests of the whole. Nothing here knows the host.

mod envoy;
pub mod message;
mod port;

pub use envoy::{Envoy, EnvoyError, GuestLine, Line};
pub use port::Port;
