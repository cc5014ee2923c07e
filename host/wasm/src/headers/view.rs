//! Reading a header map.

use http::{HeaderMap, HeaderValue};
use tidegate_model::{RequestHead, ResponseHead};

use super::{Name, plain_name, request_name, response_name};
use crate::pairs::{self, Pair};
use crate::stream::PseudoSet;

/// A map to read.
#[derive(Clone, Copy)]
pub(crate) enum View<'a> {
    Request(&'a RequestHead, PseudoSet),
    Response(&'a ResponseHead, PseudoSet),
    Fields(&'a HeaderMap),
}

// === impl View ===

impl<'a> View<'a> {
    /// Number of entries, pseudo-headers included.
    pub(crate) fn len(self) -> usize {
        self.pseudo().count() + self.fields().len()
    }

    /// Envoy's `byteSize`: names and values.
    pub(crate) fn byte_size(self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }

    /// The first value of that name, whatever its case.
    pub(crate) fn get(self, name: &[u8]) -> Option<&'a [u8]> {
        match self.classify(name) {
            Name::Pseudo(which) => self.pseudo_value(which),
            Name::Foreign => None,
            Name::Field => {
                let name = std::str::from_utf8(name).ok()?;
                self.fields().get(name).map(HeaderValue::as_bytes)
            }
        }
    }

    /// All values of that name, joined by commas, as CEL maps show them.
    pub(crate) fn get_joined(self, name: &[u8], out: &mut Vec<u8>) -> bool {
        if !matches!(self.classify(name), Name::Field) {
            return match self.get(name) {
                Some(value) => {
                    out.extend_from_slice(value);
                    true
                }
                None => false,
            };
        }
        let Ok(name) = std::str::from_utf8(name) else {
            return false;
        };
        let mut found = false;
        for value in self.fields().get_all(name) {
            if found {
                out.push(b',');
            }
            found = true;
            out.extend_from_slice(value.as_bytes());
        }
        found
    }

    /// All entries in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = Pair<'a>> {
        self.pseudo().chain(
            self.fields()
                .iter()
                .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())),
        )
    }

    /// Bytes of the serialised map.
    pub(crate) fn encoded_len(self) -> usize {
        pairs::encoded_len(self.iter())
    }

    /// Serialises into `out`, which is [`encoded_len`](Self::encoded_len) long.
    pub(crate) fn encode(self, out: &mut [u8]) {
        pairs::encode(self.iter(), self.len(), out);
    }

    fn fields(self) -> &'a HeaderMap {
        match self {
            Self::Request(head, _) => &head.headers,
            Self::Response(head, _) => &head.headers,
            Self::Fields(fields) => fields,
        }
    }

    fn pseudo(self) -> impl Iterator<Item = Pair<'a>> {
        const REQUEST: [(&str, PseudoSet); 4] = [
            (":authority", PseudoSet::AUTHORITY),
            (":path", PseudoSet::PATH),
            (":method", PseudoSet::METHOD),
            (":scheme", PseudoSet::SCHEME),
        ];
        const RESPONSE: [(&str, PseudoSet); 1] = [(":status", PseudoSet::STATUS)];
        let names: &'static [(&'static str, PseudoSet)] = match self {
            Self::Request(..) => &REQUEST,
            Self::Response(..) => &RESPONSE,
            Self::Fields(_) => &[],
        };
        names.iter().filter_map(move |(name, which)| {
            self.pseudo_value(*which)
                .map(|value| (name.as_bytes(), value))
        })
    }

    pub(super) fn pseudo_value(self, which: PseudoSet) -> Option<&'a [u8]> {
        match self {
            Self::Request(head, missing) if !missing.intersects(which) => Some(match which {
                PseudoSet::AUTHORITY => head.authority.as_bytes(),
                PseudoSet::PATH => head.path.as_str().as_bytes(),
                PseudoSet::METHOD => head.method.as_str().as_bytes(),
                PseudoSet::SCHEME => head.scheme.as_str().as_bytes(),
                _ => return None,
            }),
            Self::Response(head, missing)
                if which == PseudoSet::STATUS && !missing.intersects(which) =>
            {
                Some(head.status.as_str().as_bytes())
            }
            _ => None,
        }
    }

    pub(super) fn classify(self, name: &[u8]) -> Name {
        match self {
            Self::Request(..) => request_name(name),
            Self::Response(..) => response_name(name),
            Self::Fields(_) => plain_name(name),
        }
    }
}
