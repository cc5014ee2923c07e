//! The filter chain of one exchange: request filters in order, responses past them in reverse.
//!
//! ```text
//!   request   ──► step 0 ──► step 1 ──► … ──► upstream
//!   response  ◄── step 0 ◄── step 1 ◄── … ◄── upstream, or ◄── a local reply of the step that made it
//! ```
//!
//! There is one [`StreamIo`] for an exchange (heads, bodies held back, attributes). It moves by pointer from VM to VM, and rests in
//! the one that was called last, so that what a filter does later (in an HTTP call's answer, say) finds it there.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::Body as _;
use tidegate_model::{FailurePolicy, Filter, HeaderModifier, ResponseHead, Rule};
use tidegate_wasm::{Action, Callback, Direction, Failure, LocalReply, PseudoSet, StreamIo};

use crate::body::Body;
use crate::error::Error;
use crate::grpc_reply;
use crate::plugin::{Event, Fallen, Plugin, StreamContext, VmCell, WorkerFilter, cause};
use crate::publish::FilterState;
use crate::request::Prefix;
use crate::shadow::{Shadow, Tap};
use crate::stream::{Record, Stream};

/// What the filters of an exchange have come to.
#[derive(Default)]
pub(crate) struct Chain {
    home: Home,
    steps: Vec<Step>,
    /// Set once there is a step with a module.
    has_modules: bool,
    /// Set once there is a step with a shadow.
    has_shadows: bool,
    /// A filter has replaced the upstream's response: in Envoy such a reply passes no filters any more.
    replaced: bool,
    /// What a filter that held the response's head for the body has let pass of it.
    pub(crate) prefix: Option<Prefix>,
}

/// Where the exchange's data is.
#[derive(Default)]
enum Home {
    /// Nobody needs it.
    #[default]
    None,
    Here(Box<StreamIo>),
    In(Rc<VmCell>, tidegate_wasm::ContextId),
}

/// A filter that the request has passed.
enum Step {
    /// Native header changes for the response.
    Headers(Place),
    /// A module.
    Module(Module),
    /// A module that only looks on.
    Shadow(Shadow),
}

/// A filter in a rule.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) rule: Arc<Rule>,
    /// The backendRef whose filter it is, if it is not the rule's own.
    pub(crate) backend: Option<usize>,
    pub(crate) index: usize,
}

/// A stream context that has the exchange's data.
struct Seat {
    cell: Rc<VmCell>,
    id: tidegate_wasm::ContextId,
    plugin: Arc<Plugin>,
}

/// What filters learn at the end.
struct Ending {
    status: Option<StatusCode>,
    details: &'static str,
    duration: std::time::Duration,
    received: u64,
    sent: u64,
    attempts: u32,
}

pub(crate) struct Module {
    pub(crate) context: StreamContext,
    pub(crate) plugin: Arc<Plugin>,
    /// It failed and is left out from now on.
    failed: bool,
}

/// Why a call was not made, or did not end well.
enum Failed {
    /// Its own fault.
    Itself(Failure),
    /// The VM had fallen before.
    Fallen(tidegate_model::FailureCause),
}

/// How a phase of the request ended.
pub(crate) enum Next {
    Continue,
    Reply(LocalReply),
}

/// What a module wants after a callback.
pub(crate) enum Called {
    Action(Action),
    Reply(LocalReply),
    /// It failed, and its policy lets the exchange go on without it.
    Skipped,
}

impl Place {
    fn filters(&self) -> &[Filter] {
        match self.backend {
            None => &self.rule.filters,
            Some(backend) => &self.rule.backends[backend].filters,
        }
    }

    pub(crate) fn filter(&self) -> Option<&Filter> {
        self.filters().get(self.index)
    }

    pub(crate) fn response_headers(&self) -> Option<&HeaderModifier> {
        match self.filter() {
            Some(Filter::ResponseHeaders(modifier)) => Some(modifier),
            _ => None,
        }
    }
}

impl Home {
    fn take(&mut self) -> Option<Box<StreamIo>> {
        match std::mem::take(self) {
            Self::None => None,
            Self::Here(io) => Some(io),
            Self::In(cell, id) => cell.with(|vm| vm.detach(id)).flatten(),
        }
    }

    fn with<T>(&mut self, look: impl FnOnce(&mut StreamIo) -> T) -> Option<T> {
        match self {
            Self::None => None,
            Self::Here(io) => Some(look(io)),
            Self::In(cell, id) => cell.with(|vm| vm.io_mut(*id).map(look)).flatten(),
        }
    }
}

// === impl Chain ===

impl Chain {
    pub(crate) fn has_modules(&self) -> bool {
        self.has_modules
    }

