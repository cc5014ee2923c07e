//! Session persistence: what binds a client to one endpoint (Gateway API, `sessionPersistence`; GEP-1619).

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde::{Serialize, Serializer};

/// How a rule keeps clients on the endpoint that answered them first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Where the token is, in requests and responses.
    pub carrier: SessionCarrier,
    /// When a session ends whatever happens, counted from its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absolute_timeout: Option<Duration>,
    /// Whether every rule with such a session that leads to the same backend knows it; elsewhere it is the rule's own, as GEP-1619 has it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub of_backend: bool,
    /// Whether clients that have none get none here: it is followed where they have one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub only_followed: bool,
}

/// What carries a session's token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SessionCarrier {
    /// A cookie that the gateway sets.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// Its `Path` attribute.
        path: Arc<str>,
        /// Whether it outlives the browser's session: `Max-Age` is then the absolute timeout.
        permanent: bool,
        /// What else is said of it.
        #[serde(skip_serializing_if = "CookieAttributes::is_default")]
        attributes: CookieAttributes,
    },
    /// A header that the gateway sends and the client repeats.
    Header(#[serde(serialize_with = "header_name")] HeaderName),
}

/// Attributes of a session's cookie; `HttpOnly` it always is (RFC 6265bis section 4.1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CookieAttributes {
    /// `Domain`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Arc<str>>,
    /// `SameSite`
    pub same_site: SameSite,
    /// Leaves `SameSite=None` out for browsers that take it for `Strict`.
    pub same_site_where_known: bool,
    /// `Secure` in the clear, too; over TLS it always is.
    pub secure: bool,
    /// `Expires`, counted from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Duration>,
}

/// `SameSite`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum SameSite {
    /// Sent along when a link is followed.
    #[default]
    Lax,
    /// Sent within the site only.
    Strict,
    /// Sent always; browsers demand `Secure` with it.
    None,
    /// Not said.
    Unsaid,
}

impl CookieAttributes {
    /// Whether nothing of them was asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn header_name<S: Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}
