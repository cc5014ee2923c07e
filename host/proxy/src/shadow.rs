//! Filters in shadow mode: they work on a copy of the exchange, beside the worker, and what they would have done is recorded.
//!
//! ```text
//!   exchange ── heads, pieces of bodies (copies) ──► task ── calls ──► VM of the shadow, on side threads
//!      │ ends                                          └── Would ──► metrics, access log
//!      └── its line waits a little for the verdicts
//! ```
//!
//! The exchange never waits, and never notices: a shadow that falls behind loses the rest of its copy and says so.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName};
use http_body::{Body as _, Frame, SizeHint};
use serde::Serialize;
use tidegate_model::{FailureCause, RequestHead, ResponseHead};
use tidegate_wasm::{Action, Callback, Direction, Failure, LocalReply, StreamIo};
use tokio::sync::{Notify, mpsc};

use crate::body::{Body, BodyError};
use crate::plugin::{Event, Plugin, Signal, StreamContext, WorkerFilter, cause};

/// Pieces that a shadow may be behind.
const PIECES: usize = 64;
/// How long an exchange's line in the access log waits for its shadows.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a filter would have done. Empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Would {
    /// Answered with this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<u16>,
    /// Reset the stream.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reset: bool,
    /// Failed, for this cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureCause>,
    #[serde(skip_serializing_if = "Changes::is_empty")]
    request: Changes,
    #[serde(skip_serializing_if = "Changes::is_empty")]
    response: Changes,
    /// It fell behind, or has not come to an end in time: the rest is not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    incomplete: bool,
}

/// What would have become of a message. Names only: values may be secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Changes {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    set: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    body: bool,
}

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

// === the task ===

struct Task {
    plugin: Arc<Plugin>,
    pieces: mpsc::Receiver<Piece>,
    state: Rc<State>,
}

/// The filter would have ended the exchange, or the exchange has ended.
struct Over;

impl Task {
    async fn run(mut self, filter: Rc<WorkerFilter>, io: Box<StreamIo>, end_of_stream: bool) {
        let signal = self.state.signal.clone();
        match filter.open_waiting(&self.plugin, &signal).await {
            Ok(context) => {
                let mut copy = Copy {
                    context,
                    io: Some(io),
                };
                // Either way it is over.
                let _ = self.follow(&mut copy, end_of_stream).await;
                copy.end().await;
            }
            Err(failure) => self.would(|would| would.failure = Some(cause(&failure))),
        }
        let kind = self.state.would.borrow().kind();
        self.plugin.stats.shadow[kind].fetch_add(1, Relaxed);
        self.state.ended.set(true);
        self.state.end.notify_waiters();
    }

    async fn follow(&mut self, copy: &mut Copy, end_of_stream: bool) -> Result<(), Over> {
        let request = copy.io(|io| io.request.clone()).ok_or(Over)?;
        let headers = Callback::RequestHeaders { end_of_stream };
        let action = self.call(copy, headers).await?;
        let waits = self.plugin.spec.headers_wait_for_body && !end_of_stream;
        if action != Action::Continue && !waits {
            self.resumed(copy, Direction::Request).await?;
        }
        if let Some(now) = copy.io(|io| io.request.clone()) {
            self.would(|would| would.request.compare_requests(&request, &now));
        }
        while let Some(piece) = self.pieces.recv().await {
            let queued = self.state.queued.get();
            self.state.queued.set(queued.saturating_sub(piece.length()));
            match piece {
                Piece::Body(direction, data) => self.body(copy, direction, data, false).await?,
                Piece::End(direction) => self.body(copy, direction, Bytes::new(), true).await?,
                Piece::Trailers(direction, trailers) => {
                    self.trailers(copy, direction, trailers).await?;
                }
                Piece::Response(head, end) => self.response(copy, head, end).await?,
            }
        }
        Ok(())
    }

