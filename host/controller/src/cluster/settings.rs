//! What the process was told about its cluster.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::api::Key;
use crate::status::Address;

/// Settings of a [`Cluster`](super::Cluster).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which classes are ours; also the name under which we write into shared lists.
    pub controller_name: String,
    /// The namespaces that are read; empty for all.
    pub namespaces: Vec<String>,
    /// A label selector that GatewayClasses and IngressClasses must meet.
    pub class_selector: Option<String>,
    /// The Service whose load balancer's addresses are published.
    pub publish_service: Option<Key>,
    /// Addresses that are published as given.
    pub publish_addresses: Vec<Address>,
    /// Where each Gateway gets an address of its own from.
    pub address_pool: Option<IpNet>,
    /// What kind of Service each Gateway gets, in front of the pods of `fleet`; none unless it is given.
    pub gateway_services: Option<ServiceType>,
    /// The Service that chooses the pods of this installation.
    pub fleet: Option<Key>,
    /// Where the last good state is kept across restarts.
    pub state: Option<StateFile>,
    /// The namespace of the Lease.
    pub lease_namespace: String,
    /// This process among its replicas.
    pub identity: String,
}

/// `spec.type` of a Service that is made for a Gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceType {
    /// With a load balancer outside the cluster.
    LoadBalancer,
    /// At a port of every node.
    NodePort,
    /// Inside the cluster.
    ClusterIp,
}

impl ServiceType {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoadBalancer => "LoadBalancer",
            Self::NodePort => "NodePort",
            Self::ClusterIp => "ClusterIP",
        }
    }
}

impl std::str::FromStr for ServiceType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::LoadBalancer, Self::NodePort, Self::ClusterIp]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| "expected LoadBalancer, NodePort or ClusterIP".to_owned())
    }
}

/// Where the last good state is kept. It holds private keys.
#[derive(Clone, Debug)]
pub struct StateFile {
    /// The folder; made with mode 0700 where it does not exist.
    pub folder: PathBuf,
    /// A state that was last confirmed longer ago than this is not used.
    pub max_age: Duration,
}
