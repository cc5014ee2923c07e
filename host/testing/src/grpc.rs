//! A gRPC upstream down to the frame: a test accepts each call and answers it step by step.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use crate::{Certificate, within};

/// Speaks HTTP/2 alone.
#[derive(Debug)]
pub struct GrpcUpstream {
    address: SocketAddr,
    calls: UnboundedReceiver<GrpcCall>,
    accepting: AbortHandle,
}

/// One call as its server sees it.
#[derive(Debug)]
pub struct GrpcCall {
    /// The head of the request.
    pub head: request::Parts,
    body: RecvStream,
    read: BytesMut,
    respond: SendResponse<Bytes>,
    sending: Option<SendStream<Bytes>>,
}

/// A message with its prefix.
pub fn grpc_frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a short message"));
    frame.put_slice(message);
    frame.freeze()
}

// === impl GrpcUpstream ===

impl GrpcUpstream {
    /// One on a free port, without TLS.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start() -> Self {
        Self::serve(None).await
    }

    /// One that speaks TLS with this certificate.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn tls(certificate: &Certificate) -> Self {
        Self::serve(Some(certificate)).await
    }

    async fn serve(certificate: Option<&Certificate>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let acceptor = certificate.map(Certificate::acceptor);
        let (sender, calls) = unbounded_channel();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => connection(stream, sender).await,
                        // A handshake that fails is seen by the other side.
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                connection(stream, sender).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            calls,
            accepting: accepting.abort_handle(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next call.
    ///
    /// # Panics
    /// When none comes.
    pub async fn accept(&mut self) -> GrpcCall {
        within("a gRPC call", self.calls.recv())
            .await
            .expect("it accepts as long as it lives")
    }

    /// Whether no call is waiting.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }
}

impl Drop for GrpcUpstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection<S>(stream: S, calls: UnboundedSender<GrpcCall>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (head, body) = request.into_parts();
        let call = GrpcCall {
            head,
            body,
            read: BytesMut::new(),
            respond,
            sending: None,
        };
        if calls.send(call).is_err() {
            return;
        }
    }
}

// === impl GrpcCall ===

impl GrpcCall {
    /// A field of the request's head; empty if it is not there.
    pub fn field(&self, name: &str) -> &str {
        let value = self.head.headers.get(name);
        value.map_or("", |value| value.to_str().expect("text"))
    }

    /// The next message, or `None` when the other side has closed its half.
    ///
    /// # Panics
    /// When the stream breaks off, or nothing comes.
    pub async fn message(&mut self) -> Option<Bytes> {
        loop {
            if let Some(prefix) = self.read.first_chunk::<5>() {
                let [_, length @ ..] = *prefix;
                let length = u32::from_be_bytes(length) as usize;
                if self.read.len() >= 5 + length {
                    self.read.advance(5);
                    return Some(self.read.split_to(length).freeze());
                }
            }
            let data = within("a message", self.body.data()).await?;
            let data = data.expect("the stream goes on");
            self.body
                .flow_control()
                .release_capacity(data.len())
                .expect("it was received");
            self.read.extend_from_slice(&data);
        }
    }

    /// The head of a response that is a success so far.
    pub fn begin(&mut self, fields: &[(&str, &str)]) {
        self.head(StatusCode::OK, fields, false);
    }

    /// A response that is its head alone.
    pub fn only_head(&mut self, status: StatusCode, fields: &[(&str, &str)]) {
        self.head(status, fields, true);
    }

    fn head(&mut self, status: StatusCode, fields: &[(&str, &str)], end: bool) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = map(fields);
        response.headers_mut().insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        let sending = self.respond.send_response(response, end);
        self.sending = Some(sending.expect("the stream is open"));
    }

    /// Bytes of the body, as one DATA frame.
    ///
    /// # Panics
    /// Before [`begin`](Self::begin).
    pub fn data(&mut self, bytes: impl Into<Bytes>) {
        self.sending()
            .send_data(bytes.into(), false)
            .expect("the stream is open");
    }

    /// A message.
    ///
    /// # Panics
    /// Before [`begin`](Self::begin).
    pub fn send(&mut self, message: &str) {
        self.data(grpc_frame(message.as_bytes()));
    }

    /// The end of the body without trailers.
    ///
    /// # Panics
    /// Before [`begin`](Self::begin).
    pub fn end(&mut self) {
        self.sending()
            .send_data(Bytes::new(), true)
            .expect("the stream is open");
    }

    /// The end of the body with trailers.
    ///
    /// # Panics
    /// Before [`begin`](Self::begin).
    pub fn trailers(&mut self, fields: &[(&str, &str)]) {
        self.sending()
            .send_trailers(map(fields))
            .expect("the stream is open");
    }

    /// RST_STREAM.
    pub fn reset(&mut self, reason: Reason) {
        match &mut self.sending {
            Some(sending) => sending.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Waits until the other side resets the stream.
    ///
    /// # Panics
    /// When it does not.
    pub async fn was_reset(&mut self) -> Reason {
        let reset = poll_fn(|cx| match &mut self.sending {
            Some(sending) => sending.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        within("RST_STREAM", reset).await.expect("a reset stream")
    }

    fn sending(&mut self) -> &mut SendStream<Bytes> {
        self.sending.as_mut().expect("the response has begun")
    }
}

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().expect("a name");
        (name, HeaderValue::from_str(value).expect("a value"))
    };
    fields.iter().map(field).collect()
}
