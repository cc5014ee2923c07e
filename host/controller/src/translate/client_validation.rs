//! Client certificates: what a Gateway asks of the clients of its HTTPS listeners (`spec.tls.frontend`).
//!
//! A listener that was meant to demand certificates never serves without: where no authority is left, it is not accepted.

use std::sync::Arc;

use tidegate_model::ClientValidation;

use super::absent::absent;
use super::certificates::{self, fingerprint};
use super::context::Context;
use super::grants::{Referent, Referrer};
use super::problem::Problem;
use crate::api::Kind;
use crate::api::gateway::{FrontendTlsValidation, FrontendValidationMode, Gateway};
use crate::api::reference::ObjectReference;

/// What holds for the HTTPS listeners of a port.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What is asked of clients, if anything; or why nothing can be served.
    pub(super) validation: Result<Option<Arc<ClientValidation>>, Problem>,
    /// Whether every reference leads to an authority, for condition `ResolvedRefs`.
    pub(super) resolved: Result<(), Problem>,
}

/// What the Gateway asks for on this port: `perPort` before `default`.
pub(super) fn on_port(context: &Context<'_>, gateway: &Gateway, port: u16) -> Outcome {
    let Some(frontend) = &gateway.spec.tls.frontend else {
        return Outcome::nothing();
    };
    let own = frontend
        .per_port
        .iter()
        .position(|entry| entry.port == port);
    let (config, place) = match own {
        Some(at) => (
            &frontend.per_port[at].tls,
            format!("spec.tls.frontend.perPort[{at}].tls.validation"),
        ),
        None => (
            &frontend.default,
            "spec.tls.frontend.default.validation".to_owned(),
        ),
    };
    match &config.validation {
        None => Outcome::nothing(),
        Some(validation) => read(context, gateway, validation, &place),
    }
}

/// The places of a Gateway that let clients in without a valid certificate, for condition `InsecureFrontendValidationMode`.
pub(super) fn insecure_places(gateway: &Gateway) -> Vec<String> {
    let Some(frontend) = &gateway.spec.tls.frontend else {
        return Vec::new();
    };
    let is_insecure = |validation: &Option<FrontendTlsValidation>| {
        validation.as_ref().is_some_and(|validation| {
            validation.mode == FrontendValidationMode::AllowInsecureFallback
        })
    };
    let default = is_insecure(&frontend.default.validation)
        .then(|| "spec.tls.frontend.default.validation".to_owned());
    let ports = frontend
        .per_port
        .iter()
        .filter(|entry| is_insecure(&entry.tls.validation))
        .map(|entry| format!("spec.tls.frontend.perPort of port {}", entry.port));
    default.into_iter().chain(ports).collect()
}

impl Outcome {
    fn nothing() -> Self {
        Self {
            validation: Ok(None),
            resolved: Ok(()),
        }
    }
}

fn read(
    context: &Context<'_>,
    gateway: &Gateway,
    validation: &FrontendTlsValidation,
    place: &str,
) -> Outcome {
    let mut bundle = Vec::new();
    let mut problems = Vec::new();
    for (index, reference) in validation.ca_certificate_refs.iter().enumerate() {
        match authorities(context, gateway, reference) {
            Ok(pem) => {
                bundle.extend_from_slice(&pem);
                bundle.push(b'\n');
            }
            Err(problem) => {
                problems.push(problem.at(&format!("{place}.caCertificateRefs[{index}]")));
            }
        }
    }
    let joined = Problem::joined(&problems);
    let validation = if bundle.is_empty() {
        let why = joined.as_ref().map_or_else(
            || format!("{place}.caCertificateRefs names none"),
            |problem| problem.message.clone(),
        );
        Err(Problem::new(
            "NoValidCACertificate",
            format!("there is no authority to validate client certificates with: {why}"),
        ))
    } else {
        Ok(Some(Arc::new(ClientValidation {
            fingerprint: fingerprint(&bundle),
            authorities: bundle.into(),
            // A mode that is not known is read as the strict one.
            required: validation.mode != FrontendValidationMode::AllowInsecureFallback,
        })))
    };
    Outcome {
        validation,
        resolved: joined.map_or(Ok(()), Err),
    }
}

fn authorities(
    context: &Context<'_>,
    gateway: &Gateway,
    reference: &ObjectReference,
) -> Result<Arc<[u8]>, Problem> {
    let from = Referrer {
        group: Kind::Gateway.group(),
        kind: Kind::Gateway.name(),
        namespace: &gateway.meta.namespace,
    };
    let name = reference.name.as_str();
    let namespace = reference.namespace.as_deref().unwrap_or(from.namespace);
    let kind = match (reference.group.as_str(), reference.kind.as_str()) {
        ("", "ConfigMap") => Kind::ConfigMap,
        ("", "Secret") => Kind::Secret,
        (group, kind) => {
            return Err(Problem::new(
                "InvalidCACertificateKind",
                format!(
                    "{kind} {name} of group {group:?} cannot hold authorities: refer to a ConfigMap or Secret of the core group with ca.crt"
                ),
            ));
        }
    };
    let to = Referent {
        group: "",
        kind: kind.name(),
        namespace,
        name,
    };
    context.grants.require(from, to)?;
    let invalid = |message: String| Problem::new("InvalidCACertificateRef", message);
    let missing = || invalid(absent(context.resources, kind, namespace, name));
    if kind == Kind::ConfigMap {
        let map = context.config_map(namespace, name).ok_or_else(missing)?;
        return certificates::authorities(map).map_err(invalid);
    }
    let secret = context.secret(namespace, name).ok_or_else(missing)?;
    certificates::secret_authorities(secret).map_err(invalid)
}
