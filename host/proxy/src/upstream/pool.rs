//! Taking a connection for a request, and giving it back when the response has been read to its end.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::time::Instant;

use super::connect::{ConnectError, Sender};
use super::host::{Active, Host, Idle, Shared};
use crate::body::Body;

/// Connections kept per endpoint and worker; beyond, the oldest idle ones are closed.
const MOST_IDLE: usize = 128;

/// Streams at once on an HTTP/2 connection before another one is opened: what servers commonly allow (RFC 9113 section 6.5.2).
const STREAMS: usize = 100;

/// How long a connection whose response has ended may take until it is ready for the next request.
const TURNAROUND: Duration = Duration::from_millis(5);

/// A connection with one request's worth of use.
pub(crate) struct Pooled {
    host: Rc<Host>,
    sender: Option<http1::SendRequest<Body>>,
    shared: Option<Shared>,
    /// Whether it has carried requests before, so that it may have been closed meanwhile.
    pub(crate) reused: bool,
    /// This host's end of it.
    pub(crate) local: Option<SocketAddr>,
    /// How long it took to open; zero if it was there.
    pub(crate) opened_in: Duration,
    _active: Active,
}

/// Why a request got no response.
pub(crate) struct SendError {
    pub(crate) error: hyper::Error,
    /// The request, if not a byte of it was sent.
    pub(crate) unsent: Option<Request<Body>>,
    /// The endpoint has said that it did not process the request, so that any may be sent again (RFC 9113 section 8.7).
    pub(crate) unprocessed: bool,
}

/// How an endpoint says that it did not process a request.
#[derive(Clone, Copy)]
enum Unprocessed {
    /// It refused the stream.
    Refused,
    /// It closes the connection, and the stream is above the last one that it takes.
    GoingAway,
}

fn unprocessed(error: &hyper::Error) -> Option<Unprocessed> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return match error.reason() {
                _ if !error.is_remote() => None,
                Some(h2::Reason::REFUSED_STREAM) => Some(Unprocessed::Refused),
                // With another reason, streams that were processed may end with it, too.
                Some(h2::Reason::NO_ERROR) if error.is_go_away() => Some(Unprocessed::GoingAway),
                _ => None,
            };
        }
        source = error.source();
    }
    None
}

impl Host {
    /// A connection that is ready for a request: an idle or shared one, else a new one.
    pub(crate) async fn checkout(
        self: &Rc<Self>,
        timeout: Duration,
    ) -> Result<Pooled, ConnectError> {
        // What is rare is boxed: opening a connection has room for a TLS handshake, and every request would carry it.
        if self.connector.shares_connections() {
            if let Some(shared) = self.ready_shared() {
                return Ok(self.shared_one(shared, None));
            }
            return Box::pin(self.checkout_shared(timeout)).await;
        }
        if let Some(idle) = self.take_ready() {
            return Ok(self.own(idle.sender, idle.local, None));
        }
        // The end of a response and the readiness for the next request are two steps of the connection's task. One that is
        // not ready soon after still carries a request whose answer came early; waiting for it would be waiting for that client.
        let latest = self.idle.borrow_mut().pop();
        if let Some(mut idle) = latest
            && !idle.sender.is_closed()
        {
            match tokio::time::timeout(TURNAROUND, poll_fn(|cx| idle.sender.poll_ready(cx))).await {
                Ok(Ok(())) => return Ok(self.own(idle.sender, idle.local, None)),
                Ok(Err(_)) => {}
                Err(_) => self.idle.borrow_mut().push(idle),
            }
        }
        Box::pin(self.open(timeout)).await
    }

    /// The latest idle connection that is ready.
    fn take_ready(&self) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        let at = idle.iter().rposition(|idle| idle.sender.is_ready())?;
        Some(idle.remove(at))
    }

    /// A new connection, whatever is idle.
    pub(crate) async fn open(self: &Rc<Self>, timeout: Duration) -> Result<Pooled, ConnectError> {
        let began = Instant::now();
        let (sender, local) = self.connector.connect(&self.endpoint, timeout).await?;
        match sender {
            Sender::Http1(mut sender) => {
                poll_fn(|cx| sender.poll_ready(cx)).await?;
                Ok(self.own(sender, local, Some(began.elapsed())))
            }
            Sender::Http2(mut sender) => {
                poll_fn(|cx| sender.poll_ready(cx)).await?;
                let shared = self.share(sender, local);
                Ok(self.shared_one(shared, Some(began.elapsed())))
            }
        }
    }

    async fn checkout_shared(self: &Rc<Self>, timeout: Duration) -> Result<Pooled, ConnectError> {
        // Whoever waited here may find the connection that the one before opened.
        let _opening = self.opening.lock().await;
        match self.ready_shared() {
            Some(shared) => Ok(self.shared_one(shared, None)),
            None => self.open(timeout).await,
        }
    }

    fn ready_shared(&self) -> Option<Shared> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|shared| !shared.sender.is_closed());
        // Streams are counted per endpoint; a connection more is opened when all are full.
        if self.active() as usize >= shared.len() * STREAMS {
            return None;
        }
        let at = fastrand::usize(..shared.len());
        Some(shared[at].clone())
    }

    /// A connection that carries one request at a time.
    fn own(
        self: &Rc<Self>,
        sender: http1::SendRequest<Body>,
        local: Option<SocketAddr>,
        opened_in: Option<Duration>,
    ) -> Pooled {
        Pooled {
            host: self.clone(),
            sender: Some(sender),
            shared: None,
            reused: opened_in.is_none(),
            local,
            opened_in: opened_in.unwrap_or_default(),
            _active: self.begin(),
        }
    }

    /// A connection that carries others beside this request.
    fn shared_one(self: &Rc<Self>, shared: Shared, opened_in: Option<Duration>) -> Pooled {
        Pooled {
            host: self.clone(),
            local: shared.local,
            sender: None,
            shared: Some(shared),
            reused: opened_in.is_none(),
            opened_in: opened_in.unwrap_or_default(),
            _active: self.begin(),
        }
    }
}

impl Pooled {
    /// The endpoint it leads to.
    pub(crate) fn host(&self) -> &Rc<Host> {
        &self.host
    }

    /// Whether the request is to be written as HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.shared.is_some()
    }

    /// Sends a request and waits for the head of the response.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, SendError> {
        let sent = match (&mut self.sender, &mut self.shared) {
            (Some(sender), _) => sender.try_send_request(request).await,
            (None, Some(shared)) => shared.sender.try_send_request(request).await,
            (None, None) => unreachable!("a pooled connection has a sender until it is given back"),
        };
        sent.map_err(|mut failed| {
            let unsent = failed.take_message();
            self.sender = None;
            let error = failed.into_error();
            let unprocessed = unprocessed(&error);
            let is_over = unsent.is_some() || matches!(unprocessed, Some(Unprocessed::GoingAway));
            if let Some(shared) = self.shared.as_ref().filter(|_| is_over) {
                self.host.retire(shared.number);
            }
            SendError {
                unprocessed: unprocessed.is_some(),
                error,
                unsent,
            }
        })
    }

    /// The response was read to its end: the connection may carry the next request.
    pub(crate) fn give_back(&mut self) {
        let Some(sender) = self.sender.take() else {
            return;
        };
        if sender.is_closed() {
            return;
        }
        let mut idle = self.host.idle.borrow_mut();
        if idle.len() >= MOST_IDLE {
            idle.remove(0);
        }
        idle.push(Idle {
            sender,
            since: Instant::now(),
            local: self.local,
        });
    }
}
