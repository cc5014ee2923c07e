//! Where Gateways and Ingresses are reached: given by hand, or what a Service's load balancer says.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::Api;
use kube::runtime::watcher::{Config, Event};

use super::settings::Settings;
use super::store::Store;
use super::watch::{News, follow};
use crate::api::Key;
use crate::status::{Address, AddressKind};

/// What the first synchronisation waits for.
pub(super) const AWAITED: &str = "the published Service";

/// The addresses that are published.
#[derive(Debug)]
pub(super) struct Published {
    given: Vec<Address>,
    found: Mutex<Vec<Address>>,
}

impl Published {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            given: settings.publish_addresses.clone(),
            found: Mutex::default(),
        }
    }

    /// Those given by hand, then those of the Service.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.given.clone();
        all.extend(
            found
                .iter()
                .filter(|address| !self.given.contains(address))
                .cloned(),
        );
        all
    }

    fn set(&self, addresses: Vec<Address>) -> bool {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = *found != addresses;
        *found = addresses;
        differs
    }
}

/// Watches the Service, and it alone.
pub(super) async fn run(
    client: Client,
    service: Key,
    published: Arc<Published>,
    store: Arc<Store>,
) {
    let api: Api<Service> = Api::namespaced(client, &service.namespace);
    let config = Config::default().fields(&format!("metadata.name={}", service.name));
    let mut listed = Vec::new();
    let tell = |news: News<'_, Service>| {
        let addresses = match news {
            News::Event(Event::Init) => return listed.clear(),
            News::Event(Event::InitApply(object)) => return listed = of_service(&object),
            News::Event(Event::InitDone) => std::mem::take(&mut listed),
            News::Event(Event::Apply(object)) => of_service(&object),
            News::Event(Event::Delete(_)) => Vec::new(),
            News::Works => return,
            News::Broken { error, first } => {
                store.count_watch_error();
                if first {
                    tracing::warn!(%service, %error, "the Service of --publish-service cannot be watched; its last addresses stay");
                }
                return;
            }
        };
        if addresses.is_empty() {
            tracing::warn!(%service, "the Service of --publish-service has no address yet: Gateways and Ingresses wait for one");
        }
        if published.set(addresses) {
            store.touch();
        }
        store.arrived(AWAITED);
    };
    follow(api, config, tell).await;
}

/// The load balancer's addresses, else `spec.externalIPs`, else the cluster's own.
pub(super) fn of_service(service: &Service) -> Vec<Address> {
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let points = balancer
        .and_then(|balancer| balancer.ingress.as_deref())
        .unwrap_or_default();
    let mut addresses: Vec<Address> = points
        .iter()
        .flat_map(|point| {
            let numeric = point.ip.as_ref().map(|ip| numeric(ip));
            let name = point.hostname.as_ref().map(|name| Address {
                kind: AddressKind::Hostname,
                value: name.clone(),
            });
            numeric.into_iter().chain(name)
        })
        .collect();
    let Some(spec) = service.spec.as_ref().filter(|_| addresses.is_empty()) else {
        return addresses;
    };
    addresses.extend(spec.external_ips.iter().flatten().map(|ip| numeric(ip)));
    if addresses.is_empty() && spec.type_.as_deref() != Some("LoadBalancer") {
        let own = spec.cluster_ips.iter().flatten().filter(|ip| *ip != "None");
        addresses.extend(own.map(|ip| numeric(ip)));
    }
    addresses
}

fn numeric(ip: &str) -> Address {
    Address {
        kind: AddressKind::IpAddress,
        value: ip.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_service_says() {
        let values = |service: serde_json::Value| -> Vec<String> {
            let service: Service = serde_json::from_value(service).unwrap();
            of_service(&service)
                .into_iter()
                .map(|address| address.value)
                .collect()
        };
        let pending = json!({"spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"]}});
        assert!(
            values(pending).is_empty(),
            "a load balancer that is not there yet"
        );
        let balanced = json!({"spec": {"type": "LoadBalancer", "externalIPs": ["1.1.1.1"]},
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}, {"hostname": "lb.example"}]}}});
        assert_eq!(values(balanced), ["203.0.113.7", "lb.example"]);
        let external = json!({"spec": {"externalIPs": ["1.1.1.1"], "clusterIPs": ["10.0.0.1"]}});
        assert_eq!(values(external), ["1.1.1.1"]);
        assert_eq!(
            values(json!({"spec": {"clusterIPs": ["10.0.0.1"]}})),
            ["10.0.0.1"]
        );
        assert!(values(json!({"spec": {"clusterIPs": ["None"]}})).is_empty());
    }
}
