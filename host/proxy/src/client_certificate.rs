//! Certificates of clients: who validates them, and what filters learn of a validated one.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, HandshakeKind, RootCertStore,
    ServerConnection, SignatureScheme,
};
use tidegate_model::ClientValidation;
use tidegate_wasm::TlsAttributes;
use x509_parser::asn1_rs::{Any, Tag, ToDer as _};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// How the clients of a listener are validated.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    required: bool,
}

/// Lets every client into a handshake; whether its certificate is valid is found out behind it.
#[derive(Debug)]
struct Fallback(Arc<dyn ClientCertVerifier>);

// === impl Clients ===

impl Clients {
    /// # Errors
    /// When the authorities cannot be used.
    pub(crate) fn new(
        validation: &ClientValidation,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&validation.authorities) {
            let certificate = certificate.map_err(|error| format!("authorities: {error}"))?;
            roots
                .add(certificate)
                .map_err(|error| format!("authorities: {error}"))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let verifier = builder.build().map_err(|error| error.to_string())?;
        Ok(Self {
            verifier,
            required: validation.required,
        })
    }

    /// What the handshake asks.
    pub(crate) fn in_handshake(&self) -> Arc<dyn ClientCertVerifier> {
        if self.required {
            self.verifier.clone()
        } else {
            Arc::new(Fallback(self.verifier.clone()))
        }
    }

    /// The client's certificate, if it is valid. A resumed session brings that of the first, which may have expired since.
    ///
    /// # Errors
    /// When a valid one is required and there is none.
    pub(crate) fn validated(
        &self,
        connection: &ServerConnection,
    ) -> Result<Option<CertificateDer<'static>>, rustls::Error> {
        let Some([leaf, rest @ ..]) = connection.peer_certificates() else {
            return match self.required {
                true => Err(rustls::Error::NoCertificatesPresented),
                false => Ok(None),
            };
        };
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        if self.required && !resumed {
            return Ok(Some(leaf.clone().into_owned()));
        }
        let verified = self
            .verifier
            .verify_client_cert(leaf, rest, UnixTime::now());
        match verified {
            Ok(_) => Ok(Some(leaf.clone().into_owned())),
            Err(error) if self.required => Err(error),
            Err(error) => {
                tracing::debug!(%error, "a client's certificate is not valid, and it is let in without");
                Ok(None)
            }
        }
    }
}

// === impl Fallback ===

impl ClientCertVerifier for Fallback {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What filters can ask of a validated certificate, in Envoy's forms.
///
/// # Errors
/// When it cannot be read, which validation would have said.
pub(crate) fn attributes(
    certificate: &CertificateDer<'_>,
    version: &str,
) -> Result<TlsAttributes, rustls::Error> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let names = || {
        alternative
            .iter()
            .flat_map(|extension| &extension.value.general_names)
    };
    let dns = names().find_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let uri = names().find_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    Ok(TlsAttributes {
        version: version.to_owned(),
        subject_peer: subject(parsed.subject()),
        dns_san_peer: dns,
        uri_san_peer: uri,
        sha256_peer_digest: Some(digest(certificate)),
        peer_certificate: Some(encoded_pem(certificate)),
        ..TlsAttributes::default()
    })
}

fn digest(certificate: &[u8]) -> String {
    hexadecimal(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate).as_ref())
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// PEM, with the five characters of it encoded that mean something in a URL (Envoy's `%DOWNSTREAM_PEER_CERT%` does the same).
fn encoded_pem(certificate: &[u8]) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in STANDARD.encode(certificate).as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    let mut encoded = String::with_capacity(pem.len() + 128);
    for character in pem.chars() {
        match character {
            '\n' => encoded.push_str("%0A"),
            ' ' => encoded.push_str("%20"),
            '+' => encoded.push_str("%2B"),
            '/' => encoded.push_str("%2F"),
            '=' => encoded.push_str("%3D"),
            other => encoded.push(other),
        }
    }
    encoded
}

