//! The control plane: where objects come from, what they mean, and what is said about them.
//!
//! ```text
//!   manifests (files, folders) ─┐
//!                               ├─ schema::admit ─ api::decode ─▶ Resources ─▶ translate ─▶ snapshot, statuses
//!   cluster (watch)   ──────────┘   (standalone)
//! ```
//!
//! In a cluster the API server admits objects; without one [`schema`] applies the same defaults and
//! the same rules, so that a manifest means the same in both places.

pub mod api;
pub mod cluster;
pub mod manifests;
pub mod resources;
pub mod schema;
pub mod status;
pub mod translate;
