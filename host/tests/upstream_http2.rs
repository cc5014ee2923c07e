//! HTTP/2 upstreams that refuse streams and end connections: what was not processed is sent again, and nothing is lost.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tidegate_testing::{Answer, Gateway, Listener, Wire, manifests, within};
use tokio::task::JoinHandle;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;

/// A frame as it was on the wire (RFC 9113 section 4.1).
#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Bytes,
}

/// The upstream's end of a connection, frame by frame.
struct Peer(Wire);

impl Peer {
    async fn accept(listener: &Listener) -> Self {
        let mut wire = within("a connection", listener.accept()).await;
        wire.exact(24).await;
        let mut peer = Self(wire);
        peer.send(SETTINGS, 0, 0, &[]).await;
        peer
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.send(frame).await;
    }

    async fn frame(&mut self) -> Frame {
        let head = self.0.exact(9).await;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload: self.0.exact(length as usize).await,
        }
    }

    /// The next request that is complete: its stream and its body. What the connection itself needs is answered.
    async fn request(&mut self) -> (u32, Vec<u8>) {
        let mut body = Vec::new();
        loop {
            let frame = self.frame().await;
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await,
                PING if frame.flags & ACK == 0 => {
                    self.send(PING, ACK, 0, &frame.payload.clone()).await;
                }
                HEADERS | DATA => {
                    if frame.kind == DATA {
                        body.extend(&frame.payload);
                    }
                    if frame.flags & END != 0 {
                        return (frame.stream, body);
                    }
                }
                _ => {}
            }
        }
    }

    /// 200 with this body.
    async fn answer(&mut self, stream: u32, body: &str) {
        // `:status: 200` is entry 8 of the static table (RFC 7541 appendix A).
        self.send(HEADERS, END_HEADERS, stream, &[0x88]).await;
        self.send(DATA, END, stream, body.as_bytes()).await;
    }

    async fn reset(&mut self, stream: u32, reason: u32) {
        self.send(RST_STREAM, 0, stream, &reason.to_be_bytes())
            .await;
    }

    async fn go_away(&mut self, last: u32, reason: u32) {
        let payload = [last.to_be_bytes(), reason.to_be_bytes()].concat();
        self.send(GOAWAY, 0, 0, &payload).await;
    }
}

fn over_http2(endpoint: SocketAddr) -> String {
    format!(
        "{}{}{}",
        manifests::GATEWAY,
        manifests::service_speaking("up", &[endpoint], "kubernetes.io/h2c"),
        manifests::route("all", &[], &manifests::rule(""))
    )
}

/// A request on a connection of its own.
fn ask(gateway: &Arc<Gateway>, request: String) -> JoinHandle<Answer> {
    let gateway = gateway.clone();
    tokio::spawn(async move { gateway.send(request).await })
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn post(body: &str) -> String {
    let length = body.len();
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn streams_above_the_last_one_of_a_goaway_go_elsewhere_and_the_others_end_where_they_are() {
    let listener = Listener::bind().await;
    let gateway = Arc::new(Gateway::start(&over_http2(listener.address())).await);
    let first = ask(&gateway, get("/first"));
    let mut old = Peer::accept(&listener).await;
    let (kept, _) = old.request().await;
    // Its answer has begun when the others come.
    old.send(HEADERS, END_HEADERS, kept, &[0x88]).await;
    old.send(DATA, 0, kept, b"fir").await;
    let others = [
        ask(&gateway, get("/second")),
        ask(&gateway, post("third")),
        ask(&gateway, post("fourth")),
    ];
    for _ in &others {
        let (stream, _) = old.request().await;
        assert!(stream > kept);
    }
    old.go_away(kept, NO_ERROR).await;
    let mut new = Peer::accept(&listener).await;
    let mut bodies = Vec::new();
    for _ in &others {
        let (stream, body) = new.request().await;
        new.answer(stream, "again").await;
        bodies.push(String::from_utf8(body).expect("text"));
    }
    bodies.sort();
    assert_eq!(bodies, ["", "fourth", "third"], "whole bodies come again");
    for other in others {
        let answer = within("an answer", other).await.expect("no panic");
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "again"));
    }
    old.send(DATA, END, kept, b"st").await;
    let answer = within("an answer", first).await.expect("no panic");
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "first"));
    let later = ask(&gateway, get("/later"));
    let (stream, _) = new.request().await;
    new.answer(stream, "later").await;
    let answer = within("an answer", later).await.expect("no panic");
    assert_eq!(
        answer.text(),
        "later",
        "the new connection is the one in use"
    );
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_whatever_its_method() {
    let listener = Listener::bind().await;
    let gateway = Arc::new(Gateway::start(&over_http2(listener.address())).await);
    let asked = ask(&gateway, post("body"));
    let mut peer = Peer::accept(&listener).await;
    let (refused, body) = peer.request().await;
    assert_eq!(body, b"body");
    peer.reset(refused, REFUSED_STREAM).await;
    let (stream, body) = peer.request().await;
    assert!(
        stream > refused && body == b"body",
        "on the same connection"
    );
    peer.answer(stream, "done").await;
    let answer = within("an answer", asked).await.expect("no panic");
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "done"));
}

