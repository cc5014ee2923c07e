//! Session persistence: the token that binds a client to an endpoint (GEP-1619).
//!
//! A token names its endpoint by a hash of the address and the rule, so every replica of the gateway reads the tokens of all, now
//! and after a restart, and without a table of sessions. It says when the session began, and is sealed with a key that follows
//! from the same hash: a client that changes it has none. It shows no address. It is no credential either: whoever knows rule and
//! address could make one, and would have chosen an endpoint, which is all that a token does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{constant_time, digest, hmac};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tidegate_model::{
    BackendTarget, CookieAttributes, Endpoint, RequestHead, Rule, SameSite, Session, SessionCarrier,
};
use tokio::time::Instant;

use crate::stream::Stream;

/// Bytes of each part of a token: time, endpoint, seal.
const TIME: usize = 4;
const ID: usize = 8;
const SEAL: usize = 12;
const TOKEN: usize = TIME + ID + SEAL;

/// Where the sessions of a rule lead.
pub(crate) struct SessionTable {
    places: HashMap<[u8; ID], Place>,
}

struct Place {
    bound: Bound,
    key: hmac::Key,
}

/// The endpoint that a client is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// Index among the rule's backends.
    pub(crate) backend: usize,
    pub(crate) endpoint: Endpoint,
}

impl SessionTable {
    pub(crate) fn new(rule: &Rule) -> Self {
        let mut places = HashMap::new();
        for (index, weighted) in rule.backends.iter().enumerate() {
            let BackendTarget::Backend(backend) = &weighted.target else {
                continue;
            };
            for endpoint in &backend.endpoints {
                let (id, key) = identity(rule, &backend.key, endpoint);
                let bound = Bound {
                    backend: index,
                    endpoint: endpoint.clone(),
                };
                // Of a backend that stands there twice the first counts.
                places.entry(id).or_insert(Place { bound, key });
            }
        }
        Self { places }
    }

    /// Where the session of a request leads; `None` where it has none, where its time is over, and where its endpoint is gone. Weights
    /// do not matter to it, not even one of 0 (GEP-1619, traffic splitting).
    fn find(&self, session: &Session, headers: &HeaderMap, now: SystemTime) -> Option<&Bound> {
        tokens(&session.carrier, headers).find_map(|token| {
            let token = decode(token)?;
            let (time, rest) = token.split_at(TIME);
            let (id, seal) = rest.split_at(ID);
            let place = self.places.get(id)?;
            let expected = hmac::sign(&place.key, time);
            constant_time::verify_slices_are_equal(&expected.as_ref()[..SEAL], seal).ok()?;
            let began = u32::from_be_bytes(time.try_into().ok()?);
            let age = seconds(now).saturating_sub(began);
            let is_over = session
                .absolute_timeout
                .is_some_and(|limit| Duration::from_secs(age.into()) >= limit);
            (!is_over).then_some(&place.bound)
        })
    }
}

/// Where the session of a request leads, on a rule that keeps sessions.
pub(crate) fn find(stream: &Stream, rule: &Arc<Rule>, head: &RequestHead) -> Option<Bound> {
    let session = rule.session.as_ref()?;
    let now = stream.connection.worker.wall_time(Instant::now());
    let table = stream.state.sessions(rule);
    table.find(session, &head.headers, now).cloned()
}

/// Tells the client where its session leads, unless it was `bound` there before.
pub(crate) fn keep(stream: &Stream, rule: &Rule, bound: Option<&Bound>, response: &mut HeaderMap) {
    let session = rule.session.as_ref();
    let Some(session) = session.filter(|session| !session.only_followed) else {
        return;
    };
    let record = stream.record.borrow();
    let (Some(host), Some(backend)) = (&record.tries.host, &record.cluster) else {
        return;
    };
    if bound.is_some_and(|bound| bound.endpoint == host.endpoint) {
        return;
    }
    let connection = &stream.connection;
    let now = connection.worker.wall_time(Instant::now());
    let client = Client {
        is_secure: connection.scheme == Scheme::HTTPS,
        agent: record
            .user_agent
            .as_ref()
            .and_then(|agent| agent.to_str().ok()),
    };
    if let Some((name, value)) = begin(rule, session, backend, &host.endpoint, now, client) {
        if name == header::SET_COOKIE {
            response.append(name, value);
        } else {
            response.insert(name, value);
        }
    }
}

/// Who gets a session.
#[derive(Clone, Copy)]
struct Client<'a> {
    is_secure: bool,
    /// `User-Agent`
    agent: Option<&'a str>,
}

