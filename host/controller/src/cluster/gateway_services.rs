//! `--gateway-services`: a Service for each Gateway, in front of the fleet that all Gateways share.
//!
//! A Service chooses pods of its own namespace only, and the fleet is in another one. So it has no selector, and
//! EndpointSlices of ours name the pods that stand behind the Service of `--fleet-service` (of a pool: the Gateway's own
//! address). The leader makes them, keeps them, and deletes them; nothing is touched that does not carry our label,
//! whatever its name. Where a Gateway is reached is what its Service says.

mod deeds;
mod objects;
mod seen;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;
use kube::api::Api;
use kube::core::DynamicObject;
use kube::runtime::watcher::{Config, Event};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::settings::{ServiceType, Settings};
use super::store::Store;
use super::watch::{News, follow};
use super::{Task, kinds, spawn};
use crate::api::Key;
use crate::api::core::SERVICE_NAME_LABEL;
use crate::status::Address;
use crate::translate::{Exposed, Translation};
use deeds::Deed;
use objects::{Fleet, Made, OWN_LABEL};
use seen::{Reached, Seen, What, key_of, keyed};

/// What the first synchronisation waits for.
pub(super) const AWAITED: &str = "the Services of Gateways";

/// The Services of Gateways.
pub(super) struct GatewayServices {
    client: Client,
    store: Arc<Store>,
    settings: Settings,
    kind: ServiceType,
    /// The value of [`OWN_LABEL`].
    mark: String,
    seen: Mutex<Seen>,
    news: Notify,
    /// Listings that have not ended once.
    unlisted: AtomicUsize,
    said: watch::Sender<Option<Said>>,
}

/// What is to be exposed.
#[derive(Clone)]
struct Said {
    translation: Arc<Translation>,
    assigned: Arc<BTreeMap<Key, IpAddr>>,
}

impl GatewayServices {
    /// `None` unless the settings ask for it.
    pub(super) fn new(client: Client, store: Arc<Store>, settings: &Settings) -> Option<Arc<Self>> {
        let kind = settings.gateway_services?;
        store.await_also(AWAITED);
        Some(Arc::new(Self {
            client,
            store,
            settings: settings.clone(),
            kind,
            mark: objects::mark(&settings.controller_name),
            seen: Mutex::default(),
            news: Notify::new(),
            unlisted: AtomicUsize::new(0),
            said: watch::Sender::new(None),
        }))
    }

    /// Begins to watch, and to write while `leading`.
    pub(super) fn start(self: &Arc<Self>, leading: watch::Receiver<bool>) -> Vec<Task> {
        let mut places: Vec<(What, Option<String>, String)> = Vec::new();
        let ours = format!("{OWN_LABEL}={}", self.mark);
        for what in [What::Services, What::Slices] {
            let namespaces = &self.settings.namespaces;
            if namespaces.is_empty() {
                places.push((what, None, ours.clone()));
            }
            places.extend(
                namespaces
                    .iter()
                    .map(|namespace| (what, Some(namespace.clone()), ours.clone())),
            );
        }
        if let Some(fleet) = &self.settings.fleet {
            let labels = format!("{SERVICE_NAME_LABEL}={}", fleet.name);
            places.push((What::Fleet, Some(fleet.namespace.clone()), labels));
        }
        self.unlisted.store(places.len(), Ordering::Relaxed);
        let mut tasks: Vec<Task> = places
            .into_iter()
            .map(|(what, namespace, labels)| spawn(self.clone().follow(what, namespace, labels)))
            .collect();
        tasks.push(spawn(self.clone().run(leading)));
        tasks
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where each Gateway that has a Service is reached.
    pub(super) fn addresses(&self) -> BTreeMap<Key, Vec<Address>> {
        self.lock().addresses()
    }

    /// Learns something of what the API server has. Gateways that are reached elsewhere from then on are told of, whoever
    /// brought the news: where an answer to our own write came first, the watch has nothing new to say.
    fn learn(&self, what: impl FnOnce(&mut Seen) -> Reached) {
        let reached = what(&mut self.lock());
        if reached == Reached::Elsewhere {
            self.store.touch();
        }
    }

    /// What is exposed from now on.
    pub(super) fn report(&self, translation: Arc<Translation>, assigned: &BTreeMap<Key, IpAddr>) {
        self.said.send_replace(Some(Said {
            translation,
            assigned: Arc::new(assigned.clone()),
        }));
    }

    /// Keeps up with what the API server has.
    async fn follow(self: Arc<Self>, what: What, namespace: Option<String>, labels: String) {
        let resource = kinds::resource(what.kind(), "v1");
        let api: Api<DynamicObject> = match &namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let config = Config::default().labels(&labels);
        let mut listed = BTreeMap::new();
        let mut first = true;
        let tell = |news: News<'_, DynamicObject>| match news {
            News::Event(event) => {
                let ended = matches!(event, Event::InitDone);
                self.take(what, namespace.as_deref(), &mut listed, event);
                if ended && std::mem::take(&mut first) {
                    self.listed_once();
                }
            }
            News::Works => {
                tracing::info!(kind = %what.kind(), labels, "Services of Gateways can be watched again");
            }
            News::Broken { error, first } => {
                self.store.count_watch_error();
                if first {
                    tracing::warn!(kind = %what.kind(), labels, %error, "Services of Gateways cannot be watched now: what is known stays; --gateway-services needs list and watch of services and endpointslices");
                }
            }
        };
        follow(api, config, tell).await;
    }

