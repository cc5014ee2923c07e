//! Pure data of the gateway: listeners, hostnames, routes (match and find), filters, backends, snapshot.
//!
//! ```text
//!   Snapshot ── Listener (bound address) ── ListenerHost (hostname) ── RouteTable ── RouteEntry ── Rule
//!                                                                                                  │ Filter… ── FilterSpec
//!                                                                                                  └ WeightedBackend ── Backend
//! ```
//!
//! Knows `http` and plain data only: no sockets, no clock, no wasm, no Kubernetes. Everything here can be built by hand in a test.

mod backend;
mod expressions;
mod filter;
mod head;
mod hostname;
mod image;
mod packed;
pub mod path;
mod route;
mod rule;
mod secrets;
mod session;
mod settings;
mod snapshot;
mod streams;

pub use backend::{
    Backend, BackendProtocol, BackendTls, Certificate, Endpoint, LoadBalancer, SubjectAltName,
    Trust,
};
pub use filter::{
    Authorities, Capability, Compatibility, Config, Credentials, FailureCause, FailurePolicies,
    FailurePolicy, FilterId, FilterLimits, FilterMode, FilterSpec, FilterVerdict, FilterVerdicts,
    Isolation, ModuleSource, PinnedImage, Pull, VmSpec,
};
pub use head::{RequestHead, ResponseHead, strip_port};
pub use hostname::{HostMap, HostPattern, Labels};
pub use image::{ImageReference, ImageReferenceError};
pub use packed::PackedHeaders;
pub use route::{
    Age, PathMatch, Pattern, Precedence, RouteEntry, RouteMatch, RouteQuery, RouteTable, ValueMatch,
};
pub use rule::{
    BackendTarget, Concurrency, Filter, HeaderModifier, Mirror, PathModifier, Redirect, Retry,
    Rule, RuleOrigin, Timeouts, UrlRewrite, WeightedBackend,
};
pub use secrets::Secrets;
pub use session::{CookieAttributes, SameSite, Session, SessionCarrier};
pub use settings::{ListenerLimits, ListenerSettings};
pub use snapshot::{ClientValidation, Listener, ListenerHost, ListenerTls, Protocol, Snapshot};
pub use streams::{StreamRule, StreamTls, Streams};
