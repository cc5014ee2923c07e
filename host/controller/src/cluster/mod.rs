//! A cluster as the source of truth: what the API server says becomes the same [`Resources`]
//! that folders become, and what translation says of the objects is written back into their statuses.
//!
//! ```text
//!   discovery ─▶ watches (one for each kind) ─┐
//!   Secrets, ConfigMaps (by name, on demand) ──┼─▶ Store ─▶ Resources ─▶ translate ─▶ Translation
//!                state file (last good)       ─┘     │                        │ what it names, statuses
//!                                                    ▼                        ▼
//!                                     what the statuses are now ─▶ writer (the leader only) ─▶ API server
//! ```
//!
//! Nothing here can take the data plane down: a watch that breaks keeps what it knew, and is made anew with growing
//! pauses. A kind that vanishes from discovery keeps its objects for a minute before it counts as gone.

mod addresses;
mod backoff;
mod connect;
mod discovery;
mod events;
mod gateway_services;
mod kinds;
mod lease;
mod merge;
mod metrics;
mod named;
mod namespaces;
mod object;
mod plan;
mod pool;
mod settings;
mod state;
mod store;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

pub use connect::{ConnectError, client};
pub use metrics::Metrics;
pub use settings::{ServiceType, Settings, StateFile};

use crate::api::Key;
use crate::resources::Resources;
use crate::translate::{Options, Translation};
use addresses::Published;
use gateway_services::GatewayServices;
use lease::Lease;
use named::Named;
use store::Store;
use writer::Writer;

/// A burst of events is one change: how long it must be quiet.
const HOLD_OFF: Duration = Duration::from_millis(20);
/// How long a change may wait for quiet.
const MAX_HOLD_OFF: Duration = Duration::from_millis(200);
/// How often the state file is written at most.
const SAVED: Duration = Duration::from_secs(10);
/// How long after its last answer the API server counts as one that answers.
const CONFIRMED: Duration = Duration::from_secs(30);

/// A cluster that is watched. Ends with [`Cluster::end`]; when it is dropped, its tasks end where they are.
pub struct Cluster {
    settings: Settings,
    store: Arc<Store>,
    named: Arc<Named>,
    published: Arc<Published>,
    writer: Arc<Writer>,
    lease: Arc<Lease>,
    gateway_services: Option<Arc<GatewayServices>>,
    /// Given out of the pool; the same Gateway keeps its address.
    assigned: BTreeMap<Key, IpAddr>,
    tasks: Vec<Task>,
    started: Instant,
    saved: Option<Instant>,
}

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(tokio::spawn(task))
}

impl Cluster {
    /// Reads the state file, if one is kept, and begins to watch. Nothing is waited for: an API server that is absent
    /// is tried again and again.
    pub fn start(client: kube::Client, settings: Settings) -> Self {
        let store = Arc::new(Store::new(
            &settings.controller_name,
            settings.state.is_some(),
        ));
        let mut assigned = BTreeMap::new();
        if let Some(file) = &settings.state
            && let Some(restored) = state::load(file, &settings.controller_name)
        {
            assigned = restored.assigned;
            store.restore(restored.objects);
        }
        let named = Arc::new(Named::new(client.clone(), store.clone()));
        let published = Arc::new(Published::new(&settings));
        let lease = Arc::new(Lease::new(client.clone(), &settings));
        let writer = Arc::new(Writer::new(client.clone(), store.clone(), &settings));
        let mut tasks = vec![
            spawn(discovery::run(
                client.clone(),
                store.clone(),
                settings.clone(),
            )),
            spawn(named.clone().run()),
            spawn(lease.clone().run()),
            spawn(writer.clone().run(lease.leading())),
        ];
        if let Some(service) = settings.publish_service.clone() {
            store.await_also(addresses::AWAITED);
            let watch = addresses::run(client.clone(), service, published.clone(), store.clone());
            tasks.push(spawn(watch));
        }
        let gateway_services = GatewayServices::new(client.clone(), store.clone(), &settings);
        if let Some(services) = &gateway_services {
            tasks.extend(services.start(lease.leading()));
        }
        if !settings.namespaces.is_empty() {
            let names = settings.namespaces.clone();
            tasks.push(spawn(namespaces::run(client, names, store.clone())));
        }
        Self {
            settings,
            store,
            named,
            published,
            writer,
            lease,
            gateway_services,
            assigned,
            tasks,
            started: Instant::now(),
            saved: None,
        }
    }

