//! What tests of the whole are made of: the gateway in process or as the built binary, upstreams that can be scripted and
//! remember what they saw, clients down to the byte, and guests written in a few lines of WAT.
//!
//! ```text
//!   client ── Wire (bytes) or Client (hyper) ──► Gateway (in process) or Process (the binary) ──► Upstream (scripted) or Listener (bytes)
//! ```
//!
//! Nothing here sleeps for a fixed time: what is awaited is awaited until it comes, and a deadline ([`PATIENCE`]) only ends a
//! test that would wait for ever. Everything here panics with what went wrong, as tests do.

mod answer;
mod certificates;
mod client;
mod gateway;
mod grpc;
mod guest;
pub mod manifests;
mod process;
mod recorder;
mod tls;
mod upstream;
mod wire;

use std::time::Duration;

pub use answer::Answer;
pub use certificates::Certificate;
pub use client::{Body, Client, empty, full, whole};
pub use gateway::{Builder, Gateway};
pub use grpc::{GrpcCall, GrpcUpstream, grpc_frame};
pub use guest::{guest, noting};
pub use process::Process;
pub use recorder::{Recorder, Records};
pub use tidegate_loopback::Port;
pub use tls::Tls;
pub use upstream::{Reply, Seen, Upstream};
pub use wire::{Head, Listener, Wire};

/// How long a test waits for what must come. Long, because machines are slow at times; nobody waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits what must come, and fails with `what` where it does not.
///
/// # Panics
/// After [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: did not happen within {PATIENCE:?}"),
    }
}

/// Waits until a condition holds that nothing announces; fails with `what` after [`PATIENCE`].
///
/// The condition is any expression of type `bool`, `.await` included.
#[macro_export]
macro_rules! eventually {
    ($condition:expr, $($what:tt)+) => {{
        let deadline = ::tokio::time::Instant::now() + $crate::PATIENCE;
        while !$condition {
            if ::tokio::time::Instant::now() >= deadline {
                panic!("{}: did not happen within {:?}", format_args!($($what)+), $crate::PATIENCE);
            }
            ::tokio::time::sleep(::std::time::Duration::from_millis(10)).await;
        }
    }};
}
