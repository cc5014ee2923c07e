//! Clients that know HTTP: hyper over TCP or TLS, HTTP/1 or HTTP/2.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version, header, request};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::HandshakeKind;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Answer, Tls, within};

/// The body of a request.
pub type Body = BoxBody<Bytes, Infallible>;

/// A connection to the gateway.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    scheme: &'static str,
    local: SocketAddr,
    /// What the server showed in the handshake.
    pub certificate: Option<CertificateDer<'static>>,
    /// Version of TLS.
    pub tls: Option<rustls::ProtocolVersion>,
    /// Whether the handshake resumed an earlier session.
    pub resumed: bool,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

// === impl Client ===

impl Client {
    /// HTTP/1 in the clear.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn http1(address: SocketAddr) -> Self {
        let (stream, local) = tcp(address).await.expect("connected");
        let sender = http1_over(stream).await.expect("connected");
        Self {
            sender,
            scheme: "http",
            local,
            certificate: None,
            tls: None,
            resumed: false,
        }
    }

    /// HTTP/2 in the clear, by prior knowledge.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn http2(address: SocketAddr) -> Self {
        let (stream, local) = tcp(address).await.expect("connected");
        let sender = http2_over(stream).await.expect("connected");
        Self {
            sender,
            scheme: "http",
            local,
            certificate: None,
            tls: None,
            resumed: false,
        }
    }

    /// TLS with this server name, and HTTP/2 where both want it.
    ///
    /// # Errors
    /// When the handshake fails.
    ///
    /// # Panics
    /// When the name is none.
    pub async fn tls(address: SocketAddr, tls: &Tls, name: &str) -> io::Result<Self> {
        let (stream, local) = tcp(address).await?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connector = TlsConnector::from(tls.config());
        let stream = within("TLS handshake", connector.connect(name, stream)).await?;
        let session = stream.get_ref().1;
        let certificate = session
            .peer_certificates()
            .and_then(|chain| Some(chain.first()?.clone().into_owned()));
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let (http2, version) = (
            session.alpn_protocol() == Some(b"h2"),
            session.protocol_version(),
        );
        let sender = if http2 {
            http2_over(stream).await
        } else {
            http1_over(stream).await
        };
        let sender = sender.map_err(io::Error::other)?;
        Ok(Self {
            sender,
            scheme: "https",
            local,
            certificate,
            tls: version,
            resumed,
        })
    }

    /// Our own address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Which HTTP is spoken.
    pub fn version(&self) -> Version {
        match self.sender {
            Sender::Http1(_) => Version::HTTP_11,
            Sender::Http2(_) => Version::HTTP_2,
        }
    }

    /// A request for this host and path as the connection's version writes it.
    pub fn request(&self, method: Method, host: &str, path: &str) -> request::Builder {
        match self.sender {
            Sender::Http1(_) => Request::builder()
                .method(method)
                .uri(path)
                .header(header::HOST, host),
            Sender::Http2(_) => {
                let scheme = self.scheme;
                Request::builder()
                    .version(Version::HTTP_2)
                    .method(method)
                    .uri(format!("{scheme}://{host}{path}"))
            }
        }
    }

    /// GET, to the end of the answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(&mut self, host: &str, path: &str) -> Answer {
        let request = self
            .request(Method::GET, host, path)
            .body(empty())
            .expect("a request");
        self.send(request)
            .await
            .unwrap_or_else(|error| panic!("GET {host}{path}: {error:?}"))
    }

    /// Sends a request and reads its answer to the end.
    ///
    /// # Errors
    /// Where there is no head; a body that breaks off is an answer that is not complete.
    pub async fn send(&mut self, request: Request<Body>) -> hyper::Result<Answer> {
        Ok(whole(self.begin(request).await?).await)
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn begin(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                within("a connection that is ready", sender.ready()).await?;
                within("an answer", sender.send_request(request)).await
            }
            Sender::Http2(sender) => {
                within("a connection that is ready", sender.ready()).await?;
                within("an answer", sender.send_request(request)).await
            }
        }
    }

    /// A further handle on an HTTP/2 connection, so that requests can be sent side by side.
    ///
    /// # Panics
    /// With HTTP/1.
    #[must_use]
    pub fn again(&self) -> Self {
        let Sender::Http2(shared) = &self.sender else {
            panic!("HTTP/1 has one request at a time")
        };
        let (certificate, tls) = (self.certificate.clone(), self.tls);
        let sender = Sender::Http2(shared.clone());
        Self {
            sender,
            scheme: self.scheme,
            local: self.local,
            certificate,
            tls,
            resumed: self.resumed,
        }
    }

    /// Whether the connection can carry no further request.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

/// No content.
pub fn empty() -> Body {
    Empty::new().boxed()
}

/// This content.
pub fn full(data: impl Into<Bytes>) -> Body {
    Full::new(data.into()).boxed()
}

/// Reads a response to its end.
pub async fn whole(response: Response<Incoming>) -> Answer {
    let (parts, mut body) = response.into_parts();
    let mut data = Vec::new();
    let (mut trailers, mut complete) = (HeaderMap::new(), true);
    while let Some(frame) = within("the rest of an answer", body.frame()).await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(piece)) => data.extend_from_slice(&piece),
            Ok(Err(frame)) => trailers = frame.into_trailers().unwrap_or_default(),
            Err(_) => {
                complete = false;
                break;
            }
        }
    }
    debug_assert!(!complete || body.is_end_stream());
    Answer {
        status: parts.status,
        version: parts.version,
        headers: parts.headers,
        body: data.into(),
        trailers,
        complete,
    }
}

/// Its errors reach the requests, but not always with their cause.
async fn tell(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        eprintln!("client connection: {error:?}");
    }
}

async fn tcp(address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let stream = within("connect", TcpStream::connect(address)).await?;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    Ok((stream, local))
}

async fn http1_over<S>(stream: S) -> hyper::Result<Sender>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(tell(connection));
    Ok(Sender::Http1(sender))
}

async fn http2_over<S>(stream: S) -> hyper::Result<Sender>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(tell(connection));
    Ok(Sender::Http2(sender))
}
