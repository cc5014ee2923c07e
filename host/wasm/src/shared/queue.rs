//! Shared queues: tokens are process-wide, names belong to a scope, and of those that registered and still live the last consumes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;

use super::{Scope, locked};
use crate::effect::{RootId, VmId};
use crate::status::Status;

/// Items that one queue may hold.
const MAX_ITEMS: usize = 100_000;
/// Queues that one scope may register.
const MAX_QUEUES: usize = 1_000;
/// What an item costs beside its bytes, roughly.
const OVERHEAD: usize = 32;

#[derive(Default)]
pub(crate) struct Queues {
    by_token: RwLock<HashMap<u32, Arc<Queue>>>,
    last: Mutex<u32>,
}

struct Queue {
    scope: Arc<Scope>,
    state: Mutex<State>,
}

struct State {
    items: VecDeque<Bytes>,
    /// Those who registered, the last of them consumes. One that is gone leaves it to the one before: a new version that falls
    /// must not take the queue along.
    consumers: Vec<(VmId, RootId)>,
}

impl Queues {
    /// `register_shared_queue`: makes the queue, or moves its consumer and keeps its data. Without a consumer it stays with
    /// the one that it has.
    pub(crate) fn register(
        &self,
        scope: &Arc<Scope>,
        name: &[u8],
        consumer: impl Into<Option<(VmId, RootId)>>,
    ) -> Result<u32, Status> {
        let consumer = consumer.into();
        let mut names = locked(&scope.queue_names);
        if let Some(token) = names.get(name)
            && let Some(queue) = self.find(*token)
        {
            if let Some(consumer) = consumer {
                let mut state = locked(&queue.state);
                state.consumers.retain(|known| *known != consumer);
                state.consumers.push(consumer);
            }
            return Ok(*token);
        }
        if names.len() >= MAX_QUEUES {
            return Err(Status::InternalFailure);
        }
        let mut last = locked(&self.last);
        let mut by_token = self
            .by_token
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // 0 is no token; after four thousand million queues numbers come round again.
        let mut token = last.wrapping_add(1).max(1);
        while by_token.contains_key(&token) {
            token = token.wrapping_add(1).max(1);
        }
        *last = token;
        let state = Mutex::new(State {
            items: VecDeque::new(),
            consumers: consumer.into_iter().collect(),
        });
        by_token.insert(
            token,
            Arc::new(Queue {
                scope: Arc::clone(scope),
                state,
            }),
        );
        names.insert(name.into(), token);
        Ok(token)
    }

    /// A VM, or one root of it, consumes no more.
    pub(crate) fn leave(&self, token: u32, vm: VmId, root: Option<RootId>) {
        if let Some(queue) = self.find(token) {
            locked(&queue.state)
                .consumers
                .retain(|known| known.0 != vm || root.is_some_and(|root| root != known.1));
        }
    }

    /// `enqueue_shared_queue`: the consumer to tell, if one is left.
    pub(crate) fn enqueue(
        &self,
        from: &Scope,
        token: u32,
        item: &[u8],
    ) -> Result<Option<(VmId, RootId)>, Status> {
        let queue = self.find_near(from, token)?;
        let mut state = locked(&queue.state);
        if state.items.len() >= MAX_ITEMS {
            return Err(Status::InternalFailure);
        }
        queue.scope.resize(0, item.len() + OVERHEAD)?;
        state.items.push_back(Bytes::copy_from_slice(item));
        Ok(state.consumers.last().copied())
    }

    /// `dequeue_shared_queue`
    pub(crate) fn dequeue(&self, from: &Scope, token: u32) -> Result<Bytes, Status> {
        let queue = self.find_near(from, token)?;
        let item = locked(&queue.state)
            .items
            .pop_front()
            .ok_or(Status::Empty)?;
        queue.scope.resize(item.len() + OVERHEAD, 0)?;
        Ok(item)
    }

    pub(super) fn remove_all(&self, tokens: impl Iterator<Item = u32>) {
        let mut by_token = self
            .by_token
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for token in tokens {
            by_token.remove(&token);
        }
    }

    /// A token is a small number that anyone can guess: another namespace's is not found.
    fn find_near(&self, from: &Scope, token: u32) -> Result<Arc<Queue>, Status> {
        self.find(token)
            .filter(|queue| queue.scope.is_near(from))
            .ok_or(Status::NotFound)
    }

    fn find(&self, token: u32) -> Option<Arc<Queue>> {
        self.by_token
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&token)
            .cloned()
    }
}
