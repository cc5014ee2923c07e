//! What the probe remembers in its VM: scripts of its roots, contexts, variables of scripts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value;

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Of one VM.
#[derive(Default)]
pub(crate) struct State {
    /// Scripts by root context; that of the VM's configuration under 0.
    pub(crate) scripts: HashMap<u32, Rc<Value>>,
    /// The root of every stream context.
    pub(crate) roots: HashMap<u32, u32>,
    /// What scripts have kept.
    pub(crate) variables: HashMap<String, i64>,
    /// How often each callback has run in each context.
    pub(crate) counts: HashMap<(u32, &'static str), usize>,
    /// The stream that was created last.
    pub(crate) stream: u32,
}

/// Looks at the state; not across hostcalls, which may come back with callbacks.
pub(crate) fn with<T>(use_it: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(use_it)
}
