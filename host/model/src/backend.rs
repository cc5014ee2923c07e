//! Backends: where requests go, and how they are spoken to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, Serializer};

/// A Service port (or a declared cluster) with its endpoints. Pools, ejections and health live elsewhere, under [`key`](Self::key).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Index among the backends of the snapshot.
    #[serde(skip)]
    pub slot: usize,
    /// Stable name: `namespace/service:port`, with `+h2c`, `+tcp`, `+udp` or `+tls` where it is spoken to in another way.
    pub key: Arc<str>,
    /// What is spoken.
    pub protocol: BackendProtocol,
    /// TLS towards the endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
    /// Where it runs; none is a 503.
    pub endpoints: Vec<Endpoint>,
    /// How an endpoint is chosen.
    pub load_balancer: LoadBalancer,
    /// Limit for TCP and TLS handshakes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Duration>,
}

/// What is spoken to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum BackendProtocol {
    /// HTTP/1.1; over TLS, HTTP/2 where ALPN agrees on it.
    Http1,
    /// HTTP/2 with prior knowledge (`kubernetes.io/h2c`, gRPC).
    Http2,
    /// Bytes as they come from the client.
    Tcp,
    /// Datagrams as they come from the client.
    Udp,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum LoadBalancer {
    /// In turn.
    #[default]
    RoundRobin,
    /// The less busy of two taken by chance.
    LeastRequest,
}

/// One place where a backend runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// An address.
    Address(SocketAddr),
    /// A name to be looked up when connecting (ExternalName, URLs).
    Name(Arc<str>, u16),
}

/// BackendTLSPolicy for a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTls {
    /// SNI, and the name that the certificate must bear unless `subject_alt_names` are given.
    pub server_name: Arc<str>,
    /// Names of which the certificate must bear one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<SubjectAltName>,
    /// Who may have signed.
    pub trust: Trust,
    /// What we present ourselves with (Gateway `tls.backend.clientCertificateRef`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<Arc<Certificate>>,
}

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SubjectAltName {
    /// dNSName
    Hostname(Arc<str>),
    /// uniformResourceIdentifier
    Uri(Arc<str>),
}

/// Which certificate authorities are trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Trust {
    /// Those that the operating system or the Mozilla list trusts (`wellKnownCACertificates: System`).
    System,
    /// These, PEM.
    Bundle(#[serde(serialize_with = "length")] Bytes),
    /// Anybody, and no name is sent or compared: TLS against listeners only (`nginx.ingress.kubernetes.io/backend-protocol: HTTPS`).
    Anybody,
}

/// A certificate chain with its key, checked to belong together.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// `namespace/name` of the Secret.
    pub name: Arc<str>,
    /// Chain, PEM.
    #[serde(skip)]
    pub chain: Bytes,
    /// Key, PEM; printed nowhere.
    #[serde(serialize_with = "redacted")]
    pub key: Bytes,
    /// Names it is valid for, lower case.
    pub names: Vec<Arc<str>>,
    /// SHA-256 of the leaf, hexadecimal.
    pub fingerprint: Arc<str>,
    /// End of validity, seconds since 1970.
    pub not_after: i64,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("name", &self.name)
            .field("fingerprint", &self.fingerprint)
            .finish()
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

pub(crate) fn redacted<S: Serializer, T: ?Sized>(_: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("<redacted>")
}

pub(crate) fn length<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{} bytes", bytes.len()))
}
