//! Calls of filters, and what they say: on the worker where the VM is there, else waited for.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header;
use tidegate_model::{FailureCause, FailurePolicy, FilterId};
use tidegate_wasm::{Action, Callback, Direction, Failure, LocalReply, Vm};

use super::{Called, Home, Module, Next, Step};
use crate::body::Body;
use crate::error::Error;
use crate::filtered::Filtered;
use crate::grpc_reply;
use crate::plugin::{Event, Fallen, Plugin, VmCell, WorkerFilter, cause};
use crate::publish::FilterState;
use crate::stream::Stream;

/// Waits for the exchange's data, unless it is there.
#[must_use]
pub(crate) struct Settled<'a>(Option<Pin<Box<dyn Future<Output = ()> + 'a>>>);

/// What became of a call.
enum Entered {
    Here(Result<Action, Failed>),
    /// It is to be made where the calls of this VM are.
    Aside(Rc<VmCell>),
    /// There is nobody to call.
    Nowhere,
}

/// Why a call was not made, or did not end well.
enum Failed {
    /// Its own fault.
    Itself(Failure),
    /// The VM had fallen before.
    Fallen(FailureCause),
}

impl Future for Settled<'_> {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            None => Poll::Ready(()),
            Some(fetched) => fetched.as_mut().poll(cx),
        }
    }
}

impl Stream {
    /// Adds a module to the chain. `Ok(None)`: it cannot run and is skipped.
    pub(crate) async fn open_module(
        &self,
        filter: &Rc<WorkerFilter>,
    ) -> Result<Option<usize>, Error> {
        let plugin = match &filter.state {
            FilterState::Ready(plugin) => plugin,
            FilterState::Unavailable { cause, message } => {
                return match filter.spec.failure_policy.policy(*cause) {
                    FailurePolicy::Open => Ok(None),
                    FailurePolicy::Closed => Err(Error::Filter {
                        filter: filter.spec.id.clone(),
                        cause: *cause,
                        message: message.clone(),
                    }),
                };
            }
        };
        let opened = match filter.open(plugin, &self.signal) {
            Some(opened) => opened,
            None => Box::pin(filter.open_waiting(plugin, &self.signal)).await,
        };
        match opened {
            Ok(context) => {
                let mut chain = self.chain.borrow_mut();
                chain.has_modules = true;
                chain.steps.push(Step::Module(Module {
                    context,
                    failed: false,
                }));
                Ok(Some(chain.len() - 1))
            }
            Err(failure) => self.judge(plugin, &failure).map(|()| None),
        }
    }

    /// The answer of a filter's failure policy: an error, or going on without it.
    fn judge(&self, plugin: &Plugin, failure: &Failure) -> Result<(), Error> {
        let (cause, spec) = (cause(failure), &plugin.spec);
        self.judge_cause(plugin, cause, failure.to_string().into())
            .inspect_err(|_| {
                self.record.borrow_mut().filter = Some(spec.id.to_string());
            })
    }

    fn judge_cause(
        &self,
        plugin: &Plugin,
        cause: FailureCause,
        message: Arc<str>,
    ) -> Result<(), Error> {
        match plugin.spec.failure_policy.policy(cause) {
            FailurePolicy::Open => Ok(()),
            FailurePolicy::Closed => Err(Error::Filter {
                filter: plugin.spec.id.clone(),
                cause,
                message,
            }),
        }
    }

    fn leave_out(&self, at: usize) {
        let mut chain = self.chain.borrow_mut();
        if let Some(Step::Module(module)) = chain.steps.get_mut(at) {
            module.failed = true;
        }
    }

    /// Calls a module and reads what it said during the call.
    pub(crate) async fn call(&self, at: usize, callback: Callback) -> Result<Called, Error> {
        self.settle_io().await;
        match self.enter(at, callback) {
            Entered::Here(result) => self.judge_call(at, callback, result),
            Entered::Nowhere => Ok(Called::Skipped),
            Entered::Aside(cell) => {
                let result = Box::pin(self.call_aside(at, callback, &cell)).await;
                if self.is_interrupted() {
                    self.settle_io().await;
                }
                self.judge_call(at, callback, result)
            }
        }
    }

    /// Calls a module, if its VM is called on the worker.
    fn enter(&self, at: usize, callback: Callback) -> Entered {
        let mut chain = self.chain.borrow_mut();
        let cell = match chain.module(at) {
            Some(module) => module.cell(),
            None => return Entered::Nowhere,
        };
        if cell.is_aside() {
            return Entered::Aside(cell.clone());
        }
        if let Some(cause) = cell.fell_of() {
            return Entered::Here(Err(Failed::Fallen(cause)));
        }
        let Some(context) = chain.seat(at) else {
            return Entered::Nowhere;
        };
        drop(chain);
        let id = context.id;
        let called = context
            .cell()
            .enter(context.plugin(), |vm| vm.call(id, callback));
        Entered::Here(called.map_err(Failed::Itself))
    }

