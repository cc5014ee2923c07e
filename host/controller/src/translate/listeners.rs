//! A listener of a Gateway or ListenerSet: protocol, kinds, certificates, filters, each checked by itself.
//! What several listeners mean together is in [`conflicts`](super::conflicts).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use tidegate_model::{self as model, HostPattern, Labels};

use super::certificates;
use super::context::Context;
use super::filters;
use super::gateways::GatewayEntry;
use super::grants::Referrer;
use super::problem::Problem;
use crate::api::gateway::{Gateway, Listener, ListenerFilter, ListenerSet, Protocol, TlsMode};
use crate::api::reference::RouteGroupKind;
use crate::api::{Key, Kind};

/// Who owns a listener.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner<'a> {
    /// It stands in the Gateway.
    Gateway(&'a Gateway),
    /// It was added by a ListenerSet.
    Set(&'a ListenerSet),
}

/// A listener with everything found out about it.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Index of the Gateway.
    pub(super) gateway: usize,
    /// Index of the ListenerSet, if it is one's.
    pub(super) set: Option<usize>,
    /// The object that holds it.
    pub(super) owner: Owner<'a>,
    /// As written.
    pub(super) spec: &'a Listener,
    /// `spec.hostname`.
    pub(super) hostname: HostPattern,
    /// What is spoken, if we speak it.
    pub(super) protocol: Option<model::Protocol>,
    /// Kinds of routes that may attach.
    pub(super) kinds: Vec<RouteGroupKind>,
    /// Condition `Accepted`, conflicts aside.
    pub(super) accepted: Result<(), Problem>,
    /// Condition `Conflicted`: what it collides with.
    pub(super) conflict: Option<Problem>,
    /// Condition `ResolvedRefs`.
    pub(super) resolved: Result<(), Problem>,
    /// Condition `OverlappingTLSConfig`: with whom.
    pub(super) overlap: Option<String>,
    /// Certificates; for HTTPS without any nothing can be served.
    pub(super) tls: Option<Arc<model::ListenerTls>>,
    /// Filters before routing.
    pub(super) filters: Vec<model::Filter>,
    /// Accepted routes.
    pub(super) attached: BTreeSet<(Kind, Key)>,
}

impl Owner<'_> {
    /// Kind and namespace, for grants.
    pub(super) fn referrer(&self) -> Referrer<'_> {
        let (kind, namespace) = match self {
            Self::Gateway(object) => (Kind::Gateway, &object.meta.namespace),
            Self::Set(object) => (Kind::ListenerSet, &object.meta.namespace),
        };
        Referrer {
            group: kind.group(),
            kind: kind.name(),
            namespace,
        }
    }

    /// The namespace, for `allowedRoutes`.
    pub(super) fn namespace(&self) -> &str {
        match self {
            Self::Gateway(object) => &object.meta.namespace,
            Self::Set(object) => &object.meta.namespace,
        }
    }

    /// `metadata.generation`, for conditions.
    pub(super) fn generation(&self) -> i64 {
        match self {
            Self::Gateway(object) => object.meta.generation,
            Self::Set(object) => object.meta.generation,
        }
    }
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(object) => object.fmt(f),
            Self::Set(object) => object.fmt(f),
        }
    }
}

impl Entry<'_> {
    /// `Gateway namespace/name/listener`
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.owner, self.spec.name)
    }

    /// Whether it can serve, as far as it alone is concerned.
    pub(super) fn programmed(&self) -> Result<model::Protocol, Problem> {
        if let Some(conflict) = &self.conflict {
            return Err(conflict.clone());
        }
        if let Err(problem) = &self.accepted {
            return Err(Problem::new("Invalid", &problem.message));
        }
        let Some(protocol) = self.protocol else {
            return Err(Problem::new("Invalid", "the protocol is not supported"));
        };
        if protocol == model::Protocol::Https && self.tls.is_none() {
            let why = self.resolved.as_ref().err();
            let why = why.map_or("tls.certificateRefs names none", |problem| &problem.message);
            return Err(Problem::new(
                "Invalid",
                format!("there is no usable certificate: {why}"),
            ));
        }
        Ok(protocol)
    }
}

