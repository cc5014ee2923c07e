//! Who is who in TLS: what the listeners of a run show, and the certificates of its clients, by an authority made for the purpose.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};
use tidegate_filter_cases::{Certificate, Problem, Request};
use tokio_rustls::TlsConnector;

use super::client::SERVER_NAME;

/// Everybody's certificates, PEM where configurations hold them.
pub(crate) struct Identities {
    pub(crate) server_chain: String,
    pub(crate) server_key: String,
    /// Who issues the certificates of clients that are to be trusted.
    pub(crate) authority: String,
    without: TlsConnector,
    by_name: BTreeMap<String, TlsConnector>,
    fingerprints: BTreeMap<String, String>,
}

/// Two authorities of one name: one that is trusted, and one that is not.
struct Authorities {
    trusted: Issuer<'static, KeyPair>,
    other: Issuer<'static, KeyPair>,
}

/// A client's certificate.
struct Made {
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl Identities {
    /// Makes them.
    ///
    /// # Errors
    /// Certificates that cannot be made as they are described.
    pub(crate) fn new(certificates: &BTreeMap<String, Certificate>) -> anyhow::Result<Self> {
        let server = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])?;
        let mut roots = RootCertStore::empty();
        roots.add(server.cert.der().clone())?;
        let (authority, authorities) = Authorities::new()?;
        let mut by_name = BTreeMap::new();
        let mut fingerprints = BTreeMap::new();
        for (name, described) in certificates {
            let made = authorities
                .issue(described)
                .with_context(|| format!("certificates.{name}"))?;
            fingerprints.insert(name.clone(), format!("{:x}", Sha256::digest(&made.der)));
            by_name.insert(name.clone(), connector(&roots, Some(&made))?);
        }
        Ok(Self {
            server_chain: server.cert.pem(),
            server_key: server.signing_key.serialize_pem(),
            authority,
            without: connector(&roots, None)?,
            by_name,
            fingerprints,
        })
    }

    /// SHA-256 of each certificate of a client.
    pub(crate) fn fingerprints(&self) -> &BTreeMap<String, String> {
        &self.fingerprints
    }

    /// TLS as the client of this request speaks it.
    pub(crate) fn connector(&self, request: &Request) -> &TlsConnector {
        let name = request.client_certificate.as_ref();
        name.and_then(|name| self.by_name.get(name))
            .unwrap_or(&self.without)
    }
}

impl Authorities {
    /// With the trusted one's certificate.
    fn new() -> anyhow::Result<(String, Self)> {
        let params = || {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params
                .distinguished_name
                .push(DnType::CommonName, "clients of the cases");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params
        };
        let key = KeyPair::generate()?;
        let certificate = params().self_signed(&key)?.pem();
        let authorities = Self {
            trusted: Issuer::new(params(), key),
            other: Issuer::new(params(), KeyPair::generate()?),
        };
        Ok((certificate, authorities))
    }

    fn issue(&self, described: &Certificate) -> anyhow::Result<Made> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(described)?;
        for name in &described.dns_names {
            let name = SanType::DnsName(name.as_str().try_into()?);
            params.subject_alt_names.push(name);
        }
        for uri in &described.uris {
            let uri = SanType::URI(uri.as_str().try_into()?);
            params.subject_alt_names.push(uri);
        }
        params.extended_key_usages = vec![match described.problem {
            Some(Problem::ForServers) => ExtendedKeyUsagePurpose::ServerAuth,
            _ => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        if described.problem == Some(Problem::Expired) {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let issuer = match described.problem {
            Some(Problem::Untrusted) => &self.other,
            _ => &self.trusted,
        };
        let key = KeyPair::generate()?;
        let der = params.signed_by(&key, issuer)?.der().clone();
        Ok(Made { der, key })
    }
}

/// The subject of a certificate.
fn subject(described: &Certificate) -> anyhow::Result<DistinguishedName> {
    let mut name = DistinguishedName::new();
    for attribute in described.attributes().map_err(anyhow::Error::msg)? {
        // Attributes of a name are kept by type; the second one of a type goes by its number.
        let of_type = [
            DnType::from_oid(attribute.oid),
            DnType::CustomDnType(attribute.oid.to_vec()),
        ];
        let free = of_type.into_iter().find(|known| name.get(known).is_none());
        let Some(free) = free else {
            bail!("subject: there may be two of {} at most", attribute.name);
        };
        name.push(free, attribute.value);
    }
    Ok(name)
}

/// TLS that trusts these servers, and shows this certificate to those that ask for one. No session is taken up again: each
/// request is to show its own.
fn connector(roots: &RootCertStore, shown: Option<&Made>) -> anyhow::Result<TlsConnector> {
    let builder = ClientConfig::builder().with_root_certificates(roots.clone());
    let mut config = match shown {
        Some(made) => {
            let key = PrivatePkcs8KeyDer::from(made.key.serialize_der());
            builder.with_client_auth_cert(vec![made.der.clone()], PrivateKeyDer::Pkcs8(key))?
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(subject: &[&str]) -> BTreeMap<String, Certificate> {
        let certificate = Certificate {
            subject: subject.iter().map(ToString::to_string).collect(),
            ..Certificate::default()
        };
        BTreeMap::from([
            ("one".to_owned(), certificate.clone()),
            ("two".to_owned(), certificate),
        ])
    }

    #[test]
    fn each_is_another_one_whatever_it_says() {
        let identities = Identities::new(&of(&["CN=ann", "CN=bob"])).expect("certificates");
        let fingerprints = identities.fingerprints();
        assert_eq!(fingerprints.len(), 2);
        assert_ne!(fingerprints["one"], fingerprints["two"]);
        assert!(fingerprints.values().all(|sha256| sha256.len() == 64));
    }

    #[test]
    fn what_cannot_be_made_is_told() {
        let error = Identities::new(&of(&["CN=a", "CN=b", "CN=c"])).err();
        let said = format!("{:#}", error.expect("three are too many"));
        assert_eq!(
            said,
            "certificates.one: subject: there may be two of CN at most"
        );
        let mut certificates = of(&[]);
        let one = certificates.get_mut("one").expect("it is there");
        one.dns_names.push("ä.example".to_owned());
        assert!(Identities::new(&certificates).is_err());
    }
}
