//! BackendTLSPolicy: which policy governs a Service's port, what it asks for, and what is said about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_model::{BackendTls, Certificate, SubjectAltName, Trust};

use super::absent::absent;
use super::certificates;
use super::context::Context;
use super::problem::Problem;
use crate::api::core::{Service, ServicePort};
use crate::api::policy::{self, BackendTlsPolicy};
use crate::api::reference::{LocalObjectReference, ParentReference};
use crate::api::{Key, Kind};
use crate::status::{AncestorStatus, Condition};

/// What the CRD lets `status.ancestors` hold.
const MOST_ANCESTORS: usize = 16;

/// What a policy targets: a Service's name and, if only one port is meant, the port's name.
type Target = (Key, Option<String>);

/// All policies, resolved, and which one governs what.
#[derive(Debug, Default)]
pub(super) struct Policies<'a> {
    all: Vec<Policy<'a>>,
    /// The oldest policy of each target.
    governing: BTreeMap<Target, usize>,
}

#[derive(Debug)]
struct Policy<'a> {
    object: &'a BackendTlsPolicy,
    /// Ready to use, or why connections must fail.
    outcome: Result<BackendTls, Problem>,
    /// Condition `ResolvedRefs`.
    resolved: Result<(), Problem>,
}

impl<'a> Policies<'a> {
    /// Reads the policies, which come oldest first.
    pub(super) fn new(context: &Context<'a>, policies: &[&'a BackendTlsPolicy]) -> Self {
        let mut all = Vec::new();
        let mut governing = BTreeMap::new();
        for (index, object) in policies.iter().enumerate() {
            for target in targets(object) {
                governing.entry(target).or_insert(index);
            }
            let (outcome, resolved) = read(context, object);
            all.push(Policy {
                object,
                outcome,
                resolved,
            });
        }
        Self { all, governing }
    }

    /// The policy for a port: one for this port before one for the Service.
    fn find(&self, service: &Key, port: &str) -> Option<&Policy<'a>> {
        let section = (!port.is_empty()).then(|| port.to_owned());
        let index = section
            .and_then(|section| self.governing.get(&(service.clone(), Some(section))))
            .or_else(|| self.governing.get(&(service.clone(), None)))?;
        self.all.get(*index)
    }
}

/// TLS towards a Service's port, if a policy asks for it.
///
/// # Errors
/// The policy cannot be met: connections must fail, and the client gets a 5xx.
pub(super) fn find(
    context: &Context<'_>,
    service: &Service,
    port: &ServicePort,
    client_certificate: Option<&Arc<Certificate>>,
) -> Result<Option<BackendTls>, Problem> {
    let Some(policy) = context
        .tls_policies
        .find(&service.key(), port.name.as_deref().unwrap_or_default())
    else {
        return Ok(None);
    };
    match &policy.outcome {
        Ok(tls) => Ok(Some(BackendTls {
            client_certificate: client_certificate.cloned(),
            ..tls.clone()
        })),
        Err(problem) => Err(Problem {
            reason: problem.reason,
            message: format!(
                "Service {}: {} demands TLS that cannot be set up: {}",
                service.key(),
                policy.object,
                problem.message
            ),
        }),
    }
}

/// Writes the statuses of all policies: one entry for each Gateway, and each Ingress, through which traffic reaches a target.
///
/// `uses` are the Services' ports that routes of each Gateway send traffic to, `by_ingresses` those of each Ingress.
pub(super) fn report(
    context: &mut Context<'_>,
    uses: &BTreeMap<Key, BTreeSet<(String, String, String)>>,
    by_ingresses: &BTreeMap<Key, BTreeSet<(String, String, String)>>,
) {
    let policies = std::mem::take(&mut context.tls_policies);
    for (index, policy) in policies.all.iter().enumerate() {
        let mut ancestors = Vec::new();
        let by_gateways = uses
            .iter()
            .map(|(key, services)| (Kind::Gateway, key, services));
        let by_ingresses = by_ingresses
            .iter()
            .map(|(key, services)| (Kind::Ingress, key, services));
        for (kind, key, services) in by_gateways.chain(by_ingresses) {
            let mine: Vec<Target> = targets(policy.object)
                .filter(|(service, section)| {
                    services.iter().any(|(namespace, name, port)| {
                        service.namespace == *namespace
                            && service.name == *name
                            && section.as_ref().is_none_or(|section| section == port)
                    })
                })
                .collect();
            if !mine.is_empty() {
                ancestors.push(AncestorStatus {
                    ancestor_ref: reference(kind, key),
                    conditions: conditions(&policies, index, &mine),
                });
            }
        }
        let missing = missing_targets(context, policy.object);
        let status = context.statuses.of(policy.object);
        if ancestors.is_empty() {
            status.warn(
                "no route sends traffic to what spec.targetRefs names, so the policy has no effect",
            );
        }
        for message in missing {
            status.warn(message);
        }
        if ancestors.len() > MOST_ANCESTORS {
            status.warn(format!(
                "used through {} Gateways and Ingresses, of which status.ancestors has room for {MOST_ANCESTORS}",
                ancestors.len()
            ));
            ancestors.truncate(MOST_ANCESTORS);
        }
        status.ancestors = ancestors;
    }
    context.tls_policies = policies;
}

