//! The same cases in this host and in a real Envoy on loopback, compared line by line.
//!
//! ```text
//!   cases/*.yaml ─► Case ─┬─► envoy::Envoy   (a process: a listener for each case) ──┐
//!                         └─► here::Here     (the gateway in process: a hostname) ───┤
//!                                                                                    ▼
//!            exchange: requests from a client, a scripted upstream, what guests log ─► Record ─► differences.yaml
//! ```
//!
//! Most cases put the probe on the route (guests/probe), a guest that runs the hostcalls that a case lists and logs every
//! callback and every outcome; the others run real filters in several languages. README.md says how to write a case.

pub mod bytes;
pub mod case;
pub mod differences;
pub mod envoy;
pub mod exchange;
pub mod grpc;
pub mod here;
pub mod http2;
pub mod journal;
pub mod modules;
pub mod record;
pub mod upstream;

pub use tidegate_loopback::message;
