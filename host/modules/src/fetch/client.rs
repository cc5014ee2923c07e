//! Requests over HTTP/1.1, with every bound that a server nobody knows calls for: time, bytes, redirects, and where it leads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use super::address::{is_redirect, origin, redirected, server, shown};
use super::error::FetchError;
use super::reach::Reach;

const MOST_REDIRECTS: usize = 5;
/// Bytes of a body beyond which it needs one of the few places for large ones.
const SMALL: usize = 4 << 20;
/// Large bodies in memory at once.
const LARGE_AT_ONCE: usize = 4;
const MOST_ERROR_BYTES: usize = 8 << 10;
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Codes of the distribution specification that say more than the status. Nothing else of an answer is repeated: who names
/// the server in a Filter must not read through us what it says.
const CODES: [&str; 14] = [
    "MANIFEST_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "NAME_UNKNOWN",
    "NAME_INVALID",
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "SIZE_INVALID",
    "UNSUPPORTED",
    "UNAUTHORIZED",
    "DENIED",
    "TOOMANYREQUESTS",
];

/// How long each step may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// Name, connection and TLS.
    pub(crate) connect: Duration,
    /// Until the head of an answer.
    pub(crate) head: Duration,
    /// Between two parts of a body.
    pub(crate) idle: Duration,
    /// Everything.
    pub(crate) whole: Duration,
}

/// Asks servers.
pub(super) struct Client {
    pub(super) reach: Reach,
    pub(super) timeouts: Timeouts,
    /// A few large bodies may be in memory, however many small ones there are.
    room: Arc<Semaphore>,
}

/// What is asked for.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) accept: &'static str,
    /// For this server only: another one that it redirects to does not get it.
    pub(super) authorization: Option<HeaderValue>,
    /// Kind and bytes of what is sent.
    pub(super) content: Option<(&'static str, Bytes)>,
    pub(super) tls: &'a Arc<ClientConfig>,
}

/// An answer whose body is still to be read.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    url: Uri,
    body: Incoming,
    timeouts: Timeouts,
    room: Arc<Semaphore>,
    _driver: Driver,
}

/// Bytes in memory, and the place that they take if they are many.
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// The task of a connection, which ends with the answer.
struct Driver(JoinHandle<()>);

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            head: Duration::from_secs(30),
            idle: Duration::from_secs(20),
            whole: Duration::from_secs(180),
        }
    }
}

// === impl Client ===

impl Client {
    pub(super) fn new(reach: Reach, timeouts: Timeouts) -> Self {
        Self {
            reach,
            timeouts,
            room: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
        }
    }

    /// The answer, after redirects. Any status but those.
    pub(super) async fn send(&self, mut ask: Ask<'_>) -> Result<Answer, FetchError> {
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.send_once(&ask).await?;
            if !is_redirect(&ask.method, answer.status) {
                return Ok(answer);
            }
            ask.lead_to(redirected(&ask.url, &answer.headers)?);
        }
        Err(FetchError::Redirect {
            url: shown(&ask.url),
            what: "once more, after as many redirects as are followed",
        })
    }

    async fn send_once(&self, ask: &Ask<'_>) -> Result<Answer, FetchError> {
        let (host, port) = server(&ask.url)?;
        let connecting = self.connect(host, port, ask.url.scheme_str() == Some("https"), ask.tls);
        let (mut sender, driver) = timeout(self.timeouts.connect, connecting)
            .await
            .map_err(|_| slow(host, "answer to a connection", self.timeouts.connect))??;
        let request = request(ask)?;
        let response = timeout(self.timeouts.head, sender.send_request(request))
            .await
            .map_err(|_| slow(host, "answer", self.timeouts.head))?
            .map_err(|error| broken(host, error))?;
        let (head, body) = response.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            url: ask.url.clone(),
            body,
            timeouts: self.timeouts,
            room: self.room.clone(),
            _driver: driver,
        })
    }

    async fn connect(
        &self,
        host: &str,
        port: u16,
        secure: bool,
        tls: &Arc<ClientConfig>,
    ) -> Result<(http1::SendRequest<Full<Bytes>>, Driver), FetchError> {
        let stream = self.dial(host, port).await?;
        if !secure {
            return handshake(host, stream).await;
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| FetchError::Address(host.to_owned()))?;
        let stream = tokio_rustls::TlsConnector::from(tls.clone())
            .connect(name, stream)
            .await
            .map_err(|error| FetchError::Tls {
                host: host.to_owned(),
                error,
            })?;
        handshake(host, stream).await
    }

    /// Connects to an address that was looked at: names are resolved here and nowhere else.
    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, FetchError> {
        let addresses = tokio::net::lookup_host((host, port)).await;
        let addresses: Vec<SocketAddr> = addresses
            .map_err(|error| FetchError::Name {
                host: host.to_owned(),
                error,
            })?
            .collect();
        let mut refused = None;
        let mut failed = None;
        // An address that swallows packets leaves time for the next one.
        let turns = u32::try_from(addresses.len().clamp(1, 3)).unwrap_or(1);
        for address in addresses {
            if let Some(why) = self.reach.refusal(address.ip()) {
                refused = Some((address.ip(), why));
                continue;
            }
            match timeout(self.timeouts.connect / turns, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failed = Some(error),
                Err(_) => failed = Some(std::io::ErrorKind::TimedOut.into()),
            }
        }
        let host = host.to_owned();
        match (failed, refused) {
            (Some(error), _) => Err(FetchError::Connect { host, error }),
            (None, Some((address, why))) => Err(FetchError::Refused { host, address, why }),
            (None, None) => Err(FetchError::Name {
                host,
                error: std::io::ErrorKind::NotFound.into(),
            }),
        }
    }
}

