//! One exchange from its head to the last byte of its answer: what is known of it, and the filters that have seen it.
//!
//! Everything that takes part in an exchange (the service future, the bodies in both directions) holds its [`Stream`]. When the last
//! one lets go, the exchange is over: filters hear `on_log`, `on_done` and `on_delete`, and the access log gets its line.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Version};
use tidegate_model::Rule;
use tidegate_wasm::LocalReply;
use tokio::time::Instant;

use crate::access_log::Line;
use crate::body::Received;
use crate::chain::Chain;
use crate::concurrency::Permit;
use crate::connection::Connection;
use crate::error::Error;
use crate::forward::Tries;
use crate::plugin::Signal;
use crate::shadow::Shadow;
use crate::worker::State;

/// Response details of an answer that a filter has given.
pub(crate) const FILTER_REPLY: &str = "filter_reply";

/// An exchange.
pub(crate) struct Stream {
    pub(crate) connection: Rc<Connection>,
    pub(crate) state: Rc<State>,
    pub(crate) record: RefCell<Record>,
    pub(crate) chain: RefCell<Chain>,
    pub(crate) signal: Rc<Signal>,
    /// Why the exchange cannot go on, found out while a body was on its way.
    pub(crate) failure: RefCell<Option<Error>>,
    /// A filter's answer, found out likewise.
    pub(crate) reply: RefCell<Option<Box<LocalReply>>>,
    /// Places among the requests of this client.
    pub(crate) permits: RefCell<Vec<Permit>>,
    pub(crate) received: Rc<Received>,
    pub(crate) sent: Cell<u64>,
}

/// What the access log will say.
pub(crate) struct Record {
    pub(crate) started: Instant,
    pub(crate) version: Version,
    pub(crate) method: Method,
    pub(crate) authority: HeaderValue,
    pub(crate) path: PathAndQuery,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) request_id: HeaderValue,
    /// The client, as far as trusted proxies tell it; else the peer.
    pub(crate) client: SocketAddr,
    pub(crate) rule: Option<Arc<Rule>>,
    pub(crate) status: u16,
    pub(crate) details: &'static str,
    /// Envoy's response flags.
    pub(crate) flags: u64,
    /// Of the response, for filters that look back; kept where there are any.
    pub(crate) trailers: Option<Box<HeaderMap>>,
    /// The filter that answered or failed.
    pub(crate) filter: Option<String>,
    pub(crate) tries: Tries,
    pub(crate) cluster: Option<Arc<str>>,
    pub(crate) upstream_started: Option<Instant>,
    pub(crate) upstream_answered: Option<Instant>,
    /// Whether the answer reached its end.
    pub(crate) complete: bool,
}

impl Stream {
    /// Stops the exchange from wherever it is: the first reason counts.
    pub(crate) fn fail(&self, error: Error) {
        self.failure.borrow_mut().get_or_insert(error);
        self.signal.raise();
    }

    /// Writes the exchange's line, where it has shadows once they are done.
    fn write_log(&self, shadows: Vec<Shadow>) {
        let record = self.record.borrow();
        let worker = &self.connection.worker;
        let mut log = worker.log.borrow_mut();
        let wanted = record.rule.as_ref().is_none_or(|rule| rule.access_log);
        if !log.is_on() || !wanted {
            return;
        }
        let start_time = log.timestamp(worker.wall_time(record.started));
        let text = |value: &'_ HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let upstream_duration = record
            .upstream_started
            .zip(record.upstream_answered)
            .map(|(from, to)| millis(to - from));
        let host = record
            .tries
            .host
            .as_ref()
            .map(|host| host.endpoint.to_string());
        let client = if record.client == self.connection.peer {
            Cow::Borrowed(&*self.connection.peer_text)
        } else {
            Cow::Owned(record.client.ip().to_string())
        };
        let line = Line {
            start_time: &start_time,
            method: record.method.as_str(),
            authority: &text(&record.authority),
            path: record.path.as_str(),
            protocol: protocol(record.version),
            response_code: record.status,
            response_code_details: if record.complete {
                record.details
            } else {
                "downstream_disconnect"
            },
            bytes_received: self.received.bytes.get(),
            bytes_sent: self.sent.get(),
            duration: millis(record.started.elapsed()),
            upstream_duration,
            upstream_host: host.as_deref(),
            upstream_cluster: record.cluster.as_deref(),
            upstream_attempts: record.tries.count,
            route: record.rule.as_ref().map(|rule| &rule.origin),
            filter: record.filter.as_deref(),
            listener: &self.connection.local.to_string(),
            downstream_remote_address: &client,
            requested_server_name: self
                .connection
                .tls
                .as_ref()
                .and_then(|tls| tls.server_name.as_deref()),
            request_id: &text(&record.request_id),
            user_agent: &record.user_agent.as_ref().map(text).unwrap_or_default(),
        };
        if shadows.is_empty() {
            log.write(&line);
        } else {
            let worker = worker.clone();
            worker.log_later(log.later(&line), shadows);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let (received, sent) = (self.received.bytes.get(), self.sent.get());
        let shadows = self.chain.borrow_mut().take_shadows();
        {
            let record = self.record.borrow();
            let now = Instant::now();
            let elapsed = now - record.started;
            self.connection
                .worker
                .metrics
                .end(record.status, elapsed, received, sent);
            self.chain.borrow_mut().finish(&record, now, received, sent);
        }
        self.write_log(shadows);
        self.connection.activity.end();
    }
}

/// HTTP's name for a version, as Envoy logs it.
pub(crate) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
