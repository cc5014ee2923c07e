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
use tidegate_model::{Certificate, HostPattern, Labels, ListenerHost, ListenerTls, Snapshot};

use crate::client_certificate::Clients;

/// What a configuration is made of.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// The fingerprints of its certificates, and the names each is shown for.
    certificates: Vec<(Arc<str>, Vec<Arc<str>>)>,
    /// The fingerprint of the authorities of clients, and whether a valid certificate is required.
    clients: Option<(Arc<str>, bool)>,
    /// Whether HTTP is spoken inside, so that its versions are agreed upon.
    http: bool,
}

/// How TLS is spoken to the clients of a hostname.
pub(crate) struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
    /// What is asked of them.
    pub(crate) clients: Option<Clients>,
}

/// The configurations of one published state.
#[derive(Clone, Default)]
pub(crate) struct TlsConfigs {
    by_key: HashMap<Key, Arc<ServerTls>>,
}

impl TlsConfigs {
    /// Configurations for every listener of `snapshot`; those of `self` that are still wanted stay the same.
    pub(crate) fn updated(&self, snapshot: &Snapshot) -> Self {
        let mut by_key = HashMap::new();
        let hosts = snapshot
            .listeners
            .iter()
            .flat_map(|listener| listener.hosts.iter());
        for (_, host) in hosts {
            let Some(tls) = &host.tls else { continue };
            let key = key(host, tls);
            if by_key.contains_key(&key) {
                continue;
            }
            let config = self
                .by_key
                .get(&key)
                .cloned()
                .map_or_else(|| server_tls(tls, key.http), Ok);
            match config {
                Ok(config) => drop(by_key.insert(key, config)),
                Err(error) => tracing::error!(%error, "TLS configuration is unusable"),
            }
        }
        Self { by_key }
    }

    /// The configuration of a listener hostname.
    pub(crate) fn get(&self, host: &ListenerHost) -> Option<&Arc<ServerTls>> {
        self.by_key.get(&key(host, host.tls.as_deref()?))
    }
}

fn key(host: &ListenerHost, tls: &ListenerTls) -> Key {
    let certificates = tls.certificates.iter();
    let clients = tls.client_validation.as_ref();
    Key {
        certificates: certificates
            .map(|one| (one.fingerprint.clone(), one.names.clone()))
            .collect(),
        clients: clients.map(|clients| (clients.fingerprint.clone(), clients.required)),
        http: host.streams.is_none(),
    }
}

fn server_tls(tls: &ListenerTls, http: bool) -> Result<Arc<ServerTls>, String> {
    let keys = tls
        .certificates
        .iter()
        .map(|certificate| certified_key(certificate))
        .collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        return Err("no certificate".to_owned());
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let validation = tls.client_validation.as_ref();
    let clients = validation
        .map(|validation| Clients::new(validation, &provider))
        .transpose()?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients.in_handshake()),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName { keys }));
    if http {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
    Ok(Arc::new(ServerTls {
        config: Arc::new(config),
        clients,
    }))
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
