//! Certificates out of Secrets and authorities out of ConfigMaps: parsed, checked, and named in the words of whoever
//! has to mend them.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tidegate_model::Certificate;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::kept::Kept;
use crate::api::Key;
use crate::api::core::{ConfigMap, Secret};

/// The type of Secret that holds a certificate and its key.
pub(super) const TLS_SECRET: &str = "kubernetes.io/tls";

static CERTIFICATES: Kept<Secret, Result<Arc<Certificate>, String>> = Kept::new();
static SECRETS: Kept<Secret, Result<Arc<[u8]>, String>> = Kept::new();
static MAPS: Kept<ConfigMap, Result<Arc<[u8]>, String>> = Kept::new();

/// Reads a certificate chain with its key and checks that they belong together.
///
/// # Errors
/// What is wrong with the Secret, with the field and the remedy.
fn read(secret: &Secret) -> Result<Certificate, String> {
    let name = secret.key();
    if secret.spec.kind != TLS_SECRET {
        return Err(format!(
            "Secret {name} has type {:?}: a certificate must be in a Secret of type {TLS_SECRET}",
            secret.spec.kind
        ));
    }
    let entry = |key: &str| {
        secret
            .spec
            .get(key)
            .filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| format!("Secret {name} has no data.{key}: put the PEM there, as kubectl create secret tls does"))
    };
    let (chain_pem, key_pem) = (entry("tls.crt")?, entry("tls.key")?);
    let chain = chain(chain_pem).map_err(|what| format!("Secret {name}, data.tls.crt: {what}"))?;
    // Before the key is looked at: of a certificate that cannot be read nothing can be said about its key.
    let leaf = chain
        .first()
        .ok_or_else(|| format!("Secret {name}, data.tls.crt: no certificate"))?;
    let fingerprint = fingerprint(leaf);
    let (names, not_after) =
        describe(leaf).map_err(|what| format!("Secret {name}, data.tls.crt: {what}"))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|error| format!("Secret {name}, data.tls.key: no private key in PEM ({error}); give PKCS#8, PKCS#1 or SEC1"))?;
    let signer = any_supported_type(&key)
        .map_err(|error| format!("Secret {name}, data.tls.key: the key is not usable ({error}); use RSA, ECDSA or Ed25519"))?;
    CertifiedKey::new(chain, signer).keys_match().map_err(|error| {
        format!("Secret {name}: data.tls.key does not belong to the first certificate of data.tls.crt ({error}); put the pair that was issued together, leaf first")
    })?;
    Ok(Certificate {
        name: name.to_string().into(),
        chain: chain_pem.to_vec().into(),
        key: key_pem.to_vec().into(),
        names,
        fingerprint,
        not_after,
    })
}

/// The certificate of a Secret, which is read once as long as it is there.
///
/// # Errors
/// As [`read`].
pub(super) fn of_secret(secret: &Arc<Secret>) -> Result<Arc<Certificate>, String> {
    CERTIFICATES.get(secret, |secret| read(secret).map(Arc::new))
}

/// The certificates of `ca.crt`, PEM, checked to be certificates; once as long as the ConfigMap is there.
///
/// # Errors
/// What is wrong with the ConfigMap and the remedy.
pub(super) fn authorities(map: &Arc<ConfigMap>) -> Result<Arc<[u8]>, String> {
    MAPS.get(map, |map| {
        let pem = map.spec.get("ca.crt");
        authority("ConfigMap", &map.key(), pem)
    })
}

/// As [`authorities`], out of a Secret.
///
/// # Errors
/// What is wrong with the Secret and the remedy.
pub(super) fn secret_authorities(secret: &Arc<Secret>) -> Result<Arc<[u8]>, String> {
    SECRETS.get(secret, |secret| {
        let pem = secret.spec.get("ca.crt");
        authority("Secret", &secret.key(), pem)
    })
}

/// Forgets what was read out of objects that are gone: there may be keys among it.
pub(super) fn sweep() {
    CERTIFICATES.sweep();
    SECRETS.sweep();
    MAPS.sweep();
}

fn authority(kind: &str, name: &Key, pem: Option<&[u8]>) -> Result<Arc<[u8]>, String> {
    let pem = pem.filter(|bytes| !bytes.is_empty()).ok_or_else(|| {
        format!("{kind} {name} has no data[\"ca.crt\"]: put the authorities there, PEM")
    })?;
    check_authorities(pem).map_err(|what| format!("{kind} {name}, data[\"ca.crt\"]: {what}"))?;
    Ok(pem.into())
}

/// Whether a certificate valid for `names` serves `host`, which may be a wildcard itself.
pub(super) fn covers(names: &[Arc<str>], host: &str) -> bool {
    names.iter().any(|name| {
        **name == *host
            || name.strip_prefix("*.").is_some_and(|suffix| {
                // A wildcard stands for one label (RFC 9525 section 6.3).
                host.split_once('.').is_some_and(|(_, rest)| rest == suffix)
            })
    })
}

/// Whether this is PEM, and every block of it a certificate.
///
/// # Errors
/// What is wrong with it and the remedy.
pub(super) fn check_authorities(pem: &[u8]) -> Result<(), String> {
    for certificate in chain(pem)? {
        describe(&certificate)?;
    }
    Ok(())
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("bad PEM ({error}); give blocks of BEGIN CERTIFICATE"))?;
    if chain.is_empty() {
        return Err("no certificate in it; give blocks of BEGIN CERTIFICATE".to_owned());
    }
    Ok(chain)
}

/// Names and end of validity.
fn describe(certificate: &CertificateDer<'_>) -> Result<(Vec<Arc<str>>, i64), String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| {
        format!("not an X.509 certificate ({error}); give what the authority issued, unchanged")
    })?;
    let mut names: Vec<Arc<str>> = Vec::new();
    let alternative = parsed.subject_alternative_name().ok().flatten();
    for name in alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names)
    {
        match name {
            GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase().into()),
            GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
            _ => {}
        }
    }
    if names.is_empty() && alternative.is_none() {
        // Before subjectAltName was required the name stood here.
        let common = parsed
            .subject()
            .iter_common_name()
            .find_map(|name| name.as_str().ok());
        names.extend(common.map(|name| Arc::from(name.to_ascii_lowercase())));
    }
    Ok((names, parsed.validity().not_after.timestamp()))
}

fn address(bytes: &[u8]) -> Option<Arc<str>> {
    let text = match bytes.len() {
        4 => std::net::Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string(),
        16 => std::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string(),
        _ => return None,
    };
    Some(text.into())
}

/// SHA-256 in hexadecimal digits.
pub(super) fn fingerprint(bytes: &[u8]) -> Arc<str> {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}
