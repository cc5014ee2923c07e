//! From a reference to a Service to a backend: grants, ports, protocol, TLS, endpoints.

use std::fmt::Display;
use std::sync::Arc;

use tidegate_model::{
    Backend, BackendProtocol, BackendTarget, BackendTls, Certificate, Endpoint, LoadBalancer, Trust,
};

use super::absent::absent;
use super::context::Context;
use super::grants::{Referent, Referrer};
use super::problem::Problem;
use super::{backend_tls, endpoints};
use crate::api::Kind;
use crate::api::core::{IntOrString, Service, ServicePort};
use crate::api::reference::BackendObjectReference;

/// On a Service: `RoundRobin` (the default) or `LeastRequest`.
const LOAD_BALANCING_ANNOTATION: &str = "tidegate.dev/load-balancing";

/// Which port of a Service is meant.
#[derive(Clone, Copy, Debug)]
pub(super) enum PortName<'a> {
    /// `port`
    Number(u16),
    /// `name`, as Ingress allows it.
    Name(&'a str),
}

/// What the referrer speaks to its backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP: the Service's `appProtocol` decides on the version.
    Http,
    /// gRPC: HTTP/2.
    Grpc,
    /// HTTP over TLS; where no BackendTLSPolicy says whom to trust, whoever answers.
    HttpTls,
    /// gRPC over TLS, likewise.
    GrpcTls,
    /// What the client sends, over TLS where a BackendTLSPolicy demands it.
    Tcp,
    /// What the client sends, which is TLS already and needs no more.
    TlsPassthrough,
    /// Datagrams.
    Udp,
}

impl Speaks {
    /// The transport, as `ports[].protocol` of a Service has it.
    fn transport(self) -> &'static str {
        if self == Self::Udp { "UDP" } else { "TCP" }
    }

    /// Whether the gateway reads what it sends.
    fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::TlsPassthrough | Self::Udp)
    }
}

/// A wish for a Service's port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Who asks; across namespaces a grant is needed.
    pub(super) from: Referrer<'a>,
    /// The Service's namespace.
    pub(super) namespace: &'a str,
    /// The Service's name.
    pub(super) name: &'a str,
    /// Its port.
    pub(super) port: PortName<'a>,
    /// What will be spoken.
    pub(super) speaks: Speaks,
    /// What the gateway presents itself with over TLS.
    pub(super) client_certificate: Option<&'a Arc<Certificate>>,
}

/// What `appProtocol` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AppProtocol {
    Http1,
    Http2,
    /// TLS in any form: a BackendTLSPolicy has to say whom to trust.
    Tls,
    Unsupported,
}

/// A Service's port that may be used, and how.
struct Reached<'a> {
    service: &'a Service,
    number: i32,
    protocol: BackendProtocol,
    tls: Option<BackendTls>,
    place: Place,
}

/// Where the endpoints are.
enum Place {
    /// In the EndpointSlices, under this port name.
    Slices(String),
    /// Outside the cluster.
    Elsewhere(Endpoint),
}

impl Reached<'_> {
    fn key(&self) -> String {
        let mut key = format!("{}:{}", self.service.key(), self.number);
        key.push_str(match self.protocol {
            BackendProtocol::Http1 => "",
            BackendProtocol::Http2 => "+h2c",
            BackendProtocol::Tcp => "+tcp",
            BackendProtocol::Udp => "+udp",
        });
        if let Some(tls) = &self.tls {
            key.push_str("+tls");
            if tls.trust == Trust::Anybody {
                key.push_str("-unverified");
            }
            if let Some(certificate) = &tls.client_certificate {
                // Another identity is another backend: connections must not be shared.
                key.push('@');
                key.push_str(&certificate.name);
            }
        }
        key
    }
}

/// Where what a `backendRef` gets goes; what is wrong with that joins those who are `unresolved`, with its `place`.
pub(super) fn target(
    found: Result<Arc<Backend>, Problem>,
    place: &impl Display,
    unresolved: &mut Vec<Problem>,
) -> BackendTarget {
    match found {
        Ok(backend) => BackendTarget::Backend(backend),
        Err(problem) => {
            let problem = problem.at(&place.to_string());
            let reason = problem.message.as_str().into();
            unresolved.push(problem);
            BackendTarget::Unresolved { reason }
        }
    }
}

