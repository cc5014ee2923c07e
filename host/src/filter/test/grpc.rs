//! A scripted gRPC server: one message in, one message or status out.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tidegate_filter_cases::{Call, Failure, GrpcEnd, Observed};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::world::{Place, Script};

/// A message's prefix: a flag and four bytes of length.
const PREFIX: usize = 5;

/// Serves a connection until it ends, or a call is to find nobody.
pub(crate) async fn serve(stream: TcpStream, script: Arc<Script>, place: Place) {
    let Place::Cluster(place) = place else {
        return;
    };
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    let gone = Arc::new(Notify::new());
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = gone.notified() => return,
        };
        let Some(Ok((request, response))) = accepted else {
            return;
        };
        let call = Served {
            script: script.clone(),
            place: place.clone(),
            gone: gone.clone(),
        };
        tokio::spawn(call.answer(request, response));
    }
}

struct Served {
    script: Arc<Script>,
    place: Arc<str>,
    gone: Arc<Notify>,
}

impl Served {
    async fn answer(self, request: Request<RecvStream>, mut response: SendResponse<Bytes>) {
        let (head, mut body) = request.into_parts();
        let mut read = Vec::new();
        while let Some(Ok(piece)) = body.data().await {
            // The window may close all the same: the connection may be gone.
            let _ = body.flow_control().release_capacity(piece.len());
            read.extend(&piece);
        }
        let path = head.uri.path().to_owned();
        let made = Observed {
            headers: observed(&head),
            body: String::new(),
        };
        let Some(call) = self.script.next_call(&self.place, &made) else {
            return trailers_only(&mut response, 12, "nothing was expected");
        };
        self.script.found(problems(&call, &path, &read));
        match call.grpc_end() {
            Ok(GrpcEnd::Message(message)) => whole(&mut response, &message),
            Ok(GrpcEnd::Status(status, message)) => {
                trailers_only(&mut response, status, &message);
            }
            Ok(GrpcEnd::Fails(Failure::Unreachable)) => self.gone.notify_one(),
            Ok(GrpcEnd::Fails(Failure::Timeout)) => {
                // Kept open, unanswered, until the other side gives up.
                let _ = std::future::poll_fn(|context| response.poll_reset(context)).await;
            }
            Err(problem) => {
                self.script.found(vec![format!("the answer: {problem}")]);
                trailers_only(&mut response, 2, &problem);
            }
        }
    }
}

fn problems(call: &Call, path: &str, read: &[u8]) -> Vec<String> {
    let method = call.grpc.as_deref().unwrap_or_default();
    let mut found = Vec::new();
    if path.strip_prefix('/') != Some(method) {
        found.push(format!("a call of {path:?}, expected one of {method:?}"));
    }
    match read.get(PREFIX..) {
        Some(message) => found.extend(call.message_differences(message)),
        None => found.push("a call without a message".to_owned()),
    }
    found
}

fn observed(head: &http::request::Parts) -> Vec<(String, String)> {
    let authority = head.uri.authority().map(ToString::to_string);
    let mut headers = vec![
        (":method".to_owned(), head.method.to_string()),
        (":path".to_owned(), head.uri.path().to_owned()),
        (":authority".to_owned(), authority.unwrap_or_default()),
    ];
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.push((name.to_string(), value));
    }
    headers
}

fn head() -> Response<()> {
    let mut head = Response::new(());
    let kind = HeaderValue::from_static("application/grpc");
    head.headers_mut().insert("content-type", kind);
    head
}

fn status(status: u32, message: &str) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert("grpc-status", HeaderValue::from(status));
    if let Ok(value) = HeaderValue::from_str(message)
        && !message.is_empty()
    {
        map.insert("grpc-message", value);
    }
    map
}

fn trailers_only(response: &mut SendResponse<Bytes>, code: u32, message: &str) {
    let mut head = head();
    head.headers_mut().extend(status(code, message));
    // Whoever asked may be gone; then nobody hears it.
    let _ = response.send_response(head, true);
}

fn whole(response: &mut SendResponse<Bytes>, message: &[u8]) {
    let Ok(mut stream) = response.send_response(head(), false) else {
        return;
    };
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let framed = [&[0], &length.to_be_bytes()[..], message].concat();
    if stream.send_data(framed.into(), false).is_ok() {
        let _ = stream.send_trailers(status(0, ""));
    }
}
