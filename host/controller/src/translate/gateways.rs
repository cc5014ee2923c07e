//! Gateways of ours: their addresses, their listeners with those of their ListenerSets, and what is said about them.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tidegate_model::Certificate;

use super::classes::{Class, Classes};
use super::conflicts;
use super::context::{Context, by_age};
use super::grants::Referrer;
use super::listener_sets;
use super::listeners::{self, Entry, Owner};
use super::problem::Problem;
use crate::api::gateway::{AddressType, Gateway, ListenerSet};
use crate::api::{Key, Kind};
use crate::status::{Address, AddressKind};

/// All Gateways of ours and everything that listens.
#[derive(Debug, Default)]
pub(super) struct Gateways<'a> {
    /// Oldest first.
    pub(super) gateways: Vec<GatewayEntry<'a>>,
    /// ListenerSets of these Gateways, oldest first.
    pub(super) sets: Vec<SetEntry<'a>>,
    /// Listeners: for each Gateway its own, then those of its sets.
    pub(super) listeners: Vec<Entry<'a>>,
    by_name: HashMap<Key, usize>,
    sets_by_name: HashMap<Key, usize>,
}

/// A Gateway of ours.
#[derive(Debug)]
pub(super) struct GatewayEntry<'a> {
    /// The object.
    pub(super) object: &'a Gateway,
    /// Why nothing of it is served.
    pub(super) accepted: Result<(), Problem>,
    /// Whether its own references (not those of listeners) lead somewhere.
    pub(super) resolved: Result<(), Problem>,
    /// Where its listeners bind.
    pub(super) bind: Vec<IpAddr>,
    /// Whether `bind` is what the Gateway itself asked for.
    pub(super) asked: bool,
    /// Shown to backends that ask who connects.
    pub(super) client_certificate: Option<Arc<Certificate>>,
}

/// A ListenerSet of one of our Gateways.
#[derive(Debug)]
pub(super) struct SetEntry<'a> {
    /// The object.
    pub(super) object: &'a ListenerSet,
    /// Index of its Gateway.
    pub(super) gateway: usize,
    /// Whether the Gateway lets it attach.
    pub(super) allowed: Result<(), Problem>,
}

impl<'a> Gateways<'a> {
    /// Reads Gateways and ListenerSets and checks every listener; statuses are written later, when routes are attached.
    pub(super) fn read(context: &mut Context<'a>, classes: &Classes) -> Self {
        let mut gateways = Self::default();
        for object in by_age(&context.resources.gateways) {
            if let Some(entry) = gateway(context, classes, object) {
                gateways
                    .by_name
                    .insert(object.key(), gateways.gateways.len());
                gateways.gateways.push(entry);
            }
        }
        gateways.sets = listener_sets::read(context, &gateways);
        for (index, set) in gateways.sets.iter().enumerate() {
            gateways.sets_by_name.insert(set.object.key(), index);
        }
        gateways.add_listeners(context);
        conflicts::mark(&mut gateways);
        gateways
    }

    /// The index of a Gateway of ours.
    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<usize> {
        self.by_name.get(&Key::new(namespace, name)).copied()
    }

    /// The index of a ListenerSet of one of our Gateways.
    pub(super) fn find_set(&self, namespace: &str, name: &str) -> Option<usize> {
        self.sets_by_name.get(&Key::new(namespace, name)).copied()
    }

    /// The listeners in a Gateway's own spec.
    pub(super) fn own(&self, gateway: usize) -> impl Iterator<Item = usize> + '_ {
        self.indices(move |entry| entry.gateway == gateway && entry.set.is_none())
    }

    /// The listeners of a ListenerSet.
    pub(super) fn of_set(&self, set: usize) -> impl Iterator<Item = usize> + '_ {
        self.indices(move |entry| entry.set == Some(set))
    }

    /// Whether requests can come through a listener at all.
    pub(super) fn serves(&self, listener: usize) -> bool {
        let entry = &self.listeners[listener];
        entry.programmed().is_ok() && self.gateways[entry.gateway].accepted.is_ok()
    }

    /// Where a listener binds.
    pub(super) fn binds(&self, context: &Context<'_>, entry: &Entry<'_>) -> Vec<SocketAddr> {
        let port = context.options.bound_port(entry.spec.port);
        self.gateways[entry.gateway]
            .bind
            .iter()
            .map(|address| SocketAddr::new(*address, port))
            .collect()
    }

    fn indices<'s>(
        &'s self,
        wanted: impl Fn(&Entry<'_>) -> bool + 's,
    ) -> impl Iterator<Item = usize> + 's {
        let all = self.listeners.iter().enumerate();
        all.filter(move |(_, entry)| wanted(entry))
            .map(|(index, _)| index)
    }

    fn add_listeners(&mut self, context: &mut Context<'a>) {
        let mut all = Vec::new();
        for (index, gateway) in self.gateways.iter().enumerate() {
            for spec in &gateway.object.spec.listeners {
                let owner = Owner::Gateway(gateway.object);
                all.push(listeners::read(context, gateway, index, None, owner, spec));
            }
            for (at, set) in self.sets.iter().enumerate() {
                if set.gateway != index || set.allowed.is_err() {
                    continue;
                }
                for spec in &set.object.spec.listeners {
                    let owner = Owner::Set(set.object);
                    all.push(listeners::read(
                        context,
                        gateway,
                        index,
                        Some(at),
                        owner,
                        spec,
                    ));
                }
            }
        }
        self.listeners = all;
    }
}

