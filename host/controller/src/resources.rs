//! Everything that is asked of the gateway, typed and by name: what a translation reads.
//!
//! Objects are shared: a rebuild after a change of one object clones a pointer for each of the others. Two
//! values are equal when a translation of them would be.

mod any;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

pub use any::AnyObject;

use crate::api::core::{
    ConfigMap, EndpointSlice, Ingress, IngressClass, Namespace, Secret, Service,
};
use crate::api::gateway::{Gateway, GatewayClass, ListenerSet};
use crate::api::grpc::GrpcRoute;
use crate::api::http::HttpRoute;
use crate::api::policy::{BackendTlsPolicy, ReferenceGrant};
use crate::api::stream::{TcpRoute, TlsRoute, UdpRoute};
use crate::api::tidegate::{Filter, FilterPolicy, GatewayConfig};
use crate::api::{Age, DecodeError, Key, Kind, Source};
use crate::schema::FieldError;

/// The objects of one kind.
pub type Objects<T> = BTreeMap<Key, Arc<T>>;

/// All objects that were read, and what could not be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// By name; the namespace is empty.
    pub gateway_classes: Objects<GatewayClass>,
    /// By namespace and name.
    pub gateways: Objects<Gateway>,
    /// By namespace and name.
    pub listener_sets: Objects<ListenerSet>,
    /// By namespace and name.
    pub http_routes: Objects<HttpRoute>,
    /// By namespace and name.
    pub grpc_routes: Objects<GrpcRoute>,
    /// By namespace and name.
    pub tls_routes: Objects<TlsRoute>,
    /// By namespace and name.
    pub tcp_routes: Objects<TcpRoute>,
    /// By namespace and name.
    pub udp_routes: Objects<UdpRoute>,
    /// By namespace and name.
    pub reference_grants: Objects<ReferenceGrant>,
    /// By namespace and name.
    pub backend_tls_policies: Objects<BackendTlsPolicy>,
    /// By name; the namespace is empty.
    pub ingress_classes: Objects<IngressClass>,
    /// By namespace and name.
    pub ingresses: Objects<Ingress>,
    /// By namespace and name.
    pub services: Objects<Service>,
    /// By namespace and name.
    pub endpoint_slices: Objects<EndpointSlice>,
    /// By namespace and name.
    pub secrets: Objects<Secret>,
    /// By namespace and name.
    pub config_maps: Objects<ConfigMap>,
    /// By name; the namespace is empty.
    pub namespaces: Objects<Namespace>,
    /// By namespace and name.
    pub filters: Objects<Filter>,
    /// By namespace and name.
    pub filter_policies: Objects<FilterPolicy>,
    /// By namespace and name.
    pub gateway_configs: Objects<GatewayConfig>,
    /// Objects that an API server would have refused; the others serve.
    pub rejected: Vec<Rejected>,
    /// What is wrong with files rather than with an object.
    pub errors: Vec<Problem>,
    /// What the authors of admitted objects should know.
    pub warnings: BTreeMap<ObjectId, Vec<String>>,
    /// Kinds nobody here reads.
    pub ignored: Vec<IgnoredKind>,
}

/// A kind and a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// The kind.
    pub kind: Kind,
    /// The name within the kind.
    pub key: Key,
}

/// An object that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// As written; may be empty.
    pub api_version: String,
    /// As written; may be empty.
    pub kind: String,
    /// May be empty.
    pub namespace: String,
    /// May be empty.
    pub name: String,
    /// Where it was read.
    pub source: Source,
    /// At least one.
    pub errors: Vec<FieldError>,
    /// Whether the last version that was admitted still serves in its place.
    pub last_good_kept: bool,
}

/// Something wrong that belongs to a place rather than to an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The place; line 0 is the file as a whole.
    pub source: Source,
    /// What is wrong and what to do.
    pub message: String,
}

/// A kind that is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredKind {
    /// As written.
    pub api_version: String,
    /// As written.
    pub kind: String,
    /// Where the first one is.
    pub first: Source,
    /// How many there are.
    pub count: usize,
}

// === impl Resources ===

impl Resources {
    /// Puts an object in, in place of one of that name.
    pub fn apply(&mut self, object: AnyObject) {
        object.insert_into(self);
    }

    /// Takes an object out; whether there was one.
    pub fn remove(&mut self, kind: Kind, key: &Key) -> bool {
        self.warnings.remove(&ObjectId {
            kind,
            key: key.clone(),
        });
        any::remove(self, kind, key)
    }

    /// Whether there is an object of that kind and name.
    pub fn contains(&self, kind: Kind, key: &Key) -> bool {
        any::contains(self, kind, key)
    }

    /// Whether an equal object of that name is there.
    pub fn holds(&self, object: &AnyObject) -> bool {
        any::holds(self, object)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        Kind::all().map(|kind| any::count(self, kind)).sum()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every object, kind by kind.
    pub fn iter(&self) -> impl Iterator<Item = AnyObject> + '_ {
        any::iter(self)
    }

    /// The labels that selectors see on a namespace: at least the one with its name, which an API server
    /// puts on every namespace. Without a cluster a namespace need not be written down to be used.
    pub fn namespace_labels(&self, name: &str) -> Cow<'_, BTreeMap<String, String>> {
        match self.namespaces.get(&Key::new("", name)) {
            Some(namespace) => Cow::Borrowed(&namespace.meta.labels),
            None => Cow::Owned(BTreeMap::from([(
                "kubernetes.io/metadata.name".to_owned(),
                name.to_owned(),
            )])),
        }
    }
}

/// Decodes an object of any kind we read; `None` for other kinds and for versions that are not served.
///
/// # Errors
/// The first field that does not have the shape of its kind.
pub fn decode(object: &Value, source: Source, age: Age) -> Option<Result<AnyObject, DecodeError>> {
    let text = |field: &str| {
        object
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    match Kind::resolve(text("apiVersion"), text("kind")) {
        crate::api::Version::Served(kind) => Some(AnyObject::decode(kind, object, source, age)),
        _ => None,
    }
}

// === impl Rejected ===

impl Rejected {
    /// Kind and name, if they are those of an object that could be admitted.
    pub fn id(&self) -> Option<ObjectId> {
        match Kind::resolve(&self.api_version, &self.kind) {
            crate::api::Version::Served(kind) | crate::api::Version::Withdrawn { kind, .. }
                if !self.name.is_empty() =>
            {
                Some(ObjectId {
                    kind,
                    key: Key::new(&self.namespace, &self.name),
                })
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Rejected {
    /// `HTTPRoute shop/cart`, or what there is of it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.kind.is_empty() {
            "object"
        } else {
            &self.kind
        };
        match (self.name.is_empty(), self.namespace.is_empty()) {
            (true, _) => f.write_str(kind),
            (false, true) => write!(f, "{kind} {}", self.name),
            (false, false) => write!(f, "{kind} {}/{}", self.namespace, self.name),
        }
    }
}

impl std::fmt::Display for Problem {
    /// `file:line: message`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.source, self.message)
    }
}
