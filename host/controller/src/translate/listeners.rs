//! A listener of a Gateway or ListenerSet: protocol, kinds, certificates, filters, each checked by itself.
//! What several listeners mean together is in [`conflicts`](super::conflicts).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use tidegate_model::{self as model, HostPattern, Labels, StreamTls};

use super::certificates;
use super::client_validation;
use super::context::Context;
use super::gateways::GatewayEntry;
use super::grants::Referrer;
use super::problem::Problem;
use super::tables::Terms;
use super::{external_auth, filters};
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
    /// What happens to TLS, where connections are passed on and not read.
    pub(super) streams: Option<StreamTls>,
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

    /// `Gateway/name`, for names of what is made for it.
    fn place(&self) -> String {
        match self {
            Self::Gateway(object) => format!("{}/{}", Kind::Gateway, object.meta.name),
            Self::Set(object) => format!("{}/{}", Kind::ListenerSet, object.meta.name),
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
        if self.ends_tls() && self.tls.is_none() {
            let why = self.resolved.as_ref().err();
            let why = why.map_or("tls.certificateRefs names none", |problem| &problem.message);
            return Err(Problem::new(
                "Invalid",
                format!("there is no usable certificate: {why}"),
            ));
        }
        Ok(protocol)
    }

    /// Whether TLS ends here, so that a certificate is needed.
    fn ends_tls(&self) -> bool {
        ends_tls(self.protocol, self.streams)
    }

    /// What clients of its hostname meet.
    pub(super) fn terms(&self) -> Terms {
        Terms::of(self.streams, self.tls.as_deref())
    }
}

fn ends_tls(protocol: Option<model::Protocol>, streams: Option<StreamTls>) -> bool {
    protocol == Some(model::Protocol::Https) || streams == Some(StreamTls::Terminate)
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
    let streams = streams(spec, protocol);
    let (kinds, mut resolved) = kinds(spec, protocol);
    let mut tls = None;
    if protocol.is_some_and(model::Protocol::is_tls) {
        accepted = accepted.and_then(|()| check_tls(spec, protocol));
    }
    if ends_tls(protocol, streams) {
        let (mut found, problem) = listener_certificates(context, owner, spec);
        resolved = resolved.and(problem);
        if protocol == Some(model::Protocol::Https) {
            let asked = client_validation::on_port(context, gateway.object, spec.port);
            resolved = resolved.and(asked.resolved);
            match asked.validation {
                Ok(validation) => {
                    if let Some(found) = &mut found {
                        found.client_validation = validation;
                    }
                }
                Err(problem) => accepted = accepted.and(Err(problem)),
            }
        }
        tls = found.map(Arc::new);
    }
    let mut filters = Vec::new();
    if protocol.is_some() && streams.is_some() {
        accepted = accepted.and_then(|()| check_no_filters(spec));
    } else if protocol.is_some() {
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
        streams,
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
        Protocol::Tls => return (Some(model::Protocol::Tls), Ok(())),
        Protocol::Tcp => return (Some(model::Protocol::Tcp), Ok(())),
        Protocol::Udp => return (Some(model::Protocol::Udp), Ok(())),
        Protocol::Other(name) => name,
    };
    let problem = Problem::new(
        "UnsupportedProtocol",
        format!(
            "listener {}: protocol {name} is not supported; use HTTP, HTTPS, TLS, TCP or UDP",
            spec.name
        ),
    );
    (None, Err(problem))
}

/// What happens to TLS, where connections are passed on.
fn streams(spec: &Listener, protocol: Option<model::Protocol>) -> Option<StreamTls> {
    match protocol? {
        model::Protocol::Http | model::Protocol::Https => None,
        model::Protocol::Tcp | model::Protocol::Udp => Some(StreamTls::None),
        model::Protocol::Tls => match spec.tls.as_ref().map(|tls| &tls.mode) {
            Some(TlsMode::Passthrough) => Some(StreamTls::Passthrough),
            _ => Some(StreamTls::Terminate),
        },
    }
}

/// Filters look at requests, which nobody reads on such a listener.
fn check_no_filters(spec: &Listener) -> Result<(), Problem> {
    if spec.filters.requests.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        "UnsupportedValue",
        format!(
            "listener {}, filters.requests: a listener of protocol TLS, TCP or UDP sees no requests; remove the filters, or use HTTP or HTTPS",
            spec.name
        ),
    ))
}

/// `supportedKinds`, and whether all kinds asked for are among what the protocol carries.
fn kinds(
    spec: &Listener,
    protocol: Option<model::Protocol>,
) -> (Vec<RouteGroupKind>, Result<(), Problem>) {
    let kinds: &[Kind] = match protocol {
        Some(model::Protocol::Http | model::Protocol::Https) => &[Kind::HttpRoute, Kind::GrpcRoute],
        Some(model::Protocol::Tls) => &[Kind::TlsRoute],
        Some(model::Protocol::Tcp) => &[Kind::TcpRoute],
        Some(model::Protocol::Udp) => &[Kind::UdpRoute],
        None => &[],
    };
    let carried: Vec<RouteGroupKind> = kinds.iter().copied().map(group_kind).collect();
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
            match kinds {
                [] => "no kind can".to_owned(),
                kinds => {
                    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
                    format!("{} can", names.join(" and "))
                }
            }
        ),
    );
    (good, Err(problem))
}

/// A kind of the Gateway API.
fn group_kind(kind: Kind) -> RouteGroupKind {
    RouteGroupKind {
        group: kind.group().to_owned(),
        kind: kind.name().to_owned(),
    }
}

fn check_tls(spec: &Listener, protocol: Option<model::Protocol>) -> Result<(), Problem> {
    let https = protocol == Some(model::Protocol::Https);
    match spec.tls.as_ref().map(|tls| &tls.mode) {
        Some(TlsMode::Terminate) => Ok(()),
        Some(TlsMode::Passthrough) if !https => Ok(()),
        None => Err(Problem::new(
            "Invalid",
            if https {
                format!(
                    "listener {}: protocol HTTPS needs tls.certificateRefs",
                    spec.name
                )
            } else {
                format!(
                    "listener {}: protocol TLS needs tls.mode, Passthrough or Terminate",
                    spec.name
                )
            },
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
                "listener {}, tls.mode: {mode:?} is not known; use Terminate{}",
                spec.name,
                if https { "" } else { " or Passthrough" }
            ),
        )),
    }
}

fn listener_certificates(
    context: &mut Context<'_>,
    owner: Owner<'_>,
    spec: &Listener,
) -> (Option<model::ListenerTls>, Result<(), Problem>) {
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
    let tls = (!found.is_empty()).then(|| model::ListenerTls {
        certificates: found,
        client_validation: None,
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
            ListenerFilter::ExternalAuth(written) => {
                let caller = external_auth::Caller {
                    referrer: owner.referrer(),
                    name: &format!("{}/{}/filters.requests[{index}]", owner.place(), spec.name),
                    place: &place,
                    client_certificate: None,
                };
                // No route sends traffic there: the port is on nobody's account.
                let account = std::mem::take(&mut context.service_uses);
                let built = external_auth::filter(context, caller, written);
                context.service_uses = account;
                let (filter, problem) = built.map_err(|problem| problem.at(&place))?;
                found.push(filter);
                resolved = resolved.and(problem);
                continue;
            }
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
