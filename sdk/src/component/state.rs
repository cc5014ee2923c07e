//! Handles of the host's resources by their numbers, which are the runtime's contexts, and what the callback in progress brought.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::bindings::tidegate::filter::http::{Exchange, Plugin};
use super::bindings::tidegate::filter::metrics::Metric;
use super::bindings::tidegate::filter::types::Field;

/// The answer to an HTTP call.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) headers: Vec<Field>,
    pub(super) body: Vec<u8>,
}

pub(super) struct State {
    pub(super) plugins: RefCell<BTreeMap<u32, Plugin>>,
    pub(super) exchanges: RefCell<BTreeMap<u32, Exchange>>,
    /// The context that functions are about.
    pub(super) current: Cell<u32>,
    pub(super) answer: RefCell<Answer>,
    /// A gRPC message, or what came with a status.
    pub(super) message: RefCell<Vec<u8>>,
    /// By the ids that the runtime has for them.
    pub(super) metrics: RefCell<Vec<Metric>>,
}

thread_local! {
    pub(super) static STATE: State = const {
        State {
            plugins: RefCell::new(BTreeMap::new()),
            exchanges: RefCell::new(BTreeMap::new()),
            current: Cell::new(0),
            answer: RefCell::new(Answer { headers: Vec::new(), body: Vec::new() }),
            message: RefCell::new(Vec::new()),
            metrics: RefCell::new(Vec::new()),
        }
    };
}

impl State {
    /// The current exchange, if there is one.
    pub(super) fn with_exchange<T>(look: impl FnOnce(&Exchange) -> T) -> Option<T> {
        STATE.with(|state| state.exchanges.borrow().get(&state.current.get()).map(look))
    }

    /// The plugin of the current context.
    pub(super) fn with_plugin<T>(look: impl FnOnce(&Plugin) -> T) -> Option<T> {
        if let Some(plugin) = Self::with_exchange(Exchange::plugin) {
            return Some(look(&plugin));
        }
        STATE.with(|state| state.plugins.borrow().get(&state.current.get()).map(look))
    }
}
