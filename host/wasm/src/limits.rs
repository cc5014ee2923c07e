//! Bounds that wasmtime enforces on a guest: CPU time through the epoch, memory and tables through the limiter.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{ResourceLimiter, Trap, UpdateDeadline};

use crate::cpu;
use crate::shared::Scope;

/// Elements that one table may have. Large Go filters have some ten thousand functions in theirs.
const TABLE_ELEMENTS: usize = 100_000;
/// Tables that one module may have.
const TABLES: usize = 8;
/// Core instances of one component: the program, its libraries and the adapters between them.
const COMPONENT_INSTANCES: usize = 64;

/// The CPU time of the call in progress.
///
/// The clock is read at ticks only, so that a call that ends before its first tick costs nothing. What a call used before its
/// first tick, one tick at most, is not held against it.
#[derive(Default)]
pub(crate) struct Deadline {
    limit: Duration,
    first_tick: Option<Duration>,
    /// CPU time of past calls between their first and last tick.
    long_calls: Duration,
}

/// Counts what a guest asks for, and remembers a refusal until the next entry.
pub(crate) struct Limiter {
    memory: usize,
    /// Where the namespace's memory is counted.
    scope: Arc<Scope>,
    /// What this VM has of it.
    taken: usize,
    /// The last growth, in case it does not come about.
    last: usize,
    pub(crate) refused: Option<Refusal>,
    /// Core instances that there may be, and memories.
    instances: usize,
}

/// Which bound a guest met.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// Its own.
    Vm,
    /// That of all VMs in its namespace together.
    Namespace,
}

// === impl Deadline ===

impl Deadline {
    /// A call begins that may take so long.
    #[inline]
    pub(crate) fn arm(&mut self, limit: Duration) {
        self.limit = limit;
        self.first_tick = None;
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// The thread's clock at the first tick, if the call has seen one.
    #[inline]
    pub(crate) fn first_tick(&self) -> Option<Duration> {
        self.first_tick
    }

    /// The epoch moved on while the guest ran.
    pub(crate) fn tick(&mut self) -> UpdateDeadline {
        let now = cpu::thread_time();
        let first = *self.first_tick.get_or_insert(now);
        if now.saturating_sub(first) >= self.limit {
            UpdateDeadline::Interrupt
        } else {
            UpdateDeadline::Continue(1)
        }
    }

    /// For host functions that take long: charges the call for them, whether or not a tick comes meanwhile.
    pub(crate) fn charge(&mut self) -> wasmtime::Result<()> {
        match self.tick() {
            UpdateDeadline::Interrupt => Err(Trap::Interrupt.into()),
            _ => Ok(()),
        }
    }

    /// The call ended after at least one tick.
    pub(crate) fn finish_long(&mut self) {
        if let Some(first) = self.first_tick {
            self.long_calls += cpu::thread_time().saturating_sub(first);
        }
    }

    pub(crate) fn long_calls(&self) -> Duration {
        self.long_calls
    }
}

// === impl Limiter ===

impl Limiter {
    pub(crate) fn new(memory: usize, scope: Arc<Scope>) -> Self {
        Self {
            memory,
            scope,
            taken: 0,
            last: 0,
            refused: None,
            instances: 1,
        }
    }

    /// For a component, which is made of several core instances.
    pub(crate) fn for_component(&mut self) {
        self.instances = COMPONENT_INSTANCES;
    }

    /// Bytes of linear memory that the VM has.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.scope.give_memory(self.taken);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        // All memories of the VM together: components have several.
        if self.taken + more > self.memory {
            self.refused = Some(Refusal::Vm);
            return Ok(false);
        }
        if !self.scope.take_memory(more) {
            self.refused = Some(Refusal::Namespace);
            return Ok(false);
        }
        self.taken += more;
        self.last = more;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.scope.give_memory(self.last);
        self.taken -= self.last;
        self.last = 0;
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let fits = desired <= TABLE_ELEMENTS;
        if !fits {
            self.refused = Some(Refusal::Vm);
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        TABLES * self.instances
    }

    fn memories(&self) -> usize {
        self.instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Shared, SharedLimits, VmConfig};

    fn scope(shared: &Shared) -> Arc<Scope> {
        shared.scope(&VmConfig {
            namespace: "shop".into(),
            vm_id: String::new(),
            scope: "hello".into(),
            vm_config: bytes::Bytes::new(),
            env: std::collections::BTreeMap::new(),
            limits: crate::Limits::default(),
        })
    }

    #[test]
    fn the_limiter_remembers_what_it_refused() {
        let shared = Shared::new();
        let mut limiter = Limiter::new(1000, scope(&shared));
        assert!(limiter.memory_growing(0, 1000, None).unwrap());
        assert!(limiter.table_growing(0, TABLE_ELEMENTS, None).unwrap());
        assert_eq!(limiter.refused, None);
        assert!(!limiter.memory_growing(0, 1001, None).unwrap());
        assert_eq!(limiter.refused, Some(Refusal::Vm));
        limiter.refused = None;
        assert!(!limiter.table_growing(0, TABLE_ELEMENTS + 1, None).unwrap());
        assert_eq!(limiter.refused, Some(Refusal::Vm));
    }

    #[test]
    fn memory_counts_for_the_namespace_until_the_vm_is_gone() {
        let shared = Shared::with_limits(SharedLimits {
            memory: 1000,
            ..SharedLimits::default()
        });
        let mut one = Limiter::new(900, scope(&shared));
        let mut two = Limiter::new(900, scope(&shared));
        assert!(one.memory_growing(0, 600, None).unwrap());
        assert!(!two.memory_growing(0, 500, None).unwrap());
        assert_eq!(two.refused, Some(Refusal::Namespace));
        assert!(two.memory_growing(0, 400, None).unwrap());
        assert_eq!(shared.memory("shop"), 1000);
        two.memory_grow_failed(wasmtime::Error::msg("no more"))
            .unwrap();
        assert_eq!(shared.memory("shop"), 600);
        drop(one);
        assert_eq!(shared.memory("shop"), 0);
        assert!(two.memory_growing(0, 900, None).unwrap());
    }

    #[test]
    fn a_deadline_counts_from_its_first_tick() {
        let mut deadline = Deadline::default();
        deadline.arm(Duration::from_secs(3600));
        assert_eq!(deadline.first_tick(), None);
        assert!(matches!(deadline.tick(), UpdateDeadline::Continue(1)));
        assert!(deadline.first_tick().is_some());
        deadline.arm(Duration::ZERO);
        assert!(matches!(deadline.tick(), UpdateDeadline::Interrupt));
    }
}
