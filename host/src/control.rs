//! The control loop of a process that serves: objects → translation → filters → data plane, again whenever one of them changes.
//!
//! ```text
//!   objects changed ┐
//!   verdict changed ┼─► translate ─► want filters ─► publish ─► View (admin pages)
//!   bind failed ────┘
//! ```

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tidegate_controller::cluster;
use tidegate_controller::resources::Resources;
use tidegate_controller::translate::{Bind, Options, Translation, translate};
use tidegate_model::{FailureCause, FilterId, FilterSpec, FilterVerdict, Snapshot};
use tidegate_modules::{Loaded, Loader, State};
use tidegate_proxy::{AccessLog, FilterState, Instances, Plugin, PluginStats, Proxy};

use crate::logging;
use crate::source::Source;

/// How long a change waits for local modules that it needs: one that is compiled already takes a few milliseconds, and so no
/// request meets a filter that is still loading. A module that takes longer holds nobody else back.
const HOLD: Duration = Duration::from_millis(1500);

/// What the admin pages show.
pub(crate) struct View {
    shown: ArcSwap<Shown>,
    loader: Arc<Loader>,
    proxy: Arc<Proxy>,
    stats: Mutex<HashMap<FilterId, Arc<PluginStats>>>,
    draining: std::sync::atomic::AtomicBool,
    /// Whether what is served may be called ready as far as its source goes.
    known: std::sync::atomic::AtomicBool,
    cluster: Option<cluster::Metrics>,
    access_log: OnceLock<AccessLog>,
}

#[derive(Default)]
struct Shown {
    generation: u64,
    translation: Option<Arc<Translation>>,
    snapshot: Arc<Snapshot>,
    /// Whether every filter had its verdict when this state was published.
    settled: bool,
}

/// Keeps the data plane at what the objects say.
pub(crate) struct Control {
    source: Source,
    resources: Arc<Resources>,
    options: Options,
    view: Arc<View>,
    /// Plugins by filter, so that an unchanged one stays the same for the data plane.
    plugins: HashMap<FilterId, Arc<Plugin>>,
}

impl Control {
    pub(crate) fn new(
        source: Source,
        options: Options,
        proxy: Arc<Proxy>,
        loader: Arc<Loader>,
    ) -> Self {
        let view = Arc::new(View {
            shown: ArcSwap::default(),
            loader,
            proxy,
            stats: Mutex::default(),
            draining: std::sync::atomic::AtomicBool::new(false),
            known: std::sync::atomic::AtomicBool::new(false),
            cluster: source.metrics(),
            access_log: OnceLock::new(),
        });
        Self {
            source,
            resources: Arc::default(),
            options,
            view,
            plugins: HashMap::new(),
        }
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// Waits until the source may have changed. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        self.source.changed().await;
    }

    /// Reads what the source says now. `true` if it differs from before.
    pub(crate) fn reload(&mut self) -> bool {
        self.source.reload(&mut self.resources, &mut self.options)
    }

    /// What is done from time to time.
    pub(crate) fn keep(&mut self) {
        self.source.keep();
        self.look();
    }

    /// Stops watching.
    pub(crate) async fn end(self) {
        self.source.end().await;
    }

    fn look(&self) {
        let known = self.source.may_be_ready();
        self.view
            .known
            .store(known, std::sync::atomic::Ordering::Relaxed);
    }

    /// Brings the data plane to what is known now.
    pub(crate) async fn apply(&mut self) {
        if !self.source.may_serve() {
            return;
        }
        let loader = self.view.loader.clone();
        let mut translation = self.translate();
        // What is fetched may itself name something; more than a step or two is nobody's intention.
        for _ in 0..3 {
            if !self.source.fetch(&translation).await {
                break;
            }
            self.reload();
            translation = self.translate();
        }
        loader.want(&translation.snapshot.filters);
        if self.hold(&translation.snapshot.filters).await {
            translation = self.translate();
        }
        // Asked before the states are: a verdict that comes in between is for the next publication.
        let settled = self.view.loader.is_settled();
        let filters = self.filter_states(&translation.snapshot.filters);
        let snapshot = Arc::new(std::mem::take(&mut translation.snapshot));
        let errors = self.view.proxy.publish(snapshot.clone(), filters);
        let bind_errors = errors.iter().map(|error| {
            let bind = Bind {
                address: error.address,
                udp: error.udp,
            };
            (bind, error.error.to_string())
        });
        let bind_errors = bind_errors.collect();
        if bind_errors != self.options.bind_errors {
            for error in &errors {
                tracing::error!("{error}");
            }
            self.options.bind_errors = bind_errors;
            translation = self.translate();
            // The published one is shown; this is about the statuses.
            translation.snapshot = Snapshot::default();
        }
        let translation = Arc::new(translation);
        self.source.report(&translation);
        self.show(translation, snapshot, settled);
        self.look();
    }