    pub(crate) fn put_io(&mut self, io: Box<StreamIo>) {
        self.home = Home::Here(io);
    }

    pub(crate) fn with_io<T>(&mut self, look: impl FnOnce(&mut StreamIo) -> T) -> Option<T> {
        self.home.with(look)
    }

    pub(crate) fn pass_headers(&mut self, place: Place) {
        self.steps.push(Step::Headers(place));
    }

    /// Takes the exchange's data out of the VM in which it rests, if that is on the worker.
    fn unseat(&mut self) {
        if !self.is_away() {
            self.home = self.home.take().map_or(Home::None, Home::Here);
        }
    }

    /// The VM of the module at a step, unless that has failed.
    fn cell(&self, at: usize) -> Option<Rc<VmCell>> {
        self.module(at).map(|module| module.context.cell.clone())
    }

    /// How many steps there are.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// The module at a step, unless it has failed.
    pub(crate) fn module(&self, at: usize) -> Option<&Module> {
        match self.steps.get(at) {
            Some(Step::Module(module)) if !module.failed => Some(module),
            _ => None,
        }
    }

    /// The steps whose module takes part in a body of this direction, in the order in which data passes them.
    pub(crate) fn body_steps(&self, direction: Direction) -> Vec<usize> {
        if self.replaced && direction == Direction::Response {
            return Vec::new();
        }
        let takes_part = |at: &usize| {
            self.module(*at).is_some_and(|module| {
                let callbacks = module.plugin.module.callbacks();
                match direction {
                    Direction::Request => callbacks.request_body || callbacks.request_trailers,
                    Direction::Response => callbacks.response_body || callbacks.response_trailers,
                }
            })
        };
        let steps = 0..self.steps.len();
        match direction {
            Direction::Request => steps.filter(takes_part).collect(),
            Direction::Response => steps.rev().filter(takes_part).collect(),
        }
    }

    /// The native response filters of a chain without modules.
    fn modify_response(&self, response: &mut Response<Body>) {
        for step in self.steps.iter().rev() {
            match step {
                Step::Headers(place) => {
                    if let Some(modifier) = place.response_headers() {
                        crate::native::modify(response.headers_mut(), modifier);
                    }
                }
                Step::Shadow(shadow) => {
                    let head = ResponseHead {
                        status: response.status(),
                        headers: response.headers().clone(),
                    };
                    shadow.see_response(&head, response.body().is_end_stream());
                }
                Step::Module(_) => {}
            }
        }
    }

    /// A filter in shadow mode has its turn.
    pub(crate) fn pass_shadow(&mut self, shadow: Shadow) {
        self.has_shadows = true;
        self.steps.push(Step::Shadow(shadow));
    }

    /// A body, with copies for the shadows that have begun.
    fn tapped(&self, direction: Direction, body: Body) -> Body {
        if !self.has_shadows {
            return body;
        }
        let shadows = self.steps.iter().filter_map(|step| match step {
            Step::Shadow(shadow) => Some(shadow),
            _ => None,
        });
        Tap::on(body, direction, shadows)
    }

    /// The shadows, at the end of the exchange.
    pub(crate) fn take_shadows(&mut self) -> Vec<Shadow> {
        if !std::mem::take(&mut self.has_shadows) {
            return Vec::new();
        }
        let shadow = |step| match step {
            Step::Shadow(shadow) => Some(shadow),
            _ => None,
        };
        let is_shadow = |step: &mut Step| matches!(step, Step::Shadow(_));
        self.steps
            .extract_if(.., is_shadow)
            .filter_map(shadow)
            .collect()
    }

    /// The native response filter at a step, if there is one, on the head in the exchange's data.
    fn modify_response_at(&mut self, at: usize, end_of_stream: bool) {
        if let Some(Step::Shadow(shadow)) = self.steps.get(at) {
            self.home.with(|io| {
                io.response
                    .as_ref()
                    .map(|head| shadow.see_response(head, end_of_stream))
            });
            return;
        }
        if let Some(Step::Headers(place)) = self.steps.get(at)
            && let Some(modifier) = place.response_headers()
        {
            self.home.with(|io| {
                io.response
                    .as_mut()
                    .map(|head| crate::native::modify(&mut head.headers, modifier))
            });
        }
    }

