//! The boundaries against those that the parser itself finds, for every way to cut a connection's bytes into reads.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;
use crate::activity::{Activity, Clock, Lengths, Watched};
use crate::config::Limits;

const GET: &str = "GET /get HTTP/1.1\r\nHost: a\r\nCache-Control: x\r\nTE: trailers\r\n\r\n";
const BARE: &str = "\r\n\nGET /bare HTTP/1.1\nHost: a\n\n";
const LENGTH: &str = "POST /length HTTP/1.1\r\nHost: a\r\ncOntent-Length:  31 \r\n\r\nTransfer-Encoding: chunked\r\n\r\n\n";
const NOTHING: &str = "POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
const CHUNKED: &str = "POST /chunked HTTP/1.1\r\nHost: a\r\ntransfer-Encoding: chunked\r\n\r\n\
    17\r\nContent-Length: 3\r\n\r\n\r\n\r\n1;x=y\r\nz\r\n00\r\n\r\n";
const TRAILERS: &str = "POST /trailers HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: a\r\n\r\n\
    0\r\nContent-Length: 3\r\nX: y\r\n\r\n";
const AFTER: &str = "POST /two-a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
    CONTENT-LENGTH: 4\r\n\r\n0\r\n\r\n";
const BEFORE: &str = "POST /two-b HTTP/1.1\r\nContent-Length: 4\r\nHost: a\r\n\
    Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
const MALFORMED: &str = "POST /two-c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
    Content-Length: x\r\n\r\n0\r\n\r\n";

/// A connection whose reads are cut in one way.
struct Cut(VecDeque<Vec<u8>>);

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.0.pop_front() else {
            // The client waits for its answers.
            return Poll::Pending;
        };
        let rest = piece.split_off(piece.len().min(buf.remaining()));
        buf.put_slice(&piece);
        if !rest.is_empty() {
            self.0.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What hyper makes of these reads: the paths of its requests, each with what we know of its lengths.
async fn requests(pieces: &[&[u8]]) -> Vec<(String, Lengths)> {
    let activity = Activity::new(&Clock::default(), &Limits::default());
    let seen = Rc::new(RefCell::new(Vec::new()));
    let cut = Cut(pieces.iter().map(|piece| piece.to_vec()).collect());
    let io = TokioIo::new(Watched::new(cut, activity.clone(), true));
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let (activity, seen) = (activity.clone(), seen.clone());
        async move {
            let lengths = activity.next_lengths();
            seen.borrow_mut()
                .push((request.uri().path().to_owned(), lengths));
            let _ = request.into_body().collect().await;
            Ok::<_, io::Error>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
    // The clock stands still until nothing is left to do.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), serving).await;
    let mut seen = seen.take();
    // What follows a refused request is not answered, and not always parsed.
    if let Some(refused) = seen
        .iter()
        .position(|(_, lengths)| *lengths == Lengths::Two)
    {
        seen.truncate(refused + 1);
    }
    seen
}

fn expected(stream: &[&str]) -> Vec<(String, Lengths)> {
    let path = |request: &str| {
        let target = request.split(' ').nth(1).unwrap_or_default();
        target.to_owned()
    };
    let mut all = Vec::new();
    for path in stream.iter().map(|request| path(request)) {
        if path.starts_with("/two") {
            all.push((path, Lengths::Two));
            break;
        }
        all.push((path, Lengths::One));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn every_request_is_known_however_its_bytes_are_cut() {
    let streams: [&[&str]; 9] = [
        &[GET, CHUNKED, BARE],
        &[AFTER],
        &[BEFORE, GET],
        &[GET, AFTER],
        &[LENGTH, BEFORE],
        &[CHUNKED, MALFORMED],
        &[TRAILERS, NOTHING, AFTER, CHUNKED],
        &[LENGTH, LENGTH, CHUNKED, TRAILERS, CHUNKED, GET],
        &[GET, BARE, NOTHING, BEFORE],
    ];
    for stream in streams {
        let bytes = stream.concat().into_bytes();
        let expected = expected(stream);
        for at in 1..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(requests(&[first, second]).await, expected, "cut at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(requests(&single).await, expected, "byte for byte");
        for size in [2, 3, 7, 19] {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(requests(&pieces).await, expected, "by {size}");
        }
    }
}

#[test]
fn what_a_parser_might_read_in_another_way_is_doubted() {
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let zeros = "0".repeat(70);
    for body in [
        "0\r\nX: y\n\r\n\r\n",
        "x\r\n",
        "\r\n",
        &format!("{zeros}\r\n"),
    ] {
        let bytes = format!("{chunked}{body}");
        assert_eq!(
            Framing::new().read(bytes.as_bytes()),
            Err(Doubt::Lost(1)),
            "{body:?}"
        );
        let mut framing = Framing::new();
        let by_byte = bytes
            .as_bytes()
            .chunks(1)
            .find_map(|b| framing.read(b).err());
        assert_eq!(by_byte, Some(Doubt::Lost(1)), "{body:?}");
    }
    for length in ["", "x", "1, 2", "+1", "99999999999999999999"] {
        let head = format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        // The parser refuses the request itself.
        assert_eq!(
            Framing::new().read(head.as_bytes()),
            Err(Doubt::Lost(1)),
            "{length:?}"
        );
    }
}

#[test]
fn a_head_that_has_begun_is_known() {
    let mut framing = Framing::new();
    for (bytes, begun) in [
        ("\r\n", false),
        ("G", true),
        ("ET / HTTP/1.1\r\n", true),
        ("Host: a\r\n\r", true),
        ("\n", false),
        ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nG", false),
        ("GG", true),
    ] {
        framing.read(bytes.as_bytes()).expect("no doubt");
        assert_eq!(framing.is_in_head(), begun, "{bytes:?}");
    }
}

#[test]
fn a_line_of_another_protocol_is_no_request() {
    for (line, of_another) in [
        ("INVALID CONNECTION PREFACE", true),
        ("PRI * HTTQ/2.0", true),
        ("EHLO a b", true),
        ("GET / HTTP/1.1", false),
        ("GET / HTTP/9.9", false),
        ("GET /a b HTTP/1.1", false),
        ("GET /", false),
        ("GET / ", false),
        ("GET  / HTTP/1.1", false),
        ("", false),
    ] {
        let read = Framing::new().read(format!("{line}\r\n\r\n").as_bytes());
        assert_eq!(read == Err(Doubt::NoHttp), of_another, "{line:?}");
    }
    let mut framing = Framing::new();
    framing.read(GET.as_bytes()).expect("a request");
    let later = framing.read(b"INVALID CONNECTION PREFACE\r\n");
    assert_eq!(later, Ok(()), "after a request the parser answers it");
}

#[test]
fn words_stand_for_doubts() {
    assert_eq!(Doubt::from_word(0), None);
    for doubt in [Doubt::Lost(0), Doubt::TwoLengths(0), Doubt::Lost(7)] {
        assert_eq!(Doubt::from_word(doubt.to_word()), Some(doubt));
    }
}
