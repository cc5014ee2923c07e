//! The stages that a body goes through, one for each filter that takes part.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Body as _, Frame};
use tidegate_wasm::{Action, BodyData, Callback, Direction};

use super::Out;
use crate::body::Body;
use crate::chain::{Called, Module, Next};
use crate::error::Error;
use crate::stream::Stream;

/// All of a passage as one future.
pub(super) type Waiting = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// The way of a body past its filters.
pub(super) struct Passage {
    pub(super) stream: Rc<Stream>,
    pub(super) direction: Direction,
    pub(super) source: Body,
    pub(super) stages: Vec<Stage>,
    pub(super) out: Rc<Out>,
    /// The source has ended.
    pub(super) ended: bool,
    /// The paused stage whose data is where its filter can see it, in the exchange's data.
    pub(super) resting: Option<usize>,
    /// What the head declared, less what has gone out: a filter cannot make a message of another length than its head says.
    pub(super) declared: Option<u64>,
    /// Bytes that have gone out.
    pub(super) emitted: u64,
}

/// One filter on the way.
pub(super) struct Stage {
    /// Its step in the chain.
    pub(super) step: usize,
    pub(super) paused: bool,
    pub(super) held: BodyData,
    /// Held by `StopIterationAndWatermark`, in front of `held`: its filter sees further pieces without it.
    pub(super) behind: BodyData,
    /// The end has come but waits behind what is held.
    pub(super) end: End,
}

/// What a passage goes on with.
pub(super) enum Source {
    Signal,
    Data(Bytes),
    /// The only piece.
    Whole(Bytes),
    Trailers(Box<HeaderMap>),
    Ended,
    Failed,
}

#[derive(Clone, Default)]
pub(super) enum End {
    #[default]
    None,
    Plain,
    Trailers(Box<HeaderMap>),
}

impl Stage {
    pub(super) fn new(step: usize) -> Self {
        Self {
            step,
            paused: false,
            held: BodyData::default(),
            behind: BodyData::default(),
            end: End::None,
        }
    }
}

impl Passage {
    #[inline]
    pub(super) fn new(
        stream: &Rc<Stream>,
        direction: Direction,
        source: Body,
        stages: Vec<Stage>,
        declared: Option<u64>,
        out: Rc<Out>,
    ) -> Self {
        Self {
            stream: stream.clone(),
            direction,
            source,
            stages,
            out,
            ended: false,
            resting: None,
            declared,
            emitted: 0,
        }
    }

    /// All of it as one future.
    pub(super) fn waiting(mut self) -> Pin<Box<dyn Future<Output = Result<(), Error>>>> {
        Box::pin(async move { self.run().await })
    }

    /// Runs until everything has gone through.
    async fn run(&mut self) -> Result<(), Error> {
        while !self.out.done.get() {
            if !self.resume().await? {
                let source = poll_fn(|cx| self.poll_source(cx)).await;
                self.take_in(source).await?;
            }
            if self.out.holds.get() && !self.stages.last().is_some_and(|stage| stage.paused) {
                self.out.release();
            }
        }
        Ok(())
    }

    /// Whether no call waits: every VM is on the worker, and no stage holds anything back.
    pub(super) fn is_direct(&self) -> bool {
        let chain = self.stream.chain.borrow();
        let on_worker = |module: &Module| !module.cell().is_aside();
        !chain.is_away()
            && self
                .stages
                .iter()
                .all(|stage| !stage.paused && chain.module(stage.step).is_none_or(on_worker))
    }

    /// Gives what the source had to the stages.
    pub(super) async fn take_in(&mut self, source: Source) -> Result<(), Error> {
        match source {
            // A stage was told something.
            Source::Signal => Ok(()),
            Source::Failed => Err(match self.direction {
                Direction::Request => Error::RequestBody,
                Direction::Response => Error::ResponseBody,
            }),
            Source::Ended => self.take_last(Bytes::new(), End::Plain).await,
            Source::Whole(data) => self.take_last(data, End::Plain).await,
            Source::Trailers(trailers) => {
                self.take_last(Bytes::new(), End::Trailers(trailers)).await
            }
            Source::Data(data) => {
                self.push(0, data, End::None).await?;
                // A reader that knows the length takes the last piece and asks no further; filters still hear the end.
                if self.source.is_end_stream() {
                    self.take_last(Bytes::new(), End::Plain).await?;
                }
                Ok(())
            }
        }
    }

    async fn take_last(&mut self, data: Bytes, end: End) -> Result<(), Error> {
        self.ended = true;
        self.push(0, data, end).await
    }

