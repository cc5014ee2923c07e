//! Why a request got no answer from an upstream, and the one place that maps each reason to a status.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tidegate_model::{FailureCause, FilterId};

use crate::check::Refused;
use crate::upstream::ConnectError;

/// Envoy's response flags (`response.flags` of filters), as far as they have a meaning here.
pub(crate) mod flags {
    pub(crate) const NO_HEALTHY_UPSTREAM: u64 = 1 << 1;
    pub(crate) const UPSTREAM_REQUEST_TIMEOUT: u64 = 1 << 2;
    pub(crate) const UPSTREAM_CONNECTION_FAILURE: u64 = 1 << 5;
    pub(crate) const UPSTREAM_CONNECTION_TERMINATION: u64 = 1 << 6;
    pub(crate) const NO_ROUTE_FOUND: u64 = 1 << 8;
    pub(crate) const DOWNSTREAM_CONNECTION_TERMINATION: u64 = 1 << 14;
    pub(crate) const DOWNSTREAM_REMOTE_RESET: u64 = 1 << 28;
}

/// A reason to answer ourselves.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The head has two readings or passes a bound.
    #[error("the request was refused: {}", .0.details)]
    Refused(Refused),
    /// No listener has this hostname.
    #[error("no listener for this host")]
    NoListener,
    /// The connection's TLS name belongs to another listener (RFC 9110 section 15.5.20).
    #[error("the TLS name of the connection belongs to another listener")]
    Misdirected,
    /// No route takes the request.
    #[error("no route matches")]
    NoRoute,
    /// A filter reference that leads nowhere.
    #[error("filter {reference}: {reason}")]
    UnresolvedFilter {
        reference: Arc<str>,
        reason: Arc<str>,
    },
    /// A route that answers every request with a status (`Filter::Refuse`).
    #[error("the route refuses every request: {reason}")]
    Answered {
        status: StatusCode,
        reason: Arc<str>,
    },
    /// More requests of one client at a time than the route answers.
    #[error("more than {most} requests of one client at a time in zone {zone}")]
    TooMany {
        zone: Arc<str>,
        most: u32,
        status: StatusCode,
    },
    /// A filter that cannot run, and whose policy is Closed.
    #[error("filter {filter} cannot run ({}): {message}", .cause.as_str())]
    Filter {
        filter: FilterId,
        cause: FailureCause,
        message: Arc<str>,
    },
    /// A backend reference that leads nowhere.
    #[error("backend: {0}")]
    UnresolvedBackend(Arc<str>),
    /// A rule without backends, or with weights of 0 only.
    #[error("the rule has no backend")]
    NoBackend,
    /// A backend without endpoints.
    #[error("backend {0} has no endpoints")]
    NoEndpoint(Arc<str>),
    /// No connection.
    #[error("{endpoint}: {error}")]
    Connect {
        endpoint: String,
        error: ConnectError,
    },
    /// A connection, but no response.
    #[error("{endpoint}: {error}")]
    Upstream {
        endpoint: String,
        error: hyper::Error,
    },
    /// The upstream left HTTP without being asked.
    #[error("{0}: 101 Switching Protocols that nobody asked for")]
    UnaskedUpgrade(String),
    /// A response in a transfer coding that would be lost on the way on.
    #[error("{0}: a response with a Transfer-Encoding other than chunked")]
    ResponseCoding(String),
    /// The client's body broke off or was malformed.
    #[error("the request body broke off")]
    RequestBody,
    /// The response's body broke off before its head went out.
    #[error("the response body broke off")]
    ResponseBody,
    /// A filter holds back more than its `bufferedBody`.
    #[error("filter {0} holds back more of the request body than its limits.bufferedBody")]
    RequestTooLarge(FilterId),
    /// Likewise of the response.
    #[error("filter {0} holds back more of the response body than its limits.bufferedBody")]
    ResponseTooLarge(FilterId),
    /// `timeouts.request`
    #[error("no response within timeouts.request {0:?}")]
    RequestTimeout(Duration),
    /// `timeouts.backendRequest`
    #[error("no response within timeouts.backendRequest {0:?}")]
    BackendTimeout(Duration),
    /// `timeouts.read` or `timeouts.send`
    #[error("{endpoint}: silent for {limit:?}, longer than the route allows")]
    Silent { endpoint: String, limit: Duration },
    /// A filter changed the request into something that cannot be sent.
    #[error("a filter left a request that cannot be sent: {0}")]
    Unsendable(&'static str),
    /// A filter took `:status` away.
    #[error("a filter left a response without a status")]
    NoStatus,
    /// A filter reset the stream.
    #[error("filter {0} reset the stream")]
    Reset(FilterId),
}

