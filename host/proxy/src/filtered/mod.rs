//! A body on its way past the filters: streamed while they let it pass, held back while one pauses.
//!
//! The semantics are Envoy's: a paused filter sees what is held back as a whole again with each further piece; the end of a body is
//! a callback of its own; with trailers no body callback says "end of stream", and they release a body that is held back.

mod passage;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};
use tidegate_wasm::Direction;

use passage::{End, Passage, Stage};

use crate::body::{Body, BodyError};
use crate::error::Error;
use crate::request::Prefix;
use crate::stream::Stream;

/// A body that passes filters.
pub(crate) struct Filtered {
    stream: Rc<Stream>,
    out: Rc<Out>,
    /// Fills `out`. A future, because a filter's call may take place elsewhere while this waits.
    passage: Pin<Box<dyn Future<Output = Result<(), Error>>>>,
    /// Why it failed before anybody read.
    failed: Option<&'static str>,
}

/// What has come through.
#[derive(Default)]
struct Out {
    frames: RefCell<VecDeque<Frame<Bytes>>>,
    /// Everything has.
    done: Cell<bool>,
    /// Somebody reads: before, nothing is taken from the source.
    wanted: Cell<bool>,
}

impl Filtered {
    /// `source` past the filters of `direction`, behind a `prefix` that one of them has let pass already. The source as it was,
    /// if no filter takes part in bodies.
    pub(crate) fn new(
        stream: &Rc<Stream>,
        direction: Direction,
        source: Body,
        declared: Option<u64>,
        prefix: Option<Prefix>,
    ) -> Result<Self, Body> {
        let steps = stream.chain.borrow().body_steps(direction);
        let ended = source.is_end_stream();
        if steps.is_empty() || (ended && prefix.is_none()) {
            return Err(match prefix {
                Some(prefix) => source.after(prefix.data),
                None => source,
            });
        }
        let stages = steps
            .into_iter()
            .map(|step| Stage {
                step,
                paused: false,
                held: BytesMut::new(),
                behind: BytesMut::new(),
                end: End::None,
            })
            .collect();
        let out = Rc::<Out>::default();
        let mut passage = Passage {
            stream: stream.clone(),
            direction,
            source,
            stages,
            out: out.clone(),
            ended: false,
            resting: None,
            declared,
        };
        let begins = prefix.is_some();
        let mut filtered = Self {
            stream: stream.clone(),
            out,
            passage: Box::pin(async move { passage.run(prefix).await }),
            failed: None,
        };
        if begins {
            // What is there already goes through at once, as far as it can. Whoever reads polls again.
            filtered.failed = filtered.advance(&mut Context::from_waker(Waker::noop()));
        }
        Ok(filtered)
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
        match self.out.frames.borrow_mut().pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if self.out.done.get() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    pub(crate) fn is_end(&self) -> bool {
        self.out.done.get() && self.out.frames.borrow().is_empty() && self.failed.is_none()
    }

    /// Moves on unless something waits to be read; details of the error that ends it, if there is one.
    fn advance(&mut self, cx: &mut Context<'_>) -> Option<&'static str> {
        if self.out.done.get() || !self.out.frames.borrow().is_empty() {
            return None;
        }
        let Poll::Ready(Err(error)) = self.passage.as_mut().poll(cx) else {
            return None;
        };
        self.out.done.set(true);
        self.out.frames.borrow_mut().clear();
        let details = error.details();
        self.stream.fail(error);
        Some(details)
    }
}
