//! Certificates made on the spot.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// A self-signed certificate, which is its own authority.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// `tls.crt`
    pub chain: String,
    /// `tls.key`
    pub key: String,
    /// The certificate as it is sent.
    pub der: CertificateDer<'static>,
}

impl Certificate {
    /// A new one for these names.
    ///
    /// # Panics
    /// When a name is none.
    pub fn new(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        Self {
            chain: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
            der: made.cert.der().clone(),
        }
    }

    /// The ConfigMap that holds it as an authority.
    pub fn authority(&self, name: &str) -> String {
        let chain: String = self
            .chain
            .lines()
            .map(|line| format!("    {line}\n"))
            .collect();
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  ca.crt: |\n{chain}"
        )
    }

    /// A server's side of TLS with it; HTTP/2 and HTTP/1.1 by ALPN.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions that the provider knows")
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], key)
            .expect("a certificate and its key");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// The Secret that holds it.
    pub fn secret(&self, name: &str) -> String {
        let indented = |text: &str| {
            text.lines()
                .map(|line| format!("    {line}\n"))
                .collect::<String>()
        };
        format!(
            "---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: {name}}}\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
            indented(&self.chain),
            indented(&self.key)
        )
    }
}
