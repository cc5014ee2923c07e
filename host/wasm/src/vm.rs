//! One instance of a module, with its contexts.
//!
//! A VM belongs to one thread at a time and owns everything its guest can reach. Each entry into the guest arms the deadline,
//! resets the effective context, and leaves behind effects in the order the guest asked for them.

mod events;
mod instances;
mod roots;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Global, InstancePre, Store, Trap, Val};

use crate::config::{Ungranted, VmConfig};
use crate::cpu;
use crate::effect::{Effect, VmId};
use crate::exports::{self, Entry, Exports};
use crate::failure::{Failure, describe};
use crate::host::{Gate, Host, Reply};
use crate::limits::Refusal;
use crate::module::{Code, Module};
use crate::shared::Shared;
use crate::snapshot::Permit;
use crate::ticker::{InFlight, Ticker};

/// Once there are streams, one of so many entries is timed; before, each. A prime: streams that are all alike must not have the same
/// callback timed again and again.
const SAMPLE: u32 = 251;

/// A running filter, or several that share it.
pub struct Vm {
    store: Store<Host>,
    exports: Exports,
    module: Module,
    flag: Arc<InFlight>,
    /// Why it can run no more.
    dead: Option<Failure>,
    /// It had a stream: from then on calls get the call timeout.
    served: bool,
    entries: u64,
    sampled: Duration,
    exported: Option<wasmtime::Instance>,
    /// Of an instance of a snapshot.
    instance: Option<Instance>,
}

/// What ties an instance to its snapshot.
struct Instance {
    /// Its place among those in flight.
    permit: Option<Permit>,
    globals: Box<[(Global, Val)]>,
    /// What it had used when it was handed out.
    entries: u64,
    cpu: Duration,
}

// === impl Vm ===

impl Vm {
    /// Instantiates the module and runs `_initialize` and `main`, or `_start`. May take as long as the start timeout.
    pub fn start(
        module: &Module,
        config: Arc<VmConfig>,
        shared: Arc<Shared>,
    ) -> Result<Self, Failure> {
        let mut vm = Self::new(module, Host::new(module.abi(), config, shared));
        vm.boot().map_err(not_started)?;
        Ok(vm)
    }

    fn new(module: &Module, mut host: Host) -> Self {
        let engine = module.engine();
        if module.is_component() {
            // The store asks for these bounds once, below.
            host.limiter.for_component();
        }
        let mut store = Store::new(engine.wasmtime(), host);
        store.limiter(|host| &mut host.limiter);
        let lasting = engine.ticker().lasting();
        store.epoch_deadline_callback(move |mut context| {
            lasting.note();
            Ok(context.data_mut().deadline.tick())
        });
        Self {
            store,
            exports: Exports::default(),
            module: module.clone(),
            flag: engine.ticker().register(),
            dead: None,
            served: false,
            entries: 0,
            sampled: Duration::ZERO,
            exported: None,
            instance: None,
        }
    }

    /// As [`start`](Self::start), for a VM of which a snapshot is taken.
    pub(crate) fn start_passing(
        module: &Module,
        config: Arc<VmConfig>,
        shared: Arc<Shared>,
    ) -> Result<Self, Failure> {
        let mut host = Host::new(module.abi(), config, shared);
        host.passing = true;
        let mut vm = Self::new(module, host);
        vm.boot().map_err(not_started)?;
        Ok(vm)
    }

