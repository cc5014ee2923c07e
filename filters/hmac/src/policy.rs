//! Requests that carry a code over what they say, made with a secret that both sides know.
//!
//! What is signed is a template, so that the schemes of GitHub (`${body}`), Stripe (`${timestamp}.${body}`), Slack
//! (`v0:${timestamp}:${body}`) and of one's own clients are configurations.

mod config;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;
use tidegate_sdk::Reply;
use tidegate_sdk::template::{Source, Template};

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    signature: Field,
    /// What stands before the code.
    prefix: String,
    encoding: Encoding,
    algorithm: Algorithm,
    timestamp: Option<(Field, Duration)>,
    key_id: Option<Field>,
    /// Names and secrets.
    secrets: Vec<(String, Secret)>,
    /// What is signed, cut at the body.
    message: Vec<Template>,
    max_body: usize,
    hold_head: bool,
    forward_key: Option<String>,
}

/// A header, or a parameter within one (`t=1,v1=ab`).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    header: String,
    parameter: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Hex,
    Base64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Algorithm {
    #[default]
    Sha256,
    Sha512,
}

/// Stays out of what is printed.
#[derive(Clone)]
struct Secret(Vec<u8>);

/// What a request says about its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    codes: Vec<Vec<u8>>,
    timestamp: String,
    key_id: Option<String>,
}

/// Codes that are looked at: with a rotated secret there are two.
const MAX_CODES: usize = 4;

// === impl Policy ===

impl Policy {
    /// The longest body that is taken.
    #[must_use]
    pub fn max_body(&self) -> usize {
        self.max_body
    }

    /// Whether the body is signed, too.
    #[must_use]
    pub fn signs_body(&self) -> bool {
        self.message.len() > 1
    }

    /// Whether the host sends bodies past a head that waits.
    #[must_use]
    pub fn holds_head(&self) -> bool {
        self.hold_head
    }

    /// Header that carries the key's name upstream.
    #[must_use]
    pub fn forward_key(&self) -> Option<&str> {
        self.forward_key.as_deref()
    }

    /// The name of the key that a request names, if there is one of this name.
    #[must_use]
    pub fn named_key(&self, signed: &Signed) -> Option<&str> {
        match &signed.key_id {
            Some(id) => self
                .secrets
                .iter()
                .map(|(name, _)| name.as_str())
                .find(|name| name == id),
            // Without a name in the request only a single secret is known before the code is checked.
            None => match &self.secrets[..] {
                [(name, _)] => Some(name),
                _ => None,
            },
        }
    }

    /// Reads what a request says about its signature at `now`, time since the epoch.
    ///
    /// # Errors
    ///
    /// The refusal where something is missing, there twice, or too old.
    pub fn read(
        &self,
        values: &dyn Fn(&str) -> Vec<Vec<u8>>,
        now: Duration,
    ) -> Result<Signed, Reply> {
        let codes = self
            .signature
            .find(values)
            .ok_or_else(|| refusal("hmac_malformed"))?;
        let codes: Vec<Vec<u8>> = codes
            .iter()
            .filter_map(|text| {
                self.encoding
                    .decode(text.strip_prefix(self.prefix.as_str())?)
            })
            .take(MAX_CODES)
            .collect();
        if codes.is_empty() {
            return Err(refusal("hmac_missing"));
        }
        let one = |field: &Field| match field.find(values).as_deref() {
            Some([value]) => Ok(value.clone()),
            _ => Err(refusal("hmac_malformed")),
        };
        let timestamp = match &self.timestamp {
            None => String::new(),
            Some((field, tolerance)) => {
                let text = one(field)?;
                let digits = text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit());
                let time = text
                    .parse()
                    .ok()
                    .filter(|_| digits)
                    .map(Duration::from_secs);
                let fresh = time.is_some_and(|time| now.abs_diff(time) <= *tolerance);
                if !fresh {
                    return Err(refusal("hmac_too_old"));
                }
                text
            }
        };
        let key_id = self.key_id.as_ref().map(one).transpose()?;
        Ok(Signed {
            codes,
            timestamp,
            key_id,
        })
    }

    /// What is signed of the head: the pieces around the body.
    #[must_use]
    pub fn around(&self, signed: &Signed, source: &dyn Source) -> Vec<Vec<u8>> {
        let source = WithTimestamp {
            request: source,
            timestamp: &signed.timestamp,
        };
        self.message
            .iter()
            .map(|template| template.render(&source))
            .collect()
    }

    /// Whether one of the codes is right.
    ///
    /// # Errors
    ///
    /// The refusal.
    pub fn verify(&self, signed: &Signed, around: &[Vec<u8>], body: &[u8]) -> Result<(), Reply> {
        let fits = |name: &str| signed.key_id.as_deref().is_none_or(|id| id == name);
        let mut secrets = self.secrets.iter().filter(|(name, _)| fits(name));
        let found = secrets.any(|(_, secret)| {
            let code = self.algorithm.code(&secret.0, around, body);
            signed
                .codes
                .iter()
                .any(|sent| bool::from(sent.ct_eq(&code)))
        });
        match found {
            true => Ok(()),
            false => Err(refusal("hmac_wrong")),
        }
    }
}

