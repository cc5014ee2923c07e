//! The client of a run: it writes a request by the byte, so that nothing mends it on the way.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustls::pki_types::ServerName;
use tidegate_filter_cases::{Observed, Request};
use tidegate_loopback::message::{Message, Reader};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::cut::Cut;
use super::world::{fields, is_there, write_pieces};

/// How long an answer may take; calls of filters may time out first.
const PATIENCE: Duration = Duration::from_secs(30);
/// The peer where a case names none.
const FROM: &str = "192.0.2.1:40000";
/// The name that the client asks for in TLS.
pub(crate) const SERVER_NAME: &str = "test.example";

/// How a host is reached, and how it learns what only a client knows.
pub(crate) trait Target {
    /// Where it listens for such a request of the run.
    fn address(&self, request: &Request) -> SocketAddr;

    /// What stands before the request, and what is to be done before the connection is opened, for it to come from `peer`.
    fn introduce(&self, client: SocketAddr, peer: SocketAddr) -> Vec<u8>;

    /// How the client of this request speaks TLS there; nothing where it does not, or where the scheme is told in a header.
    fn tls(&self, request: &Request) -> Option<&tokio_rustls::TlsConnector>;

    /// Headers that tell what the connection cannot.
    fn headers(&self, request: &Request) -> Vec<(String, String)>;
}

/// Sends the request, and reads the answer.
pub(crate) async fn ask(
    target: &impl Target,
    request: &Request,
    cut: Cut,
) -> anyhow::Result<Observed> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let from = request.from.as_deref().unwrap_or(FROM);
    let peer = from
        .parse()
        .map_err(|error| anyhow!("from: {from:?} is no address with a port: {error}"))?;
    let before = target.introduce(socket.local_addr()?, peer);
    let mut stream = socket.connect(target.address(request)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&before).await?;
    match target.tls(request) {
        Some(tls) => {
            let name = ServerName::try_from(SERVER_NAME)?;
            let stream = tls.connect(name, stream).await.context("TLS")?;
            converse(stream, target, request, cut).await
        }
        None => converse::<TcpStream>(stream, target, request, cut).await,
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    target: &impl Target,
    request: &Request,
    cut: Cut,
) -> anyhow::Result<Observed> {
    let mut reader = Reader::new(stream).within(PATIENCE);
    // A host may answer and close before it has read everything.
    let sent = send(reader.stream(), target, request, cut).await;
    let mut answer = loop {
        let Some(head) = reader.head().await else {
            sent?;
            return Err(anyhow!(
                "no response within {PATIENCE:?}, or the connection ended"
            ));
        };
        if !(100..200).contains(&head.status()) {
            break head;
        }
    };
    reader.response_body(&mut answer, &request.method).await;
    if !answer.complete {
        return Err(anyhow!("the response ({}) broke off", answer.line));
    }
    Ok(observed(&answer))
}

async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    target: &impl Target,
    request: &Request,
    cut: Cut,
) -> std::io::Result<()> {
    let mut headers = vec![("host".to_owned(), request.host.clone())];
    for (name, values) in &request.headers {
        headers.extend(
            values
                .values()
                .into_iter()
                .map(|value| (name.clone(), value)),
        );
    }
    headers.extend(target.headers(request));
    let chunked = request.body.is_some() && !is_there(&headers, "content-length");
    if chunked {
        headers.push(("transfer-encoding".to_owned(), "chunked".to_owned()));
    }
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    match &request.body {
        Some(body) => write_pieces(stream, &cut.pieces(body), chunked).await,
        None => Ok(()),
    }
}

fn observed(message: &Message) -> Observed {
    let mut headers = vec![(":status".to_owned(), message.status().to_string())];
    headers.extend(fields(message));
    Observed {
        headers,
        body: String::from_utf8_lossy(&message.body).into_owned(),
    }
}
