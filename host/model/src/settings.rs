//! Settings of a listener: what its class asks for beyond the settings of the process.

use std::time::Duration;

use serde::Serialize;

/// Settings of a listener; what is absent is as the process was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSettings {
    /// How many proxies in front of the gateway may write forwarding headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_hops: Option<u32>,
    /// Bounds towards clients.
    #[serde(skip_serializing_if = "ListenerLimits::is_empty")]
    pub limits: ListenerLimits,
}

/// Bounds towards clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerLimits {
    /// Bytes of a request's head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_bytes: Option<usize>,
    /// Header fields of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<usize>,
    /// Bytes of a request's target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_bytes: Option<usize>,
    /// Time for a request's head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_timeout: Option<Duration>,
    /// How long a connection without a request is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// Time without a byte in either direction after which an exchange is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_idle_timeout: Option<Duration>,
    /// Time for a TLS handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_timeout: Option<Duration>,
    /// Streams at once on an HTTP/2 connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<u32>,
    /// Time without a byte in either direction after which a connection that is passed on, not read, is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_idle_timeout: Option<Duration>,
    /// Silence after which a session of UDP ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_idle_timeout: Option<Duration>,
}

impl ListenerSettings {
    /// Whether the process's settings hold unchanged.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl ListenerLimits {
    /// Whether no bound is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