    /// Puts the exchange's data into the VM of a step, where it stays until another needs it. The VM is on the worker, and so is
    /// the one in which the data is now.
    fn seat(&mut self, at: usize) -> Option<Seat> {
        let io = self.home.take();
        let Some(Step::Module(module)) = self.steps.get(at) else {
            self.home = io.map_or(Home::None, Home::Here);
            return None;
        };
        let StreamContext { cell, id, slot, .. } = &module.context;
        // What was said before this call does not end a pause that this call begins.
        slot.forget_resumes();
        let seat = Seat {
            cell: cell.clone(),
            id: *id,
            plugin: module.plugin.clone(),
        };
        if let Some(io) = io {
            self.home = match cell.with(|vm| vm.attach(seat.id, io)) {
                Some(()) => Home::In(seat.cell.clone(), seat.id),
                None => Home::None,
            };
        }
        Some(seat)
    }

    /// Whether the exchange's data is in a VM that is away on a side thread.
    fn is_away(&self) -> bool {
        matches!(&self.home, Home::In(cell, _) if cell.is_away())
    }

    fn is_aside(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step, Step::Module(module) if module.context.cell.is_aside()))
    }

    /// Waits until the exchange's data can be had, and takes it out of its VM. A VM that fell still has it.
    async fn fetch(&mut self) {
        if let Home::In(cell, _) = &self.home {
            let cell = cell.clone();
            let turn = cell.turn().await;
            self.home = self.home.take().map_or(Home::None, Home::Here);
            drop(turn);
        }
    }

    /// The end of the exchange: on_log for all, then on_done and on_delete. Beside the worker where the VMs are there.
    pub(crate) fn finish(&mut self, record: &Record, received: u64, sent: u64) {
        if !self.has_modules {
            return;
        }
        let ending = Ending {
            status: http::StatusCode::from_u16(record.status).ok(),
            details: record.details,
            duration: record.started.elapsed(),
            received,
            sent,
            attempts: record.tries.count,
        };
        let chain = std::mem::take(self);
        if chain.is_aside() {
            tokio::task::spawn_local(chain.end(ending));
        } else {
            // Ordinary VMs are here, so nothing is waited for.
            let end = pin!(chain.end(ending));
            let ended = end.poll(&mut Context::from_waker(Waker::noop()));
            debug_assert!(ended.is_ready(), "ordinary VMs answer at once");
        }
    }

    async fn end(mut self, ending: Ending) {
        if self.is_away() {
            self.fetch().await;
        }
        self.home.with(|io| {
            let attributes = &mut io.attributes;
            attributes.response_code = ending.status;
            attributes.response_code_details = Some(ending.details.into());
            attributes.duration = Some(ending.duration);
            attributes.request_bytes = ending.received;
            attributes.response_bytes = ending.sent;
            attributes.attempts = ending.attempts;
        });
        for at in 0..self.steps.len() {
            if self.module(at).is_some() {
                // A failure here takes the VM along, which is all that is left to do for this exchange.
                let _ = self.last_call(at, Callback::Log).await;
            }
        }
        for at in 0..self.steps.len() {
            // The exchange goes along: on_done and on_delete still read properties.
            if let Some(seat) = self.last_call(at, Callback::Done).await {
                let Seat { cell, id, plugin } = seat;
                let deleted = cell.call(&plugin, move |vm| vm.delete_stream(id)).await;
                if let Ok(io) = deleted {
                    self.home = io.map_or(Home::None, Home::Here);
                }
            }
        }
        self.steps.clear();
    }

    /// One of the last callbacks. `None` if it could not be made, or failed.
    async fn last_call(&mut self, at: usize, callback: Callback) -> Option<Seat> {
        let Some(Step::Module(module)) = self.steps.get(at) else {
            return None;
        };
        let cell = module.context.cell.clone();
        if cell.is_aside() || self.is_away() {
            self.fetch().await;
        }
        let turn = cell.turn().await.ok()?;
        let seat = self.seat(at)?;
        let id = seat.id;
        let called = cell
            .run(turn, &seat.plugin, move |vm| vm.call(id, callback))
            .await;
        called.is_ok().then_some(seat)
    }
}

