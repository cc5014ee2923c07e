//! Header maps as the ABI shows them: pseudo-headers first, in the order Envoy presents them, then the fields.

mod inline;
mod view;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tidegate_model::{RequestHead, ResponseHead};

use crate::pairs::Pair;
use crate::status::Status;
use crate::stream::PseudoSet;
use inline::join;
pub(crate) use inline::{is_inline_in_requests, is_inline_in_responses, join_lines};
pub(crate) use view::View;

/// `WasmHeaderMapType`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MapType {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
    GrpcInitialMetadata,
    GrpcTrailingMetadata,
    HttpCallHeaders,
    HttpCallTrailers,
}

/// A map to change.
pub(crate) enum Fields<'a> {
    Request(&'a mut RequestHead, &'a mut PseudoSet),
    Response(&'a mut ResponseHead, &'a mut PseudoSet),
    Plain(&'a mut HeaderMap),
}

/// What a name is in a map.
enum Name {
    Pseudo(PseudoSet),
    Field,
    /// Starts with a colon, and this map has no such thing.
    Foreign,
}

/// A map that a guest makes may not grow past this many bytes.
const MAX_BYTES: usize = 1 << 20;
/// Below both of these the sum is not computed.
const FEW: usize = 256;
const SHORT: usize = 4096;

// === impl MapType ===

impl MapType {
    /// What the answer to an HTTP or gRPC call brought.
    pub(crate) const fn is_of_a_call(self) -> bool {
        matches!(
            self,
            Self::GrpcInitialMetadata
                | Self::GrpcTrailingMetadata
                | Self::HttpCallHeaders
                | Self::HttpCallTrailers
        )
    }
}

impl TryFrom<u32> for MapType {
    type Error = Status;

    #[inline]
    fn try_from(value: u32) -> Result<Self, Status> {
        Ok(match value {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            4 => Self::GrpcInitialMetadata,
            5 => Self::GrpcTrailingMetadata,
            6 => Self::HttpCallHeaders,
            7 => Self::HttpCallTrailers,
            _ => return Err(Status::BadArgument),
        })
    }
}

// === impl Fields ===

