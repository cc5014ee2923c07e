//! Certificates made on the spot.

use rustls::pki_types::CertificateDer;

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
        Self { chain: made.cert.pem(), key: made.signing_key.serialize_pem(), der: made.cert.der().clone() }
    }

    /// The Secret that holds it.
    pub fn secret(&self, name: &str) -> String {
        let indented = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
        format!(
            "---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: {name}}}\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
            indented(&self.chain),
            indented(&self.key)
        )
    }
}