    /// What the last entries asked for, in order. Dropping the iterator early forgets the rest.
    pub fn effects(&mut self) -> std::vec::Drain<'_, Effect> {
        let host = self.store.data_mut();
        host.effect_bytes = 0;
        host.effects.drain(..)
    }

    /// Whether there are effects to perform.
    #[inline]
    pub fn has_effects(&self) -> bool {
        !self.store.data().effects.is_empty()
    }

    /// Whether a trap, a deadline or a lack of memory ended it. Every further call fails with the same failure.
    #[inline]
    pub fn is_dead(&self) -> bool {
        self.dead.is_some()
    }

    /// Its number in this process: what [`Effect::QueueReady`] names.
    pub fn id(&self) -> VmId {
        self.store.data().id
    }

    /// The module it runs.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// What it was started with.
    pub fn config(&self) -> &Arc<VmConfig> {
        &self.store.data().vm
    }

    /// Linear memory in use, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let host = self.store.data();
        match host.memory {
            Some(memory) => memory.data_size(&self.store),
            None => host.limiter.taken(),
        }
    }

    /// Contexts alive, roots included.
    pub fn contexts(&self) -> usize {
        self.store.data().contexts.len()
    }

    /// HTTP and gRPC calls that have not been answered yet.
    pub fn pending_calls(&self) -> usize {
        self.store.data().calls.len()
    }

    /// Whether something is to come for it that no request brings: an answer, or what is put into a queue of its.
    pub fn is_awaited(&self) -> bool {
        self.pending_calls() > 0 || !self.store.data().queues.is_empty()
    }

    /// What was asked for in it so far that is not granted.
    pub fn ungranted(&self) -> &Ungranted {
        &self.store.data().ungranted
    }

    /// From here on each call gets the call timeout, that of `proxy_on_configure` for a further plugin included. Without it
    /// that begins with the first stream.
    pub fn begin_service(&mut self) {
        self.served = true;
    }

    /// Entries into the guest so far.
    #[inline]
    pub fn calls(&self) -> u64 {
        self.entries
            - self
                .instance
                .as_ref()
                .map_or(0, |instance| instance.entries)
    }

    /// CPU time used so far: measured for calls longer than a tick, estimated from samples for the others.
    #[inline]
    pub fn cpu(&self) -> Duration {
        let before = self
            .instance
            .as_ref()
            .map_or(Duration::ZERO, |instance| instance.cpu);
        self.cpu_ever().saturating_sub(before)
    }

    fn cpu_ever(&self) -> Duration {
        self.sampled + self.store.data().deadline.long_calls()
    }

    fn boot(&mut self) -> Result<(), Failure> {
        let module = self.module.clone();
        match module.code() {
            Code::Module(pre) => {
                let instance = self.instantiate(pre)?;
                let limit = self.limit();
                let entry = Entry::find(&instance, &mut self.store);
                self.enter(0, limit, |_, store| entry.run(store))?;
                self.store.data_mut().gate = Gate::Running;
            }
            Code::Component(code) => {
                // Its start-up runs inside its instantiation.
                self.store.data_mut().gate = Gate::Running;
                let limit = self.limit();
                let exports = self.enter(0, limit, |_, store| code.instantiate(store))?;
                self.exports = Exports::Component(Box::new(exports));
            }
        }
        Ok(())
    }

    /// An instance, with what calls need of it looked up.
    fn instantiate(&mut self, pre: &InstancePre<Host>) -> Result<wasmtime::Instance, Failure> {
        let limit = self.limit();
        let instance = self.enter(0, limit, |_, store| pre.instantiate(store))?;
        self.exported = Some(instance);
        self.exports = Exports::of_module(&instance, &mut self.store);
        let allocator = exports::find(&instance, &mut self.store, "malloc")
            .or_else(|| exports::find(&instance, &mut self.store, "proxy_on_memory_allocate"));
        let memory = instance.get_memory(&mut self.store, "memory");
        let host = self.store.data_mut();
        host.allocator = allocator;
        host.memory = memory;
        Ok(instance)
    }

    /// Runs guest code on a context: the only way in.
    fn enter<R>(
        &mut self,
        context: u32,
        limit: Duration,
        guest: impl FnOnce(&Exports, &mut Store<Host>) -> wasmtime::Result<R>,
    ) -> Result<R, Failure> {
        self.check_alive()?;
        let host = self.store.data_mut();
        host.entered = context;
        host.current = context;
        host.reply = Reply::None;
        host.limiter.refused = None;
        host.log.forget_error();
        host.deadline.arm(limit);
        self.store.set_epoch_deadline(1);
        let timed = !self.served || self.entries.is_multiple_of(u64::from(SAMPLE));
        let began = timed.then(cpu::thread_time);
        self.entries += 1;
        self.module.engine().ticker().enter(&self.flag);
        let result = guest(&self.exports, &mut self.store);
        Ticker::leave(&self.flag);
        self.account(began);
        match result {
            Ok(value) => {
                if !self.store.data().finished.is_empty() {
                    self.delete_finished_roots();
                }
                Ok(value)
            }
            Err(error) => Err(self.die(&error)),
        }
    }

    fn account(&mut self, began: Option<Duration>) {
        let deadline = &mut self.store.data_mut().deadline;
        let first_tick = deadline.first_tick();
        if first_tick.is_some() {
            deadline.finish_long();
        }
        if let Some(began) = began {
            // What follows the first tick is counted in full, so only what comes before it stands for other entries.
            let until = first_tick.unwrap_or_else(cpu::thread_time);
            let stands_for = if self.served { SAMPLE } else { 1 };
            self.sampled += until.saturating_sub(began) * stands_for;
        }
    }

    fn die(&mut self, error: &wasmtime::Error) -> Failure {
        let host = self.store.data();
        let failure = if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
            Failure::Deadline {
                limit: host.deadline.limit(),
            }
        } else if let Some(refusal) = host.limiter.refused {
            match refusal {
                Refusal::Vm => Failure::Memory {
                    limit: host.vm.limits.memory,
                },
                Refusal::Namespace => Failure::NamespaceMemory {
                    namespace: Arc::clone(&host.vm.namespace),
                    limit: host.shared.limits().memory,
                },
            }
        } else {
            Failure::Trap {
                message: describe(error, host.log.last_error()).into(),
            }
        };
        self.dead = Some(failure.clone());
        failure
    }

    #[inline]
    fn check_alive(&self) -> Result<(), Failure> {
        match &self.dead {
            None => Ok(()),
            Some(failure) => Err(failure.clone()),
        }
    }

    fn limit(&self) -> Duration {
        let limits = &self.store.data().vm.limits;
        if self.served {
            limits.call_timeout
        } else {
            limits.start_timeout
        }
    }
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm")
            .field("id", &self.id())
            .field("contexts", &self.contexts())
            .field("dead", &self.dead)
            .finish()
    }
}

fn not_started(failure: Failure) -> Failure {
    match failure {
        Failure::Trap { message } => Failure::Start { message },
        other => other,
    }
}

#[cfg(test)]
mod tests;