fn conditions(policies: &Policies<'_>, index: usize, targets: &[Target]) -> Vec<Condition> {
    let policy = &policies.all[index];
    let generation = policy.object.meta.generation;
    let lost: Vec<(&Target, &Policy<'_>)> = targets
        .iter()
        .filter_map(|target| {
            let winner = *policies.governing.get(target)?;
            (winner != index).then(|| (target, &policies.all[winner]))
        })
        .collect();
    let accepted = match (&policy.outcome, lost.as_slice()) {
        (_, [(target, winner), ..]) if lost.len() == targets.len() => Condition::no(
            "Accepted",
            "Conflicted",
            format!(
                "{} targets {} too and is older: delete one of the two, or target another port with sectionName",
                winner.object,
                describe(target)
            ),
            generation,
        ),
        (Err(problem), _) => {
            Condition::no("Accepted", problem.reason, &problem.message, generation)
        }
        (Ok(_), []) => Condition::yes(
            "Accepted",
            "Accepted",
            "connections to the targets use TLS",
            generation,
        ),
        (Ok(_), [(target, winner), ..]) => Condition::yes(
            "Accepted",
            "Accepted",
            format!(
                "in use, but not for {}, which the older {} governs",
                describe(target),
                winner.object
            ),
            generation,
        ),
    };
    let resolved = match &policy.resolved {
        Ok(()) => Condition::yes(
            "ResolvedRefs",
            "ResolvedRefs",
            "every reference leads somewhere",
            generation,
        ),
        Err(problem) => Condition::no("ResolvedRefs", problem.reason, &problem.message, generation),
    };
    vec![accepted, resolved]
}

fn describe((service, section): &Target) -> String {
    match section {
        Some(section) => format!("port {section} of Service {service}"),
        None => format!("Service {service}"),
    }
}

fn targets(policy: &BackendTlsPolicy) -> impl Iterator<Item = Target> + '_ {
    policy
        .spec
        .target_refs
        .iter()
        .filter(|target| target.group.is_empty() && target.kind == "Service")
        .map(|target| {
            (
                Key::new(&policy.meta.namespace, &target.name),
                target
                    .section_name
                    .clone()
                    .filter(|section| !section.is_empty()),
            )
        })
}

fn missing_targets(context: &Context<'_>, policy: &BackendTlsPolicy) -> Vec<String> {
    let mut missing = Vec::new();
    for (index, target) in policy.spec.target_refs.iter().enumerate() {
        if !target.group.is_empty() || target.kind != "Service" {
            missing.push(format!(
                "spec.targetRefs[{index}]: {} of group {:?} cannot be a target; use a Service of the core group",
                target.kind, target.group
            ));
            continue;
        }
        let Some(service) = context.service(&policy.meta.namespace, &target.name) else {
            missing.push(format!(
                "spec.targetRefs[{index}]: {}",
                absent(
                    context.resources,
                    Kind::Service,
                    &policy.meta.namespace,
                    &target.name
                )
            ));
            continue;
        };
        let Some(section) = target.section_name.as_deref().filter(|s| !s.is_empty()) else {
            continue;
        };
        let mut ports = service.spec.ports.iter().flatten();
        if !ports.any(|port| port.name.as_deref() == Some(section)) {
            missing.push(format!(
                "spec.targetRefs[{index}].sectionName: Service {} has no port named {section:?}",
                service.key()
            ));
        }
    }
    missing
}

