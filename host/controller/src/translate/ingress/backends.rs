//! Backends of Ingresses.

use tidegate_model::{Backend, BackendProtocol, BackendTarget, LoadBalancer, WeightedBackend};

use super::annotations::Protocol;
use crate::api::Kind;
use crate::api::core::{IngressBackend, IngressServiceBackend};
use crate::translate::backends::{PortName, Speaks, Wanted};
use crate::translate::context::Context;
use crate::translate::grants::Referrer;
use crate::translate::problem::Problem;

/// What the backend leads to, and why if that is nowhere.
pub(super) fn resolve(
    context: &mut Context<'_>,
    namespace: &str,
    backend: &IngressBackend,
    protocol: Protocol,
) -> (WeightedBackend, Result<(), Problem>) {
    let (target, outcome) = match (&backend.service, &backend.resource) {
        (Some(written), None) => service(context, namespace, written, protocol),
        (_, Some(resource)) => unresolved(Problem::new(
            "InvalidKind",
            format!(
                "{} {:?} cannot be a backend: name a Service, or answer with a Filter in the annotation tidegate.dev/filters",
                resource.kind, resource.name
            ),
        )),
        (None, None) => unresolved(Problem::new(
            "InvalidKind",
            "no backend is named: give service.name and service.port",
        )),
    };
    let weighted = WeightedBackend {
        target,
        weight: 1,
        filters: Vec::new(),
    };
    (weighted, outcome)
}

/// A Service that is missing, or lacks the port, is a backend without endpoints: the answer is 503, as with other Ingress
/// controllers, and it is there as soon as the Service is.
fn service(
    context: &mut Context<'_>,
    namespace: &str,
    written: &IngressServiceBackend,
    protocol: Protocol,
) -> (BackendTarget, Result<(), Problem>) {
    let port = written.port.as_ref();
    let number = port
        .and_then(|port| u16::try_from(port.number?).ok())
        .filter(|number| *number > 0);
    let name = port
        .and_then(|port| port.name.as_deref())
        .filter(|name| !name.is_empty());
    let (port, shown) = match (number, name) {
        (Some(number), _) => (PortName::Number(number), number.to_string()),
        (None, Some(name)) => (PortName::Name(name), name.to_owned()),
        (None, None) => {
            return unresolved(Problem::new(
                "BackendNotFound",
                format!(
                    "Service {:?} is referred to without port: give port.number or port.name",
                    written.name
                ),
            ));
        }
    };
    let found = context.known_backend(&Wanted {
        from: Referrer {
            group: Kind::Ingress.group(),
            kind: Kind::Ingress.name(),
            namespace,
        },
        namespace,
        name: &written.name,
        port,
        speaks: match protocol {
            Protocol::Http => Speaks::Http,
            Protocol::Https => Speaks::HttpTls,
            Protocol::Grpc => Speaks::Grpc,
            Protocol::Grpcs => Speaks::GrpcTls,
        },
        client_certificate: None,
    });
    match found {
        Ok(backend) => (BackendTarget::Backend(backend), Ok(())),
        Err(problem) if problem.reason == "BackendNotFound" => {
            let backend = context.backends.intern(Backend {
                slot: 0,
                key: format!("{namespace}/{}:{shown}", written.name).into(),
                protocol: BackendProtocol::Http1,
                tls: None,
                endpoints: Vec::new(),
                load_balancer: LoadBalancer::default(),
                connect_timeout: None,
            });
            (BackendTarget::Backend(backend), Err(problem))
        }
        Err(problem) => unresolved(problem),
    }
}

fn unresolved(problem: Problem) -> (BackendTarget, Result<(), Problem>) {
    let reason = problem.message.as_str().into();
    (BackendTarget::Unresolved { reason }, Err(problem))
}