    /// Waits until something changed and a burst of changes is over. Cancel safe.
    pub async fn changed(&self) {
        self.store.changed().await;
        let latest = Instant::now() + MAX_HOLD_OFF;
        // From here on it is a change in any case: whoever gives up during the pause must hear of it next time.
        let pending = self.store.pending();
        while Instant::now() < latest {
            let quiet = timeout_at(latest, sleep(HOLD_OFF));
            tokio::select! {
                biased;
                () = self.store.changed() => {}
                _ = quiet => break,
            }
        }
        pending.disarm();
    }

    /// Whether everything has been listed once, ever.
    pub fn is_synced(&self) -> bool {
        self.store.is_synced()
    }

    /// Whether there is something to serve: all that the API server has, or what was last known of it where it does not
    /// answer for `patience`.
    pub fn may_serve(&self) -> bool {
        self.is_synced() || self.store.is_restored()
    }

    /// Whether what is served may be called ready: after the first complete synchronisation, when the Secrets and ConfigMaps that
    /// it names have been read. A restored state is ready only when the API server has not answered
    /// for a while: while it answers, the first complete synchronisation is near.
    pub fn may_be_ready(&self) -> bool {
        const PATIENCE: Duration = Duration::from_secs(10);
        let known = self.is_synced() && self.named.were_known();
        known || (self.store.is_restored() && self.started.elapsed() >= PATIENCE)
    }

    /// All objects as they are known now, with the Secrets and ConfigMaps that were asked for.
    pub fn resources(&self) -> Arc<Resources> {
        self.store.resources()
    }

    /// Puts what the cluster says about addresses and versions into the settings of the translation.
    pub fn tune(&mut self, resources: &Resources, options: &mut Options) {
        options.standalone = false;
        options.assume_class = self.store.classes_are_hidden();
        options.gateway_api_version = self.store.gateway_api_version();
        options.addresses = self.published.addresses();
        options.gateway_addresses = self
            .gateway_services
            .as_ref()
            .map(|services| services.addresses());
        if let Some(pool) = self.settings.address_pool {
            let known = self.store.gateway_addresses();
            self.assigned = pool::assign(
                resources,
                &self.settings.controller_name,
                pool,
                &known,
                &self.assigned,
            );
            options.assigned.clone_from(&self.assigned);
        }
    }

    /// Which Secrets and ConfigMaps a translation names: those that are new are read now, those no longer named are
    /// forgotten.
    pub fn want(&self, translation: &Translation) {
        self.named.want(&translation.wanted);
    }

    /// Whether each of them has been asked for with an answer.
    pub fn knows_wanted(&self) -> bool {
        self.named.all_known()
    }

    /// Waits until [`Self::knows_wanted`], or `deadline`.
    pub async fn wanted_known(&self, deadline: Instant) -> bool {
        self.named.known(deadline).await
    }

    /// What is said about the objects; the leader writes what differs. Nothing is written before the first complete
    /// synchronisation.
    pub fn report(&self, translation: Arc<Translation>) {
        if self.is_synced() {
            if let Some(services) = &self.gateway_services {
                services.report(translation.clone(), &self.assigned);
            }
            self.writer.report(translation);
        }
    }

    /// Writes the state file, if one is kept and something changed since the last time, or says that it is still current
    /// if the API server answers. It blocks on the disk.
    pub fn keep_state(&mut self) {
        let Some(file) = &self.settings.state else {
            return;
        };
        let recent = self.saved.is_some_and(|saved| saved.elapsed() < SAVED);
        if !self.is_synced() || recent {
            return;
        }
        self.saved = Some(Instant::now());
        if let Some(objects) = self.store.take_dirty() {
            let name = &self.settings.controller_name;
            state::save(file, name, &objects, &self.assigned);
        } else if self.store.was_heard_within(CONFIRMED)
            && let Err(error) = state::confirm(file)
        {
            tracing::debug!(%error, "the state file cannot be touched");
        }
    }

    /// Whether this process writes statuses.
    pub fn is_leading(&self) -> bool {
        *self.lease.leading().borrow()
    }

    /// What is counted.
    pub fn metrics(&self) -> Metrics {
        Metrics {
            store: self.store.clone(),
            writer: self.writer.clone(),
            leading: self.lease.leading(),
        }
    }

    /// Gives the leadership back, so that another process need not wait for it to expire, and stops.
    pub async fn end(mut self) {
        self.tasks.clear();
        self.lease.release().await;
    }
}