fn reference(kind: Kind, key: &Key) -> ParentReference {
    ParentReference {
        group: kind.group().to_owned(),
        kind: kind.name().to_owned(),
        namespace: Some(key.namespace.clone()),
        name: key.name.clone(),
        section_name: None,
        port: None,
    }
}

/// What a policy comes to, and condition `ResolvedRefs`.
fn read(
    context: &Context<'_>,
    policy: &BackendTlsPolicy,
) -> (Result<BackendTls, Problem>, Result<(), Problem>) {
    let validation = &policy.spec.validation;
    let (trust, resolved) = trust(context, policy);
    let names = validation
        .subject_alt_names
        .iter()
        .map(|name| match name {
            policy::SubjectAltName::Hostname(name) => Ok(SubjectAltName::Hostname(name.to_ascii_lowercase().into())),
            policy::SubjectAltName::Uri(uri) => Ok(SubjectAltName::Uri(uri.as_str().into())),
            policy::SubjectAltName::Other(kind) => Err(Problem {
                reason: "Invalid",
                message: format!("spec.validation.subjectAltNames: type {kind:?} is not known; use Hostname or URI"),
            }),
        })
        .collect::<Result<Vec<_>, _>>();
    let outcome = trust.and_then(|trust| {
        Ok(BackendTls {
            server_name: validation.hostname.to_ascii_lowercase().into(),
            subject_alt_names: names?,
            trust,
            client_certificate: None,
        })
    });
    (outcome, resolved)
}

fn trust(
    context: &Context<'_>,
    policy: &BackendTlsPolicy,
) -> (Result<Trust, Problem>, Result<(), Problem>) {
    let validation = &policy.spec.validation;
    if validation.ca_certificate_refs.is_empty() {
        let known = validation
            .well_known_ca_certificates
            .as_deref()
            .unwrap_or_default();
        let trust = if known == "System" {
            Ok(Trust::System)
        } else {
            Err(Problem {
                reason: "Invalid",
                message: format!(
                    "spec.validation.wellKnownCACertificates: {known:?} is not known; use System, or give caCertificateRefs"
                ),
            })
        };
        return (trust, Ok(()));
    }
    let mut bundle = Vec::new();
    let mut first_problem = None;
    for (index, reference) in validation.ca_certificate_refs.iter().enumerate() {
        match authorities(context, &policy.meta.namespace, reference) {
            Ok(pem) => {
                bundle.extend_from_slice(&pem);
                bundle.push(b'\n');
            }
            Err(mut problem) => {
                problem.message = format!(
                    "spec.validation.caCertificateRefs[{index}]: {}",
                    problem.message
                );
                first_problem.get_or_insert(problem);
            }
        }
    }
    let resolved = first_problem.clone().map_or(Ok(()), Err);
    let trust = match first_problem {
        Some(problem) if bundle.is_empty() => Err(Problem {
            reason: "NoValidCACertificate",
            message: problem.message,
        }),
        _ => Ok(Trust::Bundle(bundle.into())),
    };
    (trust, resolved)
}

fn authorities(
    context: &Context<'_>,
    namespace: &str,
    reference: &LocalObjectReference,
) -> Result<Arc<[u8]>, Problem> {
    let name = &reference.name;
    let invalid = |message: String| Problem {
        reason: "InvalidCACertificateRef",
        message,
    };
    match (reference.group.as_str(), reference.kind.as_str()) {
        ("", "ConfigMap") => {
            let map = context.config_map(namespace, name).ok_or_else(|| {
                invalid(absent(context.resources, Kind::ConfigMap, namespace, name))
            })?;
            certificates::authorities(map).map_err(invalid)
        }
        ("", "Secret") => {
            let secret = context
                .secret(namespace, name)
                .ok_or_else(|| invalid(absent(context.resources, Kind::Secret, namespace, name)))?;
            certificates::secret_authorities(secret).map_err(invalid)
        }
        (group, kind) => Err(Problem {
            reason: "InvalidKind",
            message: format!(
                "{kind} of group {group:?} cannot hold authorities: use a ConfigMap of the core group with ca.crt"
            ),
        }),
    }
}
