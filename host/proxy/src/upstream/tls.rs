//! TLS towards endpoints, as a BackendTLSPolicy asks for it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tidegate_model::{BackendProtocol, BackendTls, SubjectAltName, Trust};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The settings for connections under `policy`; an error is for the log and says what is wrong with it.
pub(super) fn client_config(
    policy: &BackendTls,
    protocol: BackendProtocol,
) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier {
        roots: roots(&policy.trust)?,
        trusts_anybody: policy.trust == Trust::Anybody,
        names: policy.subject_alt_names.clone(),
        algorithms: provider.signature_verification_algorithms,
    };
    let builder = ClientConfig::builder_with_provider(CryptoProvider::clone(&provider).into())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &policy.client_certificate {
        None => builder.with_no_client_auth(),
        Some(certificate) => {
            let chain = CertificateDer::pem_slice_iter(&certificate.chain)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| format!("client certificate {}: {error}", certificate.name))?;
            let key = PrivateKeyDer::from_pem_slice(&certificate.key)
                .map_err(|error| format!("client key {}: {error}", certificate.name))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| error.to_string())?
        }
    };
    config.enable_sni = policy.trust != Trust::Anybody;
    config.alpn_protocols = match protocol {
        BackendProtocol::Http1 => vec![b"http/1.1".to_vec()],
        BackendProtocol::Http2 => vec![b"h2".to_vec()],
        BackendProtocol::Tcp | BackendProtocol::Udp => Vec::new(),
    };
    Ok(Arc::new(config))
}

fn roots(trust: &Trust) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::Anybody => {}
        Trust::System => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Trust::Bundle(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate =
                    certificate.map_err(|error| format!("certificate authorities: {error}"))?;
                roots
                    .add(certificate)
                    .map_err(|error| format!("certificate authorities: {error}"))?;
            }
        }
    }
    Ok(roots)
}

/// Checks the chain, and the name that SNI asked for or else one of those that the policy lists
/// (BackendTLSPolicyValidation.subjectAltNames: then SNI's name is not looked at).
#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    trusts_anybody: bool,
    names: Vec<SubjectAltName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn verify_names(
        &self,
        leaf: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
    ) -> Result<(), rustls::Error> {
        let (_, certificate) = X509Certificate::from_der(leaf)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let uris: Vec<&str> = match certificate.subject_alternative_name() {
            Ok(Some(extension)) => extension
                .value
                .general_names
                .iter()
                .filter_map(|name| match name {
                    GeneralName::URI(uri) => Some(*uri),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        let named = self.names.iter().any(|name| match name {
            SubjectAltName::Hostname(host) => ServerName::try_from(&**host)
                .is_ok_and(|host| verify_server_name(parsed, &host).is_ok()),
            SubjectAltName::Uri(uri) => uris.contains(&&**uri),
        });
        if named {
            Ok(())
        } else {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName,
            ))
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.trusts_anybody {
            return Ok(ServerCertVerified::assertion());
        }
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        if self.names.is_empty() {
            verify_server_name(&parsed, server_name)?;
        } else {
            self.verify_names(leaf, &parsed)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