/// A name as RFC 2253 writes it: the last relative name first, as OpenSSL and so Envoy print it.
fn subject(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let relative: Vec<_> = name.iter().collect();
    for (at, relative) in relative.iter().rev().enumerate() {
        let pairs: Vec<String> = relative.iter().map(pair).collect();
        for (within, pair) in pairs.iter().rev().enumerate() {
            match (at, within) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                _ => text.push('+'),
            }
            text.push_str(pair);
        }
    }
    text
}

fn pair(attribute: &x509_parser::x509::AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let text = text(attribute.attr_value());
    match (short_name(&oid), text) {
        (Some(name), Some(text)) => format!("{name}={}", escaped(&text)),
        // What has no name or is no text is given as its encoding (RFC 2253 section 2.4).
        (name, _) => {
            let value = attribute.attr_value();
            let der = value
                .to_der_vec_raw()
                .unwrap_or_else(|_| value.data.to_vec());
            format!(
                "{}=#{}",
                name.unwrap_or(&oid),
                hexadecimal(&der).to_uppercase()
            )
        }
    }
}

fn text(value: &Any<'_>) -> Option<String> {
    let latin1 = || value.data.iter().copied().map(char::from).collect();
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            Some(String::from_utf8_lossy(value.data).into_owned())
        }
        Tag::T61String => Some(latin1()),
        Tag::BmpString => {
            let units: Vec<u16> = value
                .data
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect();
            Some(String::from_utf16_lossy(&units))
        }
        _ => None,
    }
}

/// Names as OpenSSL has them.
fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.13" => "description",
        "2.5.4.15" => "businessCategory",
        "2.5.4.17" => "postalCode",
        "2.5.4.41" => "name",
        "2.5.4.42" => "GN",
        "2.5.4.43" => "initials",
        "2.5.4.46" => "dnQualifier",
        "2.5.4.65" => "pseudonym",
        "2.5.4.97" => "organizationIdentifier",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

/// `,+"\<>;` anywhere, `#` and blanks at the edges; what is not printable ASCII as the bytes of UTF-8.
fn escaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    for (at, byte) in bytes.iter().enumerate() {
        let edge =
            (at == 0 && matches!(byte, b'#' | b' ')) || (at + 1 == bytes.len() && *byte == b' ');
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            _ if edge => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with OpenSSL, which prints its subject as the test expects it:
    /// `openssl x509 -noout -subject -nameopt RFC2253`
    const CERTIFICATE: &str = include_str!("client_certificate/test.pem");

    fn certificate() -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("a certificate")
    }

    #[test]
    fn filters_learn_what_envoys_filters_learn() {
        let attributes = attributes(&certificate(), "TLSv1.3").expect("readable");
        assert_eq!(
            attributes.subject_peer,
            r"CN=ann x,UID=7+OU=a\, b,O=M\C3\BCller \\ Co,C=DE"
        );
        assert_eq!(attributes.dns_san_peer.as_deref(), Some("ann.test"));
        assert_eq!(
            attributes.uri_san_peer.as_deref(),
            Some("spiffe://shop/ann")
        );
        assert_eq!(attributes.version, "TLSv1.3");
        assert_eq!(attributes.sha256_peer_digest.map(|d| d.len()), Some(64));
        let pem = attributes.peer_certificate.expect("the certificate");
        let decoded = pem
            .replace("%0A", "\n")
            .replace("%20", " ")
            .replace("%2B", "+")
            .replace("%2F", "/")
            .replace("%3D", "=");
        assert_eq!(decoded.trim_end(), CERTIFICATE.trim_end());
    }

    #[test]
    fn values_are_escaped() {
        assert_eq!(escaped("a,b \"c\""), r#"a\,b \"c\""#);
        assert_eq!(escaped(" a b "), r"\ a b\ ");
        assert_eq!(escaped("#1"), r"\#1");
        assert_eq!(escaped("a#1"), "a#1");
        assert_eq!(escaped("ü\n"), r"\C3\BC\0A");
    }
}
