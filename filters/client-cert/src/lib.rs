//! Bundled filter `client-cert`: rules over the verified client certificate. See README.md.

pub mod policy;

use tidegate_sdk::{ConfigError, Filter, Reply, Request, property};

use policy::{Certificate, Policy};

tidegate_sdk::filter!(Plugin, "../schema.json", heads);

/// The filter.
#[derive(Debug)]
pub struct Plugin(Policy);

impl Filter for Plugin {
    type Memo = ();

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        Policy::parse(configuration).map(Self)
    }

    async fn request(&self, request: &Request) -> Result<(), Reply> {
        let certificate = presented();
        let verdict = self.0.check(certificate.as_ref());
        // Refused or not, nothing of what the certificate says may come from the client.
        for (name, value) in self.0.headers(certificate.as_ref()) {
            match value {
                Some(value) => request.headers().set(name, value),
                None => request.headers().remove(name),
            }
        }
        verdict
    }
}

/// What the host has verified.
fn presented() -> Option<Certificate> {
    if !property::get::<bool>(&["connection", "mtls"]).unwrap_or(false) {
        return None;
    }
    let text = |name| property::text(&["connection", name]);
    Some(Certificate {
        subject: text("subject_peer_certificate").unwrap_or_default(),
        dns_san: text("dns_san_peer_certificate"),
        uri_san: text("uri_san_peer_certificate"),
        fingerprint: text("sha256_peer_certificate_digest"),
    })
}
