//! The snapshot: everything the data plane needs to know, as one plain value that can be printed and compared.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::backend::{Backend, Certificate};
use crate::filter::FilterSpec;
use crate::hostname::HostMap;
use crate::route::{RouteEntry, RouteQuery, RouteTable};
use crate::rule::Filter;
use crate::settings::ListenerSettings;

/// A complete state. Requests take it once and keep it to their end.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Counts published states; 0 before the first.
    #[serde(skip)]
    pub generation: u64,
    /// Bound addresses, ordered.
    pub listeners: Vec<Arc<Listener>>,
    /// Filters in use, by slot.
    pub filters: Vec<Arc<FilterSpec>>,
    /// Backends in use, by slot.
    pub backends: Vec<Arc<Backend>>,
}

/// One bound address. Gateways and Ingresses that share it share its tables.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Where it is bound, after the port map.
    pub bind: SocketAddr,
    /// The port that Gateways name and clients see.
    pub port: u16,
    /// What is spoken.
    pub protocol: Protocol,
    /// Bounds and trust, as a class asks for them. Connections are judged by them before anything is known of a host, so
    /// listeners that share the address share them.
    #[serde(skip_serializing_if = "ListenerSettings::is_empty")]
    pub settings: ListenerSettings,
    /// By listener hostname: the most specific one takes the request, and no other is asked
    /// (Gateway API, "listener isolation").
    pub hosts: HostMap<ListenerHost>,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Protocol {
    /// HTTP/1 and HTTP/2 in the clear.
    Http,
    /// The same over TLS.
    Https,
}

/// What serves requests for one listener hostname.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerHost {
    /// The listeners that stand here: `Gateway namespace/name/listener`, `Ingress`.
    pub names: Vec<Arc<str>>,
    /// Filters that run before the route is chosen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Certificates, for TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Arc<ListenerTls>>,
    /// By route hostname; a request that no route of a narrower name takes goes on to the wider ones.
    pub routes: HostMap<RouteTable>,
}

/// TLS of a listener hostname.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// Certificates; the one that names the host is taken, else the first.
    pub certificates: Vec<Arc<Certificate>>,
}

impl Snapshot {
    /// The listener bound at this address.
    pub fn listener(&self, bind: SocketAddr) -> Option<&Arc<Listener>> {
        self.listeners.iter().find(|listener| listener.bind == bind)
    }
}

impl ListenerHost {
    /// The greatest match for the request: the narrowest hostname first, and its whole table before the next.
    pub fn find(&self, host: &str, query: &RouteQuery<'_>) -> Option<&RouteEntry> {
        self.routes
            .matching(host)
            .find_map(|table| table.find(query))
    }
}