fn refusal(details: &'static str) -> Reply {
    Reply::new(401)
        .header("www-authenticate", "Signature")
        .body("The request's signature is missing or wrong.\n")
        .details(details)
}

/// A request with the timestamp that was read.
struct WithTimestamp<'a> {
    request: &'a dyn Source,
    timestamp: &'a str,
}

impl Source for WithTimestamp<'_> {
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.request.header(name)
    }

    fn address(&self) -> Option<IpAddr> {
        self.request.address()
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        self.request.property(path)
    }

    fn capture(&self, _: &str) -> Option<Vec<u8>> {
        Some(self.timestamp.as_bytes().to_vec())
    }
}

// === impl Field ===

impl Field {
    /// The values; `None` for a header that is there twice, which the upstream may read otherwise.
    fn find(&self, values: &dyn Fn(&str) -> Vec<Vec<u8>>) -> Option<Vec<String>> {
        let values = values(&self.header);
        let value = match &values[..] {
            [] => return Some(Vec::new()),
            [value] => std::str::from_utf8(value).ok()?,
            _ => return None,
        };
        let Some(name) = &self.parameter else {
            return Some(vec![value.trim().to_owned()]);
        };
        let pairs = value.split(',').filter_map(|pair| pair.split_once('='));
        let of_name = pairs.filter(|(key, _)| key.trim() == name);
        Some(
            of_name
                .map(|(_, value)| value.trim().trim_matches('"').to_owned())
                .collect(),
        )
    }
}

// === impl Encoding ===

impl Encoding {
    fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Base64 => BASE64.decode(text).ok(),
            Self::Hex => {
                let digit = |byte: u8| {
                    char::from(byte)
                        .to_digit(16)
                        .and_then(|digit| u8::try_from(digit).ok())
                };
                let pairs = text.as_bytes().chunks(2);
                pairs
                    .map(|pair| match pair {
                        [high, low] => digit(*high)
                            .zip(digit(*low))
                            .map(|(high, low)| high << 4 | low),
                        _ => None,
                    })
                    .collect()
            }
        }
    }
}

// === impl Algorithm ===

impl Algorithm {
    fn code(self, secret: &[u8], around: &[Vec<u8>], body: &[u8]) -> Vec<u8> {
        fn run<M: Mac + hmac::digest::KeyInit>(
            secret: &[u8],
            around: &[Vec<u8>],
            body: &[u8],
        ) -> Vec<u8> {
            let mut mac =
                <M as Mac>::new_from_slice(secret).expect("HMAC takes secrets of any length");
            for (index, piece) in around.iter().enumerate() {
                if index > 0 {
                    mac.update(body);
                }
                mac.update(piece);
            }
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Self::Sha256 => run::<Hmac<Sha256>>(secret, around, body),
            Self::Sha512 => run::<Hmac<Sha512>>(secret, around, body),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}