impl Error {
    /// The status for the client.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refused) => refused.status,
            Self::Answered { status, .. } | Self::TooMany { status, .. } => *status,
            Self::NoListener | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::UnresolvedFilter { .. }
            | Self::UnresolvedBackend(_)
            | Self::NoBackend
            | Self::Unsendable(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Filter { .. } | Self::NoEndpoint(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Connect {
                error: ConnectError::Timeout(_),
                ..
            } => StatusCode::GATEWAY_TIMEOUT,
            Self::Connect { .. }
            | Self::Upstream { .. }
            | Self::UnaskedUpgrade(_)
            | Self::ResponseCoding(_)
            | Self::NoStatus
            | Self::ResponseBody
            | Self::Reset(_) => StatusCode::BAD_GATEWAY,
            Self::RequestBody => StatusCode::BAD_REQUEST,
            Self::RequestTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ResponseTooLarge(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::RequestTimeout(_) | Self::BackendTimeout(_) | Self::Silent { .. } => {
                StatusCode::GATEWAY_TIMEOUT
            }
        }
    }

    /// One word for response details, the access log and metrics.
    pub(crate) fn details(&self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.details,
            Self::NoListener => "no_listener",
            Self::Misdirected => "misdirected_request",
            Self::NoRoute => "route_not_found",
            Self::UnresolvedFilter { .. } => "filter_unresolved",
            Self::Answered { .. } => "route_refuses",
            Self::TooMany { .. } => "too_many_requests_at_once",
            Self::Filter {
                cause: FailureCause::Load,
                ..
            } => "filter_load",
            Self::Filter {
                cause: FailureCause::Configure,
                ..
            } => "filter_configure",
            Self::Filter {
                cause: FailureCause::Trap,
                ..
            } => "filter_trap",
            Self::Filter {
                cause: FailureCause::Deadline,
                ..
            } => "filter_deadline",
            Self::Filter {
                cause: FailureCause::Memory,
                ..
            } => "filter_memory",
            Self::UnresolvedBackend(_) => "backend_unresolved",
            Self::NoBackend => "no_backend",
            Self::NoEndpoint(_) => "no_healthy_upstream",
            Self::Connect {
                error: ConnectError::Timeout(_),
                ..
            } => "upstream_connect_timeout",
            Self::Connect { .. } => "upstream_connect_failure",
            Self::Upstream { .. } => "upstream_reset",
            Self::UnaskedUpgrade(_) => "upstream_unasked_upgrade",
            Self::ResponseCoding(_) => "upstream_transfer_encoding",
            Self::RequestBody => "request_body_error",
            Self::ResponseBody => "upstream_reset",
            Self::RequestTooLarge(_) => "request_payload_too_large",
            Self::ResponseTooLarge(_) => "response_payload_too_large",
            Self::RequestTimeout(_) => "request_timeout",
            Self::BackendTimeout(_) => "backend_timeout",
            Self::Silent { .. } => "upstream_silent",
            Self::Unsendable(_) => "request_unsendable",
            Self::NoStatus => "response_without_status",
            Self::Reset(_) => "filter_reset",
        }
    }

    /// Envoy's flags for it.
    pub(crate) fn flags(&self) -> u64 {
        match self {
            Self::NoEndpoint(_) => flags::NO_HEALTHY_UPSTREAM,
            Self::Connect { .. } => flags::UPSTREAM_CONNECTION_FAILURE,
            Self::Upstream { .. } | Self::ResponseBody => flags::UPSTREAM_CONNECTION_TERMINATION,
            Self::RequestTimeout(_) | Self::BackendTimeout(_) | Self::Silent { .. } => {
                flags::UPSTREAM_REQUEST_TIMEOUT
            }
            Self::NoListener | Self::NoRoute => flags::NO_ROUTE_FOUND,
            Self::RequestBody => flags::DOWNSTREAM_CONNECTION_TERMINATION,
            _ => 0,
        }
    }

    /// Whether the upstream or the configuration is to blame, so that the log should say it.
    pub(crate) fn is_noteworthy(&self) -> bool {
        !matches!(
            self,
            Self::Refused(_)
                | Self::NoListener
                | Self::NoRoute
                | Self::Misdirected
                | Self::RequestBody
                | Self::TooMany { .. }
        ) && !matches!(self, Self::Answered { status, .. } if status.is_client_error())
    }
}
