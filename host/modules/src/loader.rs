//! Keeps every wanted filter loaded: new and changed ones at once, failed ones again, files when they change.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidegate_model::{FilterId, FilterSpec, FilterVerdict, FilterVerdicts, ModuleSource};
use tidegate_wasm::{Pool, Shared};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::compile::Compiled;
use crate::disk::Disk;
use crate::fetch::{Fetcher, Reach, Timeouts, Turns};
use crate::load::{Again, LoadFailure, Loaded, load};
use crate::remote::{Brought, Pin, Remote, RemoteError, place};
use crate::source;

/// Filters that compile and start at once; that is work for a core, and the data plane needs the others.
const AT_ONCE: usize = 4;
/// Of them, those of one tenant: a guest that uses up its whole start-up time must not delay another tenant's.
const AT_ONCE_OF_A_TENANT: usize = 2;
/// A start that takes longer counts no more among [`AT_ONCE`], only among its tenant's: however many tenants have such filters, the
/// others' are loaded.
const LONG_START: Duration = Duration::from_secs(10);
/// Pause before a failed filter is tried again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The same where a server would have to change what it has.
const LONGEST_SELDOM: Duration = Duration::from_secs(300);
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

/// What a loader may use.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether modules may be fetched from this machine itself: for hosts without a cluster.
    pub loopback: bool,
    /// Whether modules are fetched at all. Without, those that are elsewhere get the verdict [`FilterVerdict::NotFetched`].
    pub network: bool,
    /// A folder for fetched modules and compiled code, kept across restarts. It is made, and closed to other users.
    pub cache: Option<PathBuf>,
    /// Requests that may be in an instance of one filter with `isolation: Request` at the same time.
    pub instances: usize,
}

/// Loads filters in the background.
pub struct Loader {
    compiled: Compiled,
    pool: Pool,
    remote: Remote,
    shared: Arc<Shared>,
    entries: Mutex<HashMap<FilterId, Entry>>,
    turns: Turns,
    changes: watch::Sender<u64>,
}

struct Entry {
    spec: Arc<FilterSpec>,
    /// What the latest version has come to; `None` while it loads for the first time.
    latest: Option<Result<(), LoadFailure>>,
    /// Whether it was left alone because the network is not used.
    not_fetched: bool,
    good: Option<Arc<Loaded>>,
    /// What its source has come to, if that is elsewhere.
    pin: Option<Pin>,
    loading: bool,
    stamp: Option<(u64, std::time::SystemTime)>,
    pause: Duration,
    again_at: Option<Instant>,
}

/// What a load has come to.
enum Outcome {
    Loaded(Box<Loaded>),
    Failed(LoadFailure),
    NotFetched,
}

impl Default for Settings {
    /// Without a cluster: this machine may be asked, and nothing is kept.
    fn default() -> Self {
        Self {
            loopback: true,
            network: true,
            cache: None,
            instances: Pool::default().in_flight,
        }
    }
}

