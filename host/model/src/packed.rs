//! Header fields set aside as plain bytes, for the rare case that they are needed again.
//!
//! A copy of a [`HeaderMap`] costs two allocations and a shared reference for every name and value, and as much again when it is
//! dropped. Most requests never look at theirs, so they get this: one buffer, written once, read back seldom.

use http::{HeaderMap, HeaderName, HeaderValue};

/// What one field takes on average; a guess too low costs one more allocation.
const FIELD: usize = 48;
/// Marks the length of a value that must not be indexed by HPACK ([`HeaderValue::is_sensitive`]).
const SENSITIVE: u32 = 1 << 31;

/// The fields of a [`HeaderMap`] in order: for each the lengths of name and value (4 bytes each), the name, the value.
#[derive(Clone, Debug, Default)]
pub struct PackedHeaders(Vec<u8>);

impl PackedHeaders {
    /// Copies all fields.
    pub fn pack(headers: &HeaderMap) -> Self {
        let mut packed = Vec::with_capacity(headers.len() * FIELD);
        for (name, value) in headers {
            let (name, bytes) = (name.as_str(), value.as_bytes());
            let sensitive = if value.is_sensitive() { SENSITIVE } else { 0 };
            packed.extend_from_slice(&length(name.len()).to_ne_bytes());
            packed.extend_from_slice(&(length(bytes.len()) | sensitive).to_ne_bytes());
            packed.extend_from_slice(name.as_bytes());
            packed.extend_from_slice(bytes);
        }
        Self(packed)
    }

    /// The fields as they were, equal names in their order.
    pub fn unpack(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut rest = self.0.as_slice();
        while let Some((name, value, further)) = field(rest) {
            headers.append(name, value);
            rest = further;
        }
        headers
    }
}

/// No head of 2 GiB gets past the limits of any listener.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX) & !SENSITIVE
}

fn field(packed: &[u8]) -> Option<(HeaderName, HeaderValue, &[u8])> {
    let (name, rest) = packed.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_first_chunk::<4>()?;
    let value = u32::from_ne_bytes(*value);
    let (name, rest) = rest.split_at_checked(u32::from_ne_bytes(*name) as usize)?;
    let (bytes, rest) = rest.split_at_checked((value & !SENSITIVE) as usize)?;
    let name = HeaderName::from_bytes(name).ok()?;
    let mut field = HeaderValue::from_bytes(bytes).ok()?;
    field.set_sensitive(value & SENSITIVE != 0);
    Some((name, field, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_headers() -> impl Strategy<Value = HeaderMap> {
        let name = prop_oneof![Just("accept".to_owned()), "[a-z][a-z0-9-]{0,20}"];
        let value = proptest::collection::vec(prop_oneof![Just(b'\t'), 32u8..127, 128u8..], 0..60);
        proptest::collection::vec((name, value, any::<bool>()), 0..30).prop_map(|fields| {
            let mut headers = HeaderMap::new();
            for (name, value, sensitive) in fields {
                let mut value = HeaderValue::from_bytes(&value).unwrap();
                value.set_sensitive(sensitive);
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
            headers
        })
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(headers in any_headers()) {
            let again = PackedHeaders::pack(&headers).unpack();
            prop_assert_eq!(&again, &headers);
            for (name, value) in &headers {
                let sensitive = again.get_all(name).iter().any(|other| other == value && other.is_sensitive() == value.is_sensitive());
                prop_assert!(sensitive, "{} lost its mark", name);
            }
        }
    }
}
