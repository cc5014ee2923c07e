//! A client of HTTP/2 with prior knowledge, and what both sides of HTTP/2 have in common here.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::case::{Case, Request};
use crate::journal::Journal;
use crate::message::Message;

/// How long guests may take to say what a client waits for until it leaves.
const LINE: Duration = Duration::from_secs(4);

/// Sends a request on a connection of its own; what came within the limit.
pub(crate) async fn ask(
    stream: TcpStream,
    journal: &Journal,
    case: &Case,
    request: &Request,
    plugins: &[String],
    limit: Duration,
) -> Option<Message> {
    let (mut client, connection) = h2::client::handshake(stream).await.ok()?;
    let connection = tokio::spawn(connection);
    let has_body = request.body.is_some()
        || request.chunked
        || request.known_length
        || !request.chunks.is_empty();
    let (response, sender) = client.send_request(head(case, request), !has_body).ok()?;
    let sending = async {
        if has_body {
            send(journal, request, plugins, sender).await;
        }
    };
    let reading = async {
        if let Some(line) = &request.leaves_at {
            journal.until(LINE, || journal.says(plugins, line)).await;
            return None;
        }
        let deadline = Instant::now() + limit;
        let response = timeout_at(deadline, response).await.ok()?.ok()?;
        let (parts, body) = response.into_parts();
        let mut message = Message {
            line: format!("HTTP/2 {}", parts.status.as_u16()),
            fields: fields(&parts.headers),
            ..Message::default()
        };
        // What came until then is there.
        let _ = timeout_at(deadline, receive(body, &mut message)).await;
        Some(message)
    };
    let (_, answer) = tokio::join!(sending, reading);
    connection.abort();
    answer
}

fn head(case: &Case, request: &Request) -> http::Request<()> {
    let uri = format!("http://{}{}", case.host(), request.path);
    let mut head = http::Request::builder()
        .method(request.method.as_str())
        .uri(uri)
        .version(http::Version::HTTP_2);
    for line in &request.headers {
        let placed = case.placed(line);
        let (name, value) = placed.split_once(": ").unwrap_or((&placed, ""));
        head = head.header(name, value);
    }
    let known = request.body.as_ref().map(|body| body.bytes().len());
    let in_pieces = || request.chunks.iter().map(|chunk| chunk.bytes().len()).sum();
    let known = known.or_else(|| request.known_length.then(in_pieces));
    if let Some(length) = known {
        head = head.header("content-length", length);
    }
    head.body(()).expect("a request that can be written")
}

async fn send(
    journal: &Journal,
    request: &Request,
    plugins: &[String],
    mut sender: SendStream<Bytes>,
) {
    if let Some(body) = &request.body {
        // A host may answer and reset before it has read everything; so below.
        let _ = sender.send_data(body.bytes().into(), true);
        return;
    }
    journal.digested(plugins, 0).await;
    let last = request.chunks.len().checked_sub(1);
    for (at, chunk) in request.chunks.iter().enumerate() {
        let before = journal.count(plugins);
        let ends = Some(at) == last && request.known_length;
        let _ = sender.send_data(chunk.bytes().into(), ends);
        journal.digested(plugins, before).await;
    }
    if request.trailers.is_empty() {
        if !request.known_length {
            let _ = sender.send_data(Bytes::new(), true);
        }
    } else {
        let _ = sender.send_trailers(map(&request.trailers));
    }
}

/// Reads to the end: content, trailers, and whether there was one.
async fn receive(mut body: RecvStream, message: &mut Message) {
    while let Some(piece) = body.data().await {
        let Ok(piece) = piece else { return };
        let _ = body.flow_control().release_capacity(piece.len());
        message.body.extend(&piece);
    }
    if let Ok(trailers) = poll_fn(|cx| body.poll_trailers(cx)).await {
        message.trailers = trailers.as_ref().map(fields).unwrap_or_default();
        message.complete = true;
    }
}

/// Names and values in their order.
pub(crate) fn fields(map: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    map.iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

/// Out of lines `name: value`.
pub(crate) fn map(lines: &[String]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        let name: HeaderName = name.parse().expect("a name of a case");
        map.append(name, value.parse().expect("a value of a case"));
    }
    map
}