impl<'a> Context<'a> {
    /// The backend of a `backendRef`, known to the snapshot.
    ///
    /// # Errors
    /// Why it cannot be reached, for condition `ResolvedRefs`.
    pub(super) fn route_backend(
        &mut self,
        from: Referrer<'_>,
        reference: &BackendObjectReference,
        speaks: Speaks,
        client_certificate: Option<&Arc<Certificate>>,
    ) -> Result<Arc<Backend>, Problem> {
        if !reference.group.is_empty() || reference.kind != "Service" {
            return Err(Problem {
                reason: "InvalidKind",
                message: format!(
                    "{} {:?} of group {:?} cannot be a backend: refer to a Service of the core group",
                    reference.kind, reference.name, reference.group
                ),
            });
        }
        let namespace = reference.namespace.as_deref().unwrap_or(from.namespace);
        let Some(port) = reference.port else {
            return Err(Problem {
                reason: "BackendNotFound",
                message: format!(
                    "Service {namespace}/{} is referred to without port: give the Service's port",
                    reference.name
                ),
            });
        };
        self.known_backend(&Wanted {
            from,
            namespace,
            name: &reference.name,
            port: PortName::Number(port),
            speaks,
            client_certificate,
        })
    }

    /// The backend behind a Service's port, known to the snapshot.
    ///
    /// # Errors
    /// Why it cannot be reached, for condition `ResolvedRefs`.
    pub(super) fn known_backend(&mut self, wanted: &Wanted<'_>) -> Result<Arc<Backend>, Problem> {
        let reached = self.reach(wanted)?;
        // Thousands of routes may lead to one Service; its endpoints are gathered for the first.
        if let Some(known) = self.backends.get(&reached.key()) {
            return Ok(known.clone());
        }
        let backend = self.finish(reached);
        Ok(self.backends.intern(backend))
    }

    /// The same, not yet interned: whether it is needed is known later.
    ///
    /// # Errors
    /// As [`Self::known_backend`].
    pub(super) fn backend(&mut self, wanted: &Wanted<'_>) -> Result<Backend, Problem> {
        let reached = self.reach(wanted)?;
        Ok(self.finish(reached))
    }

