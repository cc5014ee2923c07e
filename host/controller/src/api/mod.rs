//! The objects the control plane reads, as plain Rust types.
//!
//! Gateway API kinds are written by hand after `apis/v1` of the Gateway API (v1.7, experimental
//! channel); core kinds use the types of `k8s-openapi`; our own kinds are in [`tidegate`]. Types hold
//! only what is read: no status, no managed fields. Optional fields that have a default in the CRD are
//! not optional here, they hold the default. Enumerations that may grow keep an unknown value in
//! `Other`, because a cluster can have newer CRDs than this program.

mod age;
pub mod core;
mod decode;
pub mod duration;
pub mod filter;
pub mod gateway;
pub mod grpc;
pub mod http;
mod kind;
pub(crate) mod path;
pub mod policy;
pub mod quantity;
pub mod reference;
mod selector;
pub mod stream;
pub mod tidegate;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use age::Age;
pub use decode::{DecodeError, decode, from_value};
pub(crate) use kind::{GATEWAY_GROUP, OWN_GROUP};
pub use kind::{Kind, Scope, Version};
pub use selector::selects;

/// A decoded object: metadata, what it asks for, and where it was read.
///
/// Two objects are equal when a translation would treat them alike: `resourceVersion`, status and
/// managed fields are not part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<S> {
    /// Name, labels, age.
    pub meta: Meta,
    /// `spec`; the whole object for kinds without one.
    pub spec: S,
    /// Where it was read.
    pub source: Source,
}

/// The part of `metadata` that is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// Unique within kind and namespace.
    pub name: String,
    /// `metadata.generation`, 1 where it is absent (a manifest without a cluster).
    pub generation: i64,
    /// Empty where it is absent.
    pub uid: String,
    /// What decides between conflicting objects: the older wins.
    pub age: Age,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`, without kubectl's `last-applied-configuration`.
    pub annotations: BTreeMap<String, String>,
}

/// Where an object was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// From the API server.
    #[default]
    Cluster,
    /// From a file.
    File {
        /// The path as it was found, relative when the argument was relative.
        path: Arc<Path>,
        /// The first line of the object, from 1; 0 is the file as a whole.
        line: u32,
    },
}

/// A name within a kind: namespace (empty for cluster-scoped kinds), then name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

/// What can be decoded as the content of an [`Object`].
pub trait Body: serde::de::DeserializeOwned {
    /// The kind this content belongs to.
    const KIND: Kind;
    /// The field that holds it; `None` when it is the object itself (Secret, EndpointSlice).
    const FIELD: Option<&'static str> = Some("spec");
}

// === impl Object ===

impl<S> Object<S> {
    /// The name within the kind.
    pub fn key(&self) -> Key {
        Key::new(&self.meta.namespace, &self.meta.name)
    }
}

impl<S: Body> Object<S> {
    /// The kind.
    pub fn kind(&self) -> Kind {
        S::KIND
    }
}

impl<S: Body> fmt::Display for Object<S> {
    /// `HTTPRoute shop/cart`, as messages name objects.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", S::KIND, self.key())
    }
}

// === impl Source ===

impl Source {
    /// A place in a file.
    pub fn file(path: impl Into<Arc<Path>>, line: u32) -> Self {
        Self::File {
            path: path.into(),
            line,
        }
    }

    /// The folder of the file: what relative paths inside the object start from.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Cluster => None,
            Self::File { path, .. } => path.parent(),
        }
    }
}

impl fmt::Display for Source {
    /// `file:line`, `file`, or `cluster`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

// === impl Key ===

impl Key {
    /// A key; an empty namespace for cluster-scoped kinds.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    /// `namespace/name`, or `name` alone for cluster-scoped kinds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}
