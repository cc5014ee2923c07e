//! Keeps every wanted filter loaded: new and changed ones at once, failed ones again, files when they change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_model::{FilterId, FilterSpec, FilterVerdict, FilterVerdicts};
use tidegate_wasm::Shared;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::compile::Compiled;
use crate::load::{LoadFailure, Loaded, load};
use crate::source;

/// Filters that load at once; compiling is work for a core, and the data plane needs the others.
const AT_ONCE: usize = 2;
/// Pause before a failed filter is tried again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Whether a filter can run.
#[derive(Clone)]
pub enum State {
    /// Its first verdict is still to come.
    Loading,
    /// It can. Where the latest version has failed, this is the last good one.
    Ready(Arc<Loaded>),
    /// It cannot.
    Failed {
        /// Which step failed.
        cause: tidegate_model::FailureCause,
        /// What is wrong and what to do.
        message: Arc<str>,
    },
}

/// Loads filters in the background.
pub struct Loader {
    compiled: Compiled,
    shared: Arc<Shared>,
    entries: Mutex<HashMap<FilterId, Entry>>,
    permits: Arc<Semaphore>,
    changes: watch::Sender<u64>,
}

struct Entry {
    spec: Arc<FilterSpec>,
    /// What the latest version has come to; `None` while it loads for the first time.
    latest: Option<Result<(), LoadFailure>>,
    good: Option<Arc<Loaded>>,
    loading: bool,
    stamp: Option<(u64, std::time::SystemTime)>,
    pause: Duration,
    again_at: Option<Instant>,
}

impl Loader {
    /// A loader whose VMs meet in `shared`.
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            compiled: Compiled::default(),
            shared,
            entries: Mutex::default(),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            changes: watch::channel(0).0,
        })
    }

    /// Shared data, queues and metrics of the process.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Hears whenever a verdict has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Makes `filters` the wanted ones: starts loading what is new or has changed, forgets what is gone.
    /// Call it within a tokio runtime.
    pub fn want(self: &Arc<Self>, filters: &[Arc<FilterSpec>]) {
        let mut start = Vec::new();
        {
            let mut entries = self.entries();
            entries.retain(|id, _| filters.iter().any(|spec| spec.id == *id));
            for spec in filters {
                match entries.get_mut(&spec.id) {
                    Some(entry) if entry.spec.same(spec) => entry.spec = spec.clone(),
                    Some(entry) => {
                        entry.change(spec);
                        start.push(spec.clone());
                    }
                    None => {
                        entries.insert(spec.id.clone(), Entry::new(spec));
                        start.push(spec.clone());
                    }
                }
            }
            let digests: Vec<_> = entries
                .values()
                .filter_map(|e| Some(e.good.as_ref()?.digest.clone()))
                .collect();
            // What filters that are gone have kept for themselves goes with them.
            self.shared
                .retain(|namespace, scope| entries.values().any(|e| e.uses(namespace, scope)));
            // Whatever is just being loaded is kept by its own hold on the compiled module.
            if start.is_empty() {
                self.compiled
                    .retain(|digest| digests.iter().any(|wanted| **wanted == *digest));
            }
        }
        for spec in start {
            self.start(spec);
        }
    }

    /// The state of each of `filters`, in their order.
    pub fn states(&self, filters: &[Arc<FilterSpec>]) -> Vec<State> {
        let entries = self.entries();
        filters
            .iter()
            .map(|spec| entries.get(&spec.id).map_or(State::Loading, Entry::state))
            .collect()
    }

    /// Whether one of `filters` is being loaded at this moment.
    pub fn is_loading(&self, filters: &[Arc<FilterSpec>]) -> bool {
        let entries = self.entries();
        filters
            .iter()
            .any(|spec| entries.get(&spec.id).is_some_and(|entry| entry.loading))
    }

    /// Verdicts for conditions.
    pub fn verdicts(&self) -> FilterVerdicts {
        self.entries()
            .iter()
            .map(|(id, entry)| (id.clone(), entry.verdict()))
            .collect()
    }

    /// Whether every wanted filter has its first verdict. Those that are fetched over the network are not waited for.
    pub fn is_settled(&self) -> bool {
        self.entries().values().all(|entry| {
            entry.latest.is_some() || entry.good.is_some() || entry.spec.module.is_remote()
        })
    }

    /// Tries failed filters again when their time has come, and looks whether files have changed. Runs for ever.
    pub async fn keep(self: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            let now = Instant::now();
            let due: Vec<_> = self
                .entries()
                .values_mut()
                .filter(|entry| !entry.loading)
                .filter(|entry| entry.again_at.is_some_and(|at| at <= now) || entry.file_changed())
                .map(|entry| {
                    entry.loading = true;
                    entry.spec.clone()
                })
                .collect();
            for spec in due {
                self.start(spec);
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<FilterId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, spec: Arc<FilterSpec>) {
        let loader = self.clone();
        tokio::spawn(async move {
            // The semaphore is never closed.
            let _permit = loader.permits.clone().acquire_owned().await;
            let stamp = source::stamp(&spec.module);
            let result = tokio::task::spawn_blocking({
                let (loader, spec) = (loader.clone(), spec.clone());
                move || load(&spec, &loader.compiled, &loader.shared)
            })
            .await;
            let result = result.unwrap_or_else(|error| {
                let message = format!("loading it made the host fail: {error}").into();
                Err(LoadFailure {
                    cause: tidegate_model::FailureCause::Load,
                    message,
                })
            });
            loader.settle(&spec, stamp, result);
        });
    }

    fn settle(
        &self,
        spec: &Arc<FilterSpec>,
        stamp: Option<(u64, std::time::SystemTime)>,
        result: Result<Loaded, LoadFailure>,
    ) {
        let mut entries = self.entries();
        // Changed or gone meanwhile: the newer version's own load will tell.
        let Some(entry) = entries
            .get_mut(&spec.id)
            .filter(|entry| entry.spec.same(spec))
        else {
            return;
        };
        entry.loading = false;
        entry.stamp = stamp;
        let outcome = result.map(|loaded| {
            let unchanged = entry
                .good
                .as_ref()
                .is_some_and(|good| good.digest == loaded.digest && good.spec.same(&loaded.spec));
            if !unchanged {
                tracing::info!(filter = %spec.id, digest = %loaded.digest, "filter loaded");
                entry.good = Some(Arc::new(loaded));
            }
            unchanged
        });
        let changed = match &outcome {
            Ok(unchanged) => !unchanged || entry.latest != Some(Ok(())),
            Err(failure) => entry.latest.as_ref() != Some(&Err(failure.clone())),
        };
        entry.again_at = outcome.is_err().then(|| Instant::now() + entry.pause);
        entry.pause = if outcome.is_ok() {
            FIRST_PAUSE
        } else {
            (entry.pause * 2).min(LONGEST_PAUSE)
        };
        if let Err(failure) = &outcome
            && changed
        {
            let last_good = entry.good.is_some();
            tracing::warn!(filter = %spec.id, cause = failure.cause.as_str(), last_good, error = %failure.message, "filter cannot run");
        }
        entry.latest = Some(outcome.map(drop));
        drop(entries);
        if changed {
            self.changes.send_modify(|count| *count += 1);
        }
    }
}

