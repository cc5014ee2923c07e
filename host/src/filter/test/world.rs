//! The world around a run: an upstream and the places that the filter calls, which answer as the case says and note what they got.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_filter_cases::{Answer, Body, Call, Exchange, Failure, Head, Observed, Response};
use tidegate_loopback::message::{Message, Reader};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::cut::Cut;
use super::grpc;
use super::plan::Run;

/// The servers of a run. They end when it is dropped.
pub(crate) struct World {
    pub(crate) script: Arc<Script>,
    pub(crate) upstream: SocketAddr,
    /// Clusters by name: where they are, and whether gRPC is spoken there.
    pub(crate) clusters: Vec<(String, SocketAddr, bool)>,
    accepting: Vec<AbortHandle>,
}

/// What is answered, and what was asked.
pub(crate) struct Script {
    cut: Cut,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    upstream: Response,
    calls: VecDeque<Call>,
    seen: Option<Observed>,
    found: Vec<String>,
}

/// What a server does.
enum Reply {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        pieces: Vec<Vec<u8>>,
    },
    /// The connection ends without an answer.
    Close,
    /// No answer comes.
    Silence,
}

/// Whose server it is.
#[derive(Clone)]
pub(crate) enum Place {
    Upstream,
    Cluster(Arc<str>),
}

// === impl World ===

impl World {
    /// Starts them on free ports.
    pub(crate) async fn start(run: &Run<'_>) -> std::io::Result<Self> {
        let script = Arc::new(Script {
            cut: run.cut,
            state: Mutex::default(),
            changed: Notify::new(),
        });
        let mut world = Self {
            script,
            upstream: SocketAddr::from(([127, 0, 0, 1], 0)),
            clusters: Vec::new(),
            accepting: Vec::new(),
        };
        world.upstream = world.listen(Place::Upstream, false).await?;
        for (name, &speaks_grpc) in &run.clusters {
            let place = Place::Cluster(name.as_str().into());
            let address = world.listen(place, speaks_grpc).await?;
            world.clusters.push((name.clone(), address, speaks_grpc));
        }
        Ok(world)
    }

    async fn listen(&mut self, place: Place, speaks_grpc: bool) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let script = self.script.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Pieces are to go out as they are written; where that cannot be had, they are only fewer.
                let _ = stream.set_nodelay(true);
                let (script, place) = (script.clone(), place.clone());
                if speaks_grpc {
                    tokio::spawn(grpc::serve(stream, script, place));
                } else {
                    tokio::spawn(serve(stream, script, place));
                }
            }
        });
        self.accepting.push(accepting.abort_handle());
        Ok(address)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for accepting in &self.accepting {
            accepting.abort();
        }
    }
}

// === impl Script ===

impl Script {
    /// Begins an exchange.
    pub(crate) fn begin(&self, exchange: &Exchange) {
        *self.state() = State {
            upstream: exchange.upstream.clone().unwrap_or_default(),
            calls: exchange.calls.iter().cloned().collect(),
            ..State::default()
        };
    }

    /// Whether everything that is to be called was called, and the upstream asked if `upstream` says so.
    pub(crate) fn is_over(&self, upstream: bool) -> bool {
        let state = self.state();
        state.calls.is_empty() && (!upstream || state.seen.is_some())
    }

    /// Waits until something was asked.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Ends the exchange: what the upstream got, and what is not as expected of the calls.
    pub(crate) fn end(&self) -> (Option<Observed>, Vec<String>) {
        let mut state = self.state();
        let State {
            seen,
            calls,
            mut found,
            ..
        } = std::mem::take(&mut *state);
        for call in calls {
            found.push(format!("no call to {:?} was made", call.cluster));
        }
        (seen, found)
    }

    /// The call that is expected at this place now. What is unexpected is noted.
    pub(crate) fn next_call(&self, place: &str, made: &Observed) -> Option<Call> {
        let mut state = self.state();
        let next = state.calls.pop_front();
        match &next {
            None => state
                .found
                .push(format!("an unexpected call to {place:?}: {made:?}")),
            Some(call) if call.cluster != place => {
                let expected = &call.cluster;
                let line = format!("a call to {place:?}, expected one to {expected:?}");
                state.found.push(line);
            }
            Some(call) => made.against_request("call", &call.expect, &mut state.found),
        }
        drop(state);
        self.changed.notify_waiters();
        next
    }

    /// Notes what is not as expected.
    pub(crate) fn found(&self, lines: Vec<String>) {
        self.state().found.extend(lines);
    }