    /// Whether an address could not be bound; it is tried again from time to time.
    pub(crate) fn has_bind_errors(&self) -> bool {
        !self.options.bind_errors.is_empty()
    }

    fn translate(&self) -> Translation {
        translate(&self.resources, &self.view.loader.verdicts(), &self.options)
    }

    /// Waits a little for local modules that are needed and not yet there. `true` if there were any.
    async fn hold(&self, filters: &[Arc<FilterSpec>]) -> bool {
        let local: Vec<_> = filters
            .iter()
            .filter(|spec| !spec.module.is_remote())
            .cloned()
            .collect();
        let mut changes = self.view.loader.changes();
        if !self.view.loader.is_loading(&local) {
            return false;
        }
        let deadline = tokio::time::Instant::now() + HOLD;
        while self.view.loader.is_loading(&local) {
            if tokio::time::timeout_at(deadline, changes.changed())
                .await
                .is_err()
            {
                break;
            }
        }
        true
    }

    fn filter_states(&mut self, filters: &[Arc<FilterSpec>]) -> Vec<FilterState> {
        self.plugins
            .retain(|id, _| filters.iter().any(|spec| spec.id == *id));
        let states = self.view.loader.states(filters);
        filters
            .iter()
            .zip(states)
            .map(|(spec, state)| match state {
                State::Ready(loaded) => FilterState::Ready(self.plugin(&loaded)),
                State::Failed { cause, message } => FilterState::Unavailable { cause, message },
                State::Loading => FilterState::Unavailable {
                    cause: FailureCause::Load,
                    message: format!("filter {} is still loading", spec.id).into(),
                },
            })
            .collect()
    }

    fn plugin(&mut self, loaded: &Arc<Loaded>) -> Arc<Plugin> {
        let id = &loaded.spec.id;
        if let Some(known) = self.plugins.get(id)
            && Arc::ptr_eq(&known.root, &loaded.root)
        {
            return known.clone();
        }
        let stats = self.view.stats(id);
        let plugin = Arc::new(Plugin {
            spec: loaded.spec.clone(),
            module: loaded.module.clone(),
            digest: loaded.digest.clone(),
            vm: loaded.vm.clone(),
            root: loaded.root.clone(),
            shared: self.view.loader.shared().clone(),
            start_cpu: loaded.trial.cpu,
            resident: loaded.trial.resident,
            snapshot: loaded.trial.snapshot.clone(),
            instances: Instances::new(loaded.trial.instances),
            breaker: stats.new_version(),
            stats,
        });
        self.plugins.insert(id.clone(), plugin.clone());
        plugin
    }

    fn show(&self, translation: Arc<Translation>, snapshot: Arc<Snapshot>, settled: bool) {
        let before = self.view.shown.load();
        let changed = before.generation == 0 || before.snapshot != snapshot;
        let generation = before.generation + u64::from(changed);
        for warning in &translation.warnings {
            tracing::debug!("{warning}");
        }
        if changed {
            tracing::info!(
                generation,
                listeners = snapshot.listeners.len(),
                filters = snapshot.filters.len(),
                backends = snapshot.backends.len(),
                "serving"
            );
        }
        self.view.shown.store(Arc::new(Shown {
            generation,
            translation: Some(translation),
            snapshot,
            settled,
        }));
    }
}