impl Fields<'_> {
    /// Adds an entry. Where Envoy keeps a single value (pseudo-headers and its inline headers) it joins with a comma instead.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), Status> {
        match self.classify(name) {
            Name::Foreign => Err(Status::BadArgument),
            Name::Pseudo(which) => {
                let joined = self.view().pseudo_value(which).map(|old| join(old, value));
                self.set_pseudo(which, joined.as_deref().unwrap_or(value))
            }
            Name::Field => {
                let (name, parsed) = parse(name, value)?;
                let inline = self.keeps_single(name.as_str());
                let fields = self.fields();
                room(fields, value.len())?;
                match fields.get_mut(&name) {
                    Some(old) if inline => {
                        *old = HeaderValue::from_bytes(&join(old.as_bytes(), value))
                            .map_err(|_| Status::BadArgument)?;
                    }
                    _ => {
                        fields
                            .try_append(name, parsed)
                            .map_err(|_| Status::InternalFailure)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Sets an entry to one value, in the place of all it had.
    pub(crate) fn replace(&mut self, name: &[u8], value: &[u8]) -> Result<(), Status> {
        match self.classify(name) {
            Name::Foreign => Err(Status::BadArgument),
            Name::Pseudo(which) => self.set_pseudo(which, value),
            Name::Field => {
                let (name, parsed) = parse(name, value)?;
                let fields = self.fields();
                room(fields, value.len())?;
                fields
                    .try_insert(name, parsed)
                    .map_err(|_| Status::InternalFailure)?;
                Ok(())
            }
        }
    }

    /// Removes all values of that name; absent is fine.
    pub(crate) fn remove(&mut self, name: &[u8]) {
        match self.classify(name) {
            Name::Foreign => {}
            Name::Pseudo(which) => {
                if let Self::Request(_, missing) | Self::Response(_, missing) = self {
                    missing.insert(which);
                }
            }
            Name::Field => {
                if let Ok(name) = std::str::from_utf8(name) {
                    self.fields().remove(name);
                }
            }
        }
    }

    /// Replaces everything, pseudo-headers included. Nothing changes if one entry is invalid.
    pub(crate) fn set_all(&mut self, entries: &[Pair<'_>]) -> Result<(), Status> {
        match self {
            Self::Request(head, missing) => {
                let mut fresh = RequestHead {
                    headers: HeaderMap::with_capacity(entries.len()),
                    ..head.clone_pseudo()
                };
                let mut left = PseudoSet::REQUEST;
                Fields::Request(&mut fresh, &mut left).add_all(entries)?;
                **head = fresh;
                missing.remove(PseudoSet::REQUEST);
                missing.insert(left);
            }
            Self::Response(head, missing) => {
                let mut fresh = ResponseHead {
                    status: head.status,
                    headers: HeaderMap::with_capacity(entries.len()),
                };
                let mut left = PseudoSet::STATUS;
                Fields::Response(&mut fresh, &mut left).add_all(entries)?;
                **head = fresh;
                missing.remove(PseudoSet::STATUS);
                missing.insert(left);
            }
            Self::Plain(fields) => **fields = fields_of(entries)?,
        }
        Ok(())
    }

    fn add_all(&mut self, entries: &[Pair<'_>]) -> Result<(), Status> {
        entries
            .iter()
            .try_for_each(|(name, value)| self.add(name, value))
    }

    fn set_pseudo(&mut self, which: PseudoSet, value: &[u8]) -> Result<(), Status> {
        let invalid = Status::BadArgument;
        let missing = match self {
            Self::Request(head, missing) => {
                match which {
                    PseudoSet::AUTHORITY => {
                        head.authority = HeaderValue::from_bytes(value).map_err(|_| invalid)?
                    }
                    PseudoSet::PATH => head.path = parse_path(value).ok_or(invalid)?,
                    PseudoSet::METHOD => {
                        head.method = Method::from_bytes(value).map_err(|_| invalid)?
                    }
                    PseudoSet::SCHEME => {
                        head.scheme = Scheme::try_from(value).map_err(|_| invalid)?
                    }
                    _ => return Err(invalid),
                }
                missing
            }
            Self::Response(head, missing) if which == PseudoSet::STATUS => {
                head.status = StatusCode::from_bytes(value).map_err(|_| invalid)?;
                missing
            }
            _ => return Err(invalid),
        };
        missing.remove(which);
        Ok(())
    }

    fn view(&self) -> View<'_> {
        match self {
            Self::Request(head, missing) => View::Request(head, **missing),
            Self::Response(head, missing) => View::Response(head, **missing),
            Self::Plain(fields) => View::Fields(fields),
        }
    }

    fn fields(&mut self) -> &mut HeaderMap {
        match self {
            Self::Request(head, _) => &mut head.headers,
            Self::Response(head, _) => &mut head.headers,
            Self::Plain(fields) => fields,
        }
    }

    fn classify(&self, name: &[u8]) -> Name {
        self.view().classify(name)
    }

    /// Envoy's inline headers hold one string, so that adding to one joins.
    fn keeps_single(&self, name: &str) -> bool {
        match self {
            Self::Request(..) => is_inline_in_requests(name),
            Self::Response(..) => is_inline_in_responses(name),
            Self::Plain(_) => false,
        }
    }
}

/// A map without pseudo-headers out of a guest's pairs.
pub(crate) fn fields_of(entries: &[Pair<'_>]) -> Result<HeaderMap, Status> {
    let mut fields = HeaderMap::with_capacity(entries.len());
    Fields::Plain(&mut fields).add_all(entries)?;
    Ok(fields)
}

/// A request out of a guest's pairs: `:method`, `:path` and `:authority` (or `host`) are required, `:scheme` is `http` unless given.
pub(crate) fn request_of(entries: &[Pair<'_>]) -> Result<RequestHead, Status> {
    let mut head = RequestHead {
        method: Method::GET,
        scheme: Scheme::HTTP,
        authority: HeaderValue::from_static(""),
        path: PathAndQuery::from_static("/"),
        headers: HeaderMap::with_capacity(entries.len()),
    };
    let mut missing = PseudoSet::REQUEST;
    Fields::Request(&mut head, &mut missing).add_all(entries)?;
    missing.remove(PseudoSet::SCHEME);
    if missing.is_empty() {
        Ok(head)
    } else {
        Err(Status::BadArgument)
    }
}

/// `host` is `:authority` in a request, as in Envoy.
fn request_name(name: &[u8]) -> Name {
    const NAMES: [(&[u8], PseudoSet); 5] = [
        (b":path", PseudoSet::PATH),
        (b":method", PseudoSet::METHOD),
        (b":authority", PseudoSet::AUTHORITY),
        (b":scheme", PseudoSet::SCHEME),
        (b"host", PseudoSet::AUTHORITY),
    ];
    if name.first() != Some(&b':') && name.len() != 4 {
        return Name::Field;
    }
    match NAMES
        .iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known))
    {
        Some((_, which)) => Name::Pseudo(*which),
        None => plain_name(name),
    }
}

fn response_name(name: &[u8]) -> Name {
    if name.eq_ignore_ascii_case(b":status") {
        Name::Pseudo(PseudoSet::STATUS)
    } else {
        plain_name(name)
    }
}

fn plain_name(name: &[u8]) -> Name {
    if name.first() == Some(&b':') {
        Name::Foreign
    } else {
        Name::Field
    }
}

fn parse(name: &[u8], value: &[u8]) -> Result<(HeaderName, HeaderValue), Status> {
    let name = HeaderName::from_bytes(name).map_err(|_| Status::BadArgument)?;
    let value = HeaderValue::from_bytes(value).map_err(|_| Status::BadArgument)?;
    Ok((name, value))
}

/// An origin-form target, or `*`. A fragment would be cut off silently, so it is refused.
fn parse_path(value: &[u8]) -> Option<PathAndQuery> {
    let origin_form = value.first() == Some(&b'/') || value == b"*";
    if !origin_form || value.contains(&b'#') {
        return None;
    }
    PathAndQuery::try_from(value).ok()
}

/// Keeps a guest from growing a map without end: memory of the host, not of the guest.
fn room(fields: &HeaderMap, more: usize) -> Result<(), Status> {
    if fields.len() < FEW && more <= SHORT {
        return Ok(());
    }
    let bytes = View::Fields(fields).byte_size();
    if bytes + more > MAX_BYTES || fields.len() >= 4 * FEW {
        Err(Status::InternalFailure)
    } else {
        Ok(())
    }
}

/// The parts that [`Fields::set_all`] keeps as placeholders, without cloning the fields.
trait ClonePseudo {
    fn clone_pseudo(&self) -> Self;
}

impl ClonePseudo for RequestHead {
    fn clone_pseudo(&self) -> Self {
        Self {
            method: self.method.clone(),
            scheme: self.scheme.clone(),
            authority: self.authority.clone(),
            path: self.path.clone(),
            headers: HeaderMap::new(),
        }
    }
}

#[cfg(test)]
mod tests;
