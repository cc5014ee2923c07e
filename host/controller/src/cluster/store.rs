//! What is known of the cluster, and who is told when it changes.

mod inner;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::kinds;
use super::object::Read;
use crate::api::{Key, Kind};
use crate::resources::{AnyObject, ObjectId, Resources};
use inner::Inner;

/// What one watch is about: a kind, in one namespace or in all.
pub(super) type Scope = (Kind, Option<String>);

/// Everything known of the cluster.
pub(super) struct Store {
    inner: Mutex<Inner>,
    changed: Notify,
    statuses: Notify,
    /// Whether texts are kept for the state file.
    keep_raw: bool,
    /// As it stands in the JSON text of a status that we wrote.
    own_mark: String,
    watch_errors: AtomicU64,
}

/// What the API server has beside what is translated.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) resource_version: String,
    pub(super) uid: String,
    /// `status` as JSON text.
    pub(super) status: Option<Box<str>>,
    /// Whether the status holds entries of ours in a list that is shared.
    pub(super) ours: bool,
    /// Differs whenever the status does.
    pub(super) serial: u64,
    /// The whole as JSON text, for the state file.
    pub(super) raw: Option<Box<str>>,
}

/// Tells of a change again unless it is disarmed.
pub(super) struct Pending<'s>(Option<&'s Store>);

impl Pending<'_> {
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.0 {
            store.changed.notify_one();
        }
    }
}

