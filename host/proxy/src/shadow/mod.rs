//! Filters in shadow mode: they work on a copy of the exchange, beside the worker, and what they would have done is recorded.
//!
//! ```text
//!   exchange ── heads, pieces of bodies (copies) ──► task ── calls ──► VM of the shadow, on side threads
//!      │ ends                                          └── Would ──► metrics, access log
//!      └── its line waits a little for the verdicts
//! ```
//!
//! The exchange never waits, and never notices: a shadow that falls behind loses the rest of its copy and says so.

mod task;
mod would;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use serde::Serialize;
use tidegate_model::ResponseHead;
use tidegate_wasm::{Direction, StreamIo};
use tokio::sync::{Notify, mpsc};

use task::Task;
pub use would::KINDS;
use would::Would;

use crate::body::{Body, BodyError};
use crate::plugin::{Plugin, Signal, WorkerFilter};

/// Pieces that a shadow may be behind.
const PIECES: usize = 64;
/// How long an exchange's line in the access log waits for its shadows.
const PATIENCE: Duration = Duration::from_secs(1);

/// A line of the access log's `shadow`.
#[derive(Serialize)]
pub(crate) struct Verdict {
    filter: String,
    would: Would,
}

/// The exchange's end of a shadow.
pub(crate) struct Shadow {
    feed: Feed,
    plugin: Arc<Plugin>,
    state: Rc<State>,
}

/// Where copies go. Without receiver when the shadow has come to its end or fell behind.
#[derive(Clone)]
struct Feed {
    sender: mpsc::Sender<Piece>,
    state: Rc<State>,
    bound: usize,
}

#[derive(Default)]
struct State {
    /// Wakes the task.
    signal: Rc<Signal>,
    would: RefCell<Would>,
    /// Bytes of bodies on their way.
    queued: Cell<usize>,
    ended: Cell<bool>,
    end: Notify,
}

enum Piece {
    Body(Direction, Bytes),
    Trailers(Direction, HeaderMap),
    End(Direction),
    Response(ResponseHead, bool),
}

/// A body of which shadows get copies.
pub(crate) struct Tap {
    source: Body,
    feeds: Vec<Feed>,
    direction: Direction,
    ended: bool,
}

// === impl Shadow ===

impl Shadow {
    /// Begins to follow an exchange, from this head on.
    pub(crate) fn begin(
        filter: &Rc<WorkerFilter>,
        plugin: &Arc<Plugin>,
        io: Box<StreamIo>,
        end_of_stream: bool,
    ) -> Self {
        let state = Rc::<State>::default();
        let (sender, pieces) = mpsc::channel(PIECES);
        let task = Task {
            plugin: plugin.clone(),
            pieces,
            state: state.clone(),
        };
        tokio::task::spawn_local(task.run(filter.clone(), io, end_of_stream));
        Self {
            feed: Feed {
                sender,
                state: state.clone(),
                bound: plugin.spec.limits.buffered_body,
            },
            plugin: plugin.clone(),
            state,
        }
    }

    /// A copy of the response's head.
    pub(crate) fn see_response(&self, head: &ResponseHead, end_of_stream: bool) {
        self.feed.give(Piece::Response(head.clone(), end_of_stream));
    }

    /// The exchange is over: what the filter would have done, as far as it becomes known in time.
    pub(crate) async fn verdict(self) -> Verdict {
        let (plugin, state) = (self.plugin.clone(), self.state.clone());
        drop(self);
        let ended = async {
            while !state.ended.get() {
                state.end.notified().await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, ended).await.is_ok();
        let mut would = state.would.borrow().clone();
        would.incomplete |= !in_time;
        Verdict {
            filter: plugin.spec.id.to_string(),
            would,
        }
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        // Before the last copies end, but the task runs after that.
        self.state.signal.raise();
    }
}

impl Feed {
    fn give(&self, piece: Piece) {
        let length = piece.length();
        let queued = self.state.queued.get() + length;
        if queued > self.bound || self.sender.try_send(piece).is_err() {
            if !self.state.ended.get() {
                self.state.would.borrow_mut().incomplete = true;
            }
            return;
        }
        self.state.queued.set(queued);
    }
}

impl Piece {
    fn length(&self) -> usize {
        match self {
            Self::Body(_, data) => data.len(),
            _ => 0,
        }
    }
}

// === impl Tap ===

impl Tap {
    /// `source`, with copies for these shadows.
    pub(crate) fn on<'a>(
        source: Body,
        direction: Direction,
        shadows: impl Iterator<Item = &'a Shadow>,
    ) -> Body {
        let feeds: Vec<_> = shadows.map(|shadow| shadow.feed.clone()).collect();
        if feeds.is_empty() || source.is_end_stream() {
            return source;
        }
        Body::Tap(Box::new(Self {
            source,
            feeds,
            direction,
            ended: false,
        }))
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.source).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.give(|direction| Piece::Body(direction, data.clone()));
                    if self.source.is_end_stream() {
                        self.end();
                    }
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.ended = true;
                    self.give(|direction| Piece::Trailers(direction, trailers.clone()));
                }
            }
            Some(Err(_)) => self.feeds.clear(),
            None => self.end(),
        }
        Poll::Ready(frame)
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.give(Piece::End);
            self.feeds.clear();
        }
    }

    fn give(&self, piece: impl Fn(Direction) -> Piece) {
        for feed in &self.feeds {
            feed.give(piece(self.direction));
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}
