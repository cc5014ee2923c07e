//! Root contexts: a plugin enters a VM, and leaves it.

use std::sync::Arc;

use super::Vm;
use crate::config::PluginConfig;
use crate::contexts::{Life, Root};
use crate::effect::{Effect, RootId};
use crate::failure::Failure;

impl Vm {
    /// A root context for a plugin: `proxy_on_context_create`, `proxy_on_vm_start`, `proxy_on_configure`.
    ///
    /// Until the VM has its first stream each of them may take the start timeout, afterwards the call timeout. A guest that
    /// says no leaves the VM and its other plugins alive; one that traps does not.
    pub fn add_root(&mut self, plugin: Arc<PluginConfig>) -> Result<RootId, Failure> {
        self.check_alive()?;
        let host = self.store.data_mut();
        let limit = host.vm.limits.contexts;
        if host.contexts.len() >= limit {
            return Err(Failure::Contexts { limit });
        }
        let id = host.contexts.next_id();
        host.contexts.roots.insert(id, Root::new(plugin));
        match self.configure(id) {
            Ok(()) => Ok(RootId(id)),
            Err(failure) => {
                self.drop_root(id);
                Err(failure)
            }
        }
    }

    /// Takes a plugin out: `proxy_on_done`, and `proxy_on_delete` unless the guest asks to wait for its `proxy_done`. True when
    /// the root is gone; else [`Effect::RootDone`] will tell. Delete its streams first.
    pub fn remove_root(&mut self, root: RootId) -> Result<bool, Failure> {
        let id = root.0;
        match self
            .store
            .data()
            .contexts
            .roots
            .get(&id)
            .map(|root| root.life)
        {
            None => return Ok(true),
            Some(Life::Leaving | Life::Done) => return Ok(false),
            Some(Life::Alive) => {}
        }
        let limit = self.limit();
        // Set before the call: the guest may call proxy_done at once.
        self.set_life(id, Life::Leaving);
        let done = self.enter(id, limit, |exports, store| exports.root_done(store, id));
        match done {
            Ok(0) => Ok(!self.store.data().contexts.roots.contains_key(&id)),
            Ok(_) => {
                // The guest may have said yes and called proxy_done too: then the root is gone already.
                if self.store.data().contexts.roots.contains_key(&id) {
                    self.set_life(id, Life::Done);
                    self.delete_root(id)?;
                }
                Ok(true)
            }
            Err(failure) => {
                self.drop_root(id);
                Err(failure)
            }
        }
    }

    /// The plugin behind a root.
    pub fn plugin(&self, root: RootId) -> Option<&Arc<PluginConfig>> {
        self.store
            .data()
            .contexts
            .roots
            .get(&root.0)
            .map(|root| &root.plugin)
    }

    /// All roots.
    pub fn roots(&self) -> impl Iterator<Item = RootId> {
        self.store.data().contexts.roots.keys().copied().map(RootId)
    }

    fn configure(&mut self, id: u32) -> Result<(), Failure> {
        let limit = self.limit();
        let host = self.store.data();
        let vm_size = size(host.vm.vm_config.len());
        let plugin_size = host
            .contexts
            .roots
            .get(&id)
            .map_or(0, |root| size(root.plugin.config.len()));
        let step = |name: &str, result: Result<u32, Failure>, vm: &Self| match result {
            Ok(0) => Err(Failure::Configure {
                message: vm
                    .exports
                    .refusal(name, vm.store.data().log.last_error())
                    .into(),
            }),
            Ok(_) => Ok(()),
            Err(Failure::Trap { message }) => Err(Failure::Configure {
                message: format!("trap in {name}: {message}").into(),
            }),
            Err(other) => Err(other),
        };
        let created = self.enter(id, limit, |exports, store| exports.create(store, id, 0));
        step("proxy_on_context_create", created.map(|()| 1), self)?;
        let started = self.enter(id, limit, |exports, store| {
            exports.start(store, id, vm_size)
        });
        step("proxy_on_vm_start", started, self)?;
        self.store.data_mut().configuring = true;
        let configured = self.enter(id, limit, |exports, store| {
            exports.configure(store, id, plugin_size)
        });
        self.store.data_mut().configuring = false;
        let refused = step("proxy_on_configure", configured, self);
        if refused.is_err() && !self.is_dead() {
            // The guest made a context that nobody will use; its memory is its own to free.
            self.set_life(id, Life::Done);
            self.delete_root(id)?;
        }
        refused
    }

    /// Roots whose `proxy_done` came during the last entry.
    pub(super) fn delete_finished_roots(&mut self) {
        let finished = std::mem::take(&mut self.store.data_mut().finished);
        for id in finished {
            // A trap here kills the VM, which the next call tells.
            let _ = self.delete_root(id);
            self.store
                .data_mut()
                .effects
                .push(Effect::RootDone { root: RootId(id) });
        }
    }

    fn delete_root(&mut self, id: u32) -> Result<(), Failure> {
        let limit = self.limit();
        let deleted = self.enter(id, limit, |exports, store| exports.delete_root(store, id));
        self.drop_root(id);
        deleted
    }

    /// Forgets a root and its calls; answers to them find nobody.
    fn drop_root(&mut self, id: u32) {
        let host = self.store.data_mut();
        host.contexts.roots.remove(&id);
        host.calls.http.retain(|_, root| *root != id);
        host.calls.grpc.retain(|_, call| call.root != id);
        for token in &host.queues {
            host.shared.queues.leave(*token, host.id, Some(RootId(id)));
        }
    }

    fn set_life(&mut self, id: u32, life: Life) {
        if let Some(root) = self.store.data_mut().contexts.roots.get_mut(&id) {
            root.life = life;
        }
    }
}

fn size(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
