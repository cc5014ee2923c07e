//! Session persistence: what binds a client to an endpoint (GEP-1619).

use std::sync::Arc;

use http::HeaderName;
use sha2::{Digest, Sha256};
use tidegate_model::{CookieAttributes, RuleOrigin, Session, SessionCarrier};

use super::problem::Problem;
use crate::api::http::{CookieLifetime, SessionCookie, SessionPersistence, SessionPersistenceType};

/// Headers with a meaning of their own, which a session would destroy.
const TAKEN: [&str; 11] = [
    "connection",
    "content-length",
    "cookie",
    "host",
    "keep-alive",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// `sessionPersistence` of a rule.
pub(super) fn read(written: &SessionPersistence, rule: &RuleOrigin) -> Result<Session, Problem> {
    let unsupported =
        |message: String| Problem::new("UnsupportedValue", format!("sessionPersistence.{message}"));
    let absolute_timeout = written.absolute_timeout.filter(|limit| !limit.is_zero());
    let carrier = match (&written.kind, &written.cookie, &written.header) {
        (SessionPersistenceType::Cookie, cookie, _) => {
            let default = SessionCookie::default();
            let cookie = cookie.as_ref().unwrap_or(&default);
            let carrier = cookie_carrier(cookie, rule).map_err(unsupported)?;
            if matches!(
                carrier,
                SessionCarrier::Cookie {
                    permanent: true,
                    ..
                }
            ) && absolute_timeout.is_none()
            {
                return Err(unsupported(
                    "absoluteTimeout: must be more than 0s, because it is how long the Permanent cookie lives"
                        .to_owned(),
                ));
            }
            carrier
        }
        (SessionPersistenceType::Header, _, Some(header)) => {
            SessionCarrier::Header(header_name(&header.name).map_err(unsupported)?)
        }
        (SessionPersistenceType::Header, _, None) => {
            return Err(unsupported(
                "header: must be given for type Header".to_owned(),
            ));
        }
        (SessionPersistenceType::Other(kind), ..) => {
            return Err(unsupported(format!(
                "type: {kind:?} is not supported: use Cookie or Header"
            )));
        }
    };
    Ok(Session {
        of_backend: false,
        only_followed: false,
        carrier,
        absolute_timeout,
    })
}

fn cookie_carrier(cookie: &SessionCookie, rule: &RuleOrigin) -> Result<SessionCarrier, String> {
    let path = if cookie.path.is_empty() {
        "/"
    } else {
        &cookie.path
    };
    // RFC 6265 section 4.1.1, path-value.
    let is_plain = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b';';
    if !path.starts_with('/') || !path.bytes().all(is_plain) {
        return Err(format!(
            "cookie.path: {path:?} cannot be the Path of a cookie: begin with a slash, and write plain letters without a semicolon"
        ));
    }
    let permanent = match &cookie.lifetime_type {
        CookieLifetime::Session => false,
        CookieLifetime::Permanent => true,
        CookieLifetime::Other(lifetime) => {
            return Err(format!(
                "cookie.lifetimeType: {lifetime:?} is not supported: use Session or Permanent"
            ));
        }
    };
    let name: Arc<str> = match &cookie.name {
        Some(name) => name.as_str().into(),
        None => own_name(rule).into(),
    };
    Ok(SessionCarrier::Cookie {
        name,
        path: path.into(),
        permanent,
        attributes: CookieAttributes::default(),
    })
}

/// A name that no other rule has ("a unique cookie name SHOULD be generated"), the same in every replica.
fn own_name(rule: &RuleOrigin) -> String {
    let digest = Sha256::digest(rule.label().as_bytes());
    let digits = digest.iter().take(6).map(|byte| format!("{byte:02x}"));
    format!("tidegate-{}", digits.collect::<String>())
}

fn header_name(written: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(written.as_bytes())
        .map_err(|_| format!("header.name: {written:?} is not a header's name"))?;
    if TAKEN.contains(&name.as_str()) {
        return Err(format!(
            "header.name: {written} has a meaning of its own and cannot carry a session: choose another name"
        ));
    }
    Ok(name)
}
