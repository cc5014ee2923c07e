//! `tidegate serve --kubernetes`: its arguments, and what they mean for the cluster.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgGroup, Args};
use ipnet::IpNet;
use tidegate_controller::api::Key;
use tidegate_controller::cluster::{ServiceType, Settings, StateFile};
use tidegate_controller::status::{Address, AddressKind};

/// Options of a process that reads a cluster.
#[derive(Args, Clone)]
#[command(group = ArgGroup::new("reached").args(["publish_service", "fleet_service", "address_pool"]).multiple(true))]
pub(crate) struct Kubernetes {
    /// The objects of a cluster are the source of truth: that of KUBECONFIG, or the one this pod is in.
    #[arg(
        long,
        conflicts_with = "manifests",
        required_unless_present = "manifests"
    )]
    pub(crate) kubernetes: bool,
    /// Reads this namespace alone. Repeatable.
    #[arg(long, value_name = "NS", conflicts_with = "manifests")]
    pub(crate) namespace: Vec<String>,
    /// Label selector that GatewayClasses and IngressClasses must meet to be seen.
    #[arg(long, value_name = "SELECTOR", conflicts_with = "manifests")]
    pub(crate) class_selector: Option<String>,
    /// Service whose load balancer's addresses Gateways and Ingresses are reached at.
    #[arg(long, value_name = "NS/NAME", conflicts_with = "manifests")]
    pub(crate) publish_service: Option<ServiceName>,
    /// Address or name that Gateways and Ingresses are reached at. Repeatable.
    #[arg(long, value_name = "IP|HOST", conflicts_with = "manifests")]
    pub(crate) publish_address: Vec<String>,
    /// Gives each Gateway an address of its own out of this range and binds its listeners there.
    #[arg(long, value_name = "CIDR", conflicts_with = "manifests")]
    pub(crate) address_pool: Option<IpNet>,
    /// Makes a Service of this type for each Gateway (LoadBalancer, NodePort, ClusterIP), in the Gateway's namespace and with its
    /// infrastructure's labels and annotations, in front of the pods behind --fleet-service.
    #[arg(
        long,
        value_name = "TYPE",
        conflicts_with = "manifests",
        requires = "reached"
    )]
    pub(crate) gateway_services: Option<ServiceType>,
    /// The Service that chooses the pods of this installation; that of --publish-service unless it is given.
    #[arg(
        long,
        value_name = "NS/NAME",
        conflicts_with = "manifests",
        requires = "gateway_services"
    )]
    pub(crate) fleet_service: Option<ServiceName>,
    /// Lets Services of type ExternalName be backends.
    #[arg(long, conflicts_with = "manifests")]
    pub(crate) allow_external_name: bool,
    /// Folder for what outlives the process: fetched modules and compiled code, and of a cluster the last good state, for a
    /// restart without the API server. It holds private keys (mode 0600).
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// A state that was last known to be current longer ago than this is not used.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 86_400,
        requires = "state_dir"
    )]
    pub(crate) state_max_age: u64,
}

/// `namespace/name`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceName(pub(crate) Key);

impl FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self(Key::new(namespace, name)))
            }
            _ => Err("expected NAMESPACE/NAME, as tidegate-system/tidegate".to_owned()),
        }
    }
}

impl Kubernetes {
    /// What the cluster is told; `own_namespace` is where the kubeconfig or the service account points.
    pub(crate) fn settings(&self, controller_name: &str, own_namespace: &str) -> Settings {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Settings {
            controller_name: controller_name.to_owned(),
            namespaces: self.namespace.clone(),
            class_selector: self.class_selector.clone(),
            publish_service: self.publish_service.clone().map(|service| service.0),
            publish_addresses: self
                .publish_address
                .iter()
                .map(|value| address(value))
                .collect(),
            address_pool: self.address_pool,
            gateway_services: self.gateway_services,
            fleet: self
                .fleet_service
                .as_ref()
                .or(self.publish_service.as_ref())
                .map(|service| service.0.clone()),
            state: self.state_dir.clone().map(|folder| StateFile {
                folder,
                max_age: Duration::from_secs(self.state_max_age),
            }),
            lease_namespace: variable("POD_NAMESPACE").unwrap_or_else(|| own_namespace.to_owned()),
            // A container that restarts in its pod is another holder of the Lease.
            identity: format!(
                "{}_{:08x}",
                crate::serve::replica().unwrap_or_else(|| "tidegate".to_owned()),
                fastrand::u32(..)
            ),
        }
    }
}

fn address(value: &str) -> Address {
    let numeric = value.parse::<IpAddr>().is_ok();
    Address {
        kind: if numeric {
            AddressKind::IpAddress
        } else {
            AddressKind::Hostname
        },
        value: value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Arguments, Command};
    use clap::Parser;

    fn read(arguments: &[&str]) -> Result<Kubernetes, clap::Error> {
        let all = ["tidegate", "serve"].iter().chain(arguments);
        match Arguments::try_parse_from(all)?.command {
            Command::Serve(serve) => Ok(serve.kubernetes),
            _ => panic!("another command"),
        }
    }

    #[test]
    fn a_cluster_or_folders_and_not_both() {
        assert!(read(&["--kubernetes", "--namespace", "a", "--namespace", "b"]).is_ok());
        assert!(read(&["--manifests", "a"]).is_ok());
        assert!(read(&[]).is_err());
        assert!(read(&["--kubernetes", "--manifests", "a"]).is_err());
        assert!(read(&["--manifests", "a", "--address-pool", "10.0.0.0/24"]).is_err());
        assert!(read(&["--manifests", "a", "--fleet-service", "a/b"]).is_err());
        assert!(read(&["--kubernetes", "--fleet-service", "a/b"]).is_err());
        assert!(read(&["--kubernetes", "--publish-service", "tidegate"]).is_err());
        // There must be something for the Services to stand in front of.
        assert!(read(&["--kubernetes", "--gateway-services", "LoadBalancer"]).is_err());
        assert!(
            read(&[
                "--kubernetes",
                "--gateway-services",
                "Any",
                "--publish-service",
                "a/b"
            ])
            .is_err()
        );
        let reached = ["--publish-service", "a/b", "--address-pool", "10.0.0.0/24"];
        for reached in reached.chunks(2) {
            let all = [&["--kubernetes", "--gateway-services", "NodePort"], reached].concat();
            assert_eq!(
                read(&all).unwrap().gateway_services,
                Some(ServiceType::NodePort)
            );
        }
    }

    #[test]
    fn what_the_options_mean() {
        let arguments = [
            "--kubernetes",
            "--publish-service",
            "ns/svc",
            "--publish-address",
            "203.0.113.7",
            "--publish-address",
            "lb.example",
            "--state-dir",
            "/state",
        ];
        let settings = read(&arguments).unwrap().settings("us", "mine");
        assert_eq!(settings.publish_service, Some(Key::new("ns", "svc")));
        let kinds: Vec<_> = settings.publish_addresses.iter().map(|a| a.kind).collect();
        assert_eq!(kinds, [AddressKind::IpAddress, AddressKind::Hostname]);
        assert_eq!(settings.state.unwrap().max_age.as_secs(), 86_400);
        assert!(settings.identity.contains('_'));
    }
}
