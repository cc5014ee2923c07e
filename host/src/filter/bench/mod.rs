//! `tidegate filter bench`: what a filter costs on the engine that serves.
//!
//! One request is what the data plane does of it: a context, request headers, response headers, log, done and delete. Bodies and
//! sockets are left out, and so is the exchange itself, which is made outside of the clock. Calls are answered at once where a case
//! says what with; elsewhere the filter may call nobody.

mod report;
mod requests;
mod script;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use tidegate_filter_cases::Case;
use tidegate_wasm::{
    Capabilities, Engine, Limits, Module, PluginConfig, Pool, RootId, Shared, Snapshot,
    SnapshotError, Vm, VmConfig,
};

use super::arguments::Bench;
use super::test::bundled_names;
use crate::FINE;
use report::Figures;
use requests::{Ended, Pass, Template};

/// The least of so many is shown: what else the machine does only adds.
const ROUNDS: u32 = 5;
/// VMs whose memory is measured.
const VMS: usize = 50;
/// Where each request boots a VM of its own, so many are enough.
const BOOTS: u32 = 200;

/// Measures, and prints.
pub(crate) fn run(arguments: &Bench) -> anyhow::Result<u8> {
    let case = script::case(arguments)?;
    let template = match &case {
        Some(case) => Template::of_case(case, arguments)?,
        None => Template::new(arguments)?,
    };
    let subject = Subject::read(arguments, case.as_ref(), &template)?;
    let figures = subject.measure(arguments.requests, &template)?;
    figures.print(arguments)?;
    Ok(FINE)
}

/// A filter with its configuration.
struct Subject {
    name: String,
    wasm: Vec<u8>,
    engine: Engine,
    shared: Arc<Shared>,
    vm: Arc<VmConfig>,
    plugin: Arc<PluginConfig>,
}

impl Subject {
    fn read(arguments: &Bench, case: Option<&Case>, template: &Template) -> anyhow::Result<Self> {
        let name = &arguments.module;
        let bundled = tidegate_filters::get(name);
        let wasm = match bundled {
            Some(filter) => filter.module.to_vec(),
            None => std::fs::read(name).with_context(|| {
                let names = bundled_names();
                format!("{name}: neither a bundled filter nor a file that can be read; bundled are: {names}")
            })?,
        };
        let config = match &arguments.config {
            Some(path) => std::fs::read(path)
                .with_context(|| format!("--config {}: it cannot be read", path.display()))?,
            None => case.map(Case::config_text).unwrap_or_default().into(),
        };
        let defaults = Limits::default();
        let limits = Limits {
            call_timeout: bundled
                .and_then(|filter| filter.call_timeout)
                .unwrap_or(defaults.call_timeout),
            ..defaults
        };
        Ok(Self {
            name: name.clone(),
            wasm,
            engine: Engine::new()?,
            shared: Shared::new(),
            vm: Arc::new(VmConfig {
                namespace: "bench".into(),
                vm_id: String::new(),
                scope: "filter".into(),
                vm_config: Bytes::new(),
                env: Default::default(),
                limits,
            }),
            plugin: Arc::new(PluginConfig {
                namespace: "bench".into(),
                name: "filter".into(),
                root_id: String::new(),
                config: config.into(),
                secrets: Default::default(),
                capabilities: Capabilities::ALL,
                clusters: template.clusters(),
                headers_wait_for_body: case.is_some_and(|case| case.headers_wait_for_body),
                buffered_body: 1 << 20,
                old_property_names: false,
            }),
        })
    }

    fn measure(&self, requests: u32, template: &Template) -> anyhow::Result<Figures> {
        let compile = || {
            let began = Instant::now();
            let module = self.engine.compile(&self.wasm);
            module.map(|module| (module, began.elapsed()))
        };
        let (module, mut compiled) =
            compile().map_err(|error| anyhow!("{}: {error}", self.name))?;
        for _ in 1..3 {
            compiled = compiled.min(compile()?.1);
        }
        let began = Instant::now();
        let (mut vm, root) = self.start(&module)?;
        let started = began.elapsed();
        // First of all, before anything is freed that would be used again.
        let resident = self.resident(&module, template)?;
        let together = Way::rounds(requests, |count| {
            (0..count).try_fold(Way::default(), |way, _| {
                let pass = template.pass(&mut vm, root)?;
                Ok(way.and(Duration::ZERO, pass))
            })
        })
        .map_err(|failure| self.failed(&failure))?;
        let (apart, boots) = self.apart(&module, requests, template)?;
        Ok(Figures {
            bytes: self.wasm.len(),
            is_component: module.is_component(),
            compiled,
            started,
            linear_memory: vm.memory_bytes(),
            resident,
            together,
            apart,
            boots,
        })
    }

