//! How long a connection has been waiting for its client, at the cost of one store for each read or write.
//!
//! A timer for each request would cost more than the routing of it. So every connection notes the second of its last bytes, and the
//! worker looks at all of them once a second.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::Limits;
use crate::framing::{Doubt, Framing};

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
    /// Whether a request has begun whose head has not ended.
    has_begun: AtomicU32,
    exchanges: AtomicU32,
    /// HTTP/1 requests that were taken so far.
    requests: AtomicU64,
    /// What the bytes of an HTTP/1 connection tell of its requests; see [`Doubt::to_word`].
    doubt: AtomicU64,
    waits: Waits,
}

/// How long the client may keep us waiting.
struct Waits {
    head: Duration,
    idle: Duration,
    body: Duration,
}

/// Reads and writes, noting when.
pub(crate) struct Watched<S> {
    io: S,
    activity: Arc<Activity>,
    /// HTTP/1 only: HTTP/2 has frames of its own.
    framing: Option<Framing>,
}

/// How an HTTP/1 request says its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lengths {
    /// In one way, or not at all.
    One,
    /// In two ways, of which the parser has dropped one.
    Two,
    /// Nobody knows, because where it begins is not known.
    Unknown,
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
    pub(crate) fn new(clock: &Clock, limits: &Limits) -> Arc<Self> {
        let now = clock.now();
        Arc::new(Self {
            clock: clock.clone(),
            moved: AtomicU32::new(now),
            idle_since: AtomicU32::new(now),
            has_begun: AtomicU32::new(0),
            exchanges: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            doubt: AtomicU64::new(0),
            waits: Waits {
                head: limits.head_timeout,
                idle: limits.idle_timeout,
                body: limits.body_idle,
            },
        })
    }

    /// An exchange begins.
    pub(crate) fn begin(&self) {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
    }

    /// An HTTP/1 request begins: how it says its length.
    pub(crate) fn next_lengths(&self) -> Lengths {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        match Doubt::from_word(self.doubt.load(Ordering::Relaxed)) {
            Some(Doubt::TwoLengths(at)) if at == number => Lengths::Two,
            Some(Doubt::TwoLengths(at) | Doubt::Lost(at)) if at <= number => Lengths::Unknown,
            _ => Lengths::One,
        }
    }

    /// The connection has left HTTP: its bytes are no requests any more.
    pub(crate) fn leave_http(&self) {
        self.doubt
            .store(Doubt::Lost(0).to_word(), Ordering::Relaxed);
    }

    /// An exchange is over.
    pub(crate) fn end(&self) {
        if self.exchanges.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.idle_since.store(self.clock.now(), Ordering::Relaxed);
        }
    }

    /// Whether the connection has kept us waiting for too long.
    pub(crate) fn overdue(&self) -> Option<Overdue> {
        let now = self.clock.now();
        let since = |mark: &AtomicU32| {
            Duration::from_secs(u64::from(now.wrapping_sub(mark.load(Ordering::Relaxed))))
        };
        if self.exchanges.load(Ordering::Relaxed) > 0 {
            return (since(&self.moved) > self.waits.body).then_some(Overdue::Body);
        }
        let idle = since(&self.idle_since);
        if self.has_begun.load(Ordering::Relaxed) == 1 {
            return (idle > self.waits.head).then_some(Overdue::Head);
        }
        (idle > self.waits.idle).then_some(Overdue::Idle)
    }

    /// Bytes of an HTTP/1 connection came in.
    fn came(&self, framing: &mut Framing, bytes: &[u8]) -> io::Result<()> {
        if self.doubt.load(Ordering::Relaxed) == 0
            && let Err(doubt) = framing.read(bytes)
        {
            if doubt == Doubt::NoHttp {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "no HTTP"));
            }
            self.doubt.store(doubt.to_word(), Ordering::Relaxed);
        }
        self.has_begun
            .store(u32::from(framing.is_in_head()), Ordering::Relaxed);
        Ok(())
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
            framing: is_http1.then(Framing::new),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        this.activity.moved();
        if let Some(framing) = &mut this.framing {
            this.activity.came(framing, &buf.filled()[before..])?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn after(clock: &Clock, seconds: u32) {
        (0..seconds).for_each(|_| clock.tick());
    }

    #[test]
    fn each_kind_of_waiting_has_its_limit() {
        let clock = Clock::default();
        let limits = Limits::default();
        let seconds = |duration: Duration| u32::try_from(duration.as_secs()).expect("small");
        let activity = Activity::new(&clock, &limits);
        after(&clock, seconds(limits.head_timeout) + 1);
        assert_eq!(activity.overdue(), None, "nothing was begun");
        activity.has_begun.store(1, Ordering::Relaxed);
        assert_eq!(
            activity.overdue(),
            Some(Overdue::Head),
            "a slow head, whenever its bytes came"
        );
        activity.has_begun.store(0, Ordering::Relaxed);
        activity.begin();
        activity.moved();
        after(&clock, seconds(limits.body_idle));
        assert_eq!(activity.overdue(), None);
        after(&clock, 1);
        assert_eq!(activity.overdue(), Some(Overdue::Body));
        activity.end();
        assert_eq!(activity.overdue(), None);
        after(&clock, seconds(limits.idle_timeout) + 1);
        assert_eq!(activity.overdue(), Some(Overdue::Idle));
    }
}
