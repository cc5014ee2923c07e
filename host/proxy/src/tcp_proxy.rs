//! Streams over TCP: bytes go from client to backend and back as they come. Each direction ends by itself: who has said all may
//! go on listening.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{
    AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional_with_sizes,
};
use tokio::net::TcpStream;

use crate::layer4::{Destination, End, Record};
use crate::silence::silent;
use crate::upstream::Opened;

/// Bytes of each direction's buffer.
const BUFFER: usize = 16 << 10;

/// The client's side, which notes what goes through it.
struct Metered<'a, S> {
    io: S,
    record: &'a Record,
}

/// Serves a connection to its end; `seen` is what has been read of it already.
pub(crate) async fn serve<S>(
    record: &Record,
    client: S,
    seen: &[u8],
    destination: Destination,
    idle: Duration,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    record.received(seen.len());
    let connected = destination
        .connect(record, |host, timeout| async move {
            host.open_stream(timeout).await
        })
        .await;
    let (host, opened) = match connected {
        Ok(connected) => connected,
        Err(end) => return record.end.set(end),
    };
    let _active = host.begin();
    let client = Metered { io: client, record };
    let end = match opened {
        Opened::Plain(upstream) => pass_on(client, upstream, seen, record, idle).await,
        Opened::Tls(upstream) => pass_on(client, *upstream, seen, record, idle).await,
    };
    record.end.set(end);
}

async fn pass_on<C, U>(
    mut client: C,
    mut upstream: U,
    seen: &[u8],
    record: &Record,
    idle: Duration,
) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let copying = async {
        upstream.write_all(seen).await?;
        copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await
    };
    tokio::select! {
        copied = copying => match copied {
            Ok(_) => End::Closed,
            Err(error) => {
                tracing::debug!(peer = %record.peer, %error, "stream broke");
                End::Reset
            }
        },
        () = silent(&record.last, Some(idle)) => End::Idle,
    }
}

/// Refuses a connection so that the client knows at once: a reset, where closing would look like the end of an answer.
pub(crate) fn refuse(stream: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "refused connection is closed without a reset");
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        self.record.received(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.record.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
