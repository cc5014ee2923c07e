//! What a guest has sent on a stream and the upstream has not taken yet.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::channel::{Channel, Sender};
use tokio::sync::Notify;

use crate::body::{Body, BodyError};
use crate::budget::{Held, UsedUp};

/// Bytes that one stream may have waiting. A guest cannot be slowed down, so more ends the stream.
const MOST_BYTES: usize = 4 << 20;

/// Messages on their way out, framed.
pub(super) struct Outgoing {
    waiting: RefCell<VecDeque<Bytes>>,
    held: RefCell<Held>,
    half_closed: Cell<bool>,
    overrun: Cell<bool>,
    news: Notify,
}

/// Moves them to the request's body, at the pace at which the upstream takes them.
pub(super) struct Pump {
    outgoing: Rc<Outgoing>,
    /// None once the guest's half was closed in order.
    body: Option<Sender<Bytes, BodyError>>,
}

impl Outgoing {
    pub(super) fn new(held: Held) -> Self {
        Self {
            waiting: RefCell::default(),
            held: RefCell::new(held),
            half_closed: Cell::new(false),
            overrun: Cell::new(false),
            news: Notify::new(),
        }
    }

    /// Adds a message; too many of them end the stream.
    pub(super) fn send(&self, frame: Bytes) {
        let mut held = self.held.borrow_mut();
        let fits = held.bytes() + frame.len() <= MOST_BYTES;
        if fits && held.grow(frame.len()) != Err(UsedUp) {
            self.waiting.borrow_mut().push_back(frame);
        } else {
            self.overrun.set(true);
        }
        self.news.notify_one();
    }

    /// Nothing follows.
    pub(super) fn close(&self) {
        self.half_closed.set(true);
        self.news.notify_one();
    }

    fn next(&self) -> Option<Bytes> {
        let frame = self.waiting.borrow_mut().pop_front()?;
        self.held.borrow_mut().shrink(frame.len());
        Some(frame)
    }
}

impl Pump {
    /// The pump, and the body it fills.
    pub(super) fn new(outgoing: Rc<Outgoing>) -> (Self, Body) {
        let (sender, body) = Channel::new(1);
        let pump = Self {
            outgoing,
            body: Some(sender),
        };
        (pump, Body::Channel(body))
    }

    /// Runs until the guest has closed its half, or has sent more than may wait: then `Err`.
    pub(super) async fn run(&mut self) -> Result<(), UsedUp> {
        loop {
            if self.outgoing.overrun.get() {
                return Err(UsedUp);
            }
            let Some(body) = &mut self.body else {
                return Ok(());
            };
            if let Some(frame) = self.outgoing.next() {
                let sent = tokio::select! {
                    sent = body.send(Frame::data(frame)) => sent,
                    () = self.outgoing.overrun() => return Err(UsedUp),
                };
                if sent.is_err() {
                    // Nobody reads any more: what the response says of it is what counts.
                    return Ok(());
                }
            } else if self.outgoing.half_closed.get() {
                self.body = None;
            } else {
                self.outgoing.news.notified().await;
            }
        }
    }
}

impl Outgoing {
    /// Waits until more is waiting than may.
    async fn overrun(&self) {
        while !self.overrun.get() {
            self.news.notified().await;
        }
    }
}

impl Drop for Pump {
    /// A stream that ends with its half open was not ended in order: the upstream must not take what came for all.
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            body.abort(BodyError::Cancelled(h2::Reason::CANCEL.into()));
        }
    }
}
