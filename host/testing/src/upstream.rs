//! Upstreams that speak HTTP/1 and HTTP/2, answer as a test says, and remember what they saw.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, channel};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::Certificate;

/// A request as an upstream saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// The version it was written in.
    pub version: Version,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its content, as far as it came.
    pub body: Bytes,
    /// Its trailers.
    pub trailers: HeaderMap,
    /// Whether the body came to its end.
    pub complete: bool,
    /// Counts the connections of the upstream; requests with the same number shared one.
    pub connection: usize,
}

/// What an upstream answers.
#[derive(Clone, Debug)]
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    wait: Duration,
    steps: Vec<Step>,
    streams: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Abort,
    Never,
}

/// An upstream that serves until it is dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
    accepting: AbortHandle,
}

#[derive(Debug, Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
}

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
#[error("the test breaks off")]
struct Broken;

type Body = BoxBody<Bytes, Broken>;

// === impl Seen ===

impl Seen {
    /// A field's only value; empty if it is absent.
    ///
    /// # Panics
    /// When there are several.
    pub fn header(&self, name: &str) -> &str {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next();
        assert!(
            values.next().is_none(),
            "{name} is repeated: {:?}",
            self.headers
        );
        value.map_or("", |value| value.to_str().expect("text"))
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        self.uri
            .path_and_query()
            .map_or("", http::uri::PathAndQuery::as_str)
    }
}

// === impl Reply ===

impl Reply {
    /// A status without content.
    ///
    /// # Panics
    /// When it is none.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a status");
        Self {
            status,
            headers: HeaderMap::new(),
            wait: Duration::ZERO,
            steps: Vec::new(),
            streams: false,
        }
    }

    /// 200 with this content.
    pub fn text(body: impl Into<Bytes>) -> Self {
        let mut reply = Self::status(200);
        reply.steps.push(Step::Data(body.into()));
        reply
    }

    /// With a field.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a value");
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    /// Only after a while.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Then this piece, of a body whose length is not said beforehand.
    #[must_use]
    pub fn piece(mut self, data: impl Into<Bytes>) -> Self {
        self.steps.push(Step::Data(data.into()));
        self.streams = true;
        self
    }

    /// Ended by a trailer.
    #[must_use]
    pub fn trailer(mut self, name: &'static str, value: &str) -> Self {
        let mut map = HeaderMap::new();
        map.insert(name, HeaderValue::from_str(value).expect("a value"));
        self.steps.push(Step::Trailers(map));
        self.streams = true;
        self
    }

    /// Then the connection or stream breaks off.
    #[must_use]
    pub fn broken(mut self) -> Self {
        self.steps.push(Step::Abort);
        self.streams = true;
        self
    }

    /// Then nothing more comes, and no end either.
    #[must_use]
    pub fn hanging(mut self) -> Self {
        self.steps.push(Step::Never);
        self.streams = true;
        self
    }

    async fn response(self) -> Response<Body> {
        tokio::time::sleep(self.wait).await;
        let body = if self.streams {
            let (mut sender, body) = channel::Channel::<Bytes, Broken>::new(1);
            tokio::spawn(async move {
                for step in self.steps {
                    let sent = match step {
                        Step::Data(data) => sender.send(Frame::data(data)).await,
                        Step::Trailers(trailers) => sender.send(Frame::trailers(trailers)).await,
                        Step::Abort => return sender.abort(Broken),
                        Step::Never => std::future::pending().await,
                    };
                    if sent.is_err() {
                        return;
                    }
                    // The next step is a packet of its own.
                    tokio::task::yield_now().await;
                }
            });
            body.boxed()
        } else {
            let data = self.steps.into_iter().next();
            let data = data.map_or_else(Bytes::new, |step| {
                if let Step::Data(data) = step {
                    data
                } else {
                    Bytes::new()
                }
            });
            Full::new(data)
                .map_err(|never: Infallible| match never {})
                .boxed()
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

// === impl Upstream ===

impl Upstream {
    /// An upstream on a free port that answers each request, once it is complete, as `answer` says.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::serve(listener, None, answer)
    }

    /// One that answers 200 with its name.
    pub async fn named(name: &'static str) -> Self {
        Self::start(move |_| Reply::text(name)).await
    }

    /// One that speaks TLS with this certificate, and HTTP/2 to who wants it.
    ///
    /// # Panics
    /// When there is no free port, or the certificate is none.
    pub async fn tls(
        certificate: &Certificate,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::serve(listener, Some(certificate.acceptor()), answer)
    }

    fn serve(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State::default());
        let accepting = tokio::spawn(accept(listener, tls, state.clone(), Arc::new(answer)));
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

    /// The requests so far, in the order of their ends.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().clone()
    }

    /// How many requests there were.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// The only request so far.
    ///
    /// # Panics
    /// When there were none or several.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "requests seen: {seen:#?}");
        seen.into_iter().next().expect("there is one")
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.state
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept<F>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    state: Arc<State>,
    answer: Arc<F>,
) where
    F: Fn(&Seen) -> Reply + Send + Sync + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        let number = state.connections.fetch_add(1, Ordering::Relaxed);
        let (state, answer, tls) = (state.clone(), answer.clone(), tls.clone());
        tokio::spawn(async move {
            stream.set_nodelay(true).expect("TCP_NODELAY");
            let service = service_fn(move |request| {
                let (state, answer) = (state.clone(), answer.clone());
                async move {
                    let seen = see(request, number).await;
                    let reply = answer(&seen);
                    state
                        .seen
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(seen);
                    Ok::<_, Infallible>(reply.response().await)
                }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A connection that a test breaks off is no news.
            let _ = match tls {
                None => {
                    builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                }
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => {
                        builder
                            .serve_connection(TokioIo::new(stream), service)
                            .await
                    }
                    Err(error) => Err(error.into()),
                },
            };
        });
    }
}

async fn see(request: Request<Incoming>, connection: usize) -> Seen {
    let (parts, mut body) = request.into_parts();
    let mut data = Vec::new();
    let (mut trailers, mut complete) = (HeaderMap::new(), true);
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(piece)) => data.extend_from_slice(&piece),
            Ok(Err(frame)) => trailers = frame.into_trailers().unwrap_or_default(),
            Err(_) => complete = false,
        }
    }
    let mut headers = parts.headers;
    if let Some(authority) = parts
        .uri
        .authority()
        .filter(|_| parts.version == Version::HTTP_2)
    {
        // So that tests read the host in one place.
        headers.insert(
            header::HOST,
            HeaderValue::from_str(authority.as_str()).expect("a host"),
        );
    }
    Seen {
        method: parts.method,
        uri: parts.uri,
        version: parts.version,
        headers,
        body: data.into(),
        trailers,
        complete,
        connection,
    }
}
