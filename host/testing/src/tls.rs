//! TLS as a client speaks it.

use std::sync::Arc;

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Resumption,
    Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, NamedGroup, RootCertStore, SignatureScheme, SupportedProtocolVersion};

use crate::Certificate;

/// How TLS is spoken; connections made with the same one may resume each other's sessions.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
}

// === impl Tls ===

impl Tls {
    /// Trusts these certificates, offers these protocols (ALPN).
    ///
    /// # Panics
    /// When a certificate is none.
    pub fn trusting(certificates: &[&Certificate], alpn: &[&str]) -> Self {
        Self::with_versions(certificates, alpn, rustls::ALL_VERSIONS)
    }

    /// The same with these versions of TLS alone.
    ///
    /// # Panics
    /// When a certificate is none.
    pub fn with_versions(
        certificates: &[&Certificate],
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate.der.clone()).expect("a certificate");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions that the provider knows")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        Self {
            config: Arc::new(config),
        }
    }
}

impl Tls {
    /// Trusts the certificate in this PEM text, as `curl --cacert` does.
    ///
    /// # Panics
    /// When it is none.
    pub fn trusting_pem(pem: &str, alpn: &[&str]) -> Self {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        let certificate = Certificate {
            chain: pem.to_owned(),
            key: String::new(),
            der,
        };
        Self::trusting(&[&certificate], alpn)
    }

    /// Shows this certificate to servers that ask for one.
    ///
    /// # Panics
    /// When its key is none.
    #[must_use]
    pub fn presenting(mut self, certificate: &Certificate) -> Self {
        let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).expect("a key");
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a key");
        let shown = CertifiedKey::new(vec![certificate.der.clone()], key);
        let config = Arc::make_mut(&mut self.config);
        config.client_auth_cert_resolver = Arc::new(Always(Arc::new(shown)));
        self
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// Offers any session to any server, as a client might that wants to be taken for another one's.
    ///
    /// # Panics
    /// Never: the settings are its own.
    #[must_use]
    pub fn confusing_names(mut self) -> Self {
        let config = Arc::make_mut(&mut self.config);
        config.resumption = Resumption::store(Arc::new(OneName(ClientSessionMemoryCache::new(32))));
        self
    }
}

/// Shows a certificate whatever authorities the server names, as an obstinate client does.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Keeps all sessions under one name.
#[derive(Debug)]
struct OneName(ClientSessionMemoryCache);

fn one_name() -> ServerName<'static> {
    ServerName::try_from("any.test").expect("a name")
}

impl ClientSessionStore for OneName {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(one_name(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&one_name())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(one_name(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&one_name())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&one_name());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(one_name(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&one_name())
    }
}