    fn reach(&mut self, wanted: &Wanted<'_>) -> Result<Reached<'a>, Problem> {
        let (namespace, name) = (wanted.namespace, wanted.name);
        let to = Referent {
            group: "",
            kind: "Service",
            namespace,
            name,
        };
        self.grants.require(wanted.from, to)?;
        let Some(service) = self.service(namespace, name) else {
            return Err(Problem {
                reason: "BackendNotFound",
                message: absent(self.resources, Kind::Service, namespace, name),
            });
        };
        if service.spec.type_.as_deref() == Some("ExternalName") {
            return self.reach_external(service, wanted);
        }
        let port = find_port(service, wanted.port, wanted.speaks)?;
        let port_name = port.name.clone().unwrap_or_default();
        self.service_uses
            .insert((namespace.to_owned(), name.to_owned(), port_name.clone()));
        let (protocol, tls) = self.spoken(service, port, wanted)?;
        Ok(Reached {
            service,
            number: port.port,
            protocol,
            tls,
            place: Place::Slices(port_name),
        })
    }

    /// Gathers the endpoints.
    fn finish(&mut self, reached: Reached<'a>) -> Backend {
        let key = reached.key();
        let load_balancer = self.load_balancer(reached.service);
        let endpoints = match reached.place {
            Place::Elsewhere(endpoint) => vec![endpoint],
            Place::Slices(port) => self.endpoints(reached.service, port),
        };
        Backend {
            slot: 0,
            key: key.into(),
            protocol: reached.protocol,
            tls: reached.tls,
            endpoints,
            load_balancer,
            connect_timeout: None,
        }
    }

    /// How an endpoint of the Service is chosen.
    fn load_balancer(&mut self, service: &Service) -> LoadBalancer {
        let written = service.meta.annotations.get(LOAD_BALANCING_ANNOTATION);
        match written.map(String::as_str) {
            None | Some("RoundRobin") => LoadBalancer::RoundRobin,
            Some("LeastRequest") => LoadBalancer::LeastRequest,
            Some(other) => {
                self.statuses.of(service).warn(format!(
                    "annotation {LOAD_BALANCING_ANNOTATION}: {other:?} is not known, so endpoints are taken in turn: write RoundRobin or LeastRequest"
                ));
                LoadBalancer::default()
            }
        }
    }

    fn endpoints(&mut self, service: &Service, port: String) -> Vec<Endpoint> {
        let known = (service.key(), port);
        if let Some(found) = self.endpoints.get(&known) {
            return found.clone();
        }
        let found = endpoints::find(self.slices(&known.0), &known.1, self.options.standalone);
        for refused in found.refused {
            self.statuses.of(service).warn(refused);
        }
        self.endpoints.insert(known, found.endpoints.clone());
        found.endpoints
    }

    fn reach_external(
        &mut self,
        service: &'a Service,
        wanted: &Wanted<'_>,
    ) -> Result<Reached<'a>, Problem> {
        let name = service.key();
        if !self.options.external_names() {
            return Err(Problem {
                reason: "InvalidKind",
                message: format!(
                    "Service {name} is of type ExternalName, which may lead anywhere and is off in a cluster (CVE-2021-25740): use a Service with endpoints, or start the gateway with --allow-external-name"
                ),
            });
        }
        let listed = find_port(service, wanted.port, wanted.speaks).ok();
        let number = match (listed, wanted.port) {
            (Some(port), _) => port.port,
            // An ExternalName Service need not list ports.
            (None, PortName::Number(number)) => i32::from(number),
            (None, PortName::Name(port)) => {
                return Err(no_port(service, &format!("named {port:?}")));
            }
        };
        let target = match listed.and_then(|port| port.target_port.as_ref()) {
            Some(IntOrString::Int(target)) => *target,
            _ => number,
        };
        let port_name = listed
            .and_then(|port| port.name.clone())
            .unwrap_or_default();
        self.service_uses.insert((
            wanted.namespace.to_owned(),
            wanted.name.to_owned(),
            port_name,
        ));
        let synthetic = ServicePort::default();
        let (protocol, tls) = self.spoken(service, listed.unwrap_or(&synthetic), wanted)?;
        let target = u16::try_from(target).map_err(|_| no_port(service, &format!("{target}")))?;
        let host = service.spec.external_name.as_deref().unwrap_or_default();
        let endpoint =
            endpoints::external(host, target, self.options.standalone).map_err(|why| Problem {
                reason: "BackendNotFound",
                message: format!("Service {name}, spec.externalName: {why}"),
            })?;
        Ok(Reached {
            service,
            number,
            protocol,
            tls,
            place: Place::Elsewhere(endpoint),
        })
    }

