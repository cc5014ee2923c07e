//! The end of an exchange: on_log for all its filters, then on_done and on_delete.

use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, StatusCode, Version};
use tidegate_wasm::{Callback, ContextId, Failure, StreamIo, Vm};
use tokio::time::Instant;

use super::{Chain, Home, Module, Step};
use crate::error::flags;
use crate::plugin::VmCell;
use crate::stream::{FILTER_REPLY, Record};

/// What filters learn at the end.
struct Ending {
    status: Option<StatusCode>,
    details: &'static str,
    flags: u64,
    trailers: Option<Box<HeaderMap>>,
    duration: Duration,
    /// Since the upstream was turned to.
    upstream: Option<Duration>,
    received: u64,
    sent: u64,
    attempts: u32,
}

/// Callbacks at the end.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Last {
    Log,
    /// `on_done` and `on_delete`.
    End,
    LogAndEnd,
}

impl Chain {
    /// The end of the exchange: on_log for all, then on_done and on_delete. Beside the worker where the VMs are there.
    pub(crate) fn finish(&mut self, record: &Record, now: Instant, received: u64, sent: u64) {
        if !self.has_modules {
            return;
        }
        let ending = Ending {
            status: StatusCode::from_u16(record.status).ok(),
            details: record.details,
            flags: record.flags
                | match record.complete {
                    true => 0,
                    // A client of HTTP/2 that leaves resets its stream.
                    false if record.version == Version::HTTP_2 => flags::DOWNSTREAM_REMOTE_RESET,
                    false => flags::DOWNSTREAM_CONNECTION_TERMINATION,
                },
            trailers: record.trailers.clone(),
            duration: now - record.started,
            upstream: record.upstream_started.map(|started| now - started),
            received,
            sent,
            attempts: record.tries.count,
        };
        let chain = std::mem::take(self);
        if chain.is_aside() {
            tokio::task::spawn_local(chain.end(ending));
        } else {
            chain.end_here(ending);
        }
    }

    /// Where every VM is on the worker.
    fn end_here(mut self, ending: Ending) {
        self.home.with(|io| ending.tell(io));
        for (at, last) in self.last_calls() {
            if self.last_cell(at, last).is_none() {
                continue;
            }
            if let Some(context) = self.seat(at) {
                let id = context.id;
                let called = context
                    .cell()
                    .enter(context.plugin(), |vm| last.call(vm, id));
                self.take_back(called);
            }
        }
    }

    async fn end(mut self, ending: Ending) {
        if self.is_away() {
            self.fetch().await;
        }
        self.home.with(|io| ending.tell(io));
        for (at, last) in self.last_calls() {
            let Some(cell) = self.last_cell(at, last) else {
                continue;
            };
            if cell.is_aside() || self.is_away() {
                self.fetch().await;
            }
            let Ok(turn) = cell.turn().await else {
                continue;
            };
            if let Some(context) = self.seat(at) {
                let id = context.id;
                let call = move |vm: &mut Vm| last.call(vm, id);
                let called = cell.run(turn, context.plugin(), call).await;
                self.take_back(called);
            }
        }
    }

    /// What is still to be called, in order: `on_log` of all comes before the first `on_done`. Nobody asks a module that has failed
    /// to log.
    fn last_calls(&self) -> impl Iterator<Item = (usize, Last)> + use<> {
        let steps = 0..self.steps.len();
        let (logs, ends) = match self.steps.as_slice() {
            // Mostly there is one filter, which can have it all at once.
            [Step::Module(Module { failed: false, .. })] => (0..0, Last::LogAndEnd),
            _ => (steps.clone(), Last::End),
        };
        logs.map(|at| (at, Last::Log))
            .chain(steps.map(move |at| (at, ends)))
    }

    /// The VM that is to be called, if it can be.
    fn last_cell(&self, at: usize, last: Last) -> Option<Rc<VmCell>> {
        let Some(Step::Module(module)) = self.steps.get(at) else {
            return None;
        };
        let is_due = !module.failed || last == Last::End;
        (is_due && !module.cell().is_dead()).then(|| module.cell().clone())
    }

    /// The exchange goes along: `on_done` and `on_delete` still read properties. A failure takes the VM with it, which is all that
    /// is left to do for this exchange.
    fn take_back(&mut self, called: Result<Option<Box<StreamIo>>, Failure>) {
        if let Ok(Some(io)) = called {
            self.home = Home::Here(io);
        }
    }
}

impl Ending {
    /// Makes it known to whoever reads the exchange now.
    fn tell(self, io: &mut StreamIo) {
        let attributes = &mut io.attributes;
        attributes.response_code = self.status;
        // A filter's reply may have brought its own.
        if self.details != FILTER_REPLY || attributes.response_code_details.is_none() {
            attributes.response_code_details = Some(self.details.into());
        }
        attributes.response_flags = self.flags;
        attributes.backend_latency = self.upstream.filter(|_| attributes.upstream.is_some());
        attributes.duration = Some(self.duration);
        attributes.request_bytes = self.received;
        attributes.response_bytes = self.sent;
        attributes.attempts = self.attempts;
        if let Some(trailers) = self.trailers {
            io.response_trailers = Some(*trailers);
        }
    }
}

impl Last {
    /// What was attached, once the context is gone.
    fn call(self, vm: &mut Vm, context: ContextId) -> Result<Option<Box<StreamIo>>, Failure> {
        match self {
            Self::Log => vm.call(context, Callback::Log).map(|_| None),
            Self::End => vm.end_stream(context, false),
            Self::LogAndEnd => vm.end_stream(context, true),
        }
    }
}
