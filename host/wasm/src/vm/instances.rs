//! Instances of snapshots: born configured, and put back to that state when their request is over.

use std::time::Duration;

use wasmtime::{Global, Val};

use super::{Instance, Vm, not_started};
use crate::failure::Failure;
use crate::host::{Host, Template};
use crate::module::rewrite::{Number, export_of};
use crate::module::{Code, Module};
use crate::pages::{self, Restore};
use crate::snapshot::Permit;

impl Vm {
    /// An instance of a snapshot's module, as of its configuration.
    pub(crate) fn of_snapshot(
        module: &Module,
        template: &Template,
        globals: &[(u32, Number)],
    ) -> Result<Self, Failure> {
        let mut vm = Self::new(module, Host::from_template(template));
        let Code::Module(pre) = module.code() else {
            return Err(Failure::Start {
                message: "a component has no snapshot".into(),
            });
        };
        let instance = vm.instantiate(pre).map_err(not_started)?;
        let globals = globals
            .iter()
            .filter_map(|(index, value)| {
                let global = instance.get_global(&mut vm.store, &export_of(*index))?;
                Some((global, (*value).into()))
            })
            .collect();
        vm.served = true;
        vm.instance = Some(Instance {
            permit: None,
            globals,
            entries: 0,
            cpu: Duration::ZERO,
        });
        vm.hand_out();
        Ok(vm)
    }

    pub(crate) fn template(&self, root: crate::RootId) -> Option<Template> {
        Template::of(self.store.data(), root.0)
    }

    /// The whole linear memory.
    pub(crate) fn memory(&self) -> &[u8] {
        match self.store.data().memory {
            Some(memory) => memory.data(&self.store),
            None => &[],
        }
    }

    pub(crate) fn memory_mut(&mut self) -> &mut [u8] {
        match self.store.data().memory {
            Some(memory) => memory.data_mut(&mut self.store),
            None => &mut [],
        }
    }

    /// Values of the globals with these indices; the error names one that has none.
    pub(crate) fn globals(&mut self, wanted: &[u32]) -> Result<Vec<(u32, Number)>, u32> {
        let mut values = Vec::with_capacity(wanted.len());
        for index in wanted {
            let value = self.global(*index).ok_or(*index)?;
            values.push((*index, value));
        }
        Ok(values)
    }

    fn global(&mut self, index: u32) -> Option<Number> {
        let global = self
            .exported
            .as_ref()?
            .get_global(&mut self.store, &export_of(index))?;
        Number::of(&global.get(&mut self.store))
    }

    /// Puts everything that the guest can see back to the snapshot's state. False if that cannot be: then it must go.
    #[must_use]
    pub(crate) fn restore(&mut self, template: &Template, restore: &Restore) -> bool {
        let Some(instance) = &self.instance else {
            return false;
        };
        for (global, value) in &instance.globals {
            if set(global, &mut self.store, *value).is_none() {
                return false;
            }
        }
        if !restore.apply(self.memory_mut()) {
            return false;
        }
        self.store.data_mut().begin_again(template);
        true
    }

    /// Pages that were touched since it was restored, as far as can be told.
    pub(crate) fn touched_pages(&self) -> Vec<usize> {
        pages::touched(self.memory())
    }

    /// From here on usage counts for the next request.
    pub(crate) fn hand_out(&mut self) {
        let cpu = self.cpu_ever();
        let entries = self.entries;
        if let Some(instance) = &mut self.instance {
            instance.cpu = cpu;
            instance.entries = entries;
        }
    }

    pub(crate) fn set_permit(&mut self, permit: Option<Permit>) {
        if let Some(instance) = &mut self.instance {
            instance.permit = permit;
        }
    }

    pub(crate) fn permit(&self) -> Option<&Permit> {
        self.instance.as_ref()?.permit.as_ref()
    }
}

fn set(global: &Global, store: &mut wasmtime::Store<Host>, value: Val) -> Option<()> {
    global.set(store, value).ok()
}

impl Number {
    fn of(value: &Val) -> Option<Self> {
        Some(match value {
            Val::I32(value) => Self::I32(*value),
            Val::I64(value) => Self::I64(*value),
            Val::F32(bits) => Self::F32(*bits),
            Val::F64(bits) => Self::F64(*bits),
            Val::V128(value) => Self::V128(value.as_u128()),
            _ => return None,
        })
    }
}

impl From<Number> for Val {
    fn from(value: Number) -> Self {
        match value {
            Number::I32(value) => Self::I32(value),
            Number::I64(value) => Self::I64(value),
            Number::F32(bits) => Self::F32(bits),
            Number::F64(bits) => Self::F64(bits),
            Number::V128(value) => Self::V128(value.into()),
        }
    }
}
