//! Streams: what is passed on without being read. Where a stream goes, and what is noted of it for log and metrics.
//!
//! How it goes there is in [`tcp_proxy`](crate::tcp_proxy) and [`udp_proxy`](crate::udp_proxy).

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{BackendTarget, StreamRule};
use tokio::time::Instant;

use crate::access_log::StreamLine;
use crate::exchange::choose;
use crate::metrics::StreamCounters;
use crate::upstream::{Cluster, Host};
use crate::worker::{State, Worker};

/// Endpoints that are tried for a stream, as long as none has been sent a byte.
const TRIES: usize = 3;

/// What is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Tls,
    Udp,
}

/// Where a stream goes.
pub(crate) struct Destination {
    rule: Arc<StreamRule>,
    cluster: Option<Rc<Cluster>>,
}

/// Why a stream ended: the words of the log, and of the metric where it came to no backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// One side closed, or the backend of a session of UDP is gone.
    Closed,
    /// A connection broke.
    Reset,
    /// Nobody said anything for too long.
    Idle,
    /// The worker ended.
    Shutdown,
    /// No route takes it.
    NoRoute,
    /// The reference to the backend leads nowhere, or no backend has a weight.
    NoCluster,
    /// The backend has no endpoint.
    NoEndpoint,
    /// No endpoint could be connected to.
    Connect,
}

/// What is noted of a stream; at its end it is counted and logged.
pub(crate) struct Record {
    pub(crate) worker: Rc<Worker>,
    pub(crate) protocol: Protocol,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) started: Instant,
    pub(crate) received: Cell<u64>,
    pub(crate) sent: Cell<u64>,
    /// When bytes last went in either direction.
    pub(crate) last: Cell<Instant>,
    pub(crate) end: Cell<End>,
    attempts: Cell<u32>,
    rule: RefCell<Option<Arc<StreamRule>>>,
    upstream: RefCell<Option<(String, Arc<str>)>>,
}

// === impl Protocol ===

impl Protocol {
    /// In the order of the counters.
    pub(crate) const ALL: [Self; 3] = [Self::Tcp, Self::Tls, Self::Udp];

    /// As a label of metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Udp => "udp",
        }
    }

    /// As the log has it.
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Udp => "UDP",
        }
    }
}

// === impl End ===

impl End {
    fn details(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "connection_reset",
            Self::Idle => "idle_timeout",
            Self::Shutdown => "shutdown",
            Self::NoRoute => "no_route",
            Self::NoCluster => "cluster_not_found",
            Self::NoEndpoint => "no_healthy_upstream",
            Self::Connect => "upstream_connect_failure",
        }
    }

    pub(crate) fn is_failure(self) -> bool {
        matches!(
            self,
            Self::NoRoute | Self::NoCluster | Self::NoEndpoint | Self::Connect
        )
    }
}

// === impl Destination ===

impl Destination {
    /// A backend of the rule by weight, in the state that the rule is of.
    pub(crate) fn choose(worker: &Worker, state: &State, rule: &Arc<StreamRule>) -> Self {
        let chosen = choose(&rule.backends).map(|at| &rule.backends[at].target);
        let cluster = match chosen {
            Some(BackendTarget::Backend(backend)) => Some(state.cluster(worker, backend)),
            Some(BackendTarget::Unresolved { .. }) | None => None,
        };
        Self {
            rule: rule.clone(),
            cluster,
        }
    }

    /// Connects to an endpoint, or to another one where that fails; `open` does the connecting.
    pub(crate) async fn connect<T, F>(
        self,
        record: &Record,
        open: impl Fn(Rc<Host>, Duration) -> F,
    ) -> Result<(Rc<Host>, T), End>
    where
        F: Future<Output = Result<T, crate::upstream::ConnectError>>,
    {
        record.rule.replace(Some(self.rule));
        let cluster = self.cluster.ok_or(End::NoCluster)?;
        let timeout = cluster.connect_timeout();
        let mut tried: Vec<Rc<Host>> = Vec::new();
        for _ in 0..cluster.len().clamp(1, TRIES) {
            let host = cluster.pick(&tried, None).ok_or(End::NoEndpoint)?;
            record.attempts.set(record.attempts.get() + 1);
            record
                .upstream
                .replace(Some((host.endpoint.to_string(), cluster.key())));
            match open(host.clone(), timeout).await {
                Ok(opened) => {
                    host.succeeded();
                    return Ok((host, opened));
                }
                Err(error) => {
                    tracing::debug!(endpoint = %host.endpoint, %error, "stream: no connection");
                    let metrics = &record.worker.metrics;
                    metrics.count(&metrics.connect_failures);
                    host.failed();
                    tried.push(host);
                }
            }
        }
        Err(End::Connect)
    }
}

// === impl Record ===

impl Record {
    pub(crate) fn new(
        worker: Rc<Worker>,
        protocol: Protocol,
        peer: SocketAddr,
        local: SocketAddr,
        server_name: Option<Arc<str>>,
    ) -> Self {
        let now = Instant::now();
        let record = Self {
            worker,
            protocol,
            peer,
            local,
            server_name,
            started: now,
            received: Cell::new(0),
            sent: Cell::new(0),
            last: Cell::new(now),
            // What nobody says otherwise: its task was ended.
            end: Cell::new(End::Shutdown),
            attempts: Cell::new(0),
            rule: RefCell::default(),
            upstream: RefCell::default(),
        };
        record.counters().begin();
        record
    }

    /// Bytes came from the client.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
        self.last.set(Instant::now());
    }

    /// Bytes went to the client.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
        self.last.set(Instant::now());
    }

    fn counters(&self) -> &StreamCounters {
        &self.worker.metrics.streams[self.protocol as usize]
    }

    fn write_log(&self) {
        let rule = self.rule.borrow();
        let upstream = self.upstream.borrow();
        let mut log = self.worker.log.borrow_mut();
        if !log.is_on() || !rule.as_ref().is_none_or(|rule| rule.access_log) {
            return;
        }
        let start_time = log.timestamp(self.worker.wall_time(self.started));
        log.write(&StreamLine {
            start_time: &start_time,
            protocol: self.protocol.name(),
            bytes_received: self.received.get(),
            bytes_sent: self.sent.get(),
            duration: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            upstream_host: upstream.as_ref().map(|(host, _)| host.as_str()),
            upstream_cluster: upstream.as_ref().map(|(_, cluster)| &**cluster),
            upstream_attempts: self.attempts.get(),
            route: rule.as_ref().map(|rule| &rule.origin),
            listener: &self.local.to_string(),
            downstream_remote_address: &self.peer.to_string(),
            requested_server_name: self.server_name.as_deref(),
            connection_termination_details: self.end.get().details(),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let end = self.end.get();
        if end.is_failure() {
            self.counters().fail(end.details());
        }
        self.counters().end(self.received.get(), self.sent.get());
        self.write_log();
    }
}
