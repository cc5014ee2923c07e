//! ReferenceGrant and BackendTLSPolicy (`referencegrant_types.go`, `backendtlspolicy_types.go`).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::reference::{LocalObjectReference, PolicyTargetReference};
use super::{Body, Kind, Object};

/// Permission for references from other namespaces.
pub type ReferenceGrant = Object<ReferenceGrantSpec>;
/// How TLS to a backend is validated.
pub type BackendTlsPolicy = Object<BackendTlsPolicySpec>;

/// `ReferenceGrant.spec`: every `from` may refer to every `to`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ReferenceGrantSpec {
    /// Who may refer.
    pub from: Vec<ReferenceGrantFrom>,
    /// To what in the grant's namespace.
    pub to: Vec<ReferenceGrantTo>,
}

/// `from[]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ReferenceGrantFrom {
    /// Empty for core kinds.
    pub group: String,
    /// The kind that refers.
    pub kind: String,
    /// The namespace it is in.
    pub namespace: String,
}

/// `to[]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ReferenceGrantTo {
    /// Empty for core kinds.
    pub group: String,
    /// The kind that is referred to.
    pub kind: String,
    /// Every object of the kind where it is absent.
    #[serde(default)]
    pub name: Option<String>,
}

/// `BackendTLSPolicy.spec`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsPolicySpec {
    /// Services, whole or one port by name.
    #[serde(default)]
    pub target_refs: Vec<PolicyTargetReference>,
    /// Who is trusted and what the backend must be called.
    pub validation: BackendTlsValidation,
    /// Of an implementation.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// `validation`; exactly one of the first two is given.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BackendTlsValidation {
    /// Authorities: ConfigMaps with `ca.crt`, or of an implementation.
    #[serde(default, rename = "caCertificateRefs")]
    pub ca_certificate_refs: Vec<LocalObjectReference>,
    /// `System`: the machine's own authorities.
    #[serde(default, rename = "wellKnownCACertificates")]
    pub well_known_ca_certificates: Option<String>,
    /// SNI, and the name the certificate must have unless `subject_alt_names` are given.
    pub hostname: String,
    /// Names of which the certificate must have one.
    #[serde(default, rename = "subjectAltNames")]
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// `subjectAltNames[]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawSubjectAltName")]
pub enum SubjectAltName {
    /// A DNS name, `*.` allowed.
    Hostname(String),
    /// A URI, such as a SPIFFE id.
    Uri(String),
    /// A type that this program does not know.
    Other(String),
}

#[derive(Deserialize)]
struct RawSubjectAltName {
    r#type: String,
    hostname: Option<String>,
    uri: Option<String>,
}

impl Body for ReferenceGrantSpec {
    const KIND: Kind = Kind::ReferenceGrant;
}

impl Body for BackendTlsPolicySpec {
    const KIND: Kind = Kind::BackendTlsPolicy;
}

impl TryFrom<RawSubjectAltName> for SubjectAltName {
    type Error = String;

    fn try_from(raw: RawSubjectAltName) -> Result<Self, String> {
        match raw.r#type.as_str() {
            "Hostname" => raw.hostname.map(Self::Hostname).ok_or_else(|| {
                "SubjectAltName element must contain Hostname, if Type is set to Hostname"
                    .to_owned()
            }),
            "URI" => raw.uri.map(Self::Uri).ok_or_else(|| {
                "SubjectAltName element must contain URI, if Type is set to URI".to_owned()
            }),
            _ => Ok(Self::Other(raw.r#type)),
        }
    }
}