// === impl Stream: phases ===

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
                    plugin: context.plugin.clone(),
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
        cause: tidegate_model::FailureCause,
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
        let Some(cell) = self.chain.borrow().cell(at) else {
            return Ok(Called::Skipped);
        };
        let result = if cell.is_aside() {
            let called = Box::pin(self.call_aside(at, callback, &cell)).await;
            if self.is_interrupted() {
                self.settle_io().await;
            }
            called
        } else if let Some(cause) = cell.fell_of() {
            Err(Failed::Fallen(cause))
        } else {
            let seat = self.chain.borrow_mut().seat(at);
            seat.map_or(Ok(Action::Continue), |Seat { cell, id, plugin }| {
                cell.enter(&plugin, |vm| vm.call(id, callback))
            })
            .map_err(Failed::Itself)
        };
        self.judge_call(at, callback, result)
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
            Failed::Fallen(cause.unwrap_or(tidegate_model::FailureCause::Trap))
        })?;
        let seat = self.chain.borrow_mut().seat(at);
        let Some(Seat { cell, id, plugin }) = seat else {
            return Ok(Action::Continue);
        };
        cell.run(turn, &plugin, move |vm| vm.call(id, callback))
            .await
            .map_err(Failed::Itself)
    }

    /// Waits until the exchange's data can be had: it may be in a VM that is away.
    #[inline]
    pub(crate) async fn settle_io(&self) {
        if self.chain.borrow().is_away() {
            Box::pin(self.fetch_io()).await;
        }
    }

    async fn fetch_io(&self) {
        loop {
            let cell = match &self.chain.borrow().home {
                Home::In(cell, _) => cell.clone(),
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
                let id = chain.module(at).map(|module| module.context.id);
                let seated = id.and_then(|id| cell.with(|vm| vm.attach(id, io)).map(|()| id));
                chain.home = seated.map_or(Home::None, |id| Home::In(cell.clone(), id));
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
                let plugin = self
                    .chain
                    .borrow()
                    .module(at)
                    .map(|module| module.plugin.clone());
                self.leave_out(at);
                plugin.map_or(Ok(()), |plugin| self.judge(&plugin, &failure))?;
                Ok(Called::Skipped)
            }
            Ok(action) => match self.said(at, direction(callback))? {
                Some(Next::Reply(reply)) => Ok(Called::Reply(reply)),
                Some(Next::Continue) => Ok(Called::Action(Action::Continue)),
                None => Ok(Called::Action(action)),
            },
        }
    }

    /// The VM of a step fell through another stream's fault.
    fn fell(&self, at: usize, cause: tidegate_model::FailureCause) -> Result<(), Error> {
        let plugin = match self.chain.borrow().module(at) {
            Some(module) => module.plugin.clone(),
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
        let (slot, plugin) = match self.chain.borrow().module(at) {
            Some(module) => (module.context.slot.clone(), module.plugin.clone()),
            None => return Ok(None),
        };
        match slot.take(direction) {
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
                Ok(Some(Next::Reply(match asked {
                    Some(true) => grpc_reply::of(reply),
                    _ => reply,
                })))
            }
            Some(Event::Close) => Err(Error::Reset(plugin.spec.id.clone())),
            Some(Event::Dead(cause)) => {
                self.fell(at, cause)?;
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
        let spoke = |module: &Module| module.context.slot.has(direction);
        if !self.chain.borrow().module(at).is_some_and(spoke) {
            return Ok(None);
        }
        self.settle_io().await;
        self.said(at, direction)
    }

    /// A reply or failure that a module asked for outside of a call of this exchange, at any step.
    pub(crate) fn interrupted(&self) -> Option<Result<LocalReply, Error>> {
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
                .is_some_and(|module| module.context.slot.is_urgent());
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
            let urgent = |module: &Module| module.context.slot.is_urgent();
            chain.module(at).is_some_and(urgent)
        })
    }

    /// Waits until an exchange is interrupted.
    pub(crate) async fn interruption(&self) -> Result<LocalReply, Error> {
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

    /// Takes a response head past the filters that have seen the request, the last one first. A reply on the way takes its place
    /// for those that follow.
    pub(crate) async fn respond(
        &self,
        mut response: Response<Body>,
    ) -> Result<Response<Body>, Error> {
        if self.chain.borrow().has_shadows {
            let body = std::mem::take(response.body_mut());
            *response.body_mut() = self.chain.borrow().tapped(Direction::Response, body);
        }
        if !self.chain.borrow().has_modules {
            self.chain.borrow().modify_response(&mut response);
            return Ok(response);
        }
        let (parts, mut body) = response.into_parts();
        let http::response::Parts {
            status,
            headers,
            extensions,
            version,
            ..
        } = parts;
        self.chain.borrow_mut().with_io(|io| {
            io.attributes.response_code = Some(status);
            io.response = Some(ResponseHead { status, headers });
        });
        let steps = self.chain.borrow().len();
        let head_only = self.record.borrow().method == http::Method::HEAD;
        for at in (0..steps).rev() {
            self.settle_io().await;
            let ends = body.is_end_stream();
            self.chain.borrow_mut().modify_response_at(at, ends);
            if self.chain.borrow().module(at).is_none() {
                continue;
            }
            if self.chain.borrow().replaced {
                continue;
            }
            let end_of_stream = http_body::Body::is_end_stream(&body) || head_only;
            let next = match self
                .call(at, Callback::ResponseHeaders { end_of_stream })
                .await?
            {
                Called::Skipped | Called::Action(Action::Continue) => Next::Continue,
                Called::Reply(reply) => Next::Reply(reply),
                Called::Action(Action::PauseHeaders) if !end_of_stream => {
                    Box::pin(self.await_response_body(at, &mut body)).await?
                }
                Called::Action(_) => self.resumed(at, Direction::Response).await?,
            };
            if let Next::Reply(reply) = next {
                self.settle_io().await;
                self.chain.borrow_mut().replaced = true;
                self.chain.borrow_mut().prefix = None;
                let (head, replaced) = local_reply(reply);
                body = replaced;
                self.chain
                    .borrow_mut()
                    .with_io(|io| io.response = Some(head));
            }
        }
        let lacks_status = |io: &mut StreamIo| {
            let lacks = io.missing.intersects(PseudoSet::STATUS);
            // The answer that takes its place has one.
            io.missing.remove(PseudoSet::STATUS);
            lacks
        };
        if self.chain.borrow_mut().with_io(lacks_status) == Some(true) {
            self.chain.borrow_mut().replaced = true;
            return Err(Error::NoStatus);
        }
        let head = self
            .chain
            .borrow_mut()
            .with_io(StreamIo::send_response)
            .flatten();
        let head = head.unwrap_or(ResponseHead {
            status,
            headers: HeaderMap::new(),
        });
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        *response.version_mut() = version;
        *response.extensions_mut() = extensions;
        Ok(response)
    }
}

