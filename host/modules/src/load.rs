//! Loading one filter, from its source to a trial run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_model::{Capability, FailureCause, FilterSpec, Isolation};
use tidegate_wasm::{
    Capabilities, Cause, CodeSlot, Effect, Failure, Limits, Module, PluginConfig, Pool, Shared,
    Snapshot, SnapshotError, Ungranted, Vm, VmConfig,
};

use crate::compile::Compiled;
use crate::digest::{digest, normal};
use crate::source;

/// A filter that can run.
#[derive(Clone)]
pub struct Loaded {
    /// What it is.
    pub spec: Arc<FilterSpec>,
    /// Its code.
    pub module: Module,
    /// `sha256:…`
    pub digest: Arc<str>,
    /// Its VM.
    pub vm: Arc<VmConfig>,
    /// Its root context.
    pub root: Arc<PluginConfig>,
    /// What its trial run has shown.
    pub trial: Trial,
}

/// What is known of a filter once it was started and configured.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// CPU time that it took.
    pub cpu: Duration,
    /// Whether it asked for a tick, a queue or a call: then it is to run before the first request comes.
    pub resident: bool,
    /// With `isolation: Request`, what the VM of each request begins from; none where a snapshot cannot be taken, and each
    /// request boots a VM.
    pub snapshot: Option<Snapshot>,
    /// How many requests may have a VM of their own without a snapshot.
    pub instances: usize,
}

/// Why a filter cannot run.
#[derive(Clone, Debug)]
pub(crate) struct LoadFailure {
    pub(crate) cause: FailureCause,
    pub(crate) message: Arc<str>,
    /// When it makes sense to try again.
    pub(crate) again: Again,
}

/// When a failed load is tried again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Again {
    /// With growing pauses.
    #[default]
    Soon,
    /// Not before the server wants it.
    After(Duration),
    /// With longer ones: the server would have to have something else.
    Seldom,
    /// It would end in the same way.
    Never,
}

/// Two are the same if they say the same.
impl PartialEq for LoadFailure {
    fn eq(&self, other: &Self) -> bool {
        self.cause == other.cause && self.message == other.message
    }
}

impl LoadFailure {
    pub(crate) fn load(message: impl Into<Arc<str>>) -> Self {
        Self {
            cause: FailureCause::Load,
            message: message.into(),
            again: Again::Soon,
        }
    }
}

/// Loads a filter. Blocks for as long as reading, compiling and configuring take. `fetched` is its module, where that is
/// not at hand.
pub(crate) fn load(
    spec: &Arc<FilterSpec>,
    fetched: Option<Bytes>,
    compiled: &Compiled,
    pool: Pool,
    shared: &Arc<Shared>,
) -> Result<Loaded, LoadFailure> {
    let bytes = match fetched {
        Some(bytes) => bytes,
        None => source::read(&spec.module).map_err(|error| LoadFailure::load(error.to_string()))?,
    };
    let digest = digest(&bytes);
    check_pin(spec, &digest).map_err(LoadFailure::load)?;
    let module = compiled
        .get(&digest, &bytes)
        .map_err(|error| LoadFailure::load(error.to_string()))?;
    let mut loaded = Loaded {
        trial: Trial::default(),
        vm: Arc::new(vm_config(spec)),
        root: Arc::new(plugin_config(spec)),
        spec: spec.clone(),
        module,
        digest,
    };
    loaded.trial = try_out(&loaded, shared)?;
    loaded.trial.instances = pool.in_flight;
    if spec.vm.isolation == Isolation::Request {
        loaded.trial.snapshot = snapshot(&loaded, &bytes, compiled, pool, shared)?;
    }
    Ok(loaded)
}

fn check_pin(spec: &FilterSpec, digest: &str) -> Result<(), String> {
    let Some(pin) = &spec.sha256 else {
        return Ok(());
    };
    let pin = normal(pin);
    if *pin == *digest {
        return Ok(());
    }
    Err(format!(
        "spec.sha256 is {pin}, but the module is {digest}; it is not run. Correct the digest, or the module"
    ))
}

/// Starts and configures the filter once, so that a bad configuration is known before a request meets it. It finds what its
/// neighbours share, and leaves no trace among it: a version that is refused must not have reset a rate limiter's counters.
fn try_out(loaded: &Loaded, shared: &Arc<Shared>) -> Result<Trial, LoadFailure> {
    let mut vm = Vm::start(&loaded.module, loaded.vm.clone(), shared.to_throw_away())
        .map_err(|failure| failed(&failure))?;
    let configured = vm.add_root(loaded.root.clone());
    // Why it failed then is only what follows from that.
    if !vm.ungranted().is_empty() {
        return Err(LoadFailure {
            cause: FailureCause::Configure,
            ..LoadFailure::load(not_granted(vm.ungranted(), configured.err().as_ref()))
        });
    }
    configured.map_err(|failure| failed(&failure))?;
    let ticks = |effect: Effect| {
        matches!(
            effect,
            Effect::SetTickPeriod {
                period: Some(_),
                ..
            }
        )
    };
    Ok(Trial {
        cpu: vm.cpu(),
        resident: vm.is_awaited() || vm.effects().any(ticks),
        ..Trial::default()
    })
}

