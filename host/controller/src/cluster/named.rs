//! Secrets and ConfigMaps, read by name and only where an object names them: the service account can neither list nor
//! watch them.
//!
//! Each is read at once when it is first wanted, looked at again every [`INTERVAL`], and read at once when an object that
//! mentions its name changes. To look is to ask for the metadata alone, out of the API server's cache: only where the version
//! differs is the content read. One that cannot be read now keeps its last content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::api::{Api, GetParams};
use kube::core::DynamicObject;
use kube::{Client, Error};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::kinds;
use super::object::{Read, read};
use super::store::Store;
use crate::resources::ObjectId;

/// How old the content of an object may be, as long as there are few enough for [`PER_SECOND`].
const INTERVAL: Duration = Duration::from_secs(30);
/// How many are looked at in a second at most, however many are wanted: what an idle process may cost the API server.
const PER_SECOND: f64 = 50.0;
/// How soon after a failure; and how soon one that does not exist is looked for first, with growing pauses up to
/// [`INTERVAL`]: it is often created right after what names it.
const RETRY: Duration = Duration::from_secs(1);
/// How many are read at the same time.
const AT_ONCE: usize = 16;
/// How long a request may take, so that one without an answer does not hold up the others for long.
const PATIENCE: Duration = Duration::from_secs(10);

/// The objects that are wanted.
pub(super) struct Named {
    client: Client,
    store: Arc<Store>,
    wanted: Mutex<BTreeMap<ObjectId, Wanted>>,
    news: Notify,
    /// How many are wanted and have never been answered.
    unknown: watch::Sender<usize>,
    /// Whether there was a moment when all that were wanted had been answered; stays so.
    were_known: AtomicBool,
}

#[derive(Clone, Debug)]
struct Wanted {
    due: Instant,
    known: bool,
    forbidden: bool,
    /// Of the content that is known; it is read anew when another is seen, and in any case where it is `None`.
    version: Option<String>,
    /// How long to wait while it does not exist.
    patience: Duration,
}

/// What the API server said.
enum Answer {
    Same,
    Found(Box<Read>),
    Absent,
    Forbidden,
    /// Nothing that could be used.
    Silence,
}

impl Named {
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectId, Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which are wanted from now on.
    pub(super) fn want(&self, ids: &BTreeSet<ObjectId>) {
        let now = Instant::now();
        let words = self.store.take_words();
        let mut wanted = self.lock();
        let before = wanted.len();
        wanted.retain(|id, _| ids.contains(id));
        let fewer = wanted.len() != before;
        let mut due = false;
        for id in ids {
            let entry = wanted.entry(id.clone()).or_insert_with(|| {
                due = true;
                Wanted {
                    due: now,
                    known: false,
                    forbidden: false,
                    version: None,
                    patience: RETRY,
                }
            });
            if words.contains(&id.key.name) {
                // Whoever refers to it now may know of a version that the API server's cache does not have yet.
                entry.version = None;
                entry.patience = RETRY;
                if entry.due > now {
                    entry.due = now;
                    due = true;
                }
            }
        }
        self.count(&wanted);
        drop(wanted);
        // A restored state holds objects that nobody has wanted yet; they go when something else is known.
        if fewer || self.store.is_synced() {
            self.store.retain_named(ids);
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
                .for_each_concurrent(AT_ONCE, |(id, version)| self.read(id, version))
                .await;
        }
    }

    /// What is due now, each with the version that is known, and when the next will be.
    fn due(&self) -> (Vec<(ObjectId, Option<String>)>, Option<Instant>) {
        let now = Instant::now();
        let wanted = self.lock();
        let due = wanted.iter().filter(|(_, entry)| entry.due <= now);
        let due = due
            .map(|(id, entry)| (id.clone(), entry.version.clone()))
            .collect();
        (due, wanted.values().map(|entry| entry.due).min())
    }

