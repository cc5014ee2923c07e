//! The kinds we read, their groups, versions and scopes.

use std::fmt;

/// A kind this program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// gateway.networking.k8s.io
    GatewayClass,
    /// gateway.networking.k8s.io
    Gateway,
    /// gateway.networking.k8s.io
    ListenerSet,
    /// gateway.networking.k8s.io
    HttpRoute,
    /// gateway.networking.k8s.io
    GrpcRoute,
    /// gateway.networking.k8s.io
    TlsRoute,
    /// gateway.networking.k8s.io
    TcpRoute,
    /// gateway.networking.k8s.io
    UdpRoute,
    /// gateway.networking.k8s.io
    ReferenceGrant,
    /// gateway.networking.k8s.io
    BackendTlsPolicy,
    /// networking.k8s.io
    IngressClass,
    /// networking.k8s.io
    Ingress,
    /// core
    Service,
    /// discovery.k8s.io
    EndpointSlice,
    /// core
    Secret,
    /// core
    ConfigMap,
    /// core
    Namespace,
    /// tidegate.dev
    Filter,
    /// tidegate.dev
    FilterPolicy,
    /// tidegate.dev
    GatewayConfig,
}

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `metadata.namespace` is part of the identity.
    Namespaced,
    /// There is one such name in a cluster.
    Cluster,
}

/// What `apiVersion` and `kind` of an object mean to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A kind we read, in a version an API server serves.
    Served(Kind),
    /// A kind we read, in a version no API server serves any more.
    Withdrawn {
        /// The kind.
        kind: Kind,
        /// The `apiVersion` to write instead.
        instead: &'static str,
    },
    /// A kind or group we do not read.
    Unknown,
}

/// The group of the Gateway API.
pub(crate) const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// The group of our own kinds.
pub(crate) const OWN_GROUP: &str = "tidegate.dev";

struct Row {
    kind: Kind,
    name: &'static str,
    group: &'static str,
    scope: Scope,
    /// The newest first; that one is what we write and recommend.
    versions: &'static [&'static str],
}

const ROWS: [Row; 20] = {
    use Scope::{Cluster, Namespaced};
    const fn row(
        kind: Kind,
        name: &'static str,
        group: &'static str,
        scope: Scope,
        versions: &'static [&'static str],
    ) -> Row {
        Row {
            kind,
            name,
            group,
            scope,
            versions,
        }
    }
    const GW: &str = GATEWAY_GROUP;
    const V1: &[&str] = &["v1"];
    const V1_BETA: &[&str] = &["v1", "v1beta1"];
    const V1_ALPHA2: &[&str] = &["v1", "v1alpha2"];
    const OWN: &[&str] = &["v1alpha1"];
    [
        row(Kind::GatewayClass, "GatewayClass", GW, Cluster, V1_BETA),
        row(Kind::Gateway, "Gateway", GW, Namespaced, V1_BETA),
        row(Kind::ListenerSet, "ListenerSet", GW, Namespaced, V1),
        row(Kind::HttpRoute, "HTTPRoute", GW, Namespaced, V1_BETA),
        row(Kind::GrpcRoute, "GRPCRoute", GW, Namespaced, V1),
        row(
            Kind::TlsRoute,
            "TLSRoute",
            GW,
            Namespaced,
            &["v1", "v1alpha3", "v1alpha2"],
        ),
        row(Kind::TcpRoute, "TCPRoute", GW, Namespaced, V1_ALPHA2),
        row(Kind::UdpRoute, "UDPRoute", GW, Namespaced, V1_ALPHA2),
        row(
            Kind::ReferenceGrant,
            "ReferenceGrant",
            GW,
            Namespaced,
            V1_BETA,
        ),
        row(
            Kind::BackendTlsPolicy,
            "BackendTLSPolicy",
            GW,
            Namespaced,
            &["v1", "v1alpha3"],
        ),
        row(
            Kind::IngressClass,
            "IngressClass",
            "networking.k8s.io",
            Cluster,
            V1,
        ),
        row(
            Kind::Ingress,
            "Ingress",
            "networking.k8s.io",
            Namespaced,
            V1,
        ),
        row(Kind::Service, "Service", "", Namespaced, V1),
        row(
            Kind::EndpointSlice,
            "EndpointSlice",
            "discovery.k8s.io",
            Namespaced,
            V1,
        ),
        row(Kind::Secret, "Secret", "", Namespaced, V1),
        row(Kind::ConfigMap, "ConfigMap", "", Namespaced, V1),
        row(Kind::Namespace, "Namespace", "", Cluster, V1),
        row(Kind::Filter, "Filter", OWN_GROUP, Namespaced, OWN),
        row(
            Kind::FilterPolicy,
            "FilterPolicy",
            OWN_GROUP,
            Namespaced,
            OWN,
        ),
        row(
            Kind::GatewayConfig,
            "GatewayConfig",
            OWN_GROUP,
            Namespaced,
            OWN,
        ),
    ]
};

