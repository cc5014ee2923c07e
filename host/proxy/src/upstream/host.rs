//! One endpoint: its connections, how busy it is, and whether it has lately failed.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tidegate_model::Endpoint;
use tidegate_wasm::UpstreamAttributes;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::connect::{ConnectError, Connector, Opened};
use crate::body::Body;

/// Failures in a row that eject an endpoint (Envoy's `consecutive_gateway_failure`).
pub(super) const FAILURES: u32 = 5;
/// How long the first ejection lasts; each further one lasts that much longer.
const EJECTION: Duration = Duration::from_secs(30);

/// One endpoint of a cluster.
pub(crate) struct Host {
    pub(crate) endpoint: Endpoint,
    pub(super) connector: Connector,
    /// HTTP/1 connections without a request, the latest used last.
    pub(super) idle: RefCell<Vec<Idle>>,
    /// HTTP/2 connections, shared by their requests.
    pub(super) shared: RefCell<Vec<Shared>>,
    /// Of the next HTTP/2 connection.
    number: Cell<u64>,
    /// Lets one HTTP/2 connection be opened at a time.
    pub(super) opening: tokio::sync::Mutex<()>,
    /// Made when the first filter asks.
    attributes: OnceCell<Arc<UpstreamAttributes>>,
    active: Cell<u32>,
    failures: Cell<u32>,
    ejections: Cell<u32>,
    ejected_until: Cell<Option<Instant>>,
}

/// An HTTP/1 connection without a request.
pub(super) struct Idle {
    pub(super) sender: http1::SendRequest<Body>,
    pub(super) since: Instant,
    /// This host's end of it.
    pub(super) local: Option<SocketAddr>,
}

/// An HTTP/2 connection, known by a number.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) number: u64,
    /// This host's end of it.
    pub(super) local: Option<SocketAddr>,
    pub(super) sender: http2::SendRequest<Body>,
}

/// Counts a request as active while it lives.
pub(crate) struct Active(Rc<Host>);

impl Host {
    pub(super) fn new(endpoint: Endpoint, connector: Connector) -> Self {
        Self {
            endpoint,
            connector,
            idle: RefCell::default(),
            shared: RefCell::default(),
            number: Cell::new(0),
            opening: tokio::sync::Mutex::default(),
            attributes: OnceCell::new(),
            active: Cell::new(0),
            failures: Cell::new(0),
            ejections: Cell::new(0),
            ejected_until: Cell::new(None),
        }
    }

    /// What filters can ask about it (`upstream.*`).
    pub(crate) fn attributes(&self) -> &Arc<UpstreamAttributes> {
        self.attributes.get_or_init(|| {
            let address = match &self.endpoint {
                Endpoint::Address(address) => Some(*address),
                Endpoint::Name(..) => None,
            };
            Arc::new(UpstreamAttributes {
                address,
                ..UpstreamAttributes::default()
            })
        })
    }

    /// A connection for a stream, which is nobody else's.
    pub(crate) async fn open_stream(&self, timeout: Duration) -> Result<Opened, ConnectError> {
        self.connector.open(&self.endpoint, timeout).await
    }

    /// A socket for a session of UDP.
    pub(crate) async fn open_udp(&self) -> Result<UdpSocket, ConnectError> {
        self.connector.open_udp(&self.endpoint).await
    }

    pub(crate) fn begin(self: &Rc<Self>) -> Active {
        self.active.set(self.active.get() + 1);
        Active(self.clone())
    }

    pub(super) fn active(&self) -> u32 {
        self.active.get()
    }

    /// A connection or a request failed here.
    pub(crate) fn failed(&self) {
        let failures = self.failures.get() + 1;
        self.failures.set(failures);
        if failures >= FAILURES {
            self.failures.set(0);
            let ejections = (self.ejections.get() + 1).min(10);
            self.ejections.set(ejections);
            self.ejected_until
                .set(Some(Instant::now() + EJECTION * ejections));
            tracing::warn!(endpoint = %self.endpoint, failures, "endpoint ejected after failures in a row");
        }
    }

    /// A request was answered here.
    pub(crate) fn succeeded(&self) {
        self.failures.set(0);
        if self
            .ejected_until
            .get()
            .is_none_or(|until| until <= Instant::now())
        {
            self.ejections.set(0);
        }
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.ejected_until
            .get()
            .is_some_and(|until| until > Instant::now())
    }

    pub(super) fn close_idle(&self, timeout: Duration) {
        let now = Instant::now();
        self.idle
            .borrow_mut()
            .retain(|idle| !idle.sender.is_closed() && now - idle.since < timeout);
        self.shared
            .borrow_mut()
            .retain(|shared| !shared.sender.is_closed());
    }

    /// Keeps a new HTTP/2 connection for the requests to come.
    pub(super) fn share(
        &self,
        sender: http2::SendRequest<Body>,
        local: Option<SocketAddr>,
    ) -> Shared {
        let number = self.number.get();
        self.number.set(number + 1);
        let shared = Shared {
            number,
            local,
            sender,
        };
        self.shared.borrow_mut().push(shared.clone());
        shared
    }

    /// No further request goes over this connection; those that are on it end.
    pub(super) fn retire(&self, number: u64) {
        self.shared
            .borrow_mut()
            .retain(|shared| shared.number != number);
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
    }
}
