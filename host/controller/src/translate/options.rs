//! What a translation depends on besides the objects.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::api::Key;
use crate::status::Address;

/// Settings of the process, as far as they change what objects mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Which classes are ours (`spec.controllerName`).
    pub controller_name: String,
    /// Where listeners bind unless their Gateway has addresses of its own.
    pub bind: Vec<IpAddr>,
    /// Listener port to bound port; a port that is absent is bound as it is.
    pub port_map: BTreeMap<u16, u16>,
    /// Bound port of Ingress traffic in the clear.
    pub http_port: u16,
    /// Bound port of Ingress traffic over TLS.
    pub https_port: u16,
    /// Whether there is no cluster: any address may be an endpoint, and a Gateway needs no published address.
    pub standalone: bool,
    /// Whether a class named `tidegate` is taken for ours where there is none, because classes may not be read (a cluster
    /// where the process has rights in some namespaces only). Without a cluster it always is.
    pub assume_class: bool,
    /// Whether ExternalName Services may be backends in a cluster.
    pub allow_external_name: bool,
    /// Whether Ingresses of all our classes are read with annotations of ingress-nginx, and not only those whose class asks for it.
    pub ingress_nginx_annotations: bool,
    /// Where Gateways without addresses of their own are reached.
    pub addresses: Vec<Address>,
    /// Where Gateways are reached of which each has a Service of its own; `None` where they have none. A Gateway that is
    /// not in it waits for its Service.
    pub gateway_addresses: Option<BTreeMap<Key, Vec<Address>>>,
    /// Addresses given to Gateways out of a pool; they bind there.
    pub assigned: BTreeMap<Key, IpAddr>,
    /// What the data plane could not bind, and why.
    pub bind_errors: BTreeMap<Bind, String>,
    /// The bundle version of the Gateway API's CRDs in the cluster, as annotated; `None` without a cluster.
    pub gateway_api_version: Option<String>,
    /// Seconds since 1970, for warnings about expired certificates; `None` gives no such warnings.
    pub now: Option<i64>,
}

/// What the data plane binds. TCP and UDP have ports of their own.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Bind {
    /// Where.
    pub address: SocketAddr,
    /// For datagrams.
    pub udp: bool,
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.udp {
            f.write_str("UDP ")?;
        }
        self.address.fmt(f)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controller_name: "tidegate.dev/controller".to_owned(),
            bind: vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
            port_map: BTreeMap::new(),
            http_port: 8080,
            https_port: 8443,
            standalone: true,
            assume_class: false,
            allow_external_name: false,
            ingress_nginx_annotations: false,
            addresses: Vec::new(),
            gateway_addresses: None,
            assigned: BTreeMap::new(),
            bind_errors: BTreeMap::new(),
            gateway_api_version: None,
            now: None,
        }
    }
}

impl Options {
    /// The port that is bound for a listener's port.
    pub fn bound_port(&self, port: u16) -> u16 {
        self.port_map.get(&port).copied().unwrap_or(port)
    }

    /// The port that clients see where this one is bound.
    pub fn seen_port(&self, bound: u16) -> u16 {
        let mapped = self.port_map.iter().find(|(_, to)| **to == bound);
        mapped.map_or(bound, |(from, _)| *from)
    }

    /// Whether a class named `tidegate` that is absent is taken for ours.
    pub fn assumes_class(&self) -> bool {
        self.standalone || self.assume_class
    }

    /// Whether ExternalName Services may be backends.
    pub fn external_names(&self) -> bool {
        self.standalone || self.allow_external_name
    }
}