    /// What comes next, once what came through before was read.
    pub(super) fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Source> {
        if !self.out.wanted.get() || !self.out.is_empty() {
            // The next read polls again.
            return Poll::Pending;
        }
        if self.is_told() {
            return Poll::Ready(Source::Signal);
        }
        // A local reply's body reaches filters in one piece, with the end of the stream.
        let whole = matches!(self.source, Body::Full(_));
        let frame = if self.ended {
            Poll::Pending
        } else {
            Pin::new(&mut self.source).poll_frame(cx)
        };
        if frame.is_pending() {
            self.stream.signal.register(self.direction, cx.waker());
        }
        frame.map(|frame| match frame {
            None => Source::Ended,
            Some(Err(_)) => Source::Failed,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if whole || self.ends_with_data() => Source::Whole(data),
                Ok(data) => Source::Data(data),
                Err(frame) => Source::Trailers(Box::new(frame.into_trailers().unwrap_or_default())),
            },
        })
    }

    /// Whether the piece that was just read has the end of the stream on it: HTTP/2 says both at once.
    fn ends_with_data(&self) -> bool {
        self.direction == Direction::Request
            && matches!(self.source, Body::Incoming(..))
            && self.source.is_end_stream()
            && self.stream.record.borrow().version == Version::HTTP_2
    }

    /// Whether a paused stage has heard something, or is out of the chain.
    fn is_told(&self) -> bool {
        let chain = self.stream.chain.borrow();
        let told = |step: usize| {
            chain
                .module(step)
                .is_none_or(|module| module.slot().has(self.direction))
        };
        self.stages
            .iter()
            .any(|stage| stage.paused && told(stage.step))
    }

    /// Lets go of what stages hold back that were told to go on. `true` if there was one.
    async fn resume(&mut self) -> Result<bool, Error> {
        for at in 0..self.stages.len() {
            let Stage { step, paused, .. } = self.stages[at];
            if !paused {
                continue;
            }
            let said = self.stream.heard(step, self.direction).await?;
            let gone = self.stream.chain.borrow().module(step).is_none();
            match said {
                Some(Next::Continue) => {}
                // The service future takes replies; a response that has begun cannot be replaced.
                Some(Next::Reply(reply)) => {
                    return self.judge(step, Called::Reply(reply)).map(|_| true);
                }
                None if gone => {}
                None => continue,
            }
            let (data, end) = self.let_go(at).await;
            self.push(at + 1, data, end).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes held data back out of the exchange's data, before another stage uses the place or its own is let go. It may be
    /// another passage's: a body that a filter's head has waited for passes two.
    async fn collect(&mut self) {
        self.stream.settle_io().await;
        self.stream.chain.borrow_mut().unrest(self.direction);
        if let Some(at) = self.resting
            && let Some(held) = self.out.unrested.take()
        {
            self.resting = None;
            self.stages[at].held = held;
        }
    }

    /// What a stage has held.
    async fn let_go(&mut self, at: usize) -> (Bytes, End) {
        self.collect().await;
        self.stages[at].paused = false;
        let mut held = std::mem::take(&mut self.stages[at].behind);
        held.append(std::mem::take(&mut self.stages[at].held).freeze());
        let end = std::mem::take(&mut self.stages[at].end);
        (held.freeze(), end)
    }

    /// Gives data and end to the stage at `at` and those behind it, and out behind the last.
    async fn push(&mut self, first: usize, mut data: Bytes, mut end: End) -> Result<(), Error> {
        for at in first..self.stages.len() {
            match self.pass(at, data, end).await? {
                Some(passed) => (data, end) = passed,
                None => return Ok(()),
            }
        }
        self.emit(data, end)
    }

    /// Gives data and end to one stage; what it lets go of, if it does.
    async fn pass(
        &mut self,
        at: usize,
        data: Bytes,
        end: End,
    ) -> Result<Option<(Bytes, End)>, Error> {
        let step = self.stages[at].step;
        let Some(callbacks) = self
            .stream
            .chain
            .borrow()
            .module(step)
            .map(|module| module.plugin().module.callbacks())
        else {
            // It has failed and is left out; what it held goes first.
            self.collect().await;
            self.stages[at].held.append(data);
            self.stages[at].end = end;
            return Ok(Some(self.let_go(at).await));
        };
        let (takes_body, takes_trailers) = match self.direction {
            Direction::Request => (callbacks.request_body, callbacks.request_trailers),
            Direction::Response => (callbacks.response_body, callbacks.response_trailers),
        };
        self.collect().await;
        let has_data = !data.is_empty();
        self.stages[at].held.append(data);
        let plain_end = matches!(end, End::Plain);
        let mut added = None;
        if takes_body && (plain_end || has_data) {
            let action;
            (action, added) = self.body_callback(at, plain_end).await?;
            self.stages[at].paused = action != Action::Continue;
            self.check_bound(at)?;
            match action {
                Action::PauseNoBuffer => self.stages[at].held.clear(),
                Action::PauseWatermark => {
                    let held = std::mem::take(&mut self.stages[at].held);
                    self.stages[at].behind.append(held.freeze());
                }
                Action::Continue => {}
                _ => self.rest(at).await,
            }
        }
        if let End::Trailers(trailers) = &end {
            let mut trailers = trailers.clone();
            if takes_trailers {
                let action = self.trailers_callback(at, &mut trailers).await?;
                self.stages[at].paused = action != Action::Continue;
            } else {
                self.stages[at].paused = false;
            }
            self.stages[at].end = End::Trailers(trailers);
        } else if plain_end {
            let trailers = |added| End::Trailers(Box::new(added));
            self.stages[at].end = added.map_or(End::Plain, trailers);
        }
        if self.stages[at].paused {
            return Ok(None);
        }
        Ok(Some(self.let_go(at).await))
    }

    /// Leaves what is held where the filter finds it when an HTTP call or a tick wakes it.
    async fn rest(&mut self, at: usize) {
        self.stream.settle_io().await;
        let held = std::mem::take(&mut self.stages[at].held);
        let direction = self.direction;
        if self
            .stream
            .chain
            .borrow_mut()
            .rest(direction, held, &self.out)
        {
            self.resting = Some(at);
            self.stream.seat_io(self.stages[at].step).await;
        }
    }

    /// What the filter says to the piece, and the trailers that it has added at the end.
    async fn body_callback(
        &mut self,
        at: usize,
        end_of_stream: bool,
    ) -> Result<(Action, Option<HeaderMap>), Error> {
        let step = self.stages[at].step;
        let held = std::mem::take(&mut self.stages[at].held);
        let direction = self.direction;
        let (received, sent) = (self.stream.received.bytes.get(), self.emitted);
        let started = self.stream.record.borrow().upstream_started;
        self.stream.settle_io().await;
        self.stream.chain.borrow_mut().with_io(|io| {
            *io.body_mut(direction) = held;
            io.attributes.request_bytes = received;
            if direction == Direction::Response {
                io.attributes.response_bytes = sent;
                if end_of_stream && io.attributes.upstream.is_some() {
                    io.attributes.backend_latency = started.map(|started| started.elapsed());
                }
            }
        });
        let callback = match direction {
            Direction::Request => Callback::RequestBody { end_of_stream },
            Direction::Response => Callback::ResponseBody { end_of_stream },
        };
        let called = self.stream.call(step, callback).await;
        self.stream.settle_io().await;
        let left = self.stream.chain.borrow_mut().with_io(|io| {
            let held = std::mem::take(io.body_mut(direction));
            let added = end_of_stream.then(|| io.trailers_mut(direction).take());
            (held, added.flatten())
        });
        let (held, added) = left.unwrap_or_default();
        self.stages[at].held = held;
        let action = self.judge(step, called?)?;
        Ok((action, added.filter(|trailers| !trailers.is_empty())))
    }

    async fn trailers_callback(
        &mut self,
        at: usize,
        trailers: &mut HeaderMap,
    ) -> Result<Action, Error> {
        let step = self.stages[at].step;
        let direction = self.direction;
        self.stream.settle_io().await;
        let given = std::mem::take(trailers);
        // A body that was held back can still be read and written here.
        let held = std::mem::take(&mut self.stages[at].held);
        self.stream.chain.borrow_mut().with_io(|io| {
            *io.trailers_mut(direction) = Some(given);
            *io.body_mut(direction) = held;
        });
        let callback = match direction {
            Direction::Request => Callback::RequestTrailers,
            Direction::Response => Callback::ResponseTrailers,
        };
        let called = self.stream.call(step, callback).await;
        self.stream.settle_io().await;
        let left = self.stream.chain.borrow_mut().with_io(|io| {
            let held = std::mem::take(io.body_mut(direction));
            (io.trailers_mut(direction).take(), held)
        });
        let (left, held) = left.unwrap_or_default();
        self.stages[at].held = held;
        *trailers = left.unwrap_or_default();
        self.judge(step, called?)
    }

    fn judge(&self, step: usize, called: Called) -> Result<Action, Error> {
        match called {
            Called::Action(action) => Ok(action),
            Called::Skipped => Ok(Action::Continue),
            Called::Reply(reply) => {
                // Before the response has begun the service future answers with it; later only a reset is left.
                *self.stream.reply.borrow_mut() = Some(reply);
                Err(Error::Reset(self.stream.filter_id(step)))
            }
        }
    }

    fn check_bound(&self, at: usize) -> Result<(), Error> {
        let Stage {
            step,
            held,
            behind,
            paused,
            ..
        } = &self.stages[at];
        if !paused || behind.len() + held.len() <= self.stream.buffered_body(*step) {
            return Ok(());
        }
        let filter = self.stream.filter_id(*step);
        Err(match self.direction {
            Direction::Request => Error::RequestTooLarge(filter),
            Direction::Response => Error::ResponseTooLarge(filter),
        })
    }

    fn emit(&mut self, data: Bytes, end: End) -> Result<(), Error> {
        if let Some(left) = &mut self.declared {
            *left = left
                .checked_sub(data.len() as u64)
                .ok_or(Error::Unsendable(
                    "a filter made the body longer than its content-length",
                ))?;
        }
        self.emitted += data.len() as u64;
        if !data.is_empty() {
            self.out.put(Frame::data(data));
        }
        match end {
            End::None => {}
            End::Plain => self.out.done.set(true),
            End::Trailers(trailers) => {
                self.out.done.set(true);
                self.out.put(Frame::trailers(*trailers));
            }
        }
        if self.out.done.get() && self.declared.is_some_and(|left| left > 0) {
            return Err(Error::Unsendable(
                "a filter made the body shorter than its content-length",
            ));
        }
        Ok(())
    }
}