#[tokio::test]
async fn an_endpoint_that_refuses_everything_is_not_asked_for_ever() {
    let listener = Listener::bind().await;
    let gateway = Arc::new(Gateway::start(&over_http2(listener.address())).await);
    let asked = ask(&gateway, get("/"));
    let mut peer = Peer::accept(&listener).await;
    let mut tries = 0;
    let refusing = async {
        loop {
            let (stream, _) = peer.request().await;
            tries += 1;
            peer.reset(stream, REFUSED_STREAM).await;
        }
    };
    let answer = tokio::select! {
        () = refusing => unreachable!("it refuses for ever"),
        answer = asked => answer.expect("no panic"),
    };
    assert_eq!(answer.status, 502);
    assert!((2..=4).contains(&tries), "{tries}");
}

#[tokio::test]
async fn what_may_have_been_processed_is_not_sent_again() {
    let listener = Listener::bind().await;
    let gateway = Arc::new(Gateway::start(&over_http2(listener.address())).await);
    let mut peer = None;
    for ending in ["reset", "goaway", "goaway with an error", "end"] {
        let asked = ask(&gateway, post("once"));
        let mut current = match peer.take() {
            Some(peer) => peer,
            None => Peer::accept(&listener).await,
        };
        let (stream, _) = current.request().await;
        match ending {
            "reset" => current.reset(stream, INTERNAL_ERROR).await,
            "goaway" => current.go_away(stream, NO_ERROR).await,
            "goaway with an error" => current.go_away(0, INTERNAL_ERROR).await,
            _ => {}
        }
        if ending == "reset" {
            peer = Some(current);
        } else {
            drop(current);
        }
        let answer = within("an answer", asked).await.expect("no panic");
        assert_eq!(answer.status, 502, "{ending}");
    }
}

/// An upstream whose connections end, gracefully, after a few requests each.
async fn short_lived(requests: usize, served: Arc<AtomicUsize>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            counted.fetch_add(1, Ordering::Relaxed);
            let served = served.clone();
            tokio::spawn(async move {
                let enough = Arc::new(tokio::sync::Notify::new());
                let (told, here) = (enough.clone(), Arc::new(AtomicUsize::new(0)));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (told, here, served) = (told.clone(), here.clone(), served.clone());
                    async move {
                        if here.fetch_add(1, Ordering::Relaxed) + 1 == requests {
                            told.notify_one();
                        }
                        let body = request.into_body().collect().await;
                        served.fetch_add(1, Ordering::Relaxed);
                        let bytes = body.map(http_body_util::Collected::to_bytes);
                        Ok::<_, Infallible>(Response::new(Full::new(bytes.unwrap_or_default())))
                    }
                });
                let connection = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                let mut connection = std::pin::pin!(connection);
                tokio::select! {
                    _ = connection.as_mut() => return,
                    () = enough.notified() => connection.as_mut().graceful_shutdown(),
                }
                let _ = connection.await;
            });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn no_request_is_lost_when_connections_end_all_the_time() {
    let served = Arc::new(AtomicUsize::new(0));
    let (address, connections) = short_lived(7, served.clone()).await;
    let gateway = Arc::new(Gateway::start(&over_http2(address)).await);
    let clients: Vec<_> = (0..16)
        .map(|client| {
            let (gateway, connections) = (gateway.clone(), connections.clone());
            tokio::spawn(async move {
                let mut sent = 0;
                // How many requests a connection still takes while it ends is up to the machine.
                while sent < 50 || (connections.load(Ordering::Relaxed) <= 50 && sent < 5_000) {
                    let body = format!("{client}-{sent}");
                    let answer = gateway.send(post(&body)).await;
                    assert_eq!((answer.status.as_u16(), answer.text()), (200, &*body));
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    let mut sent = 0;
    for client in clients {
        sent += client.await.expect("every request is answered");
    }
    assert_eq!(served.load(Ordering::Relaxed), sent, "each exactly once");
    assert!(
        connections.load(Ordering::Relaxed) > 50,
        "connections did end"
    );
}
