//! `format`, as far as an API server checks it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::LazyLock;

use ipnet::IpNet;
use k8s_openapi::ByteString;
use k8s_openapi::jiff::{Timestamp, civil};
use regex::Regex;
use serde_json::Value;

/// A format that restricts a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Int32,
    Int64,
    Ipv4,
    Ipv6,
    Cidr,
    Uri,
    Hostname,
    Uuid,
    Byte,
    Date,
    DateTime,
}

impl Format {
    /// `None` for formats that restrict nothing (`password`) or that an API server does not know: it
    /// ignores those too.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "cidr" => Self::Cidr,
            "uri" => Self::Uri,
            "hostname" => Self::Hostname,
            "uuid" => Self::Uuid,
            "byte" => Self::Byte,
            "date" => Self::Date,
            "date-time" | "datetime" => Self::DateTime,
            _ => return None,
        })
    }

    /// As messages spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Cidr => "cidr",
            Self::Uri => "uri",
            Self::Hostname => "hostname",
            Self::Uuid => "uuid",
            Self::Byte => "byte",
            Self::Date => "date",
            Self::DateTime => "date-time",
        }
    }

    /// Whether the text has this format; formats of numbers accept every text.
    pub(crate) fn accepts(self, text: &str) -> bool {
        static UUID: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$")
                .expect("a constant, compiled by a test")
        });
        static HOSTNAME: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new("^([a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?)(\\.[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?)*$")
                .expect("a constant, compiled by a test")
        });
        match self {
            Self::Int32 | Self::Int64 => true,
            Self::Ipv4 => Ipv4Addr::from_str(text).is_ok(),
            Self::Ipv6 => Ipv6Addr::from_str(text).is_ok(),
            Self::Cidr => IpNet::from_str(text).is_ok(),
            Self::Uri => is_uri(text),
            Self::Hostname => text.len() <= 253 && HOSTNAME.is_match(text),
            Self::Uuid => UUID.is_match(text),
            Self::Byte => base64(text).is_some(),
            Self::Date => civil::Date::from_str(text).is_ok(),
            Self::DateTime => Timestamp::from_str(text).is_ok(),
        }
    }
}

/// What Go's `url.ParseRequestURI` takes: an absolute URI or an absolute path.
pub(crate) fn is_uri(text: &str) -> bool {
    let plain = !text.bytes().any(|b| b.is_ascii_control() || b == b' ');
    let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
            && !rest.is_empty()
    });
    plain && (text.starts_with('/') || scheme)
}

/// Decodes standard base64 as Kubernetes does.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let ByteString(bytes) = serde_json::from_value(Value::from(text)).ok()?;
    Some(bytes)
}

/// Encodes standard base64 as Kubernetes does.
pub(crate) fn to_base64(bytes: Vec<u8>) -> Value {
    serde_json::to_value(ByteString(bytes)).expect("a string serialises")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let cases = [
            (Format::Ipv4, "10.0.0.1", true),
            (Format::Ipv4, "10.0.0.01", false),
            (Format::Ipv6, "fe80::1", true),
            (Format::Ipv6, "10.0.0.1", false),
            (Format::Cidr, "10.0.0.0/8", true),
            (Format::Cidr, "10.0.0.0", false),
            (Format::Uri, "https://a/b", true),
            (Format::Uri, "/b", true),
            (Format::Uri, "b", false),
            (Format::Uri, "http://a b", false),
            (Format::Hostname, "a.example", true),
            (Format::Hostname, "-a", false),
            (Format::Uuid, "123e4567-e89b-12d3-a456-426614174000", true),
            (Format::Uuid, "123e4567", false),
            (Format::Byte, "aGk=", true),
            (Format::Byte, "aGk", false),
            (Format::Date, "2024-02-30", false),
            (Format::Date, "2024-02-29", true),
            (Format::DateTime, "2024-02-29T00:00:00Z", true),
            (Format::DateTime, "yesterday", false),
        ];
        for (format, text, expected) in cases {
            assert_eq!(format.accepts(text), expected, "{} {text}", format.name());
            assert_eq!(Format::parse(format.name()), Some(format));
        }
    }
}
