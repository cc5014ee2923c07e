//! Certificates of clients: what they say, and what filters are told of one that is valid.
//!
//! A runner that can makes real ones ([`Certificate::attributes`] and the names); the mock host sets the properties alone.

use std::fmt::Write as _;

use serde::Deserialize;

/// A certificate as a case describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Certificate {
    /// The subject in the certificate's order, as `[O=shop, CN=ann]`. What follows the first `=` is the value, without any escapes.
    pub subject: Vec<String>,
    /// Alternative names: DNS.
    pub dns_names: Vec<String>,
    /// Alternative names: URIs.
    pub uris: Vec<String>,
    /// Why it is not valid, if it is not.
    pub problem: Option<Problem>,
}

/// Why a certificate is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Problem {
    /// Its issuer has the name of the authority that is trusted, and another key.
    Untrusted,
    /// Its time is over.
    Expired,
    /// It may authenticate servers, and not clients.
    ForServers,
}

/// An attribute of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its short name, `CN` for example.
    pub name: &'static str,
    /// Its object identifier.
    pub oid: &'static [u64],
    /// Its value.
    pub value: &'a str,
}

/// Attributes that a subject may have, by their names in OpenSSL and so in Envoy.
const ATTRIBUTES: [(&str, &[u64]); 10] = [
    ("CN", &[2, 5, 4, 3]),
    ("serialNumber", &[2, 5, 4, 5]),
    ("C", &[2, 5, 4, 6]),
    ("L", &[2, 5, 4, 7]),
    ("ST", &[2, 5, 4, 8]),
    ("O", &[2, 5, 4, 10]),
    ("OU", &[2, 5, 4, 11]),
    ("UID", &[0, 9, 2342, 19_200_300, 100, 1, 1]),
    ("DC", &[0, 9, 2342, 19_200_300, 100, 1, 25]),
    ("emailAddress", &[1, 2, 840, 113_549, 1, 9, 1]),
];

impl Certificate {
    /// The subject's attributes in the certificate's order.
    ///
    /// # Errors
    ///
    /// Lines that are no attribute, with the names that are known.
    pub fn attributes(&self) -> Result<Vec<Attribute<'_>>, String> {
        self.subject
            .iter()
            .map(|line| {
                let known = line.split_once('=').and_then(|(name, value)| {
                    let mut known = ATTRIBUTES.iter();
                    let (name, oid) = known.find(|(known, _)| *known == name)?;
                    Some(Attribute { name, oid, value })
                });
                known.ok_or_else(|| {
                    let names = ATTRIBUTES.map(|(name, _)| name).join(", ");
                    format!("subject: {line:?} is no NAME=value with one of {names}")
                })
            })
            .collect()
    }

    /// The properties of a connection on which it was shown: none where it is not valid.
    ///
    /// # Errors
    ///
    /// See [`Self::attributes`].
    pub fn properties(&self, sha256: &str) -> Result<Vec<(&'static str, String)>, String> {
        if self.problem.is_some() {
            return Ok(Vec::new());
        }
        let mut properties = vec![
            ("mtls", String::from("\x01")),
            ("subject_peer_certificate", self.name()?),
            ("sha256_peer_certificate_digest", sha256.to_owned()),
        ];
        let first = |name, values: &[String]| values.first().map(|value| (name, value.clone()));
        properties.extend(first("dns_san_peer_certificate", &self.dns_names));
        properties.extend(first("uri_san_peer_certificate", &self.uris));
        Ok(properties)
    }

    /// The subject as hosts write it (RFC 2253): the last attribute first.
    fn name(&self) -> Result<String, String> {
        let attributes = self.attributes()?;
        let written = attributes.iter().rev();
        let written: Vec<String> = written
            .map(|attribute| format!("{}={}", attribute.name, escaped(attribute.value)))
            .collect();
        Ok(written.join(","))
    }
}

/// A value with its escapes (RFC 2253 section 2.4); what is not printable ASCII as the bytes of UTF-8.
fn escaped(value: &str) -> String {
    let last = value.len().saturating_sub(1);
    let mut out = String::with_capacity(value.len());
    for (at, byte) in value.bytes().enumerate() {
        let at_the_edge = (at == 0 && byte == b'#') || ((at == 0 || at == last) && byte == b' ');
        match byte {
            _ if at_the_edge || b",+\"\\<>;".contains(&byte) => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=b'~' => out.push(char::from(byte)),
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

    fn of(subject: &[&str]) -> Certificate {
        Certificate {
            subject: subject.iter().map(ToString::to_string).collect(),
            ..Certificate::default()
        }
    }

    #[test]
    fn subjects_are_written_as_hosts_write_them() {
        for (subject, written) in [
            (&["O=shop", "CN=ann"][..], "CN=ann,O=shop"),
            (&["O=x,CN=ann", "CN=bob"], "CN=bob,O=x\\,CN=ann"),
            (
                &["CN= a\"b\\ ", "OU=#1#", "L=a=b"],
                "L=a=b,OU=\\#1#,CN=\\ a\\\"b\\\\\\ ",
            ),
            (&["CN=J\u{f6}rg\r\n"], "CN=J\\C3\\B6rg\\0D\\0A"),
            (&["CN= "], "CN=\\ "),
            (&["CN="], "CN="),
            (&[], ""),
        ] {
            assert_eq!(of(subject).name().as_deref(), Ok(written), "{subject:?}");
        }
        let error = of(&["XN=a"]).name().expect_err("no such attribute");
        assert!(
            error.contains("\"XN=a\"") && error.contains("emailAddress"),
            "{error}"
        );
        assert!(of(&["ann"]).name().is_err());
    }

    #[test]
    fn only_valid_ones_are_told_of() {
        let mut certificate = of(&["CN=ann"]);
        certificate.dns_names = vec!["a.example".into(), "b.example".into()];
        let told = certificate.properties("12ab").expect("a subject");
        assert_eq!(
            told,
            [
                ("mtls", "\x01".to_owned()),
                ("subject_peer_certificate", "CN=ann".to_owned()),
                ("sha256_peer_certificate_digest", "12ab".to_owned()),
                ("dns_san_peer_certificate", "a.example".to_owned()),
            ]
        );
        certificate.problem = Some(Problem::Expired);
        assert_eq!(certificate.properties("12ab"), Ok(Vec::new()));
    }
}