    async fn response(
        &mut self,
        copy: &mut Copy,
        head: ResponseHead,
        end_of_stream: bool,
    ) -> Result<(), Over> {
        copy.bring().await;
        copy.io(|io| io.response = Some(head.clone()));
        let callback = Callback::ResponseHeaders { end_of_stream };
        let action = self.call(copy, callback).await?;
        let waits = self.plugin.spec.headers_wait_for_body && !end_of_stream;
        if action != Action::Continue && !waits {
            self.resumed(copy, Direction::Response).await?;
        }
        if let Some(now) = copy.io(|io| io.response.clone()).flatten() {
            self.would(|would| {
                let changes = &mut would.response;
                changes.compare(&head.headers, &now.headers);
                changes.set_if(head.status != now.status, ":status");
            });
        }
        Ok(())
    }

    async fn body(
        &mut self,
        copy: &mut Copy,
        direction: Direction,
        data: Bytes,
        end_of_stream: bool,
    ) -> Result<(), Over> {
        let callbacks = self.plugin.module.callbacks();
        let (takes_part, callback) = match direction {
            Direction::Request => (
                callbacks.request_body,
                Callback::RequestBody { end_of_stream },
            ),
            Direction::Response => (
                callbacks.response_body,
                Callback::ResponseBody { end_of_stream },
            ),
        };
        if !takes_part {
            return Ok(());
        }
        copy.bring().await;
        let before = copy.io(|io| {
            let body = body_of(io, direction);
            body.extend_from_slice(&data);
            body.clone()
        });
        let before = before.unwrap_or_default();
        let bound = self.plugin.spec.limits.buffered_body;
        if before.len() > bound && !data.is_empty() && before.len() > data.len() {
            self.would(|would| would.reply = Some(413));
            return Err(Over);
        }
        let action = self.call(copy, callback).await?;
        if action != Action::Continue && end_of_stream {
            self.resumed(copy, direction).await?;
        }
        let changed = copy.io(|io| {
            let body = body_of(io, direction);
            let changed = *body != before;
            let let_go = matches!(action, Action::Continue | Action::PauseNoBuffer);
            if let_go || end_of_stream {
                body.clear();
            }
            changed
        });
        if changed == Some(true) {
            self.would(|would| would.changes(direction).body = true);
        }
        Ok(())
    }

    async fn trailers(
        &mut self,
        copy: &mut Copy,
        direction: Direction,
        trailers: HeaderMap,
    ) -> Result<(), Over> {
        let callback = match direction {
            Direction::Request => Callback::RequestTrailers,
            Direction::Response => Callback::ResponseTrailers,
        };
        copy.bring().await;
        copy.io(|io| *trailers_of(io, direction) = Some(trailers.clone()));
        if self.call(copy, callback).await? != Action::Continue {
            self.resumed(copy, direction).await?;
        }
        if let Some(now) = copy.io(|io| trailers_of(io, direction).clone()).flatten() {
            self.would(|would| would.changes(direction).compare(&trailers, &now));
        }
        Ok(())
    }

    /// Makes a callback and notes what it said.
    async fn call(&self, copy: &mut Copy, callback: Callback) -> Result<Action, Over> {
        copy.context.slot.forget_resumes();
        match copy.call(callback).await {
            Ok(action) => {
                self.hear(copy)?;
                Ok(action)
            }
            Err(failure) => {
                self.would(|would| would.failure = Some(cause(&failure)));
                Err(Over)
            }
        }
    }

    /// Waits for a paused filter to go on. One that has not when the exchange is over would have held it up.
    async fn resumed(&mut self, copy: &mut Copy, direction: Direction) -> Result<(), Over> {
        loop {
            self.hear(copy)?;
            match copy.context.slot.take(direction) {
                Some(_) => return copy.fetch().await.ok_or(Over),
                // A sender that is gone says that the exchange is over, and that no more will come.
                None if self.pieces.is_closed() => {
                    self.would(|would| would.incomplete = true);
                    return Err(Over);
                }
                None => {}
            }
            self.state.signal.wait().await;
        }
    }

    fn hear(&self, copy: &Copy) -> Result<(), Over> {
        if !copy.context.slot.is_urgent() {
            return Ok(());
        }
        match copy.context.slot.take(Direction::Request) {
            Some(Event::Reply(reply)) => self.would(|would| would.replies(&reply)),
            Some(Event::Close) => self.would(|would| would.reset = true),
            Some(Event::Dead(cause)) => self.would(|would| would.failure = Some(cause)),
            Some(Event::Resume(_)) | None => return Ok(()),
        }
        Err(Over)
    }

