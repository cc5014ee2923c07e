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
    },
    /// A header that the gateway sends and the client repeats.
    Header(#[serde(serialize_with = "header_name")] HeaderName),
}

fn header_name<S: Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}
