//! The request of an exchange.

use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;

use crate::hostcalls::{self, Direction};
use crate::runtime::Stream;
use crate::{Headers, Reply, address, log, property};

/// The request that a filter decides about.
pub struct Request {
    stream: Rc<Stream>,
}

/// Why a body cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is longer than the filter takes.
    TooLarge {
        /// Bytes that would have been taken.
        max: usize,
    },
}

/// A piece of a body on its way.
pub struct Chunk {
    direction: Direction,
    end_of_stream: bool,
}

// === impl Request ===

impl Request {
    pub(crate) fn new(stream: Rc<Stream>) -> Self {
        Self { stream }
    }

    /// The headers, pseudo-headers among them.
    #[must_use]
    pub fn headers(&self) -> Headers {
        Headers::REQUEST
    }

    /// `:method`.
    #[must_use]
    pub fn method(&self) -> Vec<u8> {
        self.headers().get(":method").unwrap_or_default()
    }

    /// `:path`: path and query.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        self.headers().get(":path").unwrap_or_default()
    }

    /// `:authority`: host, and port if it was given.
    #[must_use]
    pub fn authority(&self) -> Vec<u8> {
        self.headers().get(":authority").unwrap_or_default()
    }

    /// `:scheme`: `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> Vec<u8> {
        self.headers().get(":scheme").unwrap_or_default()
    }

    /// The client's address behind `trusted_hops` proxies, see [`address::client`].
    #[must_use]
    pub fn client_address(&self, trusted_hops: u32) -> Option<IpAddr> {
        let peer = property::address(&["source", "address"]);
        let forwarded_for = match trusted_hops {
            0 => Vec::new(),
            _ => self.headers().values("x-forwarded-for"),
        };
        address::client(peer, &forwarded_for, trusted_hops)
    }

    /// Whether a body follows. One of length zero may.
    #[must_use]
    pub fn has_body(&self) -> bool {
        !self.stream.side(Direction::Request).has_ended()
    }

    /// The whole body, held back until this filter is done. The head goes on its way while it arrives (hosts send no body before
    /// that), so headers cannot be changed afterwards; a response that comes early is held. Once for each request.
    ///
    /// # Errors
    ///
    /// More than `max` bytes. The host's own limit may be lower, and then the host answers.
    pub async fn body(&self, max: usize) -> Result<Vec<u8>, BodyError> {
        self.read(max, false).await
    }

    /// The same with the head held back, too: for hosts that are told to send bodies past a head that waits
    /// (`headersWaitForBody`, in Envoy `allow_on_headers_stop_iteration`). Others never go on from here.
    ///
    /// # Errors
    ///
    /// As for [`body`](Self::body).
    pub async fn body_before_head(&self, max: usize) -> Result<Vec<u8>, BodyError> {
        self.read(max, true).await
    }

    async fn read(&self, max: usize, hold_head: bool) -> Result<Vec<u8>, BodyError> {
        let side = self.stream.with_body(Direction::Request);
        poll_fn(|_| side.poll_body(max, hold_head)).await
    }

    /// Shows `watcher` each piece of the body as it passes, the last one marked; its error is the reply that ends the exchange.
    /// One for each request. It sees no piece that this filter holds back.
    pub fn watch_body(&self, watcher: impl FnMut(&mut Chunk) -> Result<(), Reply> + 'static) {
        self.stream
            .with_body(Direction::Request)
            .set_watcher(Box::new(watcher));
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("context", &self.stream.context())
            .finish()
    }
}

// === impl Chunk ===

impl Chunk {
    pub(crate) fn new(direction: Direction, end_of_stream: bool) -> Self {
        Self {
            direction,
            end_of_stream,
        }
    }

    /// The bytes, fetched from the host.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        hostcalls::buffer(self.direction.buffer())
    }

    /// Whether it is the last one.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.end_of_stream
    }

    /// Puts other bytes in its place. `content-length` has to be removed from the head before.
    pub fn replace(&mut self, bytes: &[u8]) {
        if let Err(status) = hostcalls::replace_buffer(self.direction.buffer(), bytes) {
            log::refused("to change a body", status);
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk")
            .field("is_last", &self.end_of_stream)
            .finish()
    }
}

// === impl BodyError ===

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { max } => write!(f, "the body is longer than {max} bytes"),
        }
    }
}

impl std::error::Error for BodyError {}

/// The host's answer to a body that is too long, for filters that have no other.
impl From<BodyError> for Reply {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { .. } => Self::new(413).body("Payload Too Large\n"),
        }
    }
}
