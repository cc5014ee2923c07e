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
use rustls::pki_types::CertificateDer;
use tidegate_model::{Protocol, StreamTls};
use tidegate_wasm::ConnectionAttributes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::{StartHandshake, TlsStream};

use crate::activity::{Activity, Watched};
use crate::client_hello::{self, ClientHello};
use crate::clients::ClientSettings;
use crate::exchange;
use crate::forwarded::Peer;
use crate::gather::Gather;
use crate::layer4::{self, Destination, End, Record};
use crate::local::LocalExecutor;
use crate::tcp_proxy;
use crate::tls::ServerTls;
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
    /// The client's, if it was validated.
    pub(crate) client_certificate: Option<CertificateDer<'static>>,
}

/// What a ClientHello leads to.
enum Greeted {
    /// Requests, over TLS that ends here.
    Http(Arc<ServerTls>),
    /// Bytes for a backend; TLS ends here first where there are settings for it.
    Stream(Option<Arc<ServerTls>>, Destination),
    /// No route has the name.
    NoRoute,
    /// No listener has the name, or none with a certificate.
    Nobody,
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
    let Some(found) = state.listener(&listener) else {
        return Ok(());
    };
    if found.protocol == Protocol::Tcp {
        let streams = found.hosts.find("").and_then(|host| host.streams.as_ref());
        let rule = streams.and_then(|streams| streams.find(""));
        let destination = rule.map(|rule| Destination::choose(&worker, &state, rule));
        drop(state);
        let idle = settings.limits.stream_idle;
        // From here on nobody but the stream itself says how long it may last.
        drop(activity);
        let record = Record::new(worker, layer4::Protocol::Tcp, peer, local, None);
        pass_on(&record, stream, &[], destination, idle).await;
        return Ok(());
    }
    let is_tls = found.protocol.is_tls();
    drop(state);
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
    if is_tls {
        let deadline = tokio::time::Instant::now() + handshake_timeout;
        return greet(connection, stream, deadline).await;
    }
    let preface = tokio::time::timeout(head_timeout, starts_as_http2(&stream));
    let http2 = preface.await??;
    connection.scheme = Scheme::HTTP;
    speak(Rc::new(connection), Gather(stream), http2).await
}

/// Reads whom the client wants, and serves it there; `deadline` is the end of the handshake's time.
async fn greet(
    mut connection: Connection,
    mut stream: TcpStream,
    deadline: tokio::time::Instant,
) -> Result<(), Failure> {
    let reading = client_hello::read(&mut stream);
    let Some(hello) = tokio::time::timeout_at(deadline, reading).await?? else {
        return Ok(());
    };
    let name = hello.server_name.as_deref().unwrap_or_default();
    match greeted(&connection, name) {
        Greeted::Nobody => {
            tracing::debug!(peer = %connection.peer, name, "no listener with a certificate for this name");
            Ok(())
        }
        Greeted::Http(tls) => {
            let handshake = handshake(&tls, hello, stream);
            let (stream, info) = tokio::time::timeout_at(deadline, handshake).await??;
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            connection.tls = Some(info);
            connection.scheme = Scheme::HTTPS;
            speak(Rc::new(connection), stream, http2).await
        }
        Greeted::NoRoute => {
            let record = record(connection, &hello);
            pass_on(&record, stream, &hello.seen, None, Duration::ZERO).await;
            Ok(())
        }
        Greeted::Stream(None, destination) => {
            let idle = connection.settings.limits.stream_idle;
            let record = record(connection, &hello);
            pass_on(&record, stream, &hello.seen, Some(destination), idle).await;
            Ok(())
        }
        Greeted::Stream(Some(tls), destination) => {
            let idle = connection.settings.limits.stream_idle;
            let record = record(connection, &hello);
            record.end.set(End::Reset);
            let handshake = handshake(&tls, hello, stream);
            let (stream, _) = tokio::time::timeout_at(deadline, handshake).await??;
            record.end.set(End::Shutdown);
            tcp_proxy::serve(&record, stream, &[], destination, idle).await;
            Ok(())
        }
    }
}

/// What a stream is noted under, and the end of the connection's own watch: from here on nobody but the stream says how long it
/// may last.
fn record(connection: Connection, hello: &ClientHello) -> Record {
    Record::new(
        connection.worker,
        layer4::Protocol::Tls,
        connection.peer,
        connection.local,
        hello.server_name.clone(),
    )
}

/// Serves a stream as it came, or refuses it.
async fn pass_on(
    record: &Record,
    mut stream: TcpStream,
    seen: &[u8],
    destination: Option<Destination>,
    idle: Duration,
) {
    match destination {
        Some(destination) => {
            tcp_proxy::serve(record, &mut stream, seen, destination, idle).await;
        }
        None => record.end.set(End::NoRoute),
    }
    if record.end.get().is_failure() {
        tcp_proxy::refuse(&stream);
    }
}

/// Where a name leads.
fn greeted(connection: &Connection, name: &str) -> Greeted {
    let worker = &connection.worker;
    let state = worker.state();
    let listener = state.listener(&connection.listener);
    let Some(host) = listener.and_then(|listener| listener.hosts.find(name)) else {
        return Greeted::Nobody;
    };
    let tls = state.published.tls.get(host).cloned();
    let Some(streams) = &host.streams else {
        return tls.map_or(Greeted::Nobody, Greeted::Http);
    };
    let Some(rule) = streams.find(name) else {
        return Greeted::NoRoute;
    };
    let destination = || Destination::choose(worker, &state, rule);
    match (streams.tls, tls) {
        (StreamTls::Terminate, None) => Greeted::Nobody,
        (StreamTls::Terminate, tls) => Greeted::Stream(tls, destination()),
        (StreamTls::Passthrough | StreamTls::None, _) => Greeted::Stream(None, destination()),
    }
}

/// TLS with the configuration of the listener that the name leads to.
async fn handshake(
    tls: &ServerTls,
    hello: ClientHello,
    stream: TcpStream,
) -> Result<(TlsStream<TcpStream>, TlsInfo), Failure> {
    if !hello.is_all {
        return Err("bytes behind the first message, which nobody asked for".into());
    }
    let start = StartHandshake::from_parts(hello.accepted, stream);
    let stream = start.into_stream(tls.config.clone()).await?;
    let session = stream.get_ref().1;
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    let clients = tls.clients.as_ref();
    let client_certificate = clients.map(|clients| clients.validated(session));
    let info = TlsInfo {
        server_name: hello.server_name,
        version,
        client_certificate: client_certificate.transpose()?.flatten(),
    };
    Ok((stream, info))
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