/// Versions that were served once: `(apiVersion, kind, apiVersion to use)`. Any other version of a
/// group we know is treated the same way with the newest one as the remedy.
const WITHDRAWN: &[(&str, &str, Kind)] = &[("extensions/v1beta1", "Ingress", Kind::Ingress)];

// === impl Kind ===

impl Kind {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.kind)
    }

    /// What `apiVersion` and `kind` mean.
    ///
    /// A known kind in a version that is not served is [`Version::Withdrawn`], whatever the version
    /// is called: `v1beta1` of Ingress and a mistyped `v11` have the same remedy.
    pub fn resolve(api_version: &str, kind: &str) -> Version {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        if let Some(row) = ROWS.iter().find(|r| r.name == kind && r.group == group) {
            if row.versions.contains(&version) {
                return Version::Served(row.kind);
            }
            return Version::Withdrawn {
                kind: row.kind,
                instead: row.kind.api_version(),
            };
        }
        match WITHDRAWN
            .iter()
            .find(|(v, k, _)| *v == api_version && *k == kind)
        {
            Some((_, _, known)) => Version::Withdrawn {
                kind: *known,
                instead: known.api_version(),
            },
            None => Version::Unknown,
        }
    }

    /// The kind of that name in that group; references name kinds so.
    pub fn of_group(group: &str, kind: &str) -> Option<Self> {
        ROWS.iter()
            .find(|r| r.name == kind && r.group == group)
            .map(|r| r.kind)
    }

    /// As objects spell it: `HTTPRoute`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The API group; empty for core kinds.
    pub fn group(self) -> &'static str {
        self.row().group
    }

    /// Namespaced or not.
    pub fn scope(self) -> Scope {
        self.row().scope
    }

    /// The versions that are read, newest first.
    pub fn versions(self) -> &'static [&'static str] {
        self.row().versions
    }

    /// `apiVersion` in the newest version.
    pub fn api_version(self) -> &'static str {
        match self.group() {
            GATEWAY_GROUP => "gateway.networking.k8s.io/v1",
            OWN_GROUP => "tidegate.dev/v1alpha1",
            "networking.k8s.io" => "networking.k8s.io/v1",
            "discovery.k8s.io" => "discovery.k8s.io/v1",
            _ => "v1",
        }
    }

    fn row(self) -> &'static Row {
        // ROWS is in the order of the declaration; a test compares them.
        &ROWS[self as usize]
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_kinds() {
        for (index, row) in ROWS.iter().enumerate() {
            assert_eq!(row.kind as usize, index, "{}", row.name);
            let group = row.kind.api_version().rsplit_once('/').map_or("", |p| p.0);
            assert_eq!(group, row.group);
            assert!(row.kind.api_version().ends_with(row.versions[0]));
        }
    }

    #[test]
    fn versions_resolve() {
        let cases = [
            ("v1", "Service", Version::Served(Kind::Service)),
            (
                "gateway.networking.k8s.io/v1beta1",
                "HTTPRoute",
                Version::Served(Kind::HttpRoute),
            ),
            (
                "gateway.networking.k8s.io/v1alpha2",
                "TCPRoute",
                Version::Served(Kind::TcpRoute),
            ),
            (
                "gateway.networking.k8s.io/v1alpha3",
                "TLSRoute",
                Version::Served(Kind::TlsRoute),
            ),
            (
                "gateway.networking.k8s.io/v1alpha2",
                "HTTPRoute",
                Version::Withdrawn {
                    kind: Kind::HttpRoute,
                    instead: "gateway.networking.k8s.io/v1",
                },
            ),
            (
                "extensions/v1beta1",
                "Ingress",
                Version::Withdrawn {
                    kind: Kind::Ingress,
                    instead: "networking.k8s.io/v1",
                },
            ),
            (
                "networking.k8s.io/v1beta1",
                "Ingress",
                Version::Withdrawn {
                    kind: Kind::Ingress,
                    instead: "networking.k8s.io/v1",
                },
            ),
            ("apps/v1", "Deployment", Version::Unknown),
            ("example.com/v1", "Service", Version::Unknown),
        ];
        for (api_version, kind, expected) in cases {
            assert_eq!(
                Kind::resolve(api_version, kind),
                expected,
                "{api_version} {kind}"
            );
        }
    }
}