impl Store {
    pub(super) fn new(controller_name: &str, keep_raw: bool) -> Self {
        Self {
            inner: Mutex::default(),
            changed: Notify::new(),
            statuses: Notify::new(),
            keep_raw,
            own_mark: format!("\"controllerName\":{}", Value::from(controller_name)),
            watch_errors: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change of what is translated.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// A change that will be told of again unless somebody deals with it.
    pub(super) fn pending(&self) -> Pending<'_> {
        Pending(Some(self))
    }

    /// Waits for a change of a status.
    pub(super) async fn statuses_changed(&self) {
        self.statuses.notified().await;
    }

    /// Tells of a change that lies elsewhere.
    pub(super) fn touch(&self) {
        self.changed.notify_one();
    }

    pub(super) fn keeps_raw(&self) -> bool {
        self.keep_raw
    }

    pub(super) fn resources(&self) -> Arc<Resources> {
        self.lock().resources.clone()
    }

    pub(super) fn is_synced(&self) -> bool {
        self.lock().synced
    }

    pub(super) fn is_restored(&self) -> bool {
        self.lock().restored
    }

    pub(super) fn watch_errors(&self) -> u64 {
        self.watch_errors.load(Ordering::Relaxed)
    }

    pub(super) fn count_watch_error(&self) {
        self.watch_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn gateway_api_version(&self) -> Option<String> {
        self.lock().gateway_api_version.clone()
    }

    /// Whether the API server has answered this lately.
    pub(super) fn was_heard_within(&self, time: Duration) -> bool {
        let heard = self.lock().heard;
        heard.is_some_and(|heard| heard.elapsed() <= time)
    }

    /// Whether we may read no classes, and so have to believe that the one with our name is ours.
    pub(super) fn classes_are_hidden(&self) -> bool {
        !self.lock().hidden.is_empty()
    }

    // --- what watches tell

    /// A watch begins; it counts for the first synchronisation.
    pub(super) fn add_scope(&self, scope: &Scope, version: &'static str) {
        let mut inner = self.lock();
        inner.scopes.entry(scope.clone()).or_default();
        inner.versions.insert(scope.0, version);
    }

    /// Discovery has answered: from now on the scopes are all that there are.
    pub(super) fn discovered(&self, gateway_api_version: Option<String>) {
        let mut inner = self.lock();
        let first = !inner.discovered;
        inner.discovered = true;
        inner.heard = Some(Instant::now());
        let differs = inner.gateway_api_version != gateway_api_version;
        inner.gateway_api_version = gateway_api_version;
        let now_synced = inner.check_synced();
        drop(inner);
        if first || differs || now_synced {
            self.changed.notify_one();
        }
    }

    /// Something besides watches has to be known before the first synchronisation is complete.
    pub(super) fn await_also(&self, what: &'static str) {
        self.lock().awaited.insert(what);
    }

    /// It is known now.
    pub(super) fn arrived(&self, what: &'static str) {
        let mut inner = self.lock();
        inner.awaited.remove(what);
        if inner.check_synced() {
            self.changed.notify_one();
        }
    }

    /// A listing begins. What is known stays until the listing is complete.
    pub(super) fn begin(&self, scope: &Scope) {
        let mut inner = self.lock();
        inner.scopes.entry(scope.clone()).or_default().listed = Some(BTreeSet::new());
    }

    /// An object of a listing.
    pub(super) fn listed(&self, scope: &Scope, read: Read) {
        let mut inner = self.lock();
        if let Some(listed) = &mut inner.scopes.entry(scope.clone()).or_default().listed {
            listed.insert(read.key.clone());
        }
        self.put(&mut inner, scope.0, read);
    }

    /// A listing is complete: what it did not show is gone.
    pub(super) fn complete(&self, scope: &Scope) {
        let mut inner = self.lock();
        inner.hidden.remove(&scope.0);
        let differs = inner.finish(scope);
        drop(inner);
        if differs {
            self.changed.notify_one();
            self.statuses.notify_one();
        }
    }

    /// An object appeared or changed.
    pub(super) fn apply(&self, kind: Kind, read: Read) {
        let mut inner = self.lock();
        self.put(&mut inner, kind, read);
    }

    /// An object is gone.
    pub(super) fn delete(&self, kind: Kind, key: &Key) {
        let mut inner = self.lock();
        if inner.take(kind, key) {
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// The API server has no such kind any more, or we may not read it.
    pub(super) fn drop_scope(&self, scope: &Scope) {
        let mut inner = self.lock();
        inner.scopes.remove(scope);
        let gone = inner.known(scope);
        let mut differs = !gone.is_empty();
        for key in gone {
            inner.take(scope.0, &key);
        }
        differs |= inner.check_synced();
        drop(inner);
        if differs {
            self.changed.notify_one();
        }
    }

    /// We may not read the kind, and can do without.
    pub(super) fn hide(&self, scope: &Scope) {
        let mut inner = self.lock();
        let news = inner.hidden.insert(scope.0);
        let differs = inner.finish(scope);
        drop(inner);
        if news || differs {
            self.changed.notify_one();
        }
    }

    // --- Secrets and ConfigMaps

    /// One of these as it was read, or that there is none.
    pub(super) fn set_named(&self, id: &ObjectId, read: Option<Read>) {
        let mut inner = self.lock();
        match read {
            Some(read) => self.put(&mut inner, id.kind, read),
            None => {
                if inner.take(id.kind, &id.key) {
                    self.changed.notify_one();
                }
            }
        }
    }

    /// Forgets those that nobody names.
    pub(super) fn retain_named(&self, wanted: &BTreeSet<ObjectId>) {
        let mut inner = self.lock();
        for kind in kinds::by_name() {
            for key in inner.known(&(kind, None)) {
                let id = ObjectId { kind, key };
                if !wanted.contains(&id) {
                    inner.take(kind, &id.key);
                }
            }
        }
    }

    /// Words of objects that changed since the last time.
    pub(super) fn take_words(&self) -> HashSet<String> {
        std::mem::take(&mut self.lock().words)
    }

    // --- statuses

    /// In which version a kind is written.
    pub(super) fn version(&self, kind: Kind) -> Option<&'static str> {
        self.lock().versions.get(&kind).copied()
    }

    /// What is known beside their content of up to `limit` of these objects, of those alone whose serial is `news`.
    pub(super) fn seen<'i, T: 'i>(
        &self,
        ids: &mut dyn Iterator<Item = (ObjectId, T)>,
        news: impl Fn(&ObjectId, u64) -> bool,
        limit: usize,
    ) -> Vec<(ObjectId, T, Seen)> {
        let inner = self.lock();
        let found = ids.filter_map(|(id, item)| {
            let seen = inner.seen.get(&id)?;
            news(&id, seen.serial).then(|| (id, item, seen.clone()))
        });
        found.take(limit).collect()
    }

    /// The `metadata.uid` of an object.
    pub(super) fn uid(&self, id: &ObjectId) -> Option<String> {
        self.lock().seen.get(id).map(|seen| seen.uid.clone())
    }

    /// Objects in whose statuses are entries of ours.
    pub(super) fn bearing_ours(&self) -> Vec<ObjectId> {
        let inner = self.lock();
        let ours = inner.seen.iter().filter(|(_, seen)| seen.ours);
        ours.map(|(id, _)| id.clone()).collect()
    }

    /// The status of an object after a write, so that the next need not wait for the watch.
    pub(super) fn observe(&self, id: &ObjectId, read: Read) {
        let ours = self.bears_mark(read.status.as_deref());
        let mut inner = self.lock();
        let serial = inner.serial + 1;
        if let Some(seen) = inner.seen.get_mut(id) {
            seen.resource_version = read.resource_version;
            if seen.status != read.status {
                seen.status = read.status;
                seen.ours = ours;
                seen.serial = serial;
                inner.serial = serial;
            }
        }
    }

    /// The numeric addresses in the statuses of Gateways.
    pub(super) fn gateway_addresses(&self) -> BTreeMap<Key, Vec<IpAddr>> {
        let inner = self.lock();
        let gateways = inner.seen.iter().filter(|(id, _)| id.kind == Kind::Gateway);
        gateways
            .filter_map(|(id, seen)| {
                let status: Value = serde_json::from_str(seen.status.as_deref()?).ok()?;
                let addresses = status["addresses"].as_array()?.iter();
                let addresses =
                    addresses.filter_map(|address| address["value"].as_str()?.parse().ok());
                Some((id.key.clone(), addresses.collect()))
            })
            .collect()
    }

    // --- the state file

    /// Objects of a state that was kept; the API server's word replaces them.
    pub(super) fn restore(&self, objects: Vec<(AnyObject, Box<str>)>) {
        let mut inner = self.lock();
        inner.restored = true;
        for (object, raw) in objects {
            let seen = inner.seen.entry(object.id()).or_default();
            seen.raw = Some(raw);
            Arc::make_mut(&mut inner.resources).apply(object);
        }
        self.changed.notify_one();
    }

    /// The texts of all objects, if some changed since the last time.
    pub(super) fn take_dirty(&self) -> Option<Vec<Box<str>>> {
        let mut inner = self.lock();
        if !std::mem::take(&mut inner.dirty) {
            return None;
        }
        Some(
            inner
                .seen
                .values()
                .filter_map(|seen| seen.raw.clone())
                .collect(),
        )
    }

    fn bears_mark(&self, status: Option<&str>) -> bool {
        status.is_some_and(|status| status.contains(&self.own_mark))
    }

    fn put(&self, inner: &mut Inner, kind: Kind, read: Read) {
        let id = ObjectId {
            kind,
            key: read.key,
        };
        let ours = self.bears_mark(read.status.as_deref());
        let seen = inner.seen.entry(id.clone()).or_default();
        seen.resource_version = read.resource_version;
        seen.uid = read.uid;
        if seen.raw != read.raw {
            seen.raw = read.raw;
            inner.dirty = true;
        }
        if seen.serial == 0 || seen.status != read.status {
            inner.serial += 1;
            seen.status = read.status;
            seen.ours = ours;
            seen.serial = inner.serial;
            self.statuses.notify_one();
        }
        let differs = match read.decoded {
            Ok(object) => inner.admit(&id, object),
            Err(error) => inner.refuse(&id, error),
        };
        if differs {
            inner.words.extend(read.words);
            self.changed.notify_one();
        }
    }
}
