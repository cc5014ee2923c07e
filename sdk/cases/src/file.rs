//! A file of cases, and the certificates that its texts speak of.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use crate::certificate::Certificate;
use crate::format::Case;

/// A file of cases.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct File {
    /// Client certificates that requests come with, by name.
    #[serde(default)]
    pub certificates: BTreeMap<String, Certificate>,
    /// Configuration of the cases that have none of their own.
    #[serde(default)]
    pub config: Option<Value>,
    /// The cases.
    pub cases: Vec<Case>,
}

impl File {
    /// Reads a file. Cases get the file's configuration where they have none, and something stands for the fingerprints of
    /// certificates.
    ///
    /// # Errors
    ///
    /// What is no YAML of this format, with the line; certificates that are none, or that nobody knows.
    pub fn parse(yaml: &str) -> Result<Self, String> {
        Self::parse_with(yaml, |certificates| {
            let names = certificates.keys();
            Ok(names.map(|name| (name.clone(), stand_in(name))).collect())
        })
    }

    /// The same with the fingerprints (SHA-256, hexadecimal, lower case) of certificates that `make` makes, by their names.
    ///
    /// # Errors
    ///
    /// See [`Self::parse`]; and those of `make`.
    pub fn parse_with(
        yaml: &str,
        make: impl FnOnce(&BTreeMap<String, Certificate>) -> Result<BTreeMap<String, String>, String>,
    ) -> Result<Self, String> {
        let read = |yaml: &str| serde_saphyr::from_str(yaml).map_err(|error| error.to_string());
        let mut file: Self = read(yaml)?;
        if !file.certificates.is_empty() {
            for (name, certificate) in &file.certificates {
                let fine = certificate.attributes();
                fine.map_err(|error| format!("certificates.{name}: {error}"))?;
            }
            let fingerprints = make(&file.certificates)?;
            file = read(&with_fingerprints(yaml, &fingerprints))?;
        }
        for case in &mut file.cases {
            if case.config.is_none() {
                case.config.clone_from(&file.config);
            }
            case.certificates.clone_from(&file.certificates);
            case.over_tls()?;
        }
        Ok(file)
    }
}

/// A text with the certificates' fingerprints in their places: `${name.sha256}` in lower case, and `${name.SHA256}` as openssl prints
/// it, with colons.
fn with_fingerprints(text: &str, fingerprints: &BTreeMap<String, String>) -> String {
    let mut text = text.to_owned();
    for (name, sha256) in fingerprints {
        let pairs: Vec<String> = sha256
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).to_ascii_uppercase())
            .collect();
        text = text
            .replace(&format!("${{{name}.sha256}}"), sha256)
            .replace(&format!("${{{name}.SHA256}}"), &pairs.join(":"));
    }
    text
}

/// What stands for a fingerprint where there is no certificate: 64 digits that are another certificate's under another name.
pub(crate) fn stand_in(name: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut out = String::with_capacity(64);
    for round in 0..4_u8 {
        for byte in name.bytes().chain([round]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        // Writing to a String cannot fail.
        let _ = write!(out, "{hash:016x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
certificates: {ann: {subject: [O=shop, CN=ann]}, eve: {problem: untrusted}}
config: {allow: ['${ann.sha256}']}
cases:
- {name: one, request: {clientCertificate: ann}}
- {name: two, steps: [{request: {clientCertificate: eve}}, {}]}
";

    #[test]
    fn certificates_are_known_to_the_cases() {
        let file = File::parse_with(FILE, |certificates| {
            Ok(certificates
                .keys()
                .map(|name| (name.clone(), name.repeat(2)))
                .collect())
        });
        let file = file.expect("cases");
        assert_eq!(file.cases[0].config_text(), r#"{"allow":["annann"]}"#);
        let request = &file.cases[0].exchanges()[0].request;
        assert_eq!(request.scheme, "https");
        let shown = file.cases[0].certificate(request).expect("ann's");
        assert_eq!(shown.subject, ["O=shop", "CN=ann"]);
        let steps = file.cases[1].exchanges();
        assert!(
            file.cases[1]
                .certificate(&steps[0].request)
                .expect("eve's")
                .problem
                .is_some()
        );
        assert_eq!(file.cases[1].certificate(&steps[1].request), None);
        assert_eq!(steps[1].request.scheme, "http");
    }

    #[test]
    fn what_is_wrong_with_them_is_told() {
        for (from, to, said) in [
            (
                "clientCertificate: ann",
                "clientCertificate: bob",
                "one: clientCertificate: \"bob\" is not among the file's certificates (ann, eve)",
            ),
            ("CN=ann", "ann", "certificates.ann: subject: \"ann\""),
            ("untrusted", "unloved", "unloved"),
        ] {
            let error = File::parse(&FILE.replace(from, to)).expect_err(said);
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[test]
    fn fingerprints_come_into_their_places() {
        let known = BTreeMap::from([("ann".to_owned(), "12ab".to_owned())]);
        let text = "${ann.sha256} ${ann.SHA256} ${eve.sha256} ${ann}";
        assert_eq!(
            with_fingerprints(text, &known),
            "12ab 12:AB ${eve.sha256} ${ann}"
        );
        assert_eq!(stand_in("ann").len(), 64);
        assert_ne!(stand_in("ann"), stand_in("eve"));
    }
}