/// Reads a listener.
pub(super) fn read<'a>(
    context: &mut Context<'a>,
    gateway: &GatewayEntry<'a>,
    index: usize,
    set: Option<usize>,
    owner: Owner<'a>,
    spec: &'a Listener,
) -> Entry<'a> {
    let (protocol, mut accepted) = protocol(spec);
    let (kinds, mut resolved) = kinds(spec, protocol);
    let mut tls = None;
    if protocol == Some(model::Protocol::Https) {
        if accepted.is_ok() {
            accepted = check_tls(spec).and_then(|()| check_client_validation(gateway, spec.port));
        }
        let (found, problem) = listener_certificates(context, owner, spec);
        tls = found;
        resolved = resolved.and(problem);
    }
    let mut filters = Vec::new();
    if protocol.is_some() {
        match listener_filters(context, owner, spec) {
            Ok((found, problem)) => {
                filters = found;
                resolved = resolved.and(problem);
            }
            Err(problem) => accepted = accepted.and(Err(problem)),
        }
    }
    Entry {
        gateway: index,
        set,
        owner,
        spec,
        hostname: HostPattern::parse(spec.hostname.as_deref().unwrap_or_default(), Labels::Many),
        protocol,
        kinds,
        accepted,
        conflict: None,
        resolved,
        overlap: None,
        tls,
        filters,
        attached: BTreeSet::new(),
    }
}

fn protocol(spec: &Listener) -> (Option<model::Protocol>, Result<(), Problem>) {
    let name = match &spec.protocol {
        Protocol::Http => return (Some(model::Protocol::Http), Ok(())),
        Protocol::Https => return (Some(model::Protocol::Https), Ok(())),
        Protocol::Tls => "TLS",
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Other(name) => name,
    };
    let problem = Problem::new(
        "UnsupportedProtocol",
        format!(
            "listener {}: protocol {name} is not supported; use HTTP or HTTPS",
            spec.name
        ),
    );
    (None, Err(problem))
}

/// `supportedKinds`, and whether all kinds asked for are among what the protocol carries.
fn kinds(
    spec: &Listener,
    protocol: Option<model::Protocol>,
) -> (Vec<RouteGroupKind>, Result<(), Problem>) {
    let carried = match protocol {
        Some(_) => vec![group_kind(Kind::HttpRoute), group_kind(Kind::GrpcRoute)],
        None => Vec::new(),
    };
    let asked = &spec.allowed_routes.kinds;
    if asked.is_empty() {
        return (carried, Ok(()));
    }
    let (good, bad): (Vec<_>, Vec<_>) = asked
        .iter()
        .cloned()
        .partition(|kind| carried.contains(kind));
    let Some(first) = bad.first() else {
        return (good, Ok(()));
    };
    let problem = Problem::new(
        "InvalidRouteKinds",
        format!(
            "listener {}, allowedRoutes.kinds: {} of group {:?} cannot attach to a listener of this protocol; {}",
            spec.name,
            first.kind,
            first.group,
            if carried.is_empty() {
                "no kind can"
            } else {
                "HTTPRoute and GRPCRoute can"
            }
        ),
    );
    (good, Err(problem))
}

/// A kind of the Gateway API.
pub(super) fn group_kind(kind: Kind) -> RouteGroupKind {
    RouteGroupKind {
        group: kind.group().to_owned(),
        kind: kind.name().to_owned(),
    }
}

fn check_tls(spec: &Listener) -> Result<(), Problem> {
    match spec.tls.as_ref().map(|tls| &tls.mode) {
        Some(TlsMode::Terminate) => Ok(()),
        None => Err(Problem::new(
            "Invalid",
            format!(
                "listener {}: protocol HTTPS needs tls.certificateRefs",
                spec.name
            ),
        )),
        Some(TlsMode::Passthrough) => Err(Problem::new(
            "UnsupportedValue",
            format!(
                "listener {}, tls.mode: a listener of protocol HTTPS terminates TLS; use Terminate",
                spec.name
            ),
        )),
        Some(TlsMode::Other(mode)) => Err(Problem::new(
            "UnsupportedValue",
            format!(
                "listener {}, tls.mode: {mode:?} is not known; use Terminate",
                spec.name
            ),
        )),
    }
}

