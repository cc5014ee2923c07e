//! Upstreams: they answer as a case says, and remember what they were asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::case::{GrpcReply, Reply};
use crate::grpc;
use crate::journal::Journal;
use crate::message::{Message, Reader};

/// A server of one case in one host.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
    accepting: AbortHandle,
}

#[derive(Debug)]
pub(crate) struct State {
    replies: Vec<Reply>,
    pub(crate) turn: AtomicUsize,
    seen: Mutex<Vec<Message>>,
    pub(crate) journal: Arc<Journal>,
    /// Filters whose lines say that a piece was digested.
    pub(crate) plugins: Vec<String>,
}

impl Upstream {
    /// Listens on a free port and gives these replies in turn.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(replies: Vec<Reply>, journal: Arc<Journal>, plugins: Vec<String>) -> Self {
        Self::serving(replies, journal, plugins, serve).await
    }

    /// The same for gRPC.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn grpc(
        replies: Vec<GrpcReply>,
        journal: Arc<Journal>,
        plugins: Vec<String>,
    ) -> Self {
        Self::serving(Vec::new(), journal, plugins, move |stream, state| {
            grpc::serve(stream, state, replies.clone())
        })
        .await
    }

    async fn serving<F>(
        replies: Vec<Reply>,
        journal: Arc<Journal>,
        plugins: Vec<String>,
        serve: impl Fn(TcpStream, Arc<State>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            replies,
            turn: AtomicUsize::new(0),
            seen: Mutex::default(),
            journal,
            plugins,
        });
        let shared = state.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self {
            address,
            state,
            accepting: accepting.abort_handle(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was sent, in the order of its beginnings.
    pub fn seen(&self) -> Vec<Message> {
        self.state.seen().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl State {
    pub(crate) fn seen(&self) -> MutexGuard<'_, Vec<Message>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let mut reader = Reader::new(stream);
    while let Some(mut message) = reader.head().await {
        let at = {
            let mut seen = state.seen();
            seen.push(message.clone());
            seen.len() - 1
        };
        reader
            .request_body(&mut message, |message| state.seen()[at] = message.clone())
            .await;
        if !message.complete {
            return;
        }
        let turn = state.turn.fetch_add(1, Ordering::Relaxed);
        let reply = &state.replies[turn.min(state.replies.len() - 1)];
        if reply.drops {
            return;
        }
        if reply.silent {
            // Until the other side gives up.
            while reader.head().await.is_some() {}
            return;
        }
        let method = message.line.split(' ').next().unwrap_or_default();
        let written = answer(reply, method, reader.stream(), &state).await;
        if written.is_err() || reply.raw.is_some() {
            return;
        }
    }
}

async fn answer(
    reply: &Reply,
    method: &str,
    stream: &mut TcpStream,
    state: &State,
) -> std::io::Result<()> {
    if let Some(raw) = &reply.raw {
        stream.write_all(raw.as_bytes()).await?;
        return stream.shutdown().await;
    }
    let body = reply
        .body
        .as_ref()
        .map(crate::bytes::Content::bytes)
        .unwrap_or_default();
    let mut head = format!("{}HTTP/1.1 {} Fine\r\n", reply.before, reply.status);
    for field in &reply.headers {
        head.push_str(&format!("{field}\r\n"));
    }
    let says_length = reply
        .headers
        .iter()
        .any(|field| field.to_ascii_lowercase().starts_with("content-length"));
    if !reply.chunks.is_empty() {
        head.push_str("transfer-encoding: chunked\r\n");
    } else if !matches!(reply.status, 204 | 304) && !says_length {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let before = state.journal.count(&state.plugins);
    let mut first = head.into_bytes();
    if reply.chunks.is_empty() && method != "HEAD" && !matches!(reply.status, 204 | 304) {
        first.extend(body);
    }
    stream.write_all(&first).await?;
    if reply.chunks.is_empty() || method == "HEAD" {
        return Ok(());
    }
    state.journal.digested(&state.plugins, before).await;
    for chunk in &reply.chunks {
        let before = state.journal.count(&state.plugins);
        stream.write_all(&chunked(&chunk.bytes())).await?;
        state.journal.digested(&state.plugins, before).await;
    }
    stream.write_all(&last_chunk(&reply.trailers)).await
}

/// A chunk with its framing.
pub fn chunked(data: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", data.len()).into_bytes();
    out.extend(data);
    out.extend(b"\r\n");
    out
}

/// The end of a chunked body.
pub fn last_chunk(trailers: &[String]) -> Vec<u8> {
    let trailers: String = trailers
        .iter()
        .map(|trailer| format!("{trailer}\r\n"))
        .collect();
    format!("0\r\n{trailers}\r\n").into_bytes()
}
