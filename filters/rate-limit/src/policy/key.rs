//! Whose counter a request counts against.

use std::fmt;
use std::net::IpAddr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use sha2::{Digest, Sha256};
use tidegate_sdk::{address, header, template};

/// What a key is made of. Everything is asked for only if a limit needs it.
pub trait Request {
    /// The client's address.
    fn address(&self) -> Option<IpAddr>;
    /// All values of a header, pseudo-headers (`:path`) included.
    fn header(&self, name: &str) -> Vec<Vec<u8>>;
    /// A claim that a filter before this one has verified.
    fn claim(&self, name: &str) -> Option<Vec<u8>>;
}

/// The parts of a key; none means one counter for everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(Vec<Part>);

/// One member of `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Ip { v4_prefix: u8, v6_prefix: u8 },
    Header(String),
    Cookie(String),
    Claim(String),
    Path,
    Host,
    Method,
}

/// A host has at least a /64 of IPv6 at its disposal: a counter for each address would be no limit.
const V6_PREFIX: u8 = 64;
const V4_PREFIX: u8 = 32;

// === impl Key ===

impl Key {
    pub(super) fn new(parts: Vec<Part>) -> Self {
        Self(parts)
    }

    /// A digest of the request's values: as long for a cookie of kilobytes as for an address. A missing value is a value of its
    /// own, or leaving a header out would lift the limit.
    pub(super) fn digest(&self, request: &dyn Request) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in &self.0 {
            // Lengths keep apart what the concatenation would not.
            match part.value(request) {
                Some(value) => {
                    digest.update([&(value.len() as u64).to_le_bytes()[..], &value].concat())
                }
                None => digest.update(u64::MAX.to_le_bytes()),
            }
        }
        digest.finalize().into()
    }
}

/// In the words of the configuration, for the identity of a limit's counters.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Ip {
                v4_prefix,
                v6_prefix,
            } => write!(f, "ip/{v4_prefix}/{v6_prefix};"),
            Part::Header(name) => write!(f, "header {name};"),
            Part::Cookie(name) => write!(f, "cookie {name};"),
            Part::Claim(name) => write!(f, "claim {name};"),
            Part::Path => write!(f, "path;"),
            Part::Host => write!(f, "host;"),
            Part::Method => write!(f, "method;"),
        })
    }
}

// === impl Part ===

impl Part {
    /// The client's address, IPv6 by its /64.
    pub(super) const IP: Self = Self::Ip {
        v4_prefix: V4_PREFIX,
        v6_prefix: V6_PREFIX,
    };

    /// One that needs no more than its name.
    pub(super) fn named(text: &str) -> Option<Self> {
        match text {
            "ip" => Some(Self::IP),
            "path" => Some(Self::Path),
            "host" => Some(Self::Host),
            "method" => Some(Self::Method),
            _ => None,
        }
    }

    pub(super) fn value(&self, request: &dyn Request) -> Option<Vec<u8>> {
        match self {
            Self::Ip {
                v4_prefix,
                v6_prefix,
            } => {
                let address = request.address()?;
                let bits = if address.is_ipv4() {
                    *v4_prefix
                } else {
                    *v6_prefix
                };
                Some(address::prefix(address, bits).to_string().into_bytes())
            }
            Self::Header(name) => {
                let values = request.header(name);
                (!values.is_empty()).then(|| values.join(&b","[..]))
            }
            Self::Cookie(name) => {
                header::cookie(&request.header("cookie"), name).map(<[u8]>::to_vec)
            }
            Self::Claim(name) => request.claim(name),
            Self::Path => {
                let path = request.header(":path").pop()?;
                path.split(|byte| *byte == b'?').next().map(<[u8]>::to_vec)
            }
            Self::Host => request
                .header(":authority")
                .pop()
                .map(|authority| template::host(&authority)),
            Self::Method => request.header(":method").pop(),
        }
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartVisitor)
    }
}

struct PartVisitor;

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Object {
    pub(super) source: Option<Source>,
    pub(super) ipv4_prefix: Option<u8>,
    pub(super) ipv6_prefix: Option<u8>,
    pub(super) header: Option<String>,
    pub(super) cookie: Option<String>,
    pub(super) claim: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Source {
    Ip,
}

impl<'de> Visitor<'de> for PartVisitor {
    type Value = Part;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#""ip", "path", "host", "method", {"source": "ip"}, {"header": name}, {"cookie": name} or {"claim": name}"#)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Part, E> {
        Part::named(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Part, A::Error> {
        let object = Object::deserialize(MapAccessDeserializer::new(map))?;
        object.into_part().map_err(A::Error::custom)
    }
}

impl Object {
    pub(super) fn into_part(self) -> Result<Part, String> {
        let prefixes = self.ipv4_prefix.is_some() || self.ipv6_prefix.is_some();
        match (self.source, self.header, self.cookie, self.claim) {
            (Some(Source::Ip), None, None, None) => {
                let v4_prefix = self.ipv4_prefix.unwrap_or(V4_PREFIX);
                let v6_prefix = self.ipv6_prefix.unwrap_or(V6_PREFIX);
                if v4_prefix > 32 || v6_prefix > 128 {
                    return Err(String::from("ipv4Prefix goes to 32 and ipv6Prefix to 128"));
                }
                Ok(Part::Ip {
                    v4_prefix,
                    v6_prefix,
                })
            }
            (None, Some(name), None, None) if !prefixes && header::is_token(name.as_bytes()) => {
                Ok(Part::Header(name.to_ascii_lowercase()))
            }
            (None, None, Some(name), None) if !prefixes && header::is_token(name.as_bytes()) => {
                Ok(Part::Cookie(name))
            }
            (None, None, None, Some(name)) if !prefixes && !name.is_empty() => {
                Ok(Part::Claim(name))
            }
            _ => Err(String::from(
                "expected exactly one of source, header, cookie and claim, with a valid name, and prefixes beside source only",
            )),
        }
    }
}
