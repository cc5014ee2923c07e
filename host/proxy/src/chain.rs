//! The filter chain of one exchange: request filters in order, responses past them in reverse.
//!
//! ```text
//!   request   ──► step 0 ──► step 1 ──► … ──► upstream
//!   response  ◄── step 0 ◄── step 1 ◄── … ◄── upstream, or ◄── a local reply of the step that made it
//! ```
//!
//! There is one [`StreamIo`] for an exchange (heads, bodies held back, attributes). It moves by pointer from VM to VM, and rests in
//! the one that was called last, so that what a filter does later (in an HTTP call's answer, say) finds it there.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tidegate_model::{FailurePolicy, Filter, FilterMode, HeaderModifier, ResponseHead, Rule};
use tidegate_wasm::{Action, Callback, Direction, Failure, LocalReply, StreamIo};

use crate::body::Body;
use crate::error::Error;
use crate::plugin::{Event, Plugin, StreamContext, VmCell, WorkerFilter, cause};
use crate::publish::FilterState;
use crate::stream::{Record, Stream};

/// What the filters of an exchange have come to.
#[derive(Default)]
pub(crate) struct Chain {
    home: Home,
    steps: Vec<Step>,
    /// Set once there is a step with a module.
    has_modules: bool,
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
}

/// A filter in a rule.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) rule: Arc<Rule>,
    /// The backendRef whose filter it is, if it is not the rule's own.
    pub(crate) backend: Option<usize>,
    pub(crate) index: usize,
}

pub(crate) struct Module {
    pub(crate) context: StreamContext,
    pub(crate) plugin: Arc<Plugin>,
    /// It failed and is left out from now on.
    failed: bool,
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
            Self::In(cell, id) => cell.with(|vm| vm.detach(id)),
        }
    }

    fn with<T>(&mut self, look: impl FnOnce(&mut StreamIo) -> T) -> Option<T> {
        match self {
            Self::None => None,
            Self::Here(io) => Some(look(io)),
            Self::In(cell, id) => cell.with(|vm| vm.io_mut(*id).map(look)),
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
    fn modify_response(&self, headers: &mut HeaderMap) {
        for step in self.steps.iter().rev() {
            if let Step::Headers(place) = step
                && let Some(modifier) = place.response_headers()
            {
                crate::native::modify(headers, modifier);
            }
        }
    }

    /// The native response filter at a step, if there is one, on the head in the exchange's data.
    fn modify_response_at(&mut self, at: usize) {
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

    /// Calls a module. The exchange's data stays in its VM afterwards.
    fn call(&mut self, at: usize, callback: Callback) -> Result<Action, Failure> {
        let io = self.home.take();
        let Some(Step::Module(module)) = self.steps.get(at) else {
            return Ok(Action::Continue);
        };
        let StreamContext { cell, id, slot, .. } = &module.context;
        let (cell, id, plugin) = (cell.clone(), *id, module.plugin.clone());
        // What was said before this call does not end a pause that this call begins.
        slot.forget_resumes();
        if let Some(io) = io {
            cell.with(|vm| vm.attach(id, io));
            self.home = Home::In(cell.clone(), id);
        }
        cell.enter(&plugin, |vm| vm.call(id, callback))
    }

    /// The end of the exchange: on_log for all, then on_done and on_delete.
    pub(crate) fn finish(&mut self, record: &Record, received: u64, sent: u64) {
        if !self.has_modules {
            return;
        }
        self.home.with(|io| {
            let attributes = &mut io.attributes;
            attributes.response_code = http::StatusCode::from_u16(record.status).ok();
            attributes.response_code_details = Some(record.details.into());
            attributes.duration = Some(record.started.elapsed());
            attributes.request_bytes = received;
            attributes.response_bytes = sent;
            attributes.attempts = record.tries.count;
        });
        for at in 0..self.steps.len() {
            // A failure here takes the VM along, which is all that is left to do for this exchange.
            if self
                .module(at)
                .is_some_and(|module| !module.context.cell.is_dead())
            {
                let _ = self.call(at, Callback::Log);
            }
        }
        self.home = self.home.take().map_or(Home::None, Home::Here);
        for step in std::mem::take(&mut self.steps) {
            let Step::Module(module) = step else { continue };
            let StreamContext { cell, id, .. } = &module.context;
            if !cell.is_dead() {
                let done = cell.enter(&module.plugin, |vm| vm.call(*id, Callback::Done));
                if done.is_ok() {
                    let _ = cell.enter(&module.plugin, |vm| vm.delete_stream(*id));
                }
            }
            cell.forget(*id);
        }
    }
}

// === impl Stream: phases ===

impl Stream {
    /// Adds a module to the chain. `Ok(None)`: it cannot run and is skipped.
    pub(crate) fn open_module(&self, filter: &Rc<WorkerFilter>) -> Result<Option<usize>, Error> {
        // Shadow never touches a request. What it would do is not recorded yet, and the Filter's status says so.
        if filter.spec.mode == FilterMode::Shadow {
            return Ok(None);
        }
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
        match filter.open(plugin, &self.signal) {
            Ok(context) => {
                let mut chain = self.chain.borrow_mut();
                chain.has_modules = true;
                chain.steps.push(Step::Module(Module {
                    context,
                    plugin: plugin.clone(),
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
    pub(crate) fn call(&self, at: usize, callback: Callback) -> Result<Called, Error> {
        let result = self.chain.borrow_mut().call(at, callback);
        match result {
            Err(failure) => {
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
                Ok(Some(Next::Reply(reply)))
            }
            Some(Event::Close) => Err(Error::Reset(plugin.spec.id.clone())),
            Some(Event::Dead(cause)) => {
                plugin
                    .stats
                    .collateral
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                self.leave_out(at);
                self.judge_cause(&plugin, cause, "its VM fell with another request".into())?;
                Ok(Some(Next::Continue))
            }
        }
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

    /// Waits until an exchange is interrupted.
    pub(crate) async fn interruption(&self) -> Result<LocalReply, Error> {
        loop {
            if let Some(interrupted) = self.interrupted() {
                return interrupted;
            }
            self.signal.wait().await;
        }
    }

    /// Waits until a paused step may go on.
    pub(crate) async fn resumed(&self, at: usize, direction: Direction) -> Result<Next, Error> {
        loop {
            if let Some(next) = self.said(at, direction)? {
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
        if !self.chain.borrow().has_modules {
            self.chain.borrow().modify_response(response.headers_mut());
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
        self.chain
            .borrow_mut()
            .with_io(|io| io.response = Some(ResponseHead { status, headers }));
        let steps = self.chain.borrow().len();
        for at in (0..steps).rev() {
            self.chain.borrow_mut().modify_response_at(at);
            if self.chain.borrow().module(at).is_none() {
                continue;
            }
            let end_of_stream = http_body::Body::is_end_stream(&body);
            let next = match self.call(at, Callback::ResponseHeaders { end_of_stream })? {
                Called::Skipped | Called::Action(Action::Continue) => Next::Continue,
                Called::Reply(reply) => Next::Reply(reply),
                Called::Action(_) => self.resumed(at, Direction::Response).await?,
            };
            if let Next::Reply(reply) = next {
                let (head, replaced) = local_reply(reply);
                body = replaced;
                self.chain
                    .borrow_mut()
                    .with_io(|io| io.response = Some(head));
            }
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
