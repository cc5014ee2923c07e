//! One client connection: TLS, the choice between HTTP/1 and HTTP/2, and its end.

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tidegate_model::Protocol;
use tidegate_wasm::ConnectionAttributes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;

use crate::activity::{Activity, Watched};
use crate::clients::ClientSettings;
use crate::exchange;
use crate::forwarded::Peer;
use crate::gather::Gather;
use crate::local::LocalExecutor;
use crate::worker::{ListenerKey, Worker};

/// What requests of a connection have in common.
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) listener: ListenerKey,
    pub(crate) peer: SocketAddr,
    pub(crate) peer_text: String,
    pub(crate) forwarded: Peer,
    pub(crate) local: SocketAddr,
    pub(crate) id: u64,
    pub(crate) scheme: Scheme,
    pub(crate) tls: Option<TlsInfo>,
    pub(crate) settings: Rc<ClientSettings>,
    pub(crate) activity: Arc<Activity>,
    /// Made when the first filter asks.
    pub(crate) attributes: OnceCell<Arc<ConnectionAttributes>>,
}

/// A connection as it was accepted.
pub(crate) struct Accepted {
    pub(crate) listener: ListenerKey,
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) settings: Rc<ClientSettings>,
    pub(crate) activity: Arc<Activity>,
}

/// What the handshake told.
pub(crate) struct TlsInfo {
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) version: &'static str,
}

/// Counts a connection while it lives.
struct Counted<'a>(&'a Cell<usize>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, accepted: Accepted) {
    worker.connections.set(worker.connections.get() + 1);
    worker.metrics.count(&worker.metrics.connections);
    let _counted = Counted(&worker.connections);
    let peer = accepted.peer;
    if let Err(error) = accept(worker.clone(), accepted).await {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn accept(worker: Rc<Worker>, accepted: Accepted) -> Result<(), Failure> {
    let Accepted {
        listener,
        stream,
        peer,
        settings,
        activity,
    } = accepted;
    let limits = &settings.limits;
    let (head_timeout, handshake_timeout) = (limits.head_timeout, limits.handshake_timeout);
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let state = worker.state();
    let Some(protocol) = state.listener(&listener).map(|listener| listener.protocol) else {
        return Ok(());
    };
    let mut connection = Connection {
        id: worker.next_id(),
        worker: worker.clone(),
        listener,
        peer,
        peer_text: peer.to_string(),
        forwarded: Peer::new(peer),
        local,
        scheme: Scheme::HTTP,
        tls: None,
        settings,
        activity,
        attributes: OnceCell::new(),
    };
    match protocol {
        Protocol::Http => {
            let preface = tokio::time::timeout(head_timeout, starts_as_http2(&stream));
            let http2 = preface.await??;
            drop(state);
            speak(Rc::new(connection), Gather(stream), http2).await
        }
        Protocol::Https => {
            drop(state);
            let handshake = handshake(&worker, &mut connection, stream);
            let stream = tokio::time::timeout(handshake_timeout, handshake).await??;
            let Some(stream) = stream else { return Ok(()) };
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            connection.scheme = Scheme::HTTPS;
            speak(Rc::new(connection), stream, http2).await
        }
    }
}

/// TLS with the configuration of the listener that the name leads to; `None` where no listener has the name.
async fn handshake(
    worker: &Worker,
    connection: &mut Connection,
    stream: TcpStream,
) -> Result<Option<tokio_rustls::server::TlsStream<TcpStream>>, Failure> {
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    let name: Option<Arc<str>> = start
        .client_hello()
        .server_name()
        .map(|name| name.to_ascii_lowercase().into());
    let config = {
        let state = worker.state();
        let listener = state.listener(&connection.listener);
        let host =
            listener.and_then(|listener| listener.hosts.find(name.as_deref().unwrap_or_default()));
        host.and_then(|host| host.tls.as_ref())
            .and_then(|tls| state.published.tls.get(tls))
            .cloned()
    };
    let Some(config) = config else {
        tracing::debug!(peer = %connection.peer, name = name.as_deref(), "no certificate for this name");
        return Ok(None);
    };
    let stream = start.into_stream(config).await?;
    let version = match stream.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    connection.tls = Some(TlsInfo {
        server_name: name,
        version,
    });
    Ok(Some(stream))
}

/// Whether the first bytes are HTTP/2's preface (RFC 9113 section 3.4). No HTTP/1 method begins with `PRI `.
async fn starts_as_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut start = [0; 4];
    loop {
        let seen = stream.peek(&mut start).await?;
        if seen == start.len() || seen == 0 || start[..seen] != b"PRI "[..seen] {
            return Ok(start == *b"PRI ");
        }
        // A first packet of one to three bytes; peeking would return it again at once.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn speak<S>(connection: Rc<Connection>, stream: S, http2: bool) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let settings = connection.settings.clone();
    let draining = connection.worker.draining.clone();
    let io = TokioIo::new(Watched::new(stream, connection.activity.clone(), !http2));
    let service = service_fn(move |request| exchange::serve(connection.clone(), request));
    // A drain lets requests in flight end: HTTP/1 closes after the answer, HTTP/2 sends GOAWAY.
    if http2 {
        let mut serving = std::pin::pin!(settings.http2.serve_connection(io, service));
        tokio::select! {
            ended = serving.as_mut() => return Ok(ended?),
            () = draining.cancelled() => serving.as_mut().graceful_shutdown(),
        }
        Ok(serving.await?)
    } else {
        let mut serving =
            std::pin::pin!(settings.http1.serve_connection(io, service).with_upgrades());
        tokio::select! {
            ended = serving.as_mut() => return Ok(ended?),
            () = draining.cancelled() => serving.as_mut().graceful_shutdown(),
        }
        Ok(serving.await?)
    }
}

/// How HTTP/1 is spoken to clients.
pub(crate) fn http1(limits: &crate::config::Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Slow heads are found by `activity.rs`, without a timer for each request.
        .header_read_timeout(None)
        // The parser's own least.
        .max_buf_size(limits.head_bytes.max(8 << 10))
        .max_header_size(limits.head_bytes)
        .max_headers(limits.headers)
        // Not `pipeline_flush`: with it answers wait for the rest of a request that has only begun, the answer to a head that
        // cannot be parsed is never written, and nothing bounds what is buffered for a client that does not read.
        //
        // A client that shuts its writing side down has gone, as for Envoy and nginx: only so does the upstream hear of it.
        .half_close(false);
    builder
}

/// How HTTP/2 is spoken to clients; the bounds are Envoy's for the edge.
pub(crate) fn http2(limits: &crate::config::Limits) -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(1 << 20)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