    async fn call_aside(
        &self,
        at: usize,
        callback: Callback,
        cell: &Rc<VmCell>,
    ) -> Result<Action, Failed> {
        if let Some(overrun) = cell.is_overrun() {
            return Err(Failed::Itself(overrun));
        }
        // It is here now, and may be in a VM that is called by somebody else while this waits.
        self.chain.borrow_mut().unseat();
        let turn = cell.turn().await.map_err(|Fallen| {
            let cause = cell.fell_of();
            Failed::Fallen(cause.unwrap_or(FailureCause::Trap))
        })?;
        let seat = self.chain.borrow_mut().seat(at);
        let Some(context) = seat else {
            return Ok(Action::Continue);
        };
        let id = context.id;
        let call = move |vm: &mut Vm| vm.call(id, callback);
        cell.run_of(turn, context.plugin(), Some(id), call)
            .await
            .map_err(Failed::Itself)
    }

    /// Waits until the exchange's data can be had: it may be in a VM that is away, but hardly ever is.
    #[inline]
    pub(crate) fn settle_io(&self) -> Settled<'_> {
        let is_away = self.chain.borrow().is_away();
        Settled(is_away.then(|| -> Pin<Box<dyn Future<Output = ()>>> { Box::pin(self.fetch_io()) }))
    }

    async fn fetch_io(&self) {
        loop {
            let cell = match &self.chain.borrow().home {
                Home::In(context) => context.cell().clone(),
                _ => return,
            };
            let turn = cell.turn().await;
            self.chain.borrow_mut().unseat();
            drop(turn);
        }
    }

    /// Puts the exchange's data where the module of a step finds it outside of a call of this exchange.
    pub(crate) async fn seat_io(&self, at: usize) {
        let Some(cell) = self.chain.borrow().cell(at) else {
            return;
        };
        if !matches!(self.chain.borrow().home, Home::Here(_)) {
            return;
        }
        if let Ok(_turn) = cell.turn().await {
            let mut chain = self.chain.borrow_mut();
            if let Some(io) = chain.home.take() {
                let context = chain.module(at).map(|module| module.context.clone());
                let seated = context.filter(|context| {
                    let put = context.cell().with(|vm| vm.attach(context.id, io));
                    put.is_some()
                });
                chain.home = seated.map_or(Home::None, Home::In);
            }
        }
    }

    fn judge_call(
        &self,
        at: usize,
        callback: Callback,
        result: Result<Action, Failed>,
    ) -> Result<Called, Error> {
        match result {
            Err(Failed::Fallen(cause)) => {
                self.fell(at, cause)?;
                Ok(Called::Skipped)
            }
            Err(Failed::Itself(failure)) => {
                self.faulted(at, &failure)?;
                Ok(Called::Skipped)
            }
            Ok(action) => match self.said(at, direction(callback))? {
                Some(Next::Reply(reply)) => Ok(Called::Reply(reply)),
                Some(Next::Continue) => Ok(Called::Action(Action::Continue)),
                None => Ok(Called::Action(action)),
            },
        }
    }

    /// A call of a step failed. Where the exchange's other half has heard of it before, both end alike.
    fn faulted(&self, at: usize, failure: &Failure) -> Result<(), Error> {
        let plugin = match self.chain.borrow().steps.get(at) {
            Some(Step::Module(module)) => module.plugin().clone(),
            _ => return Ok(()),
        };
        self.leave_out(at);
        self.judge(&plugin, failure)
    }

    /// The VM of a step fell through another stream's fault.
    fn fell(&self, at: usize, cause: FailureCause) -> Result<(), Error> {
        let plugin = match self.chain.borrow().module(at) {
            Some(module) => module.plugin().clone(),
            None => return Ok(()),
        };
        plugin
            .stats
            .collateral
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.leave_out(at);
        self.judge_cause(&plugin, cause, "its VM fell with another request".into())
    }

    /// What the VM has told the stream context of a step: a reply, or that it may go on.
    pub(crate) fn said(&self, at: usize, direction: Direction) -> Result<Option<Next>, Error> {
        let context = match self.chain.borrow().module(at) {
            Some(module) if module.slot().is_told() => module.context.clone(),
            _ => return Ok(None),
        };
        let plugin = context.plugin();
        match context.slot.take(direction) {
            None => Ok(None),
            Some(Event::Resume(_)) => Ok(Some(Next::Continue)),
            Some(Event::Reply(reply)) => {
                self.record.borrow_mut().filter = Some(plugin.spec.id.to_string());
                let asked = self.chain.borrow_mut().with_io(|io| {
                    if !reply.details.is_empty() {
                        io.attributes.response_code_details = Some(reply.details.clone().into());
                    }
                    let kind = io.request_head().headers.get(header::CONTENT_TYPE);
                    kind.is_some_and(grpc_reply::is_grpc)
                });
                Ok(Some(Next::Reply(Box::new(match asked {
                    Some(true) => grpc_reply::of(reply),
                    _ => reply,
                }))))
            }
            Some(Event::Close) => Err(Error::Reset(plugin.spec.id.clone())),
            Some(Event::Dead(cause)) => {
                self.fell(at, cause)?;
                Ok(Some(Next::Continue))
            }
            Some(Event::Failed(failure)) => {
                self.faulted(at, &failure)?;
                Ok(Some(Next::Continue))
            }
        }
    }

    /// As [`said`](Self::said), with the exchange's data at hand where there is something.
    pub(crate) async fn heard(
        &self,
        at: usize,
        direction: Direction,
    ) -> Result<Option<Next>, Error> {
        let spoke = |module: &Module| module.slot().has(direction);
        if !self.chain.borrow().module(at).is_some_and(spoke) {
            return Ok(None);
        }
        self.settle_io().await;
        self.said(at, direction)
    }

    /// A reply or failure that a module asked for outside of a call of this exchange, at any step.
    pub(crate) fn interrupted(&self) -> Option<Result<Box<LocalReply>, Error>> {
        if let Some(reply) = self.reply.borrow_mut().take() {
            return Some(Ok(reply));
        }
        if let Some(error) = self.failure.borrow_mut().take() {
            return Some(Err(error));
        }
        let steps = self.chain.borrow().len();
        (0..steps).find_map(|at| {
            let urgent = self
                .chain
                .borrow()
                .module(at)
                .is_some_and(|module| module.slot().is_urgent());
            if !urgent {
                return None;
            }
            match self.said(at, Direction::Request) {
                Ok(Some(Next::Reply(reply))) => Some(Ok(reply)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            }
        })
    }

    fn is_interrupted(&self) -> bool {
        let chain = self.chain.borrow();
        (0..chain.len()).any(|at| {
            let urgent = |module: &Module| module.slot().is_urgent();
            chain.module(at).is_some_and(urgent)
        })
    }

    /// Waits until an exchange is interrupted.
    pub(crate) async fn interruption(&self) -> Result<Box<LocalReply>, Error> {
        loop {
            if self.is_interrupted() {
                self.settle_io().await;
            }
            if let Some(interrupted) = self.interrupted() {
                return interrupted;
            }
            self.signal.wait().await;
        }
    }

    /// The head waits at a step while the body passes the filters up to it (`headersWaitForBody`), until that lets go.
    pub(crate) async fn await_body(
        self: &Rc<Self>,
        at: usize,
        direction: Direction,
        body: &mut Body,
    ) -> Result<Next, Error> {
        let source = std::mem::take(body);
        let mut passing = Filtered::holding(self, direction, source, at);
        let next = tokio::select! {
            biased;
            released = poll_fn(|cx| passing.poll_release(cx)) => match released {
                true => Ok(Next::Continue),
                false => match self.interrupted() {
                    Some(interrupted) => interrupted.map(Next::Reply),
                    None => Err(Error::Reset(self.filter_id(at))),
                },
            },
            interrupted = self.interruption() => interrupted.map(Next::Reply),
        };
        *body = Body::Filtered(passing);
        next
    }

    /// The name of the filter at a step; empty once it has failed.
    pub(crate) fn filter_id(&self, at: usize) -> FilterId {
        let chain = self.chain.borrow();
        let none = || FilterId {
            namespace: "".into(),
            name: "".into(),
        };
        chain
            .module(at)
            .map_or_else(none, |module| module.plugin().spec.id.clone())
    }

    /// How many bytes of a body the filter at a step may hold back.
    pub(crate) fn buffered_body(&self, at: usize) -> usize {
        let chain = self.chain.borrow();
        let bound = |module: &Module| module.plugin().spec.limits.buffered_body;
        chain.module(at).map_or(usize::MAX, bound)
    }

    /// Waits until a paused step may go on.
    pub(crate) async fn resumed(&self, at: usize, direction: Direction) -> Result<Next, Error> {
        loop {
            if let Some(next) = self.heard(at, direction).await? {
                return Ok(next);
            }
            if self.chain.borrow().module(at).is_none() {
                return Ok(Next::Continue);
            }
            self.signal.wait().await;
        }
    }
}

/// Which half of the exchange a callback is about.
fn direction(callback: Callback) -> Direction {
    match callback {
        Callback::RequestHeaders { .. }
        | Callback::RequestBody { .. }
        | Callback::RequestTrailers => Direction::Request,
        _ => Direction::Response,
    }
}
