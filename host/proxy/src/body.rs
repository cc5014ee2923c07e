//! Bodies: streamed as they come, made here, or kept for another try.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;

use crate::filtered::Filtered;
use crate::shadow::Tap;
use crate::silence::Watched;
use crate::upgrade::UpstreamBody;

/// Why a body ended before its end. The peer is told by an abort, never by a clean end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The other side broke off.
    #[error("the peer broke off: {0}")]
    Peer(#[from] hyper::Error),
    /// A filter ended the stream.
    #[error("a filter ended the stream: {0}")]
    Filter(&'static str),
    /// Who sends it wants no more of the exchange.
    #[error("cancelled: {0}")]
    Cancelled(#[source] h2::Error),
    /// Time ran out.
    #[error("the time for the exchange is over")]
    Timeout,
}

/// What has come of a request's body.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) bytes: Cell<u64>,
    /// The client broke off, or what it sent was malformed.
    pub(crate) broken: Cell<bool>,
}

/// The body of a request to an upstream, or of a response before it is accounted for.
#[derive(Default)]
pub(crate) enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// One piece.
    Full(Bytes),
    /// As it comes from the client.
    Incoming(Incoming, Rc<Received>),
    /// An upstream's, which gives its connection back at its end.
    Upstream(Box<UpstreamBody>),
    /// As it passes the filters.
    Filtered(Box<Filtered>),
    /// With copies for mirrors.
    Tee(Box<Tee>),
    /// On its way to an upstream whose silences are bounded.
    Watched(Box<Watched>),
    /// With copies for filters in shadow mode.
    Tap(Box<Tap>),
    /// What is written elsewhere.
    Channel(Channel<Bytes, BodyError>),
    /// Kept for another try.
    Replay(Replay),
}

impl Body {
    /// `bytes` in one piece.
    pub(crate) fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(bytes)
        }
    }

    /// A body as received; one that is known to be empty costs nothing further.
    pub(crate) fn incoming(body: Incoming, received: &Rc<Received>) -> Self {
        if body.is_end_stream() {
            Self::Empty
        } else {
            Self::Incoming(body, received.clone())
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Incoming(body, received) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                match &frame {
                    Some(Ok(frame)) => {
                        let length = frame.data_ref().map_or(0, Bytes::len);
                        received.bytes.set(received.bytes.get() + length as u64);
                    }
                    Some(Err(_)) => received.broken.set(true),
                    None => {}
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Peer)))
            }
            Self::Upstream(body) => body.poll(cx),
            Self::Filtered(body) => body.poll(cx),
            Self::Tee(body) => body.poll(cx),
            Self::Tap(body) => body.poll(cx),
            Self::Watched(body) => body.poll(cx),
            Self::Channel(body) => Pin::new(body).poll_frame(cx),
            Self::Replay(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Replay(body) => body.is_end(),
            Self::Incoming(body, _) => body.is_end_stream(),
            Self::Upstream(body) => body.inner().is_end_stream(),
            Self::Filtered(body) => body.is_end(),
            Self::Tee(body) => body.source.is_end_stream(),
            Self::Tap(body) => body.is_end_stream(),
            Self::Watched(body) => body.source.is_end_stream(),
            Self::Channel(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(body, _) => body.size_hint(),
            Self::Upstream(body) => body.inner().size_hint(),
            Self::Tee(body) => body.source.size_hint(),
            Self::Tap(body) => body.size_hint(),
            Self::Watched(body) => body.source.size_hint(),
            Self::Channel(_) | Self::Filtered(_) => SizeHint::default(),
            Self::Replay(body) => body.size_hint(),
        }
    }
}

/// A body of which mirrors get copies as it goes by. A mirror that does not keep up loses its copy; the exchange never waits for it.
pub(crate) struct Tee {
    source: Body,
    copies: Vec<Sender<Bytes, BodyError>>,
}

/// Frames that a mirror may be behind.
const MIRROR_FRAMES: usize = 64;