    fn take(
        &self,
        what: What,
        namespace: Option<&str>,
        listed: &mut BTreeMap<Key, Value>,
        event: Event<DynamicObject>,
    ) {
        match event {
            Event::Init => return listed.clear(),
            Event::InitApply(object) => {
                let (key, value) = keyed(&object);
                listed.insert(key, value);
                return;
            }
            Event::InitDone => {
                self.learn(|seen| seen.replace(what, namespace, std::mem::take(listed)));
            }
            Event::Apply(object) => {
                let (key, value) = keyed(&object);
                self.learn(|seen| seen.put(what, key, value));
            }
            Event::Delete(object) => self.learn(|seen| seen.remove(what, &keyed(&object).0)),
        }
        self.news.notify_one();
    }

    fn listed_once(&self) {
        if self.unlisted.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.store.arrived(AWAITED);
        }
    }

    /// Makes Services what they should be, for ever, while `leading`.
    async fn run(self: Arc<Self>, mut leading: watch::Receiver<bool>) {
        let mut said = self.said.subscribe();
        let mut backoff = Backoff::of_watches();
        let mut again: Option<Instant> = None;
        loop {
            tokio::select! {
                changed = said.changed() => if changed.is_err() { return },
                changed = leading.changed() => if changed.is_err() { return },
                () = self.news.notified() => {}
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            }
            again = None;
            let known = self.unlisted.load(Ordering::Relaxed) == 0;
            let Some(said) = said.borrow_and_update().clone().filter(|_| known) else {
                continue;
            };
            if !*leading.borrow_and_update() {
                continue;
            }
            let mut failed = false;
            for deed in self.deeds(&said) {
                if !*leading.borrow() {
                    break;
                }
                failed |= !self.carry_out(&deed).await;
            }
            if failed {
                again = Some(Instant::now() + backoff.pause());
            } else {
                backoff.reset();
            }
        }
    }

    /// What there should be.
    fn wanted(&self, said: &Said, seen: &Seen) -> Vec<Made> {
        let resources = self.store.resources();
        let fleet = Fleet::of(seen.all(What::Fleet).values());
        let gateways = said.translation.exposed.iter();
        gateways
            .filter_map(|(key, ports): (&Key, &BTreeSet<Exposed>)| {
                let gateway = resources.gateways.get(key)?;
                if ports.is_empty() || gateway.meta.uid.is_empty() {
                    return None;
                }
                let own = said.assigned.get(key).map(|address| Fleet::at(*address));
                let local = own.is_none();
                let fleet = own.as_ref().unwrap_or(&fleet);
                Some(objects::made(
                    gateway, ports, fleet, self.kind, &self.mark, local,
                ))
            })
            .collect()
    }

    /// What has to be done so that there is what there should be.
    fn deeds(&self, said: &Said) -> Vec<Deed> {
        let mut seen = self.lock();
        let wanted = self.wanted(said, &seen);
        let mut deeds = Vec::new();
        let (mut services, mut slices) = (BTreeMap::new(), BTreeMap::new());
        for made in &wanted {
            services.insert(key_of(&made.service), &made.service);
            slices.extend(made.slices.values().map(|slice| (key_of(slice), slice)));
        }
        for (what, wanted) in [(What::Services, services), (What::Slices, slices)] {
            for (key, object) in &wanted {
                let id = (what.kind(), key.clone());
                let Some(found) = seen.all(what).get(key).cloned() else {
                    deeds.push(Deed::Create((*object).clone()));
                    continue;
                };
                match objects::change(&found, object) {
                    None => {
                        seen.futile.remove(&id);
                    }
                    Some(patch) if seen.futile.get(&id) == Some(&patch) => {}
                    Some(patch) => {
                        seen.futile.insert(id, patch.clone());
                        deeds.push(Deed::Change { seen: found, patch });
                    }
                }
            }
            let spare = seen.all(what).iter();
            let spare = spare.filter(|(key, _)| !wanted.contains_key(*key));
            deeds.extend(spare.map(|(_, object)| Deed::Delete(object.clone())));
        }
        deeds
    }
}
