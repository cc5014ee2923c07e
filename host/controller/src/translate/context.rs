//! What every step of a translation can reach: the objects, indexed; what is interned so far; what is said so far.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tidegate_model::{self as model, Backend, Certificate, Endpoint, FilterSpec, FilterVerdicts};

use super::absent::absent;
use super::backend_tls::Policies;
use super::chains::Chains;
use super::grants::{Grants, Referent, Referrer};
use super::options::Options;
use super::problem::Problem;
use super::slots::Slots;
use super::{certificates, filters, ingress};
use crate::api::core::{ConfigMap, EndpointSlice, SERVICE_NAME_LABEL, Secret, Service};
use crate::api::reference::SecretObjectReference;
use crate::api::{Age, Body, Key, Kind, Meta, Object};
use crate::resources::{ObjectId, Objects, Resources};
use crate::status::Statuses;

/// The state of one translation.
pub(super) struct Context<'a> {
    /// All objects.
    pub(super) resources: &'a Resources,
    /// Settings of the process.
    pub(super) options: &'a Options,
    /// What loading the filters taught.
    pub(super) verdicts: &'a FilterVerdicts,
    /// Which references may cross namespaces.
    pub(super) grants: Grants<'a>,
    /// What is said about objects.
    pub(super) statuses: Statuses,
    /// Backends in use.
    pub(super) backends: Slots<Backend>,
    /// Filters in use.
    pub(super) filters: Slots<FilterSpec>,
    /// Filter objects that were read already.
    pub(super) known_filters: filters::Known,
    /// Bundled filters that annotations of Ingresses asked for.
    pub(super) bundled: ingress::Bundled,
    /// What stands around the own filters of rules.
    pub(super) chains: Chains<'a>,
    /// What nobody owns, for the log.
    pub(super) warnings: Vec<String>,
    /// BackendTLSPolicies, resolved.
    pub(super) tls_policies: Policies<'a>,
    /// `(namespace, Service, port name)` that the route at hand sends traffic to; drained for each route.
    pub(super) service_uses: BTreeSet<(String, String, String)>,
    /// By Service and port name.
    pub(super) endpoints: HashMap<(Key, String), Vec<Endpoint>>,
    slices: HashMap<Key, Vec<&'a EndpointSlice>>,
    /// Secrets and ConfigMaps that were asked for, whether or not they are there.
    pub(super) wanted: RefCell<BTreeSet<ObjectId>>,
    /// Ages of objects that were only read, in order, so that they become numbers.
    read_ages: BTreeMap<&'a Age, u64>,
}

impl<'a> Context<'a> {
    /// An empty translation of these objects.
    pub(super) fn new(
        resources: &'a Resources,
        verdicts: &'a FilterVerdicts,
        options: &'a Options,
    ) -> Self {
        let mut slices: HashMap<Key, Vec<_>> = HashMap::new();
        for slice in resources.endpoint_slices.values() {
            if let Some(service) = slice.meta.labels.get(SERVICE_NAME_LABEL) {
                let service = Key::new(&slice.meta.namespace, service);
                slices.entry(service).or_default().push(&**slice);
            }
        }
        let mut context = Self {
            resources,
            options,
            verdicts,
            grants: Grants::new(resources.reference_grants.values().map(|grant| &**grant)),
            statuses: Statuses::default(),
            backends: Slots::default(),
            filters: Slots::default(),
            known_filters: filters::Known::default(),
            bundled: ingress::Bundled::default(),
            chains: Chains::default(),
            warnings: Vec::new(),
            tls_policies: Policies::default(),
            service_uses: BTreeSet::new(),
            endpoints: HashMap::new(),
            slices,
            wanted: RefCell::default(),
            read_ages: read_ages(resources),
        };
        let policies = by_age(&resources.backend_tls_policies);
        context.tls_policies = Policies::new(&context, &policies);
        context.chains = Chains::new(resources, &context.grants, options);
        context
    }