impl Entry {
    fn new(spec: &Arc<FilterSpec>) -> Self {
        Self {
            spec: spec.clone(),
            latest: None,
            good: None,
            loading: true,
            stamp: None,
            pause: FIRST_PAUSE,
            again_at: None,
        }
    }

    fn change(&mut self, spec: &Arc<FilterSpec>) {
        let good = self.good.take();
        *self = Self {
            good,
            ..Self::new(spec)
        };
    }

    /// Whether its VMs share data under this name.
    fn uses(&self, namespace: &str, scope: &str) -> bool {
        let good = self.good.as_ref().map(|good| &good.spec);
        good.into_iter().chain([&self.spec]).any(|spec| {
            let own = if spec.vm.id.is_empty() {
                &spec.id.name
            } else {
                &spec.vm.id
            };
            *spec.id.namespace == *namespace && **own == *scope
        })
    }

    fn file_changed(&self) -> bool {
        let stamp = source::stamp(&self.spec.module);
        stamp.is_some() && stamp != self.stamp
    }

    fn state(&self) -> State {
        match (&self.good, &self.latest) {
            (Some(good), _) => State::Ready(good.clone()),
            (None, Some(Err(failure))) => State::Failed {
                cause: failure.cause,
                message: failure.message.clone(),
            },
            (None, _) => State::Loading,
        }
    }

    fn verdict(&self) -> FilterVerdict {
        match (&self.latest, &self.good) {
            (Some(Err(failure)), good) => FilterVerdict::Failed {
                cause: failure.cause,
                message: failure.message.clone(),
                last_good: good.is_some(),
            },
            (Some(Ok(())), Some(good)) => FilterVerdict::Ready {
                digest: good.digest.clone(),
                abi: good.module.abi().to_string().into(),
                image: None,
            },
            _ => FilterVerdict::Loading,
        }
    }
}

#[cfg(test)]
mod tests;
