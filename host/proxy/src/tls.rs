//! TLS towards clients: which configuration a name gets, kept from snapshot to snapshot while its certificates stay.
//!
//! A configuration has session tickets of its own: the workers share them, and a ticket of one configuration opens nothing
//! under another. A certificate that changes makes a new configuration for the next handshake.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tidegate_model::{Certificate, HostPattern, Labels, ListenerTls, Snapshot};

/// What a configuration is made of: the fingerprints of its certificates, and the names each is shown for.
type Key = Vec<(Arc<str>, Vec<Arc<str>>)>;

/// The configurations of one published state.
#[derive(Clone, Default)]
pub(crate) struct TlsConfigs {
    by_key: HashMap<Key, Arc<ServerConfig>>,
}

impl TlsConfigs {
    /// Configurations for every listener of `snapshot`; those of `self` that are still wanted stay the same.
    pub(crate) fn updated(&self, snapshot: &Snapshot) -> Self {
        let mut by_key = HashMap::new();
        let hosts = snapshot
            .listeners
            .iter()
            .flat_map(|listener| listener.hosts.iter());
        for tls in hosts.filter_map(|(_, host)| host.tls.as_ref()) {
            let key = key(tls);
            if by_key.contains_key(&key) {
                continue;
            }
            let config = self
                .by_key
                .get(&key)
                .cloned()
                .map_or_else(|| server_config(tls), Ok);
            match config {
                Ok(config) => drop(by_key.insert(key, config)),
                Err(error) => tracing::error!(%error, "TLS configuration is unusable"),
            }
        }
        Self { by_key }
    }

    /// The configuration of a listener hostname.
    pub(crate) fn get(&self, tls: &ListenerTls) -> Option<&Arc<ServerConfig>> {
        self.by_key.get(&key(tls))
    }
}

fn key(tls: &ListenerTls) -> Key {
    tls.certificates
        .iter()
        .map(|one| (one.fingerprint.clone(), one.names.clone()))
        .collect()
}

fn server_config(tls: &ListenerTls) -> Result<Arc<ServerConfig>, String> {
    let keys = tls
        .certificates
        .iter()
        .map(|certificate| certified_key(certificate))
        .collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        return Err("no certificate".to_owned());
    }
    let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName { keys }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
    Ok(Arc::new(config))
}

fn certified_key(
    certificate: &Certificate,
) -> Result<(Vec<HostPattern>, Arc<CertifiedKey>), String> {
    let name = &certificate.name;
    let chain = CertificateDer::pem_slice_iter(&certificate.chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("Secret {name}: tls.crt: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(&certificate.key)
        .map_err(|error| format!("Secret {name}: tls.key: {error}"))?;
    let key = aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|error| format!("Secret {name}: tls.key: {error}"))?;
    let names = certificate
        .names
        .iter()
        .map(|name| HostPattern::parse(name, Labels::One))
        .collect();
    Ok((names, Arc::new(CertifiedKey::new(chain, key))))
}

/// The certificate that names the host, else the first.
#[derive(Debug)]
struct ByName {
    keys: Vec<(Vec<HostPattern>, Arc<CertifiedKey>)>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        let specificity =
            |pattern: &HostPattern| pattern.matches(&name).then(|| pattern.specificity());
        let best = |names: &[HostPattern]| names.iter().filter_map(specificity).max();
        // Of equals the first in the listener's own order.
        let named = self
            .keys
            .iter()
            .rev()
            .filter(|(names, _)| best(names).is_some())
            .max_by_key(|(names, _)| best(names));
        named.or(self.keys.first()).map(|(_, key)| key.clone())
    }
}
