//! A body on its way past the filters: streamed while they let it pass, held back while one pauses.
//!
//! The semantics are Envoy's: a paused filter sees what is held back as a whole again with each further piece; the end of a body is
//! a callback of its own; with trailers no body callback says "end of stream", and they release a body that is held back.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame};
use tidegate_wasm::{Action, Callback, Direction, StreamIo};

use crate::body::{Body, BodyError};
use crate::chain::{Called, Next};
use crate::error::Error;
use crate::stream::Stream;

/// A body that passes filters.
pub(crate) struct Filtered {
    stream: Rc<Stream>,
    direction: Direction,
    source: Body,
    stages: Vec<Stage>,
    out: VecDeque<Frame<Bytes>>,
    /// The source has ended.
    ended: bool,
    /// Everything has gone through.
    done: bool,
    /// The paused stage whose data is where its filter can see it, in the exchange's data.
    resting: Option<usize>,
    /// What the head declared, less what has gone out: a filter cannot make a message of another length than its head says.
    declared: Option<u64>,
}

/// One filter on the way.
struct Stage {
    /// Its step in the chain.
    step: usize,
    paused: bool,
    held: BytesMut,
    /// The end has come but waits behind what is held.
    end: End,
}

#[derive(Clone, Default)]
enum End {
    #[default]
    None,
    Plain,
    Trailers(HeaderMap),
}

impl Filtered {
    /// `source` past the filters of `direction`; `None` if none takes part in bodies, and the source as it was.
    pub(crate) fn new(
        stream: &Rc<Stream>,
        direction: Direction,
        source: Body,
        declared: Option<u64>,
    ) -> Result<Self, Body> {
        let steps = stream.chain.borrow().body_steps(direction);
        if steps.is_empty() || source.is_end_stream() {
            return Err(source);
        }
        let stages = steps
            .into_iter()
            .map(|step| Stage {
                step,
                paused: false,
                held: BytesMut::new(),
                end: End::None,
            })
            .collect();
        let out = VecDeque::new();
        Ok(Self {
            stream: stream.clone(),
            direction,
            source,
            stages,
            out,
            ended: false,
            done: false,
            resting: None,
            declared,
        })
    }

    /// Begins with `data` behind step `after`, as if that step had just let it pass.
    pub(crate) fn begin_after(&mut self, after: usize, data: Bytes, end: bool) {
        let passed = match self.direction {
            Direction::Request => self
                .stages
                .iter()
                .take_while(|stage| stage.step <= after)
                .count(),
            Direction::Response => self
                .stages
                .iter()
                .take_while(|stage| stage.step >= after)
                .count(),
        };
        self.ended |= end;
        if let Err(error) = self.push(passed, data, if end { End::Plain } else { End::None }) {
            self.stream.fail(error);
        }
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.advance(cx) {
            Ok(poll) => poll.map(|frame| frame.map(Ok)),
            Err(error) => {
                self.done = true;
                self.out.clear();
                let details = error.details();
                self.stream.fail(error);
                Poll::Ready(Some(Err(BodyError::Filter(details))))
            }
        }
    }

    pub(crate) fn is_end(&self) -> bool {
        self.done && self.out.is_empty()
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Result<Poll<Option<Frame<Bytes>>>, Error> {
        loop {
            if let Some(frame) = self.out.pop_front() {
                return Ok(Poll::Ready(Some(frame)));
            }
            if self.done {
                return Ok(Poll::Ready(None));
            }
            let resumed = self.resume()?;
            if resumed {
                continue;
            }
            if self.ended {
                self.stream.signal.register(self.direction, cx.waker());
                return Ok(Poll::Pending);
            }
            match Pin::new(&mut self.source).poll_frame(cx) {
                Poll::Pending => {
                    self.stream.signal.register(self.direction, cx.waker());
                    return Ok(Poll::Pending);
                }
                Poll::Ready(None) => {
                    self.ended = true;
                    self.push(0, Bytes::new(), End::Plain)?;
                }
                Poll::Ready(Some(Err(_))) => {
                    return Err(Error::RequestBody);
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.push(0, data, End::None)?;
                        // A reader that knows the length takes the last piece and asks no further; filters still hear the end.
                        if self.source.is_end_stream() {
                            self.ended = true;
                            self.push(0, Bytes::new(), End::Plain)?;
                        }
                    }
                    Err(frame) => {
                        self.ended = true;
                        let trailers = frame.into_trailers().unwrap_or_default();
                        self.push(0, Bytes::new(), End::Trailers(trailers))?;
                    }
                },
            }
        }
    }