    /// A VM with the filter configured in it.
    fn start(&self, module: &Module) -> anyhow::Result<(Vm, RootId)> {
        let mut vm = Vm::start(module, self.vm.clone(), self.shared.clone())
            .map_err(|failure| self.failed(&failure))?;
        let root = vm.add_root(self.plugin.clone()).map_err(|failure| {
            anyhow!(
                "{}: it does not take its configuration, and --config names another: {failure}",
                self.name
            )
        })?;
        Ok((vm, root))
    }

    /// With `isolation: Request`: instances of a snapshot, or where that cannot be had a VM booted for each, and why.
    fn apart(
        &self,
        module: &Module,
        requests: u32,
        template: &Template,
    ) -> anyhow::Result<(Way, Option<String>)> {
        let snapshot = Snapshot::take(
            module,
            &self.wasm,
            self.vm.clone(),
            self.plugin.clone(),
            self.shared.clone(),
            Pool::default(),
        );
        match snapshot {
            Ok(snapshot) => {
                let way = Way::rounds(requests, |count| {
                    (0..count).try_fold(Way::default(), |way, _| {
                        let began = Instant::now();
                        let mut vm = snapshot.instantiate()?;
                        let handed_out = began.elapsed();
                        let pass = template.pass(&mut vm, snapshot.root())?;
                        let began = Instant::now();
                        snapshot.recycle(vm);
                        Ok(way.and(handed_out + began.elapsed(), pass))
                    })
                });
                Ok((way.map_err(|failure| self.failed(&failure))?, None))
            }
            Err(SnapshotError::Unsuitable(reason)) => {
                let way = Way::rounds(requests.min(BOOTS), |count| {
                    (0..count).try_fold(Way::default(), |way, _| {
                        let began = Instant::now();
                        let mut vm = Vm::start(module, self.vm.clone(), self.shared.clone())?;
                        let root = vm.add_root(self.plugin.clone())?;
                        let booted = began.elapsed();
                        let pass = template.pass(&mut vm, root)?;
                        Ok(way.and(booted, pass))
                    })
                });
                Ok((way.map_err(|failure| self.failed(&failure))?, Some(reason)))
            }
            Err(error) => bail!("{}: {error}", self.name),
        }
    }

    /// What a VM that has seen a request takes of the process's memory, where the system tells that.
    fn resident(&self, module: &Module, template: &Template) -> anyhow::Result<Option<usize>> {
        let Some(before) = report::resident() else {
            return Ok(None);
        };
        let mut vms = Vec::with_capacity(VMS);
        for _ in 0..VMS {
            let (mut vm, root) = self.start(module)?;
            template
                .pass(&mut vm, root)
                .map_err(|failure| self.failed(&failure))?;
            vms.push(vm);
        }
        let used = report::resident().map(|after| after.saturating_sub(before) / VMS);
        drop(vms);
        Ok(used)
    }

    fn failed(&self, failure: &tidegate_wasm::Failure) -> anyhow::Error {
        anyhow!("{}: the filter failed: {failure}", self.name)
    }
}

/// What requests came to in one way of isolation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    pub(super) requests: u32,
    pub(super) time: Duration,
    pub(super) replied: u32,
    pub(super) held: u32,
    /// Calls that were made.
    pub(super) calls: u64,
}

impl Way {
    /// With one more request, and the time that its VM took beside it.
    fn and(self, vm: Duration, pass: Pass) -> Self {
        Self {
            requests: self.requests + 1,
            time: self.time + vm + pass.time,
            replied: self.replied + u32::from(pass.ended == Ended::Replied),
            held: self.held + u32::from(pass.ended == Ended::Held),
            calls: self.calls + pass.calls as u64,
        }
    }

    /// The quickest of some rounds.
    fn rounds<E>(requests: u32, mut round: impl FnMut(u32) -> Result<Self, E>) -> Result<Self, E> {
        let mut best = round(requests.div_ceil(ROUNDS))?;
        for _ in 1..ROUNDS {
            let way = round(requests.div_ceil(ROUNDS))?;
            if way.nanoseconds() < best.nanoseconds() {
                best = way;
            }
        }
        Ok(best)
    }

    /// Of one request.
    pub(super) fn nanoseconds(&self) -> f64 {
        self.time.as_secs_f64() * 1e9 / f64::from(self.requests.max(1))
    }
}