impl Stream {
    /// The response's head waits while the body callbacks of a step go on, until one of them or a resume lets go.
    async fn await_response_body(&self, at: usize, body: &mut Body) -> Result<Next, Error> {
        loop {
            let frame = tokio::select! {
                biased;
                next = self.resumed(at, Direction::Response) => {
                    self.settle_io().await;
                    self.keep_prefix(at, false);
                    return next;
                }
                frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)) => frame,
            };
            let (data, end) = match frame {
                None => (Bytes::new(), true),
                Some(Err(_)) => return Err(Error::Reset(self.filter_id(at))),
                // Trailers release a body; they themselves are not sent on in this rare case.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => (data, false),
                    Err(_) => (Bytes::new(), true),
                },
            };
            self.settle_io().await;
            let held = self.chain.borrow_mut().with_io(|io| {
                io.response_body.extend_from_slice(&data);
                io.response_body.len()
            });
            let bound = self
                .chain
                .borrow()
                .module(at)
                .map(|module| module.plugin.spec.limits.buffered_body);
            if bound.is_some_and(|bound| held.unwrap_or_default() > bound) {
                return Err(Error::ResponseTooLarge(self.filter_id(at)));
            }
            match self
                .call(at, Callback::ResponseBody { end_of_stream: end })
                .await?
            {
                Called::Reply(reply) => return Ok(Next::Reply(reply)),
                Called::Skipped | Called::Action(Action::Continue) => {
                    self.settle_io().await;
                    self.keep_prefix(at, end);
                    return Ok(Next::Continue);
                }
                Called::Action(_) if end => {
                    let next = self.resumed(at, Direction::Response).await;
                    self.settle_io().await;
                    self.keep_prefix(at, true);
                    return next;
                }
                Called::Action(_) => {}
            }
        }
    }

    /// Keeps what a filter held of the response's body for the filters behind it.
    fn keep_prefix(&self, after: usize, end: bool) {
        let mut chain = self.chain.borrow_mut();
        let data = chain.with_io(|io| std::mem::take(&mut io.response_body));
        let data = data.unwrap_or_default().freeze();
        chain.prefix = Some(Prefix { after, data, end });
    }

    fn filter_id(&self, at: usize) -> tidegate_model::FilterId {
        let chain = self.chain.borrow();
        let none = || tidegate_model::FilterId {
            namespace: "".into(),
            name: "".into(),
        };
        chain
            .module(at)
            .map_or_else(none, |module| module.plugin.spec.id.clone())
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

/// A local reply as Envoy makes it: `content-type: text/plain` only where there is a body and none was given, the length ours.
pub(crate) fn local_reply(reply: LocalReply) -> (ResponseHead, Body) {
    let mut headers: HeaderMap = reply.headers;
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    if !reply.body.is_empty() {
        headers
            .entry(header::CONTENT_TYPE)
            .or_insert(HeaderValue::from_static("text/plain"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
    }
    // 1xx cannot end an exchange.
    let status = if reply.status.as_u16() < 200 {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        reply.status
    };
    (ResponseHead { status, headers }, Body::full(reply.body))
}