    fn reply(&self, place: &Place, made: Observed) -> Reply {
        match place {
            Place::Upstream => {
                let mut state = self.state();
                if state.seen.replace(made).is_some() {
                    state
                        .found
                        .push("the upstream got a second request".to_owned());
                }
                let reply = Reply::of(
                    state.upstream.status,
                    &state.upstream.headers,
                    state.upstream.body.as_ref(),
                    self.cut,
                );
                drop(state);
                self.changed.notify_waiters();
                reply
            }
            Place::Cluster(name) => match self.next_call(name, &made) {
                None => Reply::of(500, &[].into(), None, Cut::Written),
                Some(call) => Reply::to_call(&call.answer),
            },
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Reply ===

impl Reply {
    fn of(
        status: u16,
        headers: &std::collections::BTreeMap<String, Head>,
        body: Option<&Body>,
        cut: Cut,
    ) -> Self {
        let named = |(name, values): (&String, &Head)| {
            let values = values.values();
            let name = name.clone();
            values.into_iter().map(move |value| (name.clone(), value))
        };
        Self::Answer {
            status,
            headers: headers.iter().flat_map(named).collect(),
            pieces: body.map(|body| cut.pieces(body)).unwrap_or_default(),
        }
    }

    fn to_call(answer: &Answer) -> Self {
        match answer.fails {
            Some(Failure::Unreachable) => Self::Close,
            Some(Failure::Timeout) => Self::Silence,
            None => Self::of(
                answer.status.unwrap_or(200),
                &answer.headers,
                answer.body.as_ref(),
                Cut::Written,
            ),
        }
    }
}

/// Serves a connection in HTTP/1.
async fn serve(stream: TcpStream, script: Arc<Script>, place: Place) {
    let mut reader = Reader::new(stream);
    while let Some(mut message) = reader.head().await {
        reader.request_body(&mut message, |_| ()).await;
        if !message.complete {
            return;
        }
        let method = message
            .line
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned();
        let written = match script.reply(&place, observed_request(&message)) {
            Reply::Close => return,
            Reply::Silence => {
                // Until the other side gives up.
                while reader.head().await.is_some() {}
                return;
            }
            Reply::Answer {
                status,
                headers,
                pieces,
            } => answer(reader.stream(), &method, status, &headers, &pieces).await,
        };
        if written.is_err() {
            return;
        }
    }
}

async fn answer(
    stream: &mut TcpStream,
    method: &str,
    status: u16,
    headers: &[(String, String)],
    pieces: &[Vec<u8>],
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Fine\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let has_body = !matches!(status, 204 | 304);
    let says_length = is_there(headers, "content-length");
    let says_chunked = is_there(headers, "transfer-encoding");
    let chunked = has_body && !says_length && (says_chunked || pieces.len() > 1);
    if chunked && !says_chunked {
        head.push_str("transfer-encoding: chunked\r\n");
    } else if has_body && !says_length && !chunked {
        let length: usize = pieces.iter().map(Vec::len).sum();
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    if !has_body || method == "HEAD" {
        return Ok(());
    }
    write_pieces(stream, pieces, chunked).await
}

/// Writes a body, each piece by itself.
pub(crate) async fn write_pieces(
    stream: &mut (impl AsyncWriteExt + Unpin),
    pieces: &[Vec<u8>],
    chunked: bool,
) -> std::io::Result<()> {
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        if chunked {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend(piece);
            chunk.extend(b"\r\n");
            stream.write_all(&chunk).await?;
        } else {
            stream.write_all(piece).await?;
        }
        stream.flush().await?;
        // Lets whoever reads have it by itself. Chunks stay apart in any case.
        tokio::task::yield_now().await;
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").await?;
        stream.flush().await?;
    }
    Ok(())
}

/// Whether a header is among these.
pub(crate) fn is_there(headers: &[(String, String)], name: &str) -> bool {
    headers
        .iter()
        .any(|(known, _)| known.eq_ignore_ascii_case(name))
}

fn observed_request(message: &Message) -> Observed {
    let mut line = message.line.split(' ');
    let mut headers = vec![
        (
            ":method".to_owned(),
            line.next().unwrap_or_default().to_owned(),
        ),
        (
            ":path".to_owned(),
            line.next().unwrap_or_default().to_owned(),
        ),
        (
            ":authority".to_owned(),
            message.field("host").unwrap_or_default().to_owned(),
        ),
    ];
    headers.extend(fields(message));
    Observed {
        headers,
        body: String::from_utf8_lossy(&message.body).into_owned(),
    }
}

/// Fields with names in lower case.
pub(crate) fn fields(message: &Message) -> impl Iterator<Item = (String, String)> {
    message
        .fields
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
}
