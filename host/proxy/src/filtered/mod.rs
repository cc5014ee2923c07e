//! A body on its way past the filters: streamed while they let it pass, held back while one pauses.
//!
//! The semantics are Envoy's: a paused filter sees what is held back as a whole again with each further piece; the end of a body is
//! a callback of its own; with trailers no body callback says "end of stream", and they release a body that is held back.

mod passage;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tidegate_wasm::{BodyData, Direction};

use passage::{Passage, Stage, Waiting};

use crate::body::{Body, BodyError};
use crate::error::Error;
use crate::stream::Stream;

/// A body that passes filters.
pub(crate) struct Filtered {
    stream: Rc<Stream>,
    out: Rc<Out>,
    /// While every VM is on the worker and nothing pauses: what comes is through when the poll returns.
    direct: Option<Passage>,
    /// From then on: a future, because a filter's call takes place elsewhere, or something waits.
    waiting: Option<Waiting>,
    /// Why it failed before anybody read.
    failed: Option<&'static str>,
}

/// What has come through.
#[derive(Default)]
pub(crate) struct Out {
    /// What is read next; the rest is behind it.
    first: Cell<Option<Frame<Bytes>>>,
    rest: RefCell<VecDeque<Frame<Bytes>>>,
    waiting: Cell<usize>,
    /// Everything has.
    done: Cell<bool>,
    /// Somebody reads: before, nothing is taken from the source.
    wanted: Cell<bool>,
    /// The last filter's head still waits for the body.
    holds: Cell<bool>,
    /// Data of a paused filter that had to make room in the exchange's data.
    unrested: Cell<Option<BodyData>>,
}

// === impl Out ===

impl Out {
    fn put(&self, frame: Frame<Bytes>) {
        if self.waiting.replace(self.waiting.get() + 1) == 0 {
            self.first.set(Some(frame));
        } else {
            self.rest.borrow_mut().push_back(frame);
        }
    }

    fn take(&self) -> Option<Frame<Bytes>> {
        let frame = self.first.take()?;
        let left = self.waiting.get() - 1;
        self.waiting.set(left);
        if left > 0 {
            self.first.set(self.rest.borrow_mut().pop_front());
        }
        Some(frame)
    }

    fn is_empty(&self) -> bool {
        self.waiting.get() == 0
    }

    /// The head goes on. Until somebody reads, no more is taken from the source.
    fn release(&self) {
        self.holds.set(false);
        self.wanted.set(false);
    }

    /// Takes back what rested in the exchange's data.
    pub(crate) fn unrest(&self, held: BodyData) {
        self.unrested.set(Some(held));
    }
}

// === impl Filtered ===

impl Filtered {
    /// `source` past the filters of `direction` that it has not passed yet. The source as it was, if none of them takes part in
    /// bodies, unless some have before: its length is to be held against what was `declared`.
    pub(crate) fn new(
        stream: &Rc<Stream>,
        direction: Direction,
        source: Body,
        declared: Option<u64>,
    ) -> Result<Box<Self>, Body> {
        if source.is_end_stream() {
            return Err(source);
        }
        let (stages, waited): (Vec<Stage>, bool) = {
            let chain = stream.chain.borrow();
            let stages = chain.body_steps(direction).map(Stage::new).collect();
            (stages, chain.has_waited(direction))
        };
        if stages.is_empty() && !waited {
            return Err(source);
        }
        let out = Rc::<Out>::default();
        // Made where it stays: a copy would cost as much as a filter's callback.
        Ok(Box::new(Self {
            stream: stream.clone(),
            out: out.clone(),
            direct: Some(Passage::new(
                stream, direction, source, stages, declared, out,
            )),
            waiting: None,
            failed: None,
        }))
    }

    /// `source` past the filters that it has not passed yet, up to the one at step `at`, whose head waits for it.
    pub(crate) fn holding(
        stream: &Rc<Stream>,
        direction: Direction,
        source: Body,
        at: usize,
    ) -> Box<Self> {
        let mut stages: Vec<Stage> = {
            let chain = stream.chain.borrow();
            let in_front = |step: &usize| match direction {
                Direction::Request => *step < at,
                Direction::Response => *step > at,
            };
            let steps = chain.body_steps(direction).take_while(in_front);
            steps.map(Stage::new).collect()
        };
        stages.push(Stage {
            paused: true,
            ..Stage::new(at)
        });
        stream.chain.borrow_mut().wait(direction, at);
        let out = Rc::<Out>::default();
        out.holds.set(true);
        out.wanted.set(true);
        let passage = Passage::new(stream, direction, source, stages, None, out.clone());
        Box::new(Self {
            stream: stream.clone(),
            out,
            direct: None,
            waiting: Some(passage.waiting()),
            failed: None,
        })
    }

    /// Takes in the body until the head that waits for it may go on; `false` if that ended in an error, which the stream has.
    pub(crate) fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.failed = self.advance(cx);
        match (self.failed, self.out.holds.get()) {
            (Some(_), _) => Poll::Ready(false),
            (None, true) => Poll::Pending,
            (None, false) => Poll::Ready(true),
        }
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.out.wanted.set(true);
        let failed = self.failed.take().or_else(|| self.advance(cx));
        if let Some(details) = failed {
            return Poll::Ready(Some(Err(BodyError::Filter(details))));
        }
        match self.out.take() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if self.out.done.get() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    pub(crate) fn is_end(&self) -> bool {
        self.out.done.get() && self.out.is_empty() && self.failed.is_none()
    }

    /// Moves on unless something waits to be read; details of the error that ends it, if there is one.
    fn advance(&mut self, cx: &mut Context<'_>) -> Option<&'static str> {
        if self.out.done.get() || !self.out.is_empty() {
            return None;
        }
        let Poll::Ready(Err(error)) = self.proceed(cx) else {
            return None;
        };
        self.out.done.set(true);
        while self.out.take().is_some() {}
        let details = error.details();
        self.stream.fail(error);
        Some(details)
    }

    /// Until everything has gone through, what came through waits to be read, or nothing comes.
    fn proceed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while let Some(passage) = &mut self.direct {
            if !passage.is_direct() {
                self.waiting = self.direct.take().map(Passage::waiting);
                break;
            }
            if self.out.done.get() {
                return Poll::Ready(Ok(()));
            }
            let source = ready!(passage.poll_source(cx));
            let now = &mut Context::from_waker(Waker::noop());
            let taken = pin!(passage.take_in(source)).poll(now);
            debug_assert!(taken.is_ready(), "a VM on its worker answers at once");
            ready!(taken)?;
        }
        match &mut self.waiting {
            Some(passage) => passage.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