    /// The Service of that name.
    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&'a Service> {
        self.resources
            .services
            .get(&Key::new(namespace, name))
            .map(|object| &**object)
    }

    /// The Secret of that name; that it was asked for is remembered. Ask only where the reference is permitted.
    pub(super) fn secret(&self, namespace: &str, name: &str) -> Option<&'a Arc<Secret>> {
        let key = Key::new(namespace, name);
        let found = self.resources.secrets.get(&key);
        self.want(Kind::Secret, key);
        found
    }

    /// The ConfigMap of that name; that it was asked for is remembered. Ask only where the reference is permitted.
    pub(super) fn config_map(&self, namespace: &str, name: &str) -> Option<&'a Arc<ConfigMap>> {
        let key = Key::new(namespace, name);
        let found = self.resources.config_maps.get(&key);
        self.want(Kind::ConfigMap, key);
        found
    }

    fn want(&self, kind: Kind, key: Key) {
        self.wanted.borrow_mut().insert(ObjectId { kind, key });
    }

    /// The EndpointSlices of a Service.
    pub(super) fn slices(&self, service: &Key) -> &[&'a EndpointSlice] {
        self.slices.get(service).map_or(&[], Vec::as_slice)
    }

    /// What decides between equal matches; `kind` is 0 for routes of the Gateway API and 1 for Ingresses.
    pub(super) fn age(&self, meta: &Meta, kind: u8, place: (usize, usize)) -> model::Age {
        let created = match &meta.age {
            Age::Created(time) => (time.as_second(), 0),
            // Later than every timestamp, in the order of reading.
            read => (
                i64::MAX,
                self.read_ages.get(read).copied().unwrap_or(u64::MAX),
            ),
        };
        model::Age {
            created,
            kind,
            name: format!("{}/{}", meta.namespace, meta.name).into(),
            place,
        }
    }

    /// The certificate that a reference leads to; `invalid` is the reason for references that lead to nothing usable.
    ///
    /// # Errors
    /// Why it leads nowhere, for condition `ResolvedRefs`.
    pub(super) fn certificate_ref(
        &mut self,
        from: Referrer<'_>,
        reference: &SecretObjectReference,
        invalid: &'static str,
    ) -> Result<Arc<Certificate>, Problem> {
        let problem = |message| Problem {
            reason: invalid,
            message,
        };
        let namespace = reference.namespace.as_deref().unwrap_or(from.namespace);
        let name = reference.name.as_str();
        if !reference.group.is_empty() || reference.kind != "Secret" {
            return Err(problem(format!(
                "{} {name} of group {:?} cannot hold a certificate: refer to a Secret of the core group",
                reference.kind, reference.group
            )));
        }
        let to = Referent {
            group: "",
            kind: "Secret",
            namespace,
            name,
        };
        self.grants.require(from, to)?;
        let secret = self
            .secret(namespace, name)
            .ok_or_else(|| problem(absent(self.resources, Kind::Secret, namespace, name)))?;
        certificates::of_secret(secret).map_err(problem)
    }
}

/// Objects, oldest first; equal ages by namespace and name.
pub(super) fn by_age<S: Body>(objects: &Objects<Object<S>>) -> Vec<&Object<S>> {
    let mut objects: Vec<&Object<S>> = objects.values().map(|object| &**object).collect();
    objects.sort_by(|a, b| {
        (&a.meta.age, &a.meta.namespace, &a.meta.name).cmp(&(
            &b.meta.age,
            &b.meta.namespace,
            &b.meta.name,
        ))
    });
    objects
}

/// Numbers for the ages of routes that have no timestamp.
fn read_ages(resources: &Resources) -> BTreeMap<&Age, u64> {
    let routes = resources.http_routes.values().map(|route| &route.meta.age);
    let others = resources.grpc_routes.values().map(|route| &route.meta.age);
    let ingresses = resources
        .ingresses
        .values()
        .map(|ingress| &ingress.meta.age);
    let ages: BTreeSet<&Age> = routes.chain(others).chain(ingresses).collect();
    ages.into_iter().zip(0..).collect()
}
