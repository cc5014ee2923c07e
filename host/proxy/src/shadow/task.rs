//! A shadow at work: calls its filter on the copy, and notes what it says.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use http::HeaderMap;
use tidegate_model::ResponseHead;
use tidegate_wasm::{Action, Callback, Direction, Failure, StreamIo};
use tokio::sync::mpsc;

use super::would::Would;
use super::{Piece, State};
use crate::plugin::{Event, Plugin, StreamContext, WorkerFilter, cause};

/// Follows one exchange.
pub(super) struct Task {
    pub(super) plugin: Arc<Plugin>,
    pub(super) pieces: mpsc::Receiver<Piece>,
    pub(super) state: Rc<State>,
}

/// The filter would have ended the exchange, or the exchange has ended.
struct Over;

impl Task {
    pub(super) async fn run(
        mut self,
        filter: Rc<WorkerFilter>,
        io: Box<StreamIo>,
        end_of_stream: bool,
    ) {
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
        let waits = action == Action::PauseHeaders && !end_of_stream;
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
        let waits = action == Action::PauseHeaders && !end_of_stream;
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
            let body = io.body_mut(direction);
            body.append(data.clone());
            body.share()
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
            let body = io.body_mut(direction);
            let changed = body[..] != before[..];
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
        copy.io(|io| *io.trailers_mut(direction) = Some(trailers.clone()));
        if self.call(copy, callback).await? != Action::Continue {
            self.resumed(copy, direction).await?;
        }
        if let Some(now) = copy.io(|io| io.trailers_mut(direction).clone()).flatten() {
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
            Some(Event::Failed(failure)) => {
                self.would(|would| would.failure = Some(cause(&failure)));
            }
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
    context: Rc<StreamContext>,
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
        let called = self.context.cell().call(self.context.plugin(), move |vm| {
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
        let turn = self.context.cell().turn().await.ok()?;
        let id = self.context.id;
        if let Some(io) = self.context.cell().with(|vm| vm.detach(id)).flatten() {
            self.io = Some(io);
        }
        drop(turn);
        Some(())
    }

    async fn end(mut self) {
        if !self.context.cell().is_dead() {
            // A failure here has been told to all streams of the VM.
            let _ = self.call(Callback::Log).await;
        }
        self.context.delete().await;
    }
}