async fn handshake<S>(
    host: &str,
    stream: S,
) -> Result<(http1::SendRequest<Full<Bytes>>, Driver), FetchError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(64 << 10)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(host, error))?;
    // How it ends shows in the answer or in its body.
    let driver = Driver(tokio::spawn(async move { drop(connection.await) }));
    Ok((sender, driver))
}

fn request(ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, FetchError> {
    let path = ask.url.path_and_query().map_or("/", |path| path.as_str());
    let authority = ask
        .url
        .authority()
        .map_or("", |authority| authority.as_str());
    let mut request = Request::builder()
        .method(&ask.method)
        .uri(path)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, ask.accept)
        .header(ACCEPT_ENCODING, "identity");
    if let Some(authorization) = &ask.authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    let mut bytes = Bytes::new();
    if let Some((kind, content)) = &ask.content {
        request = request
            .header(CONTENT_TYPE, *kind)
            .header(CONTENT_LENGTH, content.len());
        bytes = content.clone();
    } else if ask.method == Method::POST {
        request = request.header(CONTENT_LENGTH, 0);
    }
    request
        .body(Full::new(bytes))
        .map_err(|_| FetchError::Address(shown(&ask.url)))
}

// === impl Ask ===

impl<'a> Ask<'a> {
    /// For what is there.
    pub(super) fn get(
        url: Uri,
        accept: &'static str,
        authorization: Option<HeaderValue>,
        tls: &'a Arc<ClientConfig>,
    ) -> Self {
        Self {
            method: Method::GET,
            url,
            accept,
            authorization,
            content: None,
            tls,
        }
    }

    /// Goes elsewhere, without the credentials if that is another server.
    pub(super) fn lead_to(&mut self, url: Uri) {
        if origin(&url) != origin(&self.url) {
            self.authorization = None;
        }
        self.url = url;
    }
}

// === impl Answer ===

impl Answer {
    /// The body of a good answer, no more than `most` bytes as they are read; `what` names it in errors.
    pub(super) async fn body(mut self, most: u64, what: &str) -> Result<Body, FetchError> {
        if self.status != StatusCode::OK {
            return Err(self.refusal().await);
        }
        let host = self.url.host().unwrap_or_default().to_owned();
        if let Some(encoding) = self.headers.get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
            return Err(FetchError::Encoding { host, encoding });
        }
        let too_large = || FetchError::TooLarge {
            what: what.to_owned(),
        };
        // What is announced saves the trouble; what is read decides.
        let announced = hyper::body::Body::size_hint(&self.body).lower();
        if announced > most {
            return Err(too_large());
        }
        let mut room = None;
        let mut bytes = BytesMut::new();
        loop {
            let frame = timeout(self.timeouts.idle, self.body.frame())
                .await
                .map_err(|_| slow(&host, "go on sending", self.timeouts.idle))?;
            let Some(frame) = frame else { break };
            let Ok(chunk) = frame.map_err(|error| broken(&host, error))?.into_data() else {
                continue;
            };
            if (bytes.len() + chunk.len()) as u64 > most {
                return Err(too_large());
            }
            if bytes.len() + chunk.len() > SMALL && room.is_none() {
                // The semaphore is never closed.
                room = self.room.clone().acquire_owned().await.ok();
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Body {
            bytes: bytes.freeze(),
            room,
        })
    }

    /// Where it leads.
    pub(super) fn location(&self) -> Result<Uri, FetchError> {
        redirected(&self.url, &self.headers)
    }

    /// The error that another status than the expected one is.
    pub(super) async fn refusal(&mut self) -> FetchError {
        let wait = self
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
        let mut bytes = BytesMut::new();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
        while let Ok(Some(Ok(frame))) = timeout_at(deadline, self.body.frame()).await {
            let chunk = frame.into_data().unwrap_or_default();
            if bytes.len() + chunk.len() > MOST_ERROR_BYTES {
                break;
            }
            bytes.extend_from_slice(&chunk);
        }
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let code = json["errors"][0]["code"].as_str();
        let code = code.filter(|code| CODES.contains(code)).map(str::to_owned);
        FetchError::Status {
            url: shown(&self.url),
            status: self.status,
            code,
            wait,
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn slow(host: &str, what: &'static str, limit: Duration) -> FetchError {
    FetchError::Slow {
        host: host.to_owned(),
        what,
        limit,
    }
}

fn broken(host: &str, error: hyper::Error) -> FetchError {
    FetchError::Broken {
        host: host.to_owned(),
        error,
    }
}