    /// Lets go of what stages hold back that were told to go on. `true` if there was one.
    fn resume(&mut self) -> Result<bool, Error> {
        for at in 0..self.stages.len() {
            let Stage { step, paused, .. } = self.stages[at];
            if !paused {
                continue;
            }
            let said = self.stream.said(step, self.direction)?;
            let gone = self.stream.chain.borrow().module(step).is_none();
            match said {
                Some(Next::Continue) => {}
                // The service future takes replies; a response that has begun cannot be replaced.
                Some(Next::Reply(_)) => return Err(Error::Reset(self.filter_id(step))),
                None if gone => {}
                None => continue,
            }
            self.release(at)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes held data back out of the exchange's data, before another stage uses the place or its own is let go.
    fn collect(&mut self) {
        let direction = self.direction;
        if let Some(at) = self.resting.take()
            && let Some(held) = self
                .stream
                .chain
                .borrow_mut()
                .with_io(|io| std::mem::take(body_of(io, direction)))
        {
            self.stages[at].held = held;
        }
    }

    /// Passes on what a stage has held.
    fn release(&mut self, at: usize) -> Result<(), Error> {
        self.collect();
        self.stages[at].paused = false;
        let held = std::mem::take(&mut self.stages[at].held).freeze();
        let end = std::mem::take(&mut self.stages[at].end);
        self.push(at + 1, held, end)
    }

    /// Gives data and end to the stage at `at`, or out behind the last.
    fn push(&mut self, at: usize, data: Bytes, end: End) -> Result<(), Error> {
        if at == self.stages.len() {
            return self.emit(data, end);
        }
        let step = self.stages[at].step;
        let Some(callbacks) = self
            .stream
            .chain
            .borrow()
            .module(step)
            .map(|m| m.plugin.module.callbacks())
        else {
            // It has failed and is left out; what it held goes first.
            self.collect();
            self.stages[at].held.extend_from_slice(&data);
            self.stages[at].end = end;
            return self.release(at);
        };
        let (takes_body, takes_trailers) = match self.direction {
            Direction::Request => (callbacks.request_body, callbacks.request_trailers),
            Direction::Response => (callbacks.response_body, callbacks.response_trailers),
        };
        self.collect();
        self.stages[at].held.extend_from_slice(&data);
        let plain_end = matches!(end, End::Plain);
        if takes_body && (plain_end || !data.is_empty()) {
            let action = self.body_callback(at, plain_end)?;
            self.stages[at].paused = action != Action::Continue;
            self.check_bound(at)?;
            match action {
                Action::PauseNoBuffer => self.stages[at].held.clear(),
                Action::Continue => {}
                _ => self.rest(at),
            }
        }
        if let End::Trailers(trailers) = &end {
            let mut trailers = trailers.clone();
            if takes_trailers {
                let action = self.trailers_callback(at, &mut trailers)?;
                self.stages[at].paused = action != Action::Continue;
            } else {
                self.stages[at].paused = false;
            }
            self.stages[at].end = End::Trailers(trailers);
        } else if plain_end {
            self.stages[at].end = End::Plain;
        }
        if self.stages[at].paused {
            Ok(())
        } else {
            self.release(at)
        }
    }

    /// Leaves what is held where the filter finds it when an HTTP call or a tick wakes it.
    fn rest(&mut self, at: usize) {
        let held = std::mem::take(&mut self.stages[at].held);
        let direction = self.direction;
        if self
            .stream
            .chain
            .borrow_mut()
            .with_io(|io| *body_of(io, direction) = held)
            .is_some()
        {
            self.resting = Some(at);
        }
    }

    fn body_callback(&mut self, at: usize, end_of_stream: bool) -> Result<Action, Error> {
        let step = self.stages[at].step;
        let held = std::mem::take(&mut self.stages[at].held);
        let direction = self.direction;
        self.stream
            .chain
            .borrow_mut()
            .with_io(|io| *body_of(io, direction) = held);
        let callback = match direction {
            Direction::Request => Callback::RequestBody { end_of_stream },
            Direction::Response => Callback::ResponseBody { end_of_stream },
        };
        let called = self.stream.call(step, callback);
        let held = self
            .stream
            .chain
            .borrow_mut()
            .with_io(|io| std::mem::take(body_of(io, direction)));
        self.stages[at].held = held.unwrap_or_default();
        self.judge(step, called?)
    }

    fn trailers_callback(&mut self, at: usize, trailers: &mut HeaderMap) -> Result<Action, Error> {
        let step = self.stages[at].step;
        let direction = self.direction;
        let given = std::mem::take(trailers);
        self.stream
            .chain
            .borrow_mut()
            .with_io(|io| *trailers_of(io, direction) = Some(given));
        let callback = match direction {
            Direction::Request => Callback::RequestTrailers,
            Direction::Response => Callback::ResponseTrailers,
        };
        let called = self.stream.call(step, callback);
        let left = self
            .stream
            .chain
            .borrow_mut()
            .with_io(|io| trailers_of(io, direction).take())
            .flatten();
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
                Err(Error::Reset(self.filter_id(step)))
            }
        }
    }

    fn check_bound(&self, at: usize) -> Result<(), Error> {
        let Stage {
            step, held, paused, ..
        } = &self.stages[at];
        let bound = self
            .stream
            .chain
            .borrow()
            .module(*step)
            .map(|module| module.plugin.spec.limits.buffered_body);
        if !paused || bound.is_none_or(|bound| held.len() <= bound) {
            return Ok(());
        }
        let filter = self.filter_id(*step);
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
        if !data.is_empty() {
            self.out.push_back(Frame::data(data));
        }
        match end {
            End::None => {}
            End::Plain => self.done = true,
            End::Trailers(trailers) => {
                self.done = true;
                self.out.push_back(Frame::trailers(trailers));
            }
        }
        if self.done && self.declared.is_some_and(|left| left > 0) {
            return Err(Error::Unsendable(
                "a filter made the body shorter than its content-length",
            ));
        }
        Ok(())
    }

    fn filter_id(&self, step: usize) -> tidegate_model::FilterId {
        let chain = self.stream.chain.borrow();
        chain.module(step).map_or_else(
            || tidegate_model::FilterId {
                namespace: "".into(),
                name: "".into(),
            },
            |module| module.plugin.spec.id.clone(),
        )
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