impl View {
    /// Why the gateway is not ready, or `None`.
    pub(crate) fn unready(&self) -> Option<&'static str> {
        if self.draining.load(std::sync::atomic::Ordering::Relaxed) {
            return Some("draining");
        }
        let shown = self.shown.load();
        if shown.generation == 0 {
            return Some("the first state does not serve yet");
        }
        if !self.known.load(std::sync::atomic::Ordering::Relaxed) {
            return Some("the cluster has not been read completely yet");
        }
        // Of the published state, not of the loader: what it has learnt since does not serve yet.
        (!shown.settled).then_some("a filter in use has no verdict yet")
    }

    pub(crate) fn drain(&self) {
        self.draining
            .store(true, std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.shown.load().snapshot.clone()
    }

    pub(crate) fn status(&self) -> Value {
        let shown = self.shown.load();
        match &shown.translation {
            None => json!({"generation": 0, "objects": [], "errors": []}),
            Some(translation) => crate::check::status(shown.generation, translation),
        }
    }

    pub(crate) fn metrics(&self) -> String {
        let mut out = String::new();
        self.proxy.write_metrics(&mut out);
        crate::metrics::filters(
            &mut out,
            &self.stats.lock().unwrap_or_else(PoisonError::into_inner),
        );
        crate::metrics::guests(&mut out, self.loader.shared());
        if let Some(cluster) = &self.cluster {
            cluster.write(&mut out);
        }
        self.lost_lines(&mut out);
        out
    }

    /// Tells whose lost lines are counted among the metrics.
    pub(crate) fn know_access_log(&self, log: AccessLog) {
        // There is one.
        let _ = self.access_log.set(log);
    }

    fn lost_lines(&self, out: &mut String) {
        let host = ("log", "the host's own log", logging::lost());
        let access = |log: &AccessLog| ("access_log", "the access log", log.lost());
        // Writing to a String cannot fail.
        for (name, of, value) in [host].into_iter().chain(self.access_log.get().map(access)) {
            let name = format!("tidegate_{name}_lost_lines_total");
            let _ = writeln!(
                out,
                "# HELP {name} Lines of {of} that were not written.\n# TYPE {name} counter\n{name} {value}"
            );
        }
    }

    pub(crate) fn filters(&self) -> Value {
        use std::sync::atomic::Ordering::Relaxed;
        let snapshot = self.snapshot();
        let states = self.loader.states(&snapshot.filters);
        let verdicts = self.loader.verdicts();
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = snapshot.filters.iter().zip(states).map(|(spec, state)| {
            let (word, loaded, error) = match &state {
                State::Loading => ("Loading", None, None),
                State::Ready(loaded) => {
                    // The last good version serves; what is wrong is wrong with a newer one.
                    let error = match verdicts.get(&spec.id) {
                        Some(FilterVerdict::Failed { message, .. }) => Some(message.to_string()),
                        _ => None,
                    };
                    ("Ready", Some(loaded), error)
                }
                State::Failed { message, .. } => ("Failed", None, Some(message.to_string())),
            };
            let counts = stats.get(&spec.id).cloned().unwrap_or_default();
            let word = if word == "Ready" && counts.is_quarantined() {
                "Quarantined"
            } else {
                word
            };
            let last = counts
                .last_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            json!({
                "namespace": spec.id.namespace,
                "name": spec.id.name,
                "digest": loaded.map(|loaded| loaded.digest.clone()),
                "abi": loaded.map(|loaded| loaded.module.abi().to_string()),
                "state": word,
                "vms": counts.vms.load(Relaxed),
                "memoryBytes": counts.memory_bytes.load(Relaxed),
                "contexts": counts.contexts.load(Relaxed),
                "calls": counts.calls.load(Relaxed),
                "cpuSeconds": counts.cpu_nanoseconds.load(Relaxed) as f64 / 1e9,
                "traps": counts.traps.load(Relaxed),
                "deadlines": counts.deadlines.load(Relaxed),
                "collateral": counts.collateral.load(Relaxed),
                "lastError": error.or(last),
            })
        });
        rows.collect()
    }

    /// The counts of a filter, which stay its own from version to version.
    pub(crate) fn stats(&self, id: &FilterId) -> Arc<PluginStats> {
        self.stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(id.clone())
            .or_default()
            .clone()
    }
}
