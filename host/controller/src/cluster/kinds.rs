//! How the API server calls the kinds, and which of them have a status that we write.

use kube::core::ApiResource;

use crate::api::{GATEWAY_GROUP, Kind, OWN_GROUP, Scope};

/// The kind as part of a URL.
pub(super) fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::GatewayClass => "gatewayclasses",
        Kind::Gateway => "gateways",
        Kind::ListenerSet => "listenersets",
        Kind::HttpRoute => "httproutes",
        Kind::GrpcRoute => "grpcroutes",
        Kind::TlsRoute => "tlsroutes",
        Kind::TcpRoute => "tcproutes",
        Kind::UdpRoute => "udproutes",
        Kind::ReferenceGrant => "referencegrants",
        Kind::BackendTlsPolicy => "backendtlspolicies",
        Kind::IngressClass => "ingressclasses",
        Kind::Ingress => "ingresses",
        Kind::Service => "services",
        Kind::EndpointSlice => "endpointslices",
        Kind::Secret => "secrets",
        Kind::ConfigMap => "configmaps",
        Kind::Namespace => "namespaces",
        Kind::Filter => "filters",
        Kind::FilterPolicy => "filterpolicies",
        Kind::GatewayConfig => "gatewayconfigs",
    }
}

/// The kind in one version.
pub(super) fn resource(kind: Kind, version: &str) -> ApiResource {
    let group = kind.group();
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        },
        kind: kind.name().to_owned(),
        plural: plural(kind).to_owned(),
    }
}

/// The kinds that are watched.
pub(super) fn watched() -> impl Iterator<Item = Kind> {
    Kind::all().filter(|kind| by_name().all(|other| *kind != other))
}

/// The kinds that are read by name, where an object names them: what they hold is nobody's business otherwise.
pub(super) fn by_name() -> impl Iterator<Item = Kind> {
    [Kind::Secret, Kind::ConfigMap].into_iter()
}

/// Whether the kind comes from a CRD, and so may be absent.
pub(super) fn may_be_absent(kind: Kind) -> bool {
    matches!(kind.group(), GATEWAY_GROUP | OWN_GROUP)
}

/// Whether we write its status.
pub(super) fn has_status(kind: Kind) -> bool {
    (may_be_absent(kind) && kind != Kind::ReferenceGrant) || kind == Kind::Ingress
}

/// Whether objects of the kind may name Secrets or ConfigMaps.
pub(super) fn names_others(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Gateway | Kind::ListenerSet | Kind::Ingress | Kind::BackendTlsPolicy | Kind::Filter
    )
}

/// Whether there is one of that name in a cluster.
pub(super) fn is_cluster_scoped(kind: Kind) -> bool {
    kind.scope() == Scope::Cluster
}
