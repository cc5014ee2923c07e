//! The snapshot: everything the data plane needs to know, as one plain value that can be printed and compared.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::backend::{Backend, Certificate};
use crate::filter::FilterSpec;
use crate::hostname::HostMap;
use crate::route::{RouteEntry, RouteQuery, RouteTable};
use crate::rule::Filter;
use crate::settings::ListenerSettings;
use crate::streams::Streams;

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
    /// The same over TLS. Some hostnames of the address may be passed on as streams all the same (see [`ListenerHost::streams`]).
    Https,
    /// TLS whose connections are passed on, by the name that the client asks for.
    Tls,
    /// Connections are passed on whatever is spoken.
    Tcp,
    /// Datagrams are.
    Udp,
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
    /// Where connections go as they are (protocols TLS, TCP and UDP); then nobody looks at requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<Streams>,
}

/// TLS of a listener hostname.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// Certificates; the one that names the host is taken, else the first.
    pub certificates: Vec<Arc<Certificate>>,
    /// What is asked of clients (Gateway `tls.frontend`); without it no certificate is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_validation: Option<Arc<ClientValidation>>,
}

/// How certificates of clients are validated (`FrontendTLSValidation`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientValidation {
    /// Whom clients' certificates must come from, PEM.
    #[serde(serialize_with = "crate::backend::length")]
    pub authorities: Bytes,
    /// SHA-256 of the authorities, hexadecimal.
    pub fingerprint: Arc<str>,
    /// Whether a client without a valid certificate is refused (`AllowValidOnly`); otherwise it is let in, and filters learn
    /// of no certificate (`AllowInsecureFallback`).
    pub required: bool,
}

impl Protocol {
    /// Whether a handshake comes first, by whose name the hostname is chosen.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// Whether both can be spoken on one address: TLS is told apart by the name that the client asks for, datagrams have
    /// ports of their own.
    pub fn shares_address_with(self, other: Self) -> bool {
        self == other
            || (self.is_tls() && other.is_tls())
            || (self == Self::Udp) != (other == Self::Udp)
    }
}

impl Snapshot {
    /// The listener bound at this address for TCP.
    pub fn listener(&self, bind: SocketAddr) -> Option<&Arc<Listener>> {
        self.listeners
            .iter()
            .find(|listener| listener.bind == bind && listener.protocol != Protocol::Udp)
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