    async fn read(&self, id: ObjectId, version: Option<String>) {
        // From here on, whoever mentions it means what is read after this.
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.due = Instant::now() + PATIENCE * 3;
        }
        let asked = self.ask(&id, version.as_deref());
        let answer = timeout(PATIENCE, asked).await.unwrap_or(Answer::Silence);
        let mut wanted = self.lock();
        let interval = interval(wanted.len());
        // Unless nobody wants it any more.
        if let Some(entry) = wanted.get_mut(&id) {
            let forbidden = matches!(answer, Answer::Forbidden);
            if forbidden && !entry.forbidden {
                tracing::warn!(
                    kind = %id.kind, object = %id.key,
                    "may not be read: grant get of {} in its namespace to the service account", kinds::plural(id.kind)
                );
            }
            entry.forbidden = forbidden;
            entry.known |= !matches!(answer, Answer::Silence);
            let again = entry.due <= Instant::now();
            let absent = matches!(answer, Answer::Absent);
            let pause = match &answer {
                Answer::Silence => RETRY,
                Answer::Absent => entry.patience,
                Answer::Same | Answer::Found(_) | Answer::Forbidden => interval,
            };
            entry.patience = if absent {
                (entry.patience * 2).min(INTERVAL)
            } else {
                RETRY
            };
            match answer {
                Answer::Same | Answer::Silence => {}
                Answer::Found(read) => {
                    entry.version = (!again).then(|| read.resource_version.clone());
                    self.store.set_named(&id, Some(*read));
                }
                Answer::Absent | Answer::Forbidden => {
                    entry.version = None;
                    self.store.set_named(&id, None);
                }
            }
            if !again {
                // Spread, so that many do not stay in step.
                let pause = pause.mul_f64(0.9 + 0.1 * fastrand::f64());
                entry.due = Instant::now() + pause;
            }
        }
        self.count(&wanted);
    }

    /// Looks, and reads where what is there is not the `version` that is known.
    async fn ask(&self, id: &ObjectId, version: Option<&str>) -> Answer {
        let resource = kinds::resource(id.kind, "v1");
        let namespace = &id.key.namespace;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource);
        if let Some(version) = version {
            let cached = GetParams::any();
            let seen = api.get_metadata_opt_with(&id.key.name, &cached).await;
            match seen {
                Ok(Some(seen)) if seen.metadata.resource_version.as_deref() == Some(version) => {
                    return Answer::Same;
                }
                // The cache may be behind; the content is read from what counts.
                Ok(_) => {}
                Err(error) => return self.fail(id, &error),
            }
        }
        match api.get_opt(&id.key.name).await {
            Ok(Some(object)) => {
                let raw = self.store.keeps_raw();
                Answer::Found(Box::new(read(id.kind, object, raw)))
            }
            Ok(None) => Answer::Absent,
            Err(error) => self.fail(id, &error),
        }
    }

    fn fail(&self, id: &ObjectId, error: &Error) -> Answer {
        match error {
            Error::Api(status) if status.is_forbidden() => Answer::Forbidden,
            _ => {
                tracing::debug!(kind = %id.kind, object = %id.key, %error, "cannot be read now; its last content stays");
                Answer::Silence
            }
        }
    }

    fn count(&self, wanted: &BTreeMap<ObjectId, Wanted>) {
        let unknown = wanted.values().filter(|entry| !entry.known).count();
        if unknown == 0 {
            self.were_known.store(true, Ordering::Relaxed);
        }
        self.unknown
            .send_if_modified(|known| std::mem::replace(known, unknown) != unknown);
    }
}

/// How often each is looked at when there are `wanted`.
fn interval(wanted: usize) -> Duration {
    let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
    INTERVAL.max(Duration::from_secs_f64(f64::from(wanted) / PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_looked_at_less_often() {
        assert_eq!(interval(0), INTERVAL);
        assert_eq!(interval(1500), INTERVAL);
        assert_eq!(interval(5000), Duration::from_secs(100));
    }
}