/// What a module needs, and which field of the Filter would grant it.
fn not_granted(ungranted: &Ungranted, failure: Option<&Failure>) -> String {
    let mut needs = Vec::new();
    let groups: Vec<&str> = ungranted.capabilities.iter().collect();
    if !groups.is_empty() {
        let groups = groups.join(", ");
        needs.push(format!(
            "spec.capabilities does not grant {groups}, which the module asks for when it is configured: add {groups} there, or use a module that does without"
        ));
    }
    for name in &ungranted.clusters {
        needs.push(format!(
            "spec.clusters does not declare {name:?}, which the module calls when it is configured: add {{name: {name}, url: …}} or {{name: {name}, backendRef: …}} there, or correct its configuration"
        ));
    }
    if let Some(failure) = failure {
        needs.push(failure.to_string());
    }
    needs.join("; ")
}

/// What requests begin from under `isolation: Request`.
fn snapshot(
    loaded: &Loaded,
    bytes: &[u8],
    compiled: &Compiled,
    pool: Pool,
    shared: &Arc<Shared>,
) -> Result<Option<Snapshot>, LoadFailure> {
    let (vm, root) = (loaded.vm.clone(), loaded.root.clone());
    let slot = compiled.snapshot_slot(&loaded.spec.id);
    match Snapshot::take_keeping(
        &loaded.module,
        bytes,
        vm,
        root,
        shared.clone(),
        pool,
        slot.as_ref().map(|slot| slot as &dyn CodeSlot),
    ) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(error @ SnapshotError::Unsuitable(_)) => {
            tracing::warn!(filter = %loaded.spec.id, %error, "isolation Request costs more for this filter");
            Ok(None)
        }
        Err(SnapshotError::Failed(failure)) => Err(failed(&failure)),
        Err(error @ SnapshotError::Compile(_)) => Err(LoadFailure::load(error.to_string())),
    }
}

fn failed(failure: &Failure) -> LoadFailure {
    let cause = match failure.cause() {
        Cause::Configure => FailureCause::Configure,
        Cause::Load => FailureCause::Load,
        Cause::Trap => FailureCause::Trap,
        Cause::Deadline => FailureCause::Deadline,
        Cause::Memory => FailureCause::Memory,
    };
    LoadFailure {
        cause,
        message: failure.to_string().into(),
        again: Again::Soon,
    }
}

fn vm_config(spec: &FilterSpec) -> VmConfig {
    VmConfig {
        namespace: spec.id.namespace.clone(),
        vm_id: spec.vm.id.to_string(),
        scope: spec.id.name.clone(),
        vm_config: Bytes::copy_from_slice(spec.vm.config.as_bytes()),
        env: spec.vm.env.clone(),
        limits: Limits {
            call_timeout: spec.limits.call_timeout,
            start_timeout: spec.limits.start_timeout,
            memory: spec.limits.memory,
            calls: spec.limits.calls,
            ..Limits::default()
        },
    }
}

fn plugin_config(spec: &FilterSpec) -> PluginConfig {
    PluginConfig {
        namespace: spec.id.namespace.clone(),
        name: spec.id.name.clone(),
        root_id: spec.root_id.to_string(),
        config: spec.config.bytes.clone(),
        secrets: spec.config.secrets.clone(),
        capabilities: spec
            .capabilities
            .iter()
            .fold(Capabilities::NONE, |all, one| all | capability(*one)),
        clusters: spec
            .clusters
            .keys()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>(),
        headers_wait_for_body: spec.headers_wait_for_body,
        buffered_body: spec.limits.buffered_body,
        old_property_names: spec.compatibility.old_property_names,
    }
}

fn capability(capability: Capability) -> Capabilities {
    match capability {
        Capability::SharedData => Capabilities::SHARED_DATA,
        Capability::SharedQueues => Capabilities::SHARED_QUEUES,
        Capability::Metrics => Capabilities::METRICS,
        Capability::Timers => Capabilities::TIMERS,
        Capability::Properties => Capabilities::PROPERTIES,
        Capability::ForeignFunctions => Capabilities::FOREIGN_FUNCTIONS,
    }
}
