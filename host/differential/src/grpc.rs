//! A gRPC server that does what a case says, and remembers the calls.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::net::TcpStream;

use crate::case::GrpcReply;
use crate::http2::{fields, map};
use crate::message::Message;
use crate::upstream::State;

/// A message with its prefix: a flag and four bytes of length.
const PREFIX: usize = 5;

/// Serves a connection. Calls are answered side by side.
pub(crate) async fn serve(stream: TcpStream, state: Arc<State>, replies: Vec<GrpcReply>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, response))) = connection.accept().await {
        let turn = state.turn.fetch_add(1, Ordering::Relaxed);
        let reply = replies[turn.min(replies.len() - 1)].clone();
        tokio::spawn(answer(request, response, state.clone(), reply));
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut response: SendResponse<Bytes>,
    state: Arc<State>,
    reply: GrpcReply,
) {
    let (head, mut body) = request.into_parts();
    let at = {
        let mut seen = state.seen();
        seen.push(Message {
            line: format!("{} {} gRPC", head.method, head.uri.path()),
            fields: fields(&head.headers),
            ..Message::default()
        });
        seen.len() - 1
    };
    if reply.silent {
        while let Some(Ok(_)) = body.data().await {}
        return;
    }
    let mut sender = None;
    if reply.echo || reply.at_once {
        sender = open(&mut response, &reply);
    }
    if !reply.at_once {
        receive(
            &mut body,
            &state,
            at,
            sender.as_mut().filter(|_| reply.echo),
        )
        .await;
    }
    let Some(mut sender) = sender.or_else(|| open(&mut response, &reply)) else {
        return;
    };
    for message in &reply.messages {
        let before = state.journal.count(&state.plugins);
        // The other side may be gone; then the log says so, and so below.
        let _ = sender.send_data(framed(&message.bytes()), false);
        state.journal.digested(&state.plugins, before).await;
    }
    if reply.resets {
        sender.send_reset(Reason::INTERNAL_ERROR);
    } else {
        let _ = sender.send_trailers(map(&reply.trailers));
    }
}

/// The head of the answer; nothing where that is all.
fn open(response: &mut SendResponse<Bytes>, reply: &GrpcReply) -> Option<SendStream<Bytes>> {
    let mut head = Response::builder()
        .status(reply.status)
        .header("content-type", "application/grpc")
        .body(())
        .expect("a status of a case");
    head.headers_mut().extend(map(&reply.headers));
    if reply.trailers_only {
        head.headers_mut().extend(map(&reply.trailers));
        let _ = response.send_response(head, true);
        return None;
    }
    response.send_response(head, false).ok()
}

/// Notes messages until the request ends, one after the other with a bar between them, and sends each back if asked to.
async fn receive(
    body: &mut RecvStream,
    state: &State,
    at: usize,
    mut echo: Option<&mut SendStream<Bytes>>,
) {
    let mut read: Vec<u8> = Vec::new();
    let mut first = true;
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        read.extend(&piece);
        while let Some(message) = take(&mut read) {
            {
                let noted = &mut state.seen()[at].body;
                if !std::mem::take(&mut first) {
                    noted.push(b'|');
                }
                noted.extend(&message);
            }
            if let Some(sender) = &mut echo {
                let _ = sender.send_data(framed(&message), false);
            }
        }
    }
    state.seen()[at].complete = body.is_end_stream();
}

fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[0], &length.to_be_bytes()[..], message].concat().into()
}

/// The first whole message of what was read.
fn take(read: &mut Vec<u8>) -> Option<Vec<u8>> {
    let [_, length @ ..] = *read.first_chunk::<PREFIX>()?;
    let end = PREFIX + u32::from_be_bytes(length) as usize;
    if read.len() < end {
        return None;
    }
    Some(read.drain(..end).skip(PREFIX).collect())
}
