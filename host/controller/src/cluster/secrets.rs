//! Secrets, read by name and only where an object names them: the service account can neither list nor watch them.
//!
//! Each is read at once when it is first wanted, again every [`INTERVAL`], and at once when an object that mentions its
//! name changes. One that cannot be read now keeps its last content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::api::Api;
use kube::core::DynamicObject;
use kube::{Client, Error};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::kinds;
use super::object::{Read, read};
use super::store::Store;
use crate::api::{Key, Kind};

/// How old the content of a Secret may be.
const INTERVAL: Duration = Duration::from_secs(30);
/// How soon after a failure; and how soon one that does not exist is looked for first, with growing pauses up to
/// [`INTERVAL`]: it is often created right after what names it.
const RETRY: Duration = Duration::from_secs(1);
/// How many are read at the same time.
const AT_ONCE: usize = 16;

/// The Secrets that are wanted.
pub(super) struct Secrets {
    client: Client,
    store: Arc<Store>,
    wanted: Mutex<BTreeMap<Key, Wanted>>,
    news: Notify,
    /// How many are wanted and have never been answered.
    unknown: watch::Sender<usize>,
    /// Whether there was a moment when all that were wanted had been answered; stays so.
    were_known: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    due: Instant,
    known: bool,
    forbidden: bool,
    /// How long to wait while it does not exist.
    patience: Duration,
}

impl Secrets {
    pub(super) fn new(client: Client, store: Arc<Store>) -> Self {
        Self {
            client,
            store,
            wanted: Mutex::default(),
            news: Notify::new(),
            unknown: watch::Sender::new(0),
            were_known: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which are wanted from now on.
    pub(super) fn want(&self, keys: &BTreeSet<Key>) {
        let now = Instant::now();
        let words = self.store.take_words();
        let mut wanted = self.lock();
        let before = wanted.len();
        wanted.retain(|key, _| keys.contains(key));
        let fewer = wanted.len() != before;
        let mut due = false;
        for key in keys {
            let entry = wanted.entry(key.clone()).or_insert_with(|| {
                due = true;
                Wanted {
                    due: now,
                    known: false,
                    forbidden: false,
                    patience: RETRY,
                }
            });
            if words.contains(&key.name) && entry.due > now {
                entry.due = now;
                entry.patience = RETRY;
                due = true;
            }
        }
        self.count(&wanted);
        drop(wanted);
        // A restored state holds Secrets that nobody has wanted yet; they go when something else is known.
        if fewer || self.store.is_synced() {
            self.store.retain_secrets(keys);
        }
        if due {
            self.news.notify_one();
        }
    }

    /// Whether each has been answered.
    pub(super) fn all_known(&self) -> bool {
        *self.unknown.borrow() == 0
    }

    /// Whether each of the first that were wanted has been answered.
    pub(super) fn were_known(&self) -> bool {
        self.were_known.load(Ordering::Relaxed)
    }

    /// Waits until each has been answered, or `deadline`; whether each has.
    pub(super) async fn known(&self, deadline: Instant) -> bool {
        let mut unknown = self.unknown.subscribe();
        let all = unknown.wait_for(|unknown| *unknown == 0);
        timeout_at(deadline, all).await.is_ok()
    }

    /// Reads what is due, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let (due, next) = self.due();
            if due.is_empty() {
                let idle = Instant::now() + INTERVAL;
                tokio::select! {
                    () = self.news.notified() => {}
                    () = sleep_until(next.unwrap_or(idle)) => {}
                }
                continue;
            }
            stream::iter(due)
                .for_each_concurrent(AT_ONCE, |key| self.read(key))
                .await;
        }
    }

    /// What is due now, and when the next will be.
    fn due(&self) -> (Vec<Key>, Option<Instant>) {
        let now = Instant::now();
        let wanted = self.lock();
        let due = wanted.iter().filter(|(_, entry)| entry.due <= now);
        let due = due.map(|(key, _)| key.clone()).collect();
        (due, wanted.values().map(|entry| entry.due).min())
    }

    async fn read(&self, key: Key) {
        let resource = kinds::resource(Kind::Secret, "v1");
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
        let answer = api.get_opt(&key.name).await;
        let (mut forbidden, mut absent) = (false, false);
        let answered = match answer {
            Ok(found) => {
                let raw = self.store.keeps_raw();
                let found = found.map(|object| read(Kind::Secret, object, raw));
                absent = found.is_none();
                self.settle(&key, found);
                true
            }
            Err(Error::Api(status)) if status.is_forbidden() => {
                forbidden = true;
                self.settle(&key, None);
                true
            }
            Err(error) => {
                tracing::debug!(secret = %key, %error, "cannot be read now; its last content stays");
                false
            }
        };
        let mut wanted = self.lock();
        if let Some(entry) = wanted.get_mut(&key) {
            if forbidden && !entry.forbidden {
                tracing::warn!(secret = %key, "may not be read: grant get of secrets in its namespace to the service account");
            }
            entry.forbidden = forbidden;
            entry.known |= answered;
            let pause = match (answered, absent) {
                (false, _) => RETRY,
                (true, true) => entry.patience,
                (true, false) => INTERVAL,
            };
            entry.patience = if absent {
                (entry.patience * 2).min(INTERVAL)
            } else {
                RETRY
            };
            // Spread, so that many do not stay in step.
            let pause = pause.mul_f64(0.9 + 0.1 * fastrand::f64());
            entry.due = Instant::now() + pause;
        }
        self.count(&wanted);
    }

    /// Stores an answer unless nobody wants it any more.
    fn settle(&self, key: &Key, found: Option<Read>) {
        let wanted = self.lock();
        if wanted.contains_key(key) {
            self.store.set_secret(key, found);
        }
    }

    fn count(&self, wanted: &BTreeMap<Key, Wanted>) {
        let unknown = wanted.values().filter(|entry| !entry.known).count();
        if unknown == 0 {
            self.were_known.store(true, Ordering::Relaxed);
        }
        self.unknown
            .send_if_modified(|known| std::mem::replace(known, unknown) != unknown);
    }
}