    /// The version of HTTP and the TLS towards a port: what the referrer speaks, what the Service says, what a
    /// BackendTLSPolicy demands.
    fn spoken(
        &mut self,
        service: &Service,
        port: &ServicePort,
        wanted: &Wanted<'_>,
    ) -> Result<(BackendProtocol, Option<BackendTls>), Problem> {
        match wanted.speaks {
            Speaks::Udp => return Ok((BackendProtocol::Udp, None)),
            Speaks::TlsPassthrough => return Ok((BackendProtocol::Tcp, None)),
            Speaks::Tcp => {
                let tls = backend_tls::find(self, service, port, wanted.client_certificate)?;
                return Ok((BackendProtocol::Tcp, tls));
            }
            Speaks::Http | Speaks::Grpc | Speaks::HttpTls | Speaks::GrpcTls => {}
        }
        let name = service.key();
        let stated = port.app_protocol.as_deref();
        let app = app_protocol(stated);
        let unsupported = |why: &str| Problem {
            reason: "UnsupportedProtocol",
            message: format!(
                "Service {name}, port {}: appProtocol {:?} {why}",
                port.port,
                stated.unwrap_or_default()
            ),
        };
        if app == AppProtocol::Unsupported {
            return Err(unsupported(
                "is not supported: use kubernetes.io/h2c, kubernetes.io/ws, kubernetes.io/wss, http, https or none",
            ));
        }
        let is_grpc = matches!(wanted.speaks, Speaks::Grpc | Speaks::GrpcTls);
        if is_grpc && matches!(stated, Some("kubernetes.io/ws" | "kubernetes.io/wss")) {
            return Err(unsupported(
                "does not carry gRPC: use kubernetes.io/h2c or none, or refer to the Service from an HTTPRoute",
            ));
        }
        let mut tls = backend_tls::find(self, service, port, wanted.client_certificate)?;
        if tls.is_none() && matches!(wanted.speaks, Speaks::HttpTls | Speaks::GrpcTls) {
            tls = Some(BackendTls {
                server_name: format!("{}.{}.svc", name.name, name.namespace).into(),
                subject_alt_names: Vec::new(),
                trust: Trust::Anybody,
                client_certificate: None,
            });
        }
        if app == AppProtocol::Tls && tls.is_none() {
            return Err(unsupported(
                "asks for TLS, but no BackendTLSPolicy says whom to trust: create a BackendTLSPolicy for the Service",
            ));
        }
        let protocol = if is_grpc || app == AppProtocol::Http2 {
            BackendProtocol::Http2
        } else {
            BackendProtocol::Http1
        };
        Ok((protocol, tls))
    }
}

fn find_port<'s>(
    service: &'s Service,
    wanted: PortName<'_>,
    speaks: Speaks,
) -> Result<&'s ServicePort, Problem> {
    let ports = service.spec.ports.as_deref().unwrap_or_default();
    let mut same = ports.iter().filter(|port| match wanted {
        PortName::Number(number) => port.port == i32::from(number),
        PortName::Name(name) => port.name.as_deref() == Some(name),
    });
    let transport = speaks.transport();
    let fits = |port: &&ServicePort| port.protocol.as_deref().unwrap_or("TCP") == transport;
    let Some(first) = same.clone().next() else {
        let what = match wanted {
            PortName::Number(number) => number.to_string(),
            PortName::Name(name) => format!("named {name:?}"),
        };
        return Err(no_port(service, &what));
    };
    // One number may stand for TCP and UDP both.
    let carried = if speaks.is_stream() {
        transport
    } else {
        "HTTP"
    };
    same.find(fits).ok_or_else(|| Problem {
        reason: "UnsupportedProtocol",
        message: format!(
            "Service {}, port {}: protocol {} does not carry {carried}; refer to a {transport} port",
            service.key(),
            first.port,
            first.protocol.as_deref().unwrap_or("TCP")
        ),
    })
}

fn no_port(service: &Service, wanted: &str) -> Problem {
    let ports: Vec<String> = service
        .spec
        .ports
        .iter()
        .flatten()
        .map(|port| match &port.name {
            Some(name) => format!("{} ({name})", port.port),
            None => port.port.to_string(),
        })
        .collect();
    Problem {
        reason: "BackendNotFound",
        message: format!(
            "Service {} has no port {wanted}; its ports are {}",
            service.key(),
            if ports.is_empty() {
                "none".to_owned()
            } else {
                ports.join(", ")
            }
        ),
    }
}

/// KEP-3726 names and the well-known service names; what belongs to other implementations (prefixed names) says nothing to us.
fn app_protocol(stated: Option<&str>) -> AppProtocol {
    let Some(stated) = stated else {
        return AppProtocol::Http1;
    };
    match stated.to_ascii_lowercase().as_str() {
        "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => AppProtocol::Http2,
        "kubernetes.io/wss" | "https" | "wss" | "tls" => AppProtocol::Tls,
        "kubernetes.io/ws" => AppProtocol::Http1,
        other if other.starts_with("kubernetes.io/") => AppProtocol::Unsupported,
        _ => AppProtocol::Http1,
    }
}
