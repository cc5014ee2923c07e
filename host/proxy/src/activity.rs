//! How long a connection has been waiting for its client, at the cost of one store for each read or write.
//!
//! A timer for each request would cost more than the routing of it. So every connection notes the second of its last bytes, and the
//! worker looks at all of them once a second.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::Limits;

/// Bytes of a head that are kept; a longer one counts as unknown beyond.
const MOST_HEAD: usize = 64 << 10;

/// Seconds since the worker began; it advances once a second.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU32>);

/// What is noted of one connection.
pub(crate) struct Activity {
    clock: Clock,
    /// When bytes last went in or out.
    moved: AtomicU32,
    /// Since when no exchange is on.
    idle_since: AtomicU32,
    /// Whether bytes came in since then: the beginning of a request.
    has_begun: AtomicU32,
    exchanges: AtomicU32,
    /// The bytes that came since the last exchange: the next request's head as the client wrote it.
    head: Mutex<Vec<u8>>,
}

/// Reads and writes, noting when.
pub(crate) struct Watched<S> {
    io: S,
    activity: Arc<Activity>,
    /// Whether bytes between exchanges are the beginning of a request: HTTP/2 has frames of its own there.
    is_http1: bool,
}

/// Why a connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// No request came.
    Idle,
    /// A request's head did not come to its end.
    Head,
    /// An exchange stands still.
    Body,
}

impl Clock {
    pub(crate) fn tick(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Activity {
    pub(crate) fn new(clock: &Clock) -> Arc<Self> {
        let now = clock.now();
        Arc::new(Self {
            clock: clock.clone(),
            moved: AtomicU32::new(now),
            idle_since: AtomicU32::new(now),
            has_begun: AtomicU32::new(0),
            exchanges: AtomicU32::new(0),
            head: Mutex::default(),
        })
    }

    /// An exchange begins.
    pub(crate) fn begin(&self) {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
    }

    /// The head of the request that has begun is read; what it was is no longer needed.
    pub(crate) fn forget_head(&self) {
        self.head
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// An exchange is over.
    pub(crate) fn end(&self) {
        if self.exchanges.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.idle_since.store(self.clock.now(), Ordering::Relaxed);
            self.has_begun.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the connection has kept us waiting for too long.
    pub(crate) fn overdue(&self, limits: &Limits) -> Option<Overdue> {
        let now = self.clock.now();
        let since = |mark: &AtomicU32| {
            Duration::from_secs(u64::from(now.wrapping_sub(mark.load(Ordering::Relaxed))))
        };
        if self.exchanges.load(Ordering::Relaxed) > 0 {
            return (since(&self.moved) > limits.body_idle).then_some(Overdue::Body);
        }
        let idle = since(&self.idle_since);
        if self.has_begun.load(Ordering::Relaxed) == 1 {
            return (idle > limits.head_timeout).then_some(Overdue::Head);
        }
        (idle > limits.idle_timeout).then_some(Overdue::Idle)
    }

    fn keep_head(&self, bytes: &[u8]) {
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST_HEAD.saturating_sub(head.len());
        head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Whether the request that begins now came with a `Content-Length`, which the parser drops where `Transfer-Encoding` stands
    /// beside it. `None`: its bytes came behind another request's, so nobody knows.
    pub(crate) fn head_has_content_length(&self) -> Option<bool> {
        let head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        (!head.is_empty()).then(|| has_content_length(&head))
    }

    fn moved(&self) {
        self.moved.store(self.clock.now(), Ordering::Relaxed);
    }
}

impl<S> Watched<S> {
    pub(crate) fn new(io: S, activity: Arc<Activity>, is_http1: bool) -> Self {
        Self {
            io,
            activity,
            is_http1,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.activity.moved();
        if self.is_http1 && self.activity.exchanges.load(Ordering::Relaxed) == 0 {
            self.activity.has_begun.store(1, Ordering::Relaxed);
            self.activity.keep_head(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        self.activity.moved();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs));
        self.activity.moved();
        Poll::Ready(written)
    }
}

/// The bytes of a head hold a `Content-Length` field, whatever its value.
fn has_content_length(head: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    // A head ends at an empty line; what follows is body.
    let end = head
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or(head.len());
    head[..end]
        .split(|byte| *byte == b'\n')
        .skip(1)
        .any(|line| {
            line.len() > NAME.len()
                && line[..NAME.len()].eq_ignore_ascii_case(NAME)
                && line[NAME.len()] == b':'
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_length_is_seen_in_every_case_and_only_in_the_head() {
        let seen = |head: &str| has_content_length(head.as_bytes());
        assert!(seen(
            "POST / HTTP/1.1\r\nHost: a\r\ncOntent-Length: 3\r\n\r\nabc"
        ));
        assert!(seen("POST / HTTP/1.1\nContent-Length:3\n"));
        assert!(!seen(
            "POST /content-length: HTTP/1.1\r\nX: content-length: 3\r\n\r\ncontent-length: 3\r\n"
        ));
    }

    fn after(clock: &Clock, seconds: u32) {
        (0..seconds).for_each(|_| clock.tick());
    }

    #[test]
    fn each_kind_of_waiting_has_its_limit() {
        let clock = Clock::default();
        let limits = Limits::default();
        let seconds = |duration: Duration| u32::try_from(duration.as_secs()).expect("small");
        let activity = Activity::new(&clock);
        after(&clock, seconds(limits.head_timeout) + 1);
        assert_eq!(activity.overdue(&limits), None, "nothing was begun");
        activity.has_begun.store(1, Ordering::Relaxed);
        assert_eq!(
            activity.overdue(&limits),
            Some(Overdue::Head),
            "a slow head, whenever its bytes came"
        );
        activity.begin();
        activity.moved();
        after(&clock, seconds(limits.body_idle));
        assert_eq!(activity.overdue(&limits), None);
        after(&clock, 1);
        assert_eq!(activity.overdue(&limits), Some(Overdue::Body));
        activity.end();
        assert_eq!(activity.overdue(&limits), None);
        after(&clock, seconds(limits.idle_timeout) + 1);
        assert_eq!(activity.overdue(&limits), Some(Overdue::Idle));
    }
}
