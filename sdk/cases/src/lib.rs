//! Black-box cases of a filter: what comes in, what the world around it answers, what is to come out.
//!
//! ```text
//!   cases.yaml ── format ──► Case ──┬── mock: the SDK's mock host, in `cargo test`
//!                                   └── any other runner: a host, an Envoy
//!                                              │
//!                            Seen (what happened) ── compare ──► differences in words
//! ```
//!
//! The format is described in `sdk/cases/README.md`. A runner needs [`File::parse`], [`Case::exchanges`] and [`Seen::differences`].

mod certificate;
mod compare;
mod file;
mod format;
mod mock;
pub mod proto;

pub use certificate::{Attribute, Certificate, Problem};
pub use compare::{Observed, Seen};
pub use file::File;
pub use format::{
    Answer, Body, Call, Case, Exchange, Expect, ExpectedHeader, ExpectedRequest, ExpectedResponse,
    Failure, GrpcEnd, Head, Request, Response, Upstream,
};
pub use mock::run;