fn gateway<'a>(
    context: &mut Context<'a>,
    classes: &Classes,
    object: &'a Gateway,
) -> Option<GatewayEntry<'a>> {
    let name = &object.spec.gateway_class_name;
    let mut accepted = match classes.get(name) {
        Some(Class::Ours) => Ok(()),
        Some(Class::Unusable(problem)) => Err(Problem::new(
            problem.reason,
            format!("GatewayClass {name}: {}", problem.message),
        )),
        Some(Class::Foreign(controller)) => {
            ignore(
                context,
                object,
                format!("GatewayClass {name} belongs to another controller, {controller}"),
            );
            return None;
        }
        None => {
            ignore(
                context,
                object,
                format!("GatewayClass {name} does not exist"),
            );
            return None;
        }
    };
    if accepted.is_ok() {
        accepted = check_infrastructure(object).and_then(|()| check_addresses(object));
    }
    let asked = asked_addresses(object);
    let bind = match (
        asked.is_empty(),
        context.options.assigned.get(&object.key()),
    ) {
        (false, _) => asked.clone(),
        (true, Some(assigned)) => vec![*assigned],
        (true, None) => context.options.bind.clone(),
    };
    let (client_certificate, resolved) = client_certificate(context, object);
    warn_about_infrastructure(context, object);
    Some(GatewayEntry {
        object,
        accepted,
        resolved,
        bind,
        asked: !asked.is_empty(),
        client_certificate,
    })
}

fn ignore(context: &mut Context<'_>, object: &Gateway, why: String) {
    context.statuses.of(object).ignored = Some(why);
}

fn check_infrastructure(object: &Gateway) -> Result<(), Problem> {
    let Some(reference) = &object.spec.infrastructure.parameters_ref else {
        return Ok(());
    };
    Err(Problem::new(
        "InvalidParameters",
        format!(
            "spec.infrastructure.parametersRef: {} {} is not supported: remove it; what is to hold for several Gateways goes into the GatewayConfig of their GatewayClass",
            reference.kind, reference.name
        ),
    ))
}

fn check_addresses(object: &Gateway) -> Result<(), Problem> {
    for (index, address) in object.spec.addresses.iter().enumerate() {
        let wrong = match &address.kind {
            AddressType::IpAddress if address.value.is_empty() => None,
            AddressType::IpAddress => address
                .value
                .parse::<IpAddr>()
                .is_err()
                .then(|| format!("{:?} is no numeric address", address.value)),
            AddressType::Hostname => {
                Some("addresses of type Hostname are not supported".to_owned())
            }
            AddressType::Other(kind) => {
                Some(format!("addresses of type {kind:?} are not supported"))
            }
        };
        let wrong = wrong.or_else(|| {
            (!address.routability.is_empty())
                .then(|| format!("routability {:?} is not supported", address.routability))
        });
        if let Some(wrong) = wrong {
            return Err(Problem::new(
                "UnsupportedAddress",
                format!(
                    "spec.addresses[{index}]: {wrong}; give an IPAddress of this host, or none"
                ),
            ));
        }
    }
    Ok(())
}

fn asked_addresses(object: &Gateway) -> Vec<IpAddr> {
    let asked: BTreeSet<IpAddr> = object
        .spec
        .addresses
        .iter()
        .filter(|address| address.kind == AddressType::IpAddress)
        .filter_map(|address| address.value.parse().ok())
        .collect();
    asked.into_iter().collect()
}

fn client_certificate(
    context: &mut Context<'_>,
    object: &Gateway,
) -> (Option<Arc<Certificate>>, Result<(), Problem>) {
    let Some(reference) = &object.spec.tls.backend.client_certificate_ref else {
        return (None, Ok(()));
    };
    let from = Referrer {
        group: Kind::Gateway.group(),
        kind: Kind::Gateway.name(),
        namespace: &object.meta.namespace,
    };
    match context.certificate_ref(from, reference, "InvalidClientCertificateRef") {
        Ok(certificate) => (Some(certificate), Ok(())),
        Err(problem) => (
            None,
            Err(problem.at("spec.tls.backend.clientCertificateRef")),
        ),
    }
}

fn warn_about_infrastructure(context: &mut Context<'_>, object: &Gateway) {
    let infrastructure = &object.spec.infrastructure;
    let empty = infrastructure.labels.is_empty() && infrastructure.annotations.is_empty();
    if empty || context.options.gateway_addresses.is_some() {
        return;
    }
    context
        .statuses
        .of(object)
        .warn("spec.infrastructure: labels and annotations have no effect, because no objects are made for a Gateway without --gateway-services");
}

/// Where a Gateway is reached, for its status.
pub(super) fn published(context: &Context<'_>, gateway: &GatewayEntry<'_>) -> Vec<Address> {
    let numeric = |address: &IpAddr| Address {
        kind: AddressKind::IpAddress,
        value: address.to_string(),
    };
    let own = gateway.asked || context.options.assigned.contains_key(&gateway.object.key());
    if own {
        let failed = |address: &IpAddr| {
            context
                .options
                .bind_errors
                .keys()
                .any(|at| at.address.ip() == *address)
        };
        return gateway
            .bind
            .iter()
            .filter(|address| !failed(address))
            .map(numeric)
            .collect();
    }
    if let Some(of_services) = &context.options.gateway_addresses {
        let own = of_services.get(&gateway.object.key());
        return own.cloned().unwrap_or_default();
    }
    if !context.options.addresses.is_empty() {
        return context.options.addresses.clone();
    }
    gateway
        .bind
        .iter()
        .filter(|address| !address.is_unspecified())
        .map(numeric)
        .collect()
}
