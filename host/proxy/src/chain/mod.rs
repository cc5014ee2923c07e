//! The filter chain of one exchange: request filters in order, responses past them in reverse.
//!
//! ```text
//!   request   ──► step 0 ──► step 1 ──► … ──► upstream
//!   response  ◄── step 0 ◄── step 1 ◄── … ◄── upstream, or ◄── a local reply of the step that made it
//! ```
//!
//! There is one [`StreamIo`] for an exchange (heads, bodies held back, attributes). It moves by pointer from VM to VM, and rests in
//! the one that was called last, so that what a filter does later (in an HTTP call's answer, say) finds it there.

mod calls;
mod end;
mod respond;

use std::rc::Rc;
use std::sync::Arc;

use http::Response;
use http_body::Body as _;
use tidegate_model::{Filter, HeaderModifier, ResponseHead, Rule};
use tidegate_wasm::{Action, BodyData, Direction, LocalReply, StreamIo};

use crate::body::Body;
use crate::filtered::Out;
use crate::plugin::{Plugin, Slot, StreamContext, VmCell};
use crate::shadow::{Shadow, Tap};

pub(crate) use respond::local_reply;

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
    /// The last filters whose heads have waited for the body, of each direction: it has passed up to them.
    waited: [Option<usize>; 2],
    /// Whose held data is in the exchange's data, of each direction.
    resting: [Option<Rc<Out>>; 2],
}

/// Where the exchange's data is.
#[derive(Default)]
enum Home {
    /// Nobody needs it.
    #[default]
    None,
    Here(Box<StreamIo>),
    In(Rc<StreamContext>),
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

pub(crate) struct Module {
    context: Rc<StreamContext>,
    /// It failed and is left out from now on.
    failed: bool,
}

/// How a phase of the request ended.
pub(crate) enum Next {
    Continue,
    Reply(Box<LocalReply>),
}

/// What a module wants after a callback.
pub(crate) enum Called {
    Action(Action),
    Reply(Box<LocalReply>),
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

impl Module {
    #[inline]
    pub(crate) fn cell(&self) -> &Rc<VmCell> {
        self.context.cell()
    }

    #[inline]
    pub(crate) fn plugin(&self) -> &Arc<Plugin> {
        self.context.plugin()
    }

    /// Where it hears from its VM.
    #[inline]
    pub(crate) fn slot(&self) -> &Slot {
        &self.context.slot
    }
}

impl Home {
    fn is_in(&self, context: &Rc<StreamContext>) -> bool {
        matches!(self, Self::In(other) if Rc::ptr_eq(other, context))
    }

    fn take(&mut self) -> Option<Box<StreamIo>> {
        match std::mem::take(self) {
            Self::None => None,
            Self::Here(io) => Some(io),
            Self::In(context) => context.cell().with(|vm| vm.detach(context.id)).flatten(),
        }
    }

    fn with<T>(&mut self, look: impl FnOnce(&mut StreamIo) -> T) -> Option<T> {
        match self {
            Self::None => None,
            Self::Here(io) => Some(look(io)),
            Self::In(context) => context
                .cell()
                .with(|vm| vm.io_mut(context.id).map(look))
                .flatten(),
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
        self.module(at).map(|module| module.cell().clone())
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

    /// A filter's head waits for the body, which passes those in front of it and itself now.
    pub(crate) fn wait(&mut self, direction: Direction, at: usize) {
        self.waited[side(direction)] = Some(at);
    }

    /// Whether a filter's head has waited for the body.
    pub(crate) fn has_waited(&self, direction: Direction) -> bool {
        self.waited[side(direction)].is_some()
    }

    /// Another response takes the place of the one that was on its way.
    pub(crate) fn begin_response(&mut self) {
        self.waited[side(Direction::Response)] = None;
    }

    /// Puts held data where its filter finds it outside of a body callback. `false`: there is no such place.
    pub(crate) fn rest(&mut self, direction: Direction, held: BodyData, owner: &Rc<Out>) -> bool {
        self.unrest(direction);
        let put = self.with_io(|io| *io.body_mut(direction) = held).is_some();
        self.resting[side(direction)] = put.then(|| owner.clone());
        put
    }

    /// Gives held data back to its owner.
    pub(crate) fn unrest(&mut self, direction: Direction) {
        if let Some(owner) = self.resting[side(direction)].take()
            && let Some(held) = self.with_io(|io| std::mem::take(io.body_mut(direction)))
        {
            owner.unrest(held);
        }
    }

    /// The steps whose module takes part in a body of this direction, in the order in which data passes them. Those that it has
    /// passed while heads waited are not among them.
    pub(crate) fn body_steps(&self, direction: Direction) -> impl Iterator<Item = usize> {
        let is_request = direction == Direction::Request;
        let takes_part = move |at: &usize| {
            self.module(*at).is_some_and(|module| {
                let callbacks = module.plugin().module.callbacks();
                if is_request {
                    callbacks.request_body || callbacks.request_trailers
                } else {
                    callbacks.response_body || callbacks.response_trailers
                }
            })
        };
        // A reply that has replaced a response passes no filters any more.
        let count = if self.replaced && !is_request {
            0
        } else {
            self.steps.len()
        };
        let passed = match self.waited[side(direction)] {
            None => 0,
            Some(at) if is_request => at + 1,
            Some(at) => self.steps.len() - at,
        };
        let in_order = move |at| if is_request { at } else { count - 1 - at };
        (passed..count).map(in_order).filter(takes_part)
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
    fn seat(&mut self, at: usize) -> Option<Rc<StreamContext>> {
        let Some(Step::Module(module)) = self.steps.get(at) else {
            return None;
        };
        let context = module.context.clone();
        // What was said before this call does not end a pause that this call begins.
        context.slot.forget_resumes();
        // One filter's calls mostly follow one another.
        if !self.home.is_in(&context)
            && let Some(io) = self.home.take()
        {
            self.home = match context.cell().with(|vm| vm.attach(context.id, io)) {
                Some(()) => Home::In(context.clone()),
                None => Home::None,
            };
        }
        Some(context)
    }

    /// Whether the exchange's data is in a VM that is away on a side thread.
    pub(crate) fn is_away(&self) -> bool {
        matches!(&self.home, Home::In(context) if context.cell().is_away())
    }

    fn is_aside(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step, Step::Module(module) if module.cell().is_aside()))
    }

    /// Waits until the exchange's data can be had, and takes it out of its VM. A VM that fell still has it.
    async fn fetch(&mut self) {
        if let Home::In(context) = &self.home {
            let cell = context.cell().clone();
            let turn = cell.turn().await;
            self.home = self.home.take().map_or(Home::None, Home::Here);
            drop(turn);
        }
    }
}

/// The place of a direction in what there is one of for each.
const fn side(direction: Direction) -> usize {
    match direction {
        Direction::Request => 0,
        Direction::Response => 1,
    }
}
