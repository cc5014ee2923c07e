//! Which client certificates may come in, and what the upstream hears of them.
//!
//! The host has verified the chain; this looks at what the certificate says.

mod config;
mod subject;
#[cfg(test)]
mod tests;

use tidegate_sdk::expression::Regex;
use tidegate_sdk::{Reply, header};

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    required: bool,
    allow: Vec<Rule>,
    forward: Vec<(String, Field)>,
    status: u16,
    missing_status: u16,
}

/// A certificate that the host has verified, in the host's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The subject (RFC 2253).
    pub subject: String,
    /// The first DNS name.
    pub dns_san: Option<String>,
    /// The first URI, a SPIFFE id for example.
    pub uri_san: Option<String>,
    /// SHA-256 of the certificate in hexadecimal.
    pub fingerprint: Option<String>,
}

/// All that is given has to match.
#[derive(Debug, Default)]
struct Rule {
    subject: Option<Regex>,
    cn: Option<Regex>,
    dns_san: Option<Regex>,
    uri_san: Option<Regex>,
    fingerprints: Vec<String>,
}

/// What of a certificate goes into a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
enum Field {
    /// `SUCCESS` or `NONE`, nginx's words.
    Verify,
    Subject,
    Cn,
    DnsSan,
    UriSan,
    Fingerprint,
}

// === impl Policy ===

impl Policy {
    /// Decides about a connection with this certificate.
    ///
    /// # Errors
    ///
    /// The refusal.
    pub fn check(&self, certificate: Option<&Certificate>) -> Result<(), Reply> {
        let Some(certificate) = certificate else {
            return match self.required {
                true => Err(Reply::new(self.missing_status)
                    .body("A client certificate is required.\n")
                    .details("client_cert_missing")),
                false => Ok(()),
            };
        };
        match self.allow.is_empty() || self.allow.iter().any(|rule| rule.matches(certificate)) {
            true => Ok(()),
            false => Err(Reply::new(self.status)
                .body("The client certificate is not allowed.\n")
                .details("client_cert_denied")),
        }
    }

    /// The headers that carry the certificate upstream, with their values: none where the client's own goes.
    #[must_use]
    pub fn headers(&self, certificate: Option<&Certificate>) -> Vec<(&str, Option<String>)> {
        let value = |field: &Field| {
            let value = field.value(certificate)?;
            // What a certificate says is its owner's: it must not end the header.
            header::is_value(value.as_bytes()).then_some(value)
        };
        let headers = self.forward.iter();
        headers
            .map(|(name, field)| (name.as_str(), value(field)))
            .collect()
    }
}

// === impl Rule ===

impl Rule {
    fn matches(&self, certificate: &Certificate) -> bool {
        let fits = |regex: &Option<Regex>, text: Option<&str>| {
            regex
                .as_ref()
                .is_none_or(|regex| text.is_some_and(|text| regex.is_match(text)))
        };
        let fingerprint = certificate
            .fingerprint
            .as_ref()
            .map(|text| text.to_ascii_lowercase());
        fits(&self.subject, Some(&certificate.subject))
            && fits(
                &self.cn,
                subject::common_name(&certificate.subject).as_deref(),
            )
            && fits(&self.dns_san, certificate.dns_san.as_deref())
            && fits(&self.uri_san, certificate.uri_san.as_deref())
            && (self.fingerprints.is_empty()
                || fingerprint.is_some_and(|fingerprint| self.fingerprints.contains(&fingerprint)))
    }
}

// === impl Field ===

impl Field {
    fn value(self, certificate: Option<&Certificate>) -> Option<String> {
        let Some(certificate) = certificate else {
            return (self == Self::Verify).then(|| String::from("NONE"));
        };
        match self {
            Self::Verify => Some(String::from("SUCCESS")),
            Self::Subject => Some(certificate.subject.clone()),
            Self::Cn => subject::common_name(&certificate.subject),
            Self::DnsSan => certificate.dns_san.clone(),
            Self::UriSan => certificate.uri_san.clone(),
            Self::Fingerprint => certificate.fingerprint.clone(),
        }
    }
}
