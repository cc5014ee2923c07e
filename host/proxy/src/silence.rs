//! Silence: how long an upstream may say nothing, or take nothing of what is sent to it (`timeouts.read`, `timeouts.send`).
//!
//! Unlike a limit for the whole exchange, a silence begins anew with every byte, so that streams live as long as they are spoken on
//! (nginx's `proxy_read_timeout` and `proxy_send_timeout`). Whoever waits for the client waits for nobody's silence.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tidegate_model::Timeouts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::{Body, BodyError};

/// The limits of a rule, and how far a request to its upstream has come.
pub(crate) struct Silence {
    read: Option<Duration>,
    send: Option<Duration>,
    progress: Rc<Progress>,
}

struct Progress {
    turn: Cell<Turn>,
    since: Cell<Instant>,
}

/// Who is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The upstream, to take what there is.
    Taking,
    /// The client, to send more.
    Client,
    /// The upstream, to answer: it has everything.
    Answer,
}

/// A request's body on its way to an upstream.
pub(crate) struct Watched {
    pub(crate) source: Body,
    progress: Rc<Progress>,
}

/// A response's body that must not be silent for longer than this.
pub(crate) struct ReadLimit {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// One side of a tunnel; notes when it was last heard.
pub(crate) struct Heard<T> {
    io: T,
    last: Rc<Cell<Instant>>,
}

// === impl Silence ===

impl Silence {
    /// Watches a request's body, where the rule has limits.
    pub(crate) fn on(timeouts: &Timeouts, body: Body) -> (Option<Self>, Body) {
        let Timeouts { read, send, .. } = *timeouts;
        if read.is_none() && send.is_none() {
            return (None, body);
        }
        let turn = match body.is_end_stream() {
            true => Turn::Answer,
            false => Turn::Taking,
        };
        let progress = Rc::new(Progress {
            turn: Cell::new(turn),
            since: Cell::new(Instant::now()),
        });
        let body = match turn {
            Turn::Answer => body,
            _ => Body::Watched(Box::new(Watched {
                source: body,
                progress: progress.clone(),
            })),
        };
        let silence = Self {
            read,
            send,
            progress,
        };
        (Some(silence), body)
    }

    /// Awaits the answer to a request that is sent now, or the end of the upstream's time.
    ///
    /// # Errors
    /// How long it was silent.
    pub(crate) async fn during<T>(&self, sending: impl Future<Output = T>) -> Result<T, Duration> {
        self.progress.since.set(Instant::now());
        let mut sending = pin!(sending);
        tokio::select! {
            biased;
            sent = sending.as_mut() => Ok(sent),
            limit = self.passed() => Err(limit),
        }
    }

    async fn passed(&self) -> Duration {
        // Nobody sleeps past the shortest limit, so that a turn that begins meanwhile is seen in time.
        let shortest = self.read.into_iter().chain(self.send).min();
        let step = shortest.unwrap_or(Duration::from_secs(1));
        loop {
            let limit = match self.progress.turn.get() {
                Turn::Taking => self.send,
                Turn::Client => None,
                Turn::Answer => self.read,
            };
            let passed = self.progress.since.get().elapsed();
            let left = match limit {
                Some(limit) if passed >= limit => return limit,
                Some(limit) => limit - passed,
                None => step,
            };
            tokio::time::sleep(left.min(step)).await;
        }
    }
}

impl Watched {
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.source).poll_frame(cx);
        let turn = match &polled {
            Poll::Pending => Turn::Client,
            Poll::Ready(Some(Ok(_))) if !self.source.is_end_stream() => Turn::Taking,
            Poll::Ready(_) => Turn::Answer,
        };
        self.progress.turn.set(turn);
        self.progress.since.set(Instant::now());
        polled
    }
}

// === impl ReadLimit ===

impl ReadLimit {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, sleep: None }
    }

    /// Something came: the next silence begins when somebody waits again.
    pub(crate) fn heard(&mut self) {
        self.sleep = None;
    }

    /// Nothing has come yet; ready once that has been so for too long.
    pub(crate) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        sleep.as_mut().poll(cx)
    }
}

// === impl Heard ===

impl<T> Heard<T> {
    pub(crate) fn new(io: T, last: &Rc<Cell<Instant>>) -> Self {
        Self {
            io,
            last: last.clone(),
        }
    }
}

/// Returns once nobody was heard for so long.
pub(crate) async fn silent(last: &Cell<Instant>, limit: Option<Duration>) {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    while last.get().elapsed() < limit {
        sleep_until(last.get() + limit).await;
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buffer));
        self.last.set(Instant::now());
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeouts(read: u64, send: u64) -> Timeouts {
        Timeouts {
            read: Some(Duration::from_secs(read)),
            send: Some(Duration::from_secs(send)),
            ..Timeouts::default()
        }
    }

    async fn time<T>(silence: &Silence, sending: impl Future<Output = T>) -> (Option<T>, u64) {
        let start = Instant::now();
        let outcome = silence.during(sending).await.ok();
        (outcome, start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_must_come_in_time() {
        let (silence, _) = Silence::on(&timeouts(3, 7), Body::Empty);
        let silence = silence.expect("limits");
        assert_eq!(
            time(&silence, std::future::pending::<()>()).await,
            (None, 3)
        );
        let answer = tokio::time::sleep(Duration::from_secs(2));
        assert_eq!(time(&silence, answer).await, (Some(()), 2));
        assert!(Silence::on(&Timeouts::default(), Body::Empty).0.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_upstream_does_not_take_has_a_limit_of_its_own() {
        let (silence, _body) = Silence::on(&timeouts(3, 7), Body::Full(Bytes::from_static(b"a")));
        let silence = silence.expect("limits");
        assert_eq!(
            time(&silence, std::future::pending::<()>()).await,
            (None, 7)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_not_the_upstreams_silence() {
        let (mut sender, channel) = http_body_util::channel::Channel::new(1);
        let (silence, mut body) = Silence::on(&timeouts(3, 2), Body::Channel(channel));
        let silence = silence.expect("limits");
        let client = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                sender
                    .send_data(Bytes::from_static(b"a"))
                    .await
                    .expect("read");
            }
            drop(sender);
            std::future::pending::<()>().await;
        };
        let upstream = async {
            while let Some(frame) =
                std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
            {
                frame.expect("a piece");
            }
            std::future::pending::<()>().await;
        };
        let both = async { tokio::join!(client, upstream) };
        // Thirty seconds of the client's, then three of the upstream's.
        assert_eq!(time(&silence, both).await.1, 33);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_lives_while_somebody_speaks() {
        let start = Instant::now();
        let last = Rc::new(Cell::new(start));
        let speaker = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(4)).await;
                last.set(Instant::now());
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = speaker => {}
            () = silent(&last, Some(Duration::from_secs(5))) => {}
        }
        assert_eq!(start.elapsed().as_secs(), 17);
    }
}
