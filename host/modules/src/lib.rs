//! Modules of filters: fetched, verified, compiled and tried once, off the request path. What that taught comes back as data.
//!
//! ```text
//!                ┌ source: bundled, file, ConfigMap ┐
//!   FilterSpec ──┤                                  ├─► digest ─► compile (once per digest) ─► trial start and configure ─► Loaded,
//!                └ remote: memory, disk, fetch ─────┘               └ disk                                                verdict
//! ```
//!
//! Each filter loads by itself: a source that is slow or gone delays its own filter and no other. A new version that fails
//! leaves the last good one in place, and is tried again with growing pauses for ever.

mod compile;
mod digest;
mod disk;
mod fetch;
mod limits;
mod load;
mod loader;
mod publish;
mod remote;
mod source;
#[cfg(test)]
mod testing;

pub use load::{Loaded, Trial};
pub use loader::{Loader, Settings, State};
pub use publish::{Access, Layout, PublishError, Pulled, Pushed, RegistryError, check, pull, push};
pub use source::SourceError;