/// Whatever a client brought, it is bound to this endpoint from now on.
fn begin(
    rule: &Rule,
    session: &Session,
    backend: &str,
    endpoint: &Endpoint,
    now: SystemTime,
    client: Client<'_>,
) -> Option<(HeaderName, HeaderValue)> {
    let (id, key) = identity(rule, backend, endpoint);
    let time = seconds(now).to_be_bytes();
    let seal = hmac::sign(&key, &time);
    let token = encode([&time[..], &id, &seal.as_ref()[..SEAL]]);
    match &session.carrier {
        SessionCarrier::Header(name) => Some((name.clone(), token.parse().ok()?)),
        SessionCarrier::Cookie {
            name,
            path,
            permanent,
            attributes,
        } => {
            let mut cookie = format!("{name}={token}; Path={path}; HttpOnly");
            attribute(&mut cookie, attributes, now, client);
            if let (true, Some(limit)) = (permanent, session.absolute_timeout) {
                // A fraction of a second would be a cookie that is over at once.
                let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
                cookie.push_str(&format!("; Max-Age={seconds}"));
            }
            Some((header::SET_COOKIE, cookie.parse().ok()?))
        }
    }
}

/// Writes the attributes of a cookie.
fn attribute(
    cookie: &mut String,
    attributes: &CookieAttributes,
    now: SystemTime,
    client: Client<'_>,
) {
    let same_site = match attributes.same_site {
        SameSite::Lax => Some("Lax"),
        SameSite::Strict => Some("Strict"),
        SameSite::None if attributes.same_site_where_known => {
            let known = client.agent.is_none_or(knows_same_site_none);
            known.then_some("None")
        }
        SameSite::None => Some("None"),
        SameSite::Unsaid => None,
    };
    if let Some(same_site) = same_site {
        cookie.push_str("; SameSite=");
        cookie.push_str(same_site);
    }
    if client.is_secure || attributes.secure {
        cookie.push_str("; Secure");
    }
    if let Some(domain) = &attributes.domain {
        cookie.push_str("; Domain=");
        cookie.push_str(domain);
    }
    if let Some(expires) = attributes.expires {
        let at = jiff::Timestamp::try_from(now + expires);
        if let Ok(at) = at.map(|at| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()) {
            cookie.push_str("; Expires=");
            cookie.push_str(&at);
        }
    }
}

/// Browsers that take `SameSite=None` for `Strict`: those of iOS 12, Safari of macOS 10.14, Chrome 50 to 69
/// (<https://www.chromium.org/updates/same-site/incompatible-clients/>).
fn knows_same_site_none(agent: &str) -> bool {
    let ios12 = (agent.contains("iPhone") || agent.contains("iPad") || agent.contains("iPod"))
        && agent.contains("OS 12_");
    let safari =
        agent.contains("Mac OS X 10_14") && agent.contains("Safari/") && !agent.contains("Chrom");
    let chrome = agent
        .split("Chrom")
        .skip(1)
        .filter_map(|rest| rest.strip_prefix("e/").or(rest.strip_prefix("ium/")))
        .any(|rest| {
            let version = rest
                .split('.')
                .next()
                .and_then(|version| version.parse::<u32>().ok());
            version.is_some_and(|version| (50..70).contains(&version))
        });
    !(ios12 || safari || chrome)
}

/// What stands for an endpoint in tokens of this rule, and what seals them.
fn identity(rule: &Rule, backend: &str, endpoint: &Endpoint) -> ([u8; ID], hmac::Key) {
    // None of these holds a line end.
    let of_backend = rule.session.as_ref().is_some_and(|own| own.of_backend);
    let rule = if of_backend { "" } else { rule.origin.label() };
    let text = format!("tidegate session 1\n{rule}\n{backend}\n{endpoint}");
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let (id, key) = digest.as_ref().split_at(ID);
    let mut own = [0; ID];
    own.copy_from_slice(id);
    (own, hmac::Key::new(hmac::HMAC_SHA256, key))
}

/// The tokens that a request brings.
fn tokens<'a>(
    carrier: &'a SessionCarrier,
    headers: &'a HeaderMap,
) -> impl Iterator<Item = &'a [u8]> {
    let (name, cookie) = match carrier {
        SessionCarrier::Header(name) => (name, None),
        SessionCarrier::Cookie { name, .. } => (&header::COOKIE, Some(name.as_bytes())),
    };
    let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    values
        .flat_map(move |value| {
            // A header's value is one token, and one token holds no semicolon.
            value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
        })
        .filter_map(move |piece| match cookie {
            None => Some(piece),
            Some(name) => piece.strip_prefix(name)?.strip_prefix(b"="),
        })
}

fn seconds(at: SystemTime) -> u32 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

fn encode<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let bytes = parts.into_iter().flatten();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn decode(text: &[u8]) -> Option<[u8; TOKEN]> {
    let mut token = [0; TOKEN];
    if text.len() != 2 * TOKEN {
        return None;
    }
    for (byte, pair) in token.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |at: u8| {
            char::from(at)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(token)
}

#[cfg(test)]
mod tests;