    fn would(&self, note: impl FnOnce(&mut Would)) {
        note(&mut self.state.would.borrow_mut());
    }
}

/// The copied exchange in its VM.
struct Copy {
    context: StreamContext,
    /// While it is not in the VM.
    io: Option<Box<StreamIo>>,
}

impl Copy {
    fn io<T>(&mut self, look: impl FnOnce(&mut StreamIo) -> T) -> Option<T> {
        self.io.as_deref_mut().map(look)
    }

    async fn call(&mut self, callback: Callback) -> Result<Action, Failure> {
        self.bring().await;
        let (id, io) = (self.context.id, self.io.take());
        let called = self.context.cell.call(&self.context.plugin, move |vm| {
            if let Some(io) = io {
                vm.attach(id, io);
            }
            let action = vm.call(id, callback)?;
            // A filter that waits for an answer looks at the exchange when that comes.
            let io = match action {
                Action::Continue => vm.detach(id),
                _ => None,
            };
            Ok((action, io))
        });
        let (action, io) = called.await?;
        self.io = io;
        Ok(action)
    }

    /// What a paused filter left in the VM comes back.
    async fn bring(&mut self) {
        if self.io.is_none() {
            self.fetch().await;
        }
    }

    /// Takes the exchange out of the VM.
    async fn fetch(&mut self) -> Option<()> {
        let turn = self.context.cell.turn().await.ok()?;
        let id = self.context.id;
        if let Some(io) = self.context.cell.with(|vm| vm.detach(id)).flatten() {
            self.io = Some(io);
        }
        drop(turn);
        Some(())
    }

    async fn end(mut self) {
        if !self.context.cell.is_dead() {
            // A failure here has been told to all streams of the VM.
            let _ = self.call(Callback::Log).await;
        }
        self.context.delete().await;
    }
}

// === impl Would ===

impl Would {
    fn replies(&mut self, reply: &LocalReply) {
        self.reply = Some(reply.status.as_u16());
    }

    fn changes(&mut self, direction: Direction) -> &mut Changes {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    /// Index among [`KINDS`].
    fn kind(&self) -> usize {
        if self.failure.is_some() {
            0
        } else if self.reply.is_some() {
            1
        } else if self.reset {
            2
        } else if !(self.request.is_empty() && self.response.is_empty()) {
            3
        } else {
            4
        }
    }
}

/// Label values of the metric, in the order in which one of them is chosen.
pub const KINDS: [&str; 5] = ["fail", "reply", "reset", "change", "nothing"];

impl Changes {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn compare_requests(&mut self, before: &RequestHead, now: &RequestHead) {
        self.set_if(before.method != now.method, ":method");
        self.set_if(before.path != now.path, ":path");
        self.set_if(before.authority != now.authority, ":authority");
        self.compare(&before.headers, &now.headers);
    }

    fn compare(&mut self, before: &HeaderMap, now: &HeaderMap) {
        let values = |map: &HeaderMap, name: &HeaderName| {
            let values = map.get_all(name).iter().cloned();
            values.collect::<Vec<_>>()
        };
        for name in now.keys() {
            let changed = values(before, name) != values(now, name);
            self.set_if(changed, name.as_str());
        }
        let gone = before.keys().filter(|name| !now.contains_key(*name));
        self.removed
            .extend(gone.map(|name| name.as_str().to_owned()));
    }

    fn set_if(&mut self, changed: bool, name: &str) {
        if changed {
            self.set.push(name.to_owned());
        }
    }
}

fn body_of(io: &mut StreamIo, direction: Direction) -> &mut BytesMut {
    match direction {
        Direction::Request => &mut io.request_body,
        Direction::Response => &mut io.response_body,
    }
}

fn trailers_of(io: &mut StreamIo, direction: Direction) -> &mut Option<HeaderMap> {
    match direction {
        Direction::Request => &mut io.request_trailers,
        Direction::Response => &mut io.response_trailers,
    }
}
