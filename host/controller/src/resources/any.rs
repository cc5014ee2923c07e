//! An object of any kind, and the places of the kinds in [`Resources`].

use std::sync::Arc;

use serde_json::Value;

use super::{ObjectId, Resources};
use crate::api::core::{
    ConfigMap, EndpointSlice, Ingress, IngressClass, Namespace, Secret, Service,
};
use crate::api::gateway::{Gateway, GatewayClass, ListenerSet};
use crate::api::grpc::GrpcRoute;
use crate::api::http::HttpRoute;
use crate::api::policy::{BackendTlsPolicy, ReferenceGrant};
use crate::api::stream::{TcpRoute, TlsRoute, UdpRoute};
use crate::api::tidegate::{Filter, FilterPolicy, GatewayConfig};
use crate::api::{self, Age, DecodeError, Key, Kind, Meta, Source};

/// Writes once for each kind what is the same for all.
macro_rules! kinds {
    ($($kind:ident: $field:ident,)*) => {
        /// An object of one of the kinds we read.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AnyObject {
            $(
                #[doc = concat!("A ", stringify!($kind), ".")]
                $kind(Arc<$kind>),
            )*
        }

        impl AnyObject {
            /// Decodes an object of a known kind.
            ///
            /// # Errors
            /// The first field that does not have the shape of the kind.
            pub fn decode(kind: Kind, object: &Value, source: Source, age: Age) -> Result<Self, DecodeError> {
                match kind {
                    $(Kind::$kind => Ok(Self::$kind(Arc::new(api::decode(object, source, age)?))),)*
                }
            }

            /// The kind.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// Name, labels, age.
            pub fn meta(&self) -> &Meta {
                match self {
                    $(Self::$kind(object) => &object.meta,)*
                }
            }

            /// Where it was read.
            pub fn source(&self) -> &Source {
                match self {
                    $(Self::$kind(object) => &object.source,)*
                }
            }

            pub(super) fn insert_into(self, resources: &mut Resources) {
                match self {
                    $(Self::$kind(object) => {
                        resources.$field.insert(object.key(), object);
                    })*
                }
            }
        }

        pub(super) fn remove(resources: &mut Resources, kind: Kind, key: &Key) -> bool {
            match kind {
                $(Kind::$kind => resources.$field.remove(key).is_some(),)*
            }
        }

        pub(super) fn contains(resources: &Resources, kind: Kind, key: &Key) -> bool {
            match kind {
                $(Kind::$kind => resources.$field.contains_key(key),)*
            }
        }

        pub(super) fn holds(resources: &Resources, object: &AnyObject) -> bool {
            match object {
                $(AnyObject::$kind(object) => resources.$field.get(&object.key()) == Some(object),)*
            }
        }

        pub(super) fn count(resources: &Resources, kind: Kind) -> usize {
            match kind {
                $(Kind::$kind => resources.$field.len(),)*
            }
        }

        pub(super) fn iter(resources: &Resources) -> impl Iterator<Item = AnyObject> + '_ {
            std::iter::empty()
                $(.chain(resources.$field.values().map(|object| AnyObject::$kind(Arc::clone(object)))))*
        }
    };
}

kinds! {
    GatewayClass: gateway_classes,
    Gateway: gateways,
    ListenerSet: listener_sets,
    HttpRoute: http_routes,
    GrpcRoute: grpc_routes,
    TlsRoute: tls_routes,
    TcpRoute: tcp_routes,
    UdpRoute: udp_routes,
    ReferenceGrant: reference_grants,
    BackendTlsPolicy: backend_tls_policies,
    IngressClass: ingress_classes,
    Ingress: ingresses,
    Service: services,
    EndpointSlice: endpoint_slices,
    Secret: secrets,
    ConfigMap: config_maps,
    Namespace: namespaces,
    Filter: filters,
    FilterPolicy: filter_policies,
    GatewayConfig: gateway_configs,
}

// === impl AnyObject ===

impl AnyObject {
    /// The name within the kind.
    pub fn key(&self) -> Key {
        let meta = self.meta();
        Key::new(&meta.namespace, &meta.name)
    }

    /// Kind and name.
    pub fn id(&self) -> ObjectId {
        ObjectId {
            kind: self.kind(),
            key: self.key(),
        }
    }
}

impl std::fmt::Display for AnyObject {
    /// `HTTPRoute shop/cart`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind(), self.key())
    }
}