impl Loader {
    /// A loader whose VMs meet in `shared`, with the default settings.
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        Self::with(shared, &Settings::default())
    }

    /// A loader whose VMs meet in `shared`. A cache that cannot be used is reported and done without.
    pub fn with(shared: Arc<Shared>, settings: &Settings) -> Arc<Self> {
        Self::with_timeouts(shared, settings, Timeouts::default())
    }

    fn with_timeouts(shared: Arc<Shared>, settings: &Settings, timeouts: Timeouts) -> Arc<Self> {
        let disk = settings.cache.as_deref().and_then(|path| {
            Disk::open(path)
                .inspect_err(|error| {
                    tracing::warn!(path = %path.display(), %error, "no module cache; modules are fetched and compiled anew after each start");
                })
                .ok()
                .map(Arc::new)
        });
        let reach = Reach {
            loopback: settings.loopback,
        };
        let fetcher = Fetcher::new(reach, timeouts);
        Arc::new(Self {
            compiled: Compiled::new(disk.clone()),
            pool: Pool {
                in_flight: settings.instances,
                ..Pool::default()
            },
            remote: Remote::new(fetcher, disk, settings.network),
            shared,
            entries: Mutex::default(),
            turns: Turns::new(AT_ONCE, AT_ONCE_OF_A_TENANT),
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
            entries.retain(|id, entry| {
                let wanted = filters.iter().any(|spec| spec.id == *id);
                if !wanted {
                    for place in entry.places() {
                        self.remote.forget(id, &place);
                    }
                }
                wanted
            });
            for spec in filters {
                match entries.get_mut(&spec.id) {
                    Some(entry) if entry.spec.same(spec) => entry.spec = spec.clone(),
                    Some(entry) => {
                        for place in entry.change(spec) {
                            self.remote.forget(&spec.id, &place);
                        }
                        start.push((spec.clone(), entry.pin.clone()));
                    }
                    None => {
                        entries.insert(spec.id.clone(), Entry::new(spec));
                        start.push((spec.clone(), None));
                    }
                }
            }
            // What filters that are gone have kept for themselves goes with them.
            self.shared
                .retain(|namespace, scope| entries.values().any(|e| e.uses(namespace, scope)));
            // Whatever is just being loaded is kept by its own hold on the compiled module.
            if start.is_empty() {
                let wanted: std::collections::HashSet<(&str, &str)> =
                    entries.values().flat_map(Entry::digests).collect();
                self.compiled
                    .retain(|digest| wanted.iter().any(|(_, wanted)| *wanted == digest));
                self.remote
                    .retain(|namespace, digest| wanted.contains(&(namespace, digest)));
            }
        }
        for (spec, pin) in start {
            self.start(spec, pin);
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
                    (entry.spec.clone(), entry.pin.clone())
                })
                .collect();
            for (spec, pin) in due {
                self.start(spec, pin);
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<FilterId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, spec: Arc<FilterSpec>, pin: Option<Pin>) {
        let loader = self.clone();
        tokio::spawn(async move {
            let stamp = source::stamp(&spec.module);
            let (fetched, outcome) = match loader.bring(&spec, pin).await {
                Ok(brought) => {
                    let fetched = brought.as_ref().map(|b| (b.pin.clone(), b.bytes.clone()));
                    (fetched, loader.load(&spec, brought).await)
                }
                Err(outcome) => (None, outcome),
            };
            loader.settle(&spec, stamp, fetched, outcome);
        });
    }

    /// The bytes of a module that is elsewhere. Holds no turn: a server that does not answer delays nobody else.
    async fn bring(
        &self,
        spec: &Arc<FilterSpec>,
        pin: Option<Pin>,
    ) -> Result<Option<Brought>, Outcome> {
        if let ModuleSource::Refused { cause, reason } = &spec.module {
            return Err(Outcome::Failed(LoadFailure {
                cause: *cause,
                message: reason.clone(),
                again: Again::Never,
            }));
        }
        if !spec.module.is_remote() {
            return Ok(None);
        }
        self.remote
            .bring(spec, pin.or_else(|| Pin::in_status_of(spec)))
            .await
            .map(Some)
            .map_err(|error| {
                let again = match &error {
                    RemoteError::NotFetched => return Outcome::NotFetched,
                    RemoteError::Mismatch { .. } => Again::Seldom,
                    RemoteError::Fetch { error, .. } if error.is_lasting() => Again::Seldom,
                    RemoteError::Fetch { error, .. } => {
                        error.wait().map_or(Again::Soon, Again::After)
                    }
                };
                Outcome::Failed(LoadFailure {
                    again,
                    ..LoadFailure::load(error.to_string())
                })
            })
    }

    /// Compiles and tries out, in turn.
    async fn load(self: &Arc<Self>, spec: &Arc<FilterSpec>, brought: Option<Brought>) -> Outcome {
        let mut turn = self.turns.take(&spec.id.namespace).await;
        let (bytes, _room) = brought.map(|b| (b.bytes, b.room)).unzip();
        let mut loading = tokio::task::spawn_blocking({
            let (loader, spec) = (self.clone(), spec.clone());
            move || load(&spec, bytes, &loader.compiled, loader.pool, &loader.shared)
        });
        let result = match tokio::time::timeout(LONG_START, &mut loading).await {
            Ok(result) => result,
            Err(_) => {
                turn.make_room();
                loading.await
            }
        };
        match result {
            Ok(Ok(loaded)) => Outcome::Loaded(Box::new(loaded)),
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(error) => {
                let message = format!("loading it made the host fail: {error}");
                Outcome::Failed(LoadFailure::load(message))
            }
        }
    }

    fn settle(
        &self,
        spec: &Arc<FilterSpec>,
        stamp: Option<(u64, std::time::SystemTime)>,
        fetched: Option<(Pin, Bytes)>,
        outcome: Outcome,
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
        if let Some((pin, bytes)) = fetched {
            self.remote.hold(&spec.id.namespace, &pin.module, bytes);
            entry.pin = Some(pin);
        }
        let changed = match outcome {
            Outcome::Loaded(loaded) => entry.succeed(*loaded),
            Outcome::Failed(failure) => entry.fail(failure),
            Outcome::NotFetched => !std::mem::replace(&mut entry.not_fetched, true),
        };
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
            not_fetched: false,
            good: None,
            pin: None,
            loading: true,
            stamp: None,
            pause: FIRST_PAUSE,
            again_at: None,
        }
    }

    /// Takes the new version in; the places that it no longer names.
    fn change(&mut self, spec: &Arc<FilterSpec>) -> Vec<Arc<str>> {
        // A Secret that is missing for a moment must not make a tag move.
        let refused = matches!(spec.module, ModuleSource::Refused { .. });
        let named = place(&spec.module);
        let mut left = self.places();
        left.retain(|place| !refused && Some(place) != named.as_ref());
        let pin = self.pin.take().filter(|pin| !left.contains(&pin.place));
        let good = self.good.take();
        *self = Self {
            good,
            pin,
            ..Self::new(spec)
        };
        left
    }

    /// Where its module is or was, if that is elsewhere.
    fn places(&self) -> Vec<Arc<str>> {
        let pinned = self.pin.as_ref().map(|pin| pin.place.clone());
        place(&self.spec.module).into_iter().chain(pinned).collect()
    }

    /// A load that went well. `true` if that is news.
    fn succeed(&mut self, loaded: Loaded) -> bool {
        let same =
            |good: &Arc<Loaded>| good.digest == loaded.digest && good.spec.same(&loaded.spec);
        let unchanged = self.good.as_ref().is_some_and(same);
        if !unchanged {
            tracing::info!(filter = %loaded.spec.id, digest = %loaded.digest, "filter loaded");
            self.good = Some(Arc::new(loaded));
        }
        self.again_at = None;
        self.pause = FIRST_PAUSE;
        let before = self.latest.replace(Ok(()));
        !unchanged || before != Some(Ok(()))
    }

    /// A load that did not. `true` if that is news.
    fn fail(&mut self, failure: LoadFailure) -> bool {
        let (pause, longest) = match failure.again {
            Again::Soon => (Some(self.pause), LONGEST_PAUSE),
            Again::After(wait) => (Some(self.pause.max(wait)), LONGEST_PAUSE),
            Again::Seldom => (Some(self.pause), LONGEST_SELDOM),
            Again::Never => (None, LONGEST_PAUSE),
        };
        // Many filters of one server must not ask it in step.
        let jitter = 0.8 + 0.4 * fastrand::f64();
        self.again_at = pause.map(|pause| Instant::now() + pause.mul_f64(jitter));
        self.pause = (self.pause * 2).min(longest);
        let last_good = self.good.is_some();
        let (id, cause) = (&self.spec.id, failure.cause.as_str());
        let news = self.latest.as_ref() != Some(&Err(failure.clone()));
        if news {
            tracing::warn!(filter = %id, cause, last_good, error = %failure.message, "filter cannot run");
        }
        self.latest = Some(Err(failure));
        news
    }

    /// Tenant and digest of the modules that it needs.
    fn digests(&self) -> impl Iterator<Item = (&str, &str)> {
        let good = self.good.as_ref().map(|good| &*good.digest);
        let pinned = self.pin.as_ref().map(|pin| &*pin.module);
        let namespace = &*self.spec.id.namespace;
        good.into_iter()
            .chain(pinned)
            .map(move |digest| (namespace, digest))
    }

    /// What the tag of its image has come to.
    fn image(&self) -> Option<Arc<str>> {
        let ModuleSource::Image { image, .. } = &self.spec.module else {
            return None;
        };
        let manifest = self.pin.as_ref()?.manifest.as_deref()?;
        Some(image.resolved(manifest).to_string().into())
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
                image: self.image(),
            },
            _ if self.not_fetched => FilterVerdict::NotFetched,
            _ => FilterVerdict::Loading,
        }
    }
}

#[cfg(test)]
mod tests;