/// Client certificates are not validated yet, and a listener that was meant to demand them must not serve without.
fn check_client_validation(gateway: &GatewayEntry<'_>, port: u16) -> Result<(), Problem> {
    let Some(frontend) = &gateway.object.spec.tls.frontend else {
        return Ok(());
    };
    let own = frontend.per_port.iter().find(|entry| entry.port == port);
    let (config, place) = match own {
        Some(own) => (&own.tls, "perPort"),
        None => (&frontend.default, "default"),
    };
    if config.validation.is_none() {
        return Ok(());
    }
    Err(Problem::new(
        "UnsupportedValue",
        format!(
            "spec.tls.frontend.{place}.validation: client certificates are not supported yet, so nothing is served on port {port} over TLS; remove it, or authenticate clients with a filter"
        ),
    ))
}

fn listener_certificates(
    context: &mut Context<'_>,
    owner: Owner<'_>,
    spec: &Listener,
) -> (Option<Arc<model::ListenerTls>>, Result<(), Problem>) {
    let tls = spec.tls.as_ref();
    let mut found = Vec::new();
    let mut resolved = Ok(());
    for (index, reference) in tls.iter().flat_map(|tls| &tls.certificate_refs).enumerate() {
        match context.certificate_ref(owner.referrer(), reference, "InvalidCertificateRef") {
            Ok(certificate) => {
                if context
                    .options
                    .now
                    .is_some_and(|now| now > certificate.not_after)
                {
                    warn(
                        context,
                        owner,
                        format!(
                            "listener {}: the certificate in Secret {} has expired: renew it",
                            spec.name, certificate.name
                        ),
                    );
                }
                found.push(certificate);
            }
            Err(problem) => {
                resolved = resolved.and(Err(problem.at(&format!(
                    "listener {}, tls.certificateRefs[{index}]",
                    spec.name
                ))))
            }
        }
    }
    if let Some(option) = tls.and_then(|tls| tls.options.keys().next()) {
        warn(
            context,
            owner,
            format!(
                "listener {}: tls.options: {option} is not known and has no effect",
                spec.name
            ),
        );
    }
    if let Some(hostname) = spec
        .hostname
        .as_deref()
        .filter(|hostname| !hostname.is_empty())
        && !found.is_empty()
        && !found
            .iter()
            .any(|certificate| certificates::covers(&certificate.names, hostname))
    {
        let message = format!(
            "listener {}: no certificate is valid for hostname {hostname}: clients will refuse it",
            spec.name
        );
        warn(context, owner, message);
    }
    let tls = (!found.is_empty()).then(|| {
        Arc::new(model::ListenerTls {
            certificates: found,
        })
    });
    (tls, resolved)
}

/// The filters of a listener, and whether their references lead somewhere; a type that we cannot run is an error.
fn listener_filters(
    context: &mut Context<'_>,
    owner: Owner<'_>,
    spec: &Listener,
) -> Result<(Vec<model::Filter>, Result<(), Problem>), Problem> {
    let mut found = Vec::new();
    let mut resolved = Ok(());
    for (index, filter) in spec.filters.requests.iter().enumerate() {
        let place = format!("listener {}, filters.requests[{index}]", spec.name);
        let kind = match filter {
            ListenerFilter::ExtensionRef(reference) => {
                let (filter, problem) = filters::extension(context, owner.namespace(), reference);
                found.push(filter);
                resolved = resolved.and(problem.map_err(|problem| problem.at(&place)));
                continue;
            }
            ListenerFilter::ExternalAuth(_) => "ExternalAuth",
            ListenerFilter::Other(kind) => kind,
        };
        return Err(Problem::new(
            "UnsupportedValue",
            format!("{place}: type {kind} is not supported; use ExtensionRef with a Filter"),
        ));
    }
    Ok((found, resolved))
}

fn warn(context: &mut Context<'_>, owner: Owner<'_>, message: String) {
    match owner {
        Owner::Gateway(object) => context.statuses.of(object).warn(message),
        Owner::Set(object) => context.statuses.of(object).warn(message),
    }
}