impl Tee {
    /// `source`, and so many copies of it.
    pub(crate) fn split(source: Body, copies: usize) -> (Body, Vec<Body>) {
        if source.is_end_stream() {
            return (source, (0..copies).map(|_| Body::Empty).collect());
        }
        let (copies, bodies) = (0..copies)
            .map(|_| Channel::new(MIRROR_FRAMES))
            .map(|(sender, body)| (sender, Body::Channel(body)))
            .unzip();
        (Body::Tee(Box::new(Self { source, copies })), bodies)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.source).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let late = |copy: &mut Sender<Bytes, BodyError>| match (
                    frame.data_ref(),
                    frame.trailers_ref(),
                ) {
                    (Some(data), _) => copy.try_send(Frame::data(data.clone())).is_err(),
                    (_, Some(trailers)) => {
                        copy.try_send(Frame::trailers(trailers.clone())).is_err()
                    }
                    _ => false,
                };
                for late in self.copies.extract_if(.., |copy| late(copy)) {
                    late.abort(BodyError::Timeout);
                }
            }
            Some(Err(_)) => self
                .copies
                .drain(..)
                .for_each(|copy| copy.abort(BodyError::Timeout)),
            None => self.copies.clear(),
        }
        Poll::Ready(frame)
    }
}

/// A request body that can be sent again as long as what was read of it fits a bound.
pub(crate) struct Replay {
    shared: Rc<RefCell<Recording>>,
    position: usize,
}

struct Recording {
    source: Body,
    pieces: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    ended: bool,
    room: usize,
    whole: bool,
    size: SizeHint,
}

impl Replay {
    /// Records up to `room` bytes of `source`.
    pub(crate) fn new(source: Body, room: usize) -> Self {
        let size = source.size_hint();
        let recording = Recording {
            source,
            pieces: Vec::new(),
            trailers: None,
            ended: false,
            room,
            whole: true,
            size,
        };
        Self {
            shared: Rc::new(RefCell::new(recording)),
            position: 0,
        }
    }

    /// The same body from its beginning, or nothing if more was read than is kept. The earlier one must not be read on.
    pub(crate) fn again(&self) -> Option<Self> {
        self.shared.borrow().whole.then(|| Self {
            shared: self.shared.clone(),
            position: 0,
        })
    }

    fn is_end(&self) -> bool {
        let recording = self.shared.borrow();
        if self.position < recording.pieces.len() {
            return false;
        }
        match recording.ended {
            true => self.position == usize::MAX || recording.trailers.is_none(),
            false => recording.source.is_end_stream(),
        }
    }

    /// No further try comes: what is still read of the body is no longer kept.
    pub(crate) fn settle(&self) {
        self.shared.borrow_mut().whole = false;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut recording = self.shared.borrow_mut();
        if let Some(piece) = recording.pieces.get(self.position) {
            self.position += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if recording.ended {
            let first = self.position != usize::MAX;
            self.position = usize::MAX;
            return Poll::Ready(
                recording
                    .trailers
                    .clone()
                    .filter(|_| first)
                    .map(|t| Ok(Frame::trailers(t))),
            );
        }
        let frame = match ready!(Pin::new(&mut recording.source).poll_frame(cx)) {
            None => {
                recording.ended = true;
                self.position = usize::MAX;
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                recording.whole = false;
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(data) => {
                self.position += 1;
                recording.keep(&data);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Err(frame) => {
                recording.trailers = frame.trailers_ref().cloned();
                recording.ended = true;
                self.position = usize::MAX;
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.shared.borrow().size
    }
}

impl Recording {
    fn keep(&mut self, data: &Bytes) {
        match self.room.checked_sub(data.len()) {
            Some(left) if self.whole => {
                self.room = left;
                self.pieces.push(data.clone());
            }
            _ => {
                self.whole = false;
                self.pieces.clear();
            }
        }
    }
}
