//! Writes statuses back, if this process leads: only what differs, a few at a time.
//!
//! Every write is a merge of what we say into what was read, and names the version that it was made for: where somebody
//! else was faster (409), the object is read again and merged anew. What is left to write is never more than the objects
//! there are, since newer words about an object take the place of older ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Client, Error};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::backoff::Backoff;
use super::events::Events;
use super::kinds;
use super::merge::{Voice, patch};
use super::object::read;
use super::plan::{Job, Plan, content};
use super::settings::Settings;
use super::store::Store;
use crate::translate::Translation;

/// How many requests are under way at the same time.
const AT_ONCE: usize = 8;
/// How many statuses are written before the newest word about all objects is looked at again.
const BATCH: usize = 64;
/// How often a write is tried that others get in the way of.
const TRIES: usize = 5;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(15);
const FIELD_MANAGER: &str = "tidegate";

/// The writer of statuses.
pub(super) struct Writer {
    client: Client,
    store: Arc<Store>,
    settings: Settings,
    said: watch::Sender<Option<Arc<Translation>>>,
    writes: AtomicU64,
    conflicts: AtomicU64,
    errors: AtomicU64,
}

/// What the writer did so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) writes: u64,
    pub(super) conflicts: u64,
    pub(super) errors: u64,
}

enum Outcome {
    /// It is as it should be.
    Written {
        sent: Map<String, Value>,
        kept: Option<Box<str>>,
    },
    /// Nothing is to be written any more.
    Nothing,
    /// The API server does not take it, now or ever, until something changes.
    Refused,
    /// To be tried again, not before this has passed.
    Later(Duration),
}

impl Writer {
    pub(super) fn new(client: Client, store: Arc<Store>, settings: &Settings) -> Self {
        Self {
            client,
            store,
            settings: settings.clone(),
            said: watch::Sender::new(None),
            writes: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    /// What is said from now on.
    pub(super) fn report(&self, translation: Arc<Translation>) {
        self.said.send_replace(Some(translation));
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            writes: self.writes.load(Ordering::Relaxed),
            conflicts: self.conflicts.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }

    /// Writes for ever, while `leading`.
    pub(super) async fn run(self: Arc<Self>, mut leading: watch::Receiver<bool>) {
        let mut said = self.said.subscribe();
        let mut plan = Plan::default();
        let mut events = Events::new(self.client.clone(), &self.settings);
        let mut backoff = Backoff::of_watches();
        let mut again: Option<Instant> = None;
        // The one of which all is told: what is newly wrong comes with another.
        let mut told: Option<Arc<Translation>> = None;
        loop {
            tokio::select! {
                changed = said.changed() => if changed.is_err() { return },
                changed = leading.changed() => if changed.is_err() { return },
                () = self.store.statuses_changed() => {}
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            }
            if !*leading.borrow_and_update() {
                plan.forget();
                events.forget();
                told = None;
                again = None;
                continue;
            }
            let Some(translation) = said.borrow_and_update().clone() else {
                continue;
            };
            plan.set(&translation);
            let pause = self.round(&mut plan).await;
            let known = |told: &Arc<Translation>| Arc::ptr_eq(told, &translation);
            let left = if told.as_ref().is_some_and(known) {
                None
            } else {
                events.tell(&translation, &self.store).await
            };
            told = left.is_none().then(|| translation.clone());
            again = match pause {
                Round::Done => {
                    backoff.reset();
                    left
                }
                Round::More => Some(Instant::now()),
                Round::Failed(least) => Some(Instant::now() + backoff.pause().max(least)),
            };
        }
    }

    async fn round(&self, plan: &mut Plan) -> Round {
        let now = now();
        let voice = Voice {
            controller_name: &self.settings.controller_name,
            now: &now,
        };
        let jobs = plan.jobs(&self.store, voice, BATCH);
        let full = jobs.len() == BATCH;
        let outcomes: Vec<(Job, Outcome)> = stream::iter(jobs)
            .map(async |job| {
                let outcome = self.write(&job, voice).await;
                (job, outcome)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut later: Option<Duration> = None;
        for (job, outcome) in outcomes {
            match outcome {
                Outcome::Written { sent, kept } => plan.written(&job.id, &sent, kept.as_deref()),
                Outcome::Nothing | Outcome::Refused => plan.give_up(&job.id, job.seen.serial),
                Outcome::Later(pause) => later = Some(later.unwrap_or_default().max(pause)),
            }
        }
        match later {
            Some(pause) => Round::Failed(pause),
            None if full => Round::More,
            None => Round::Done,
        }
    }

    async fn write(&self, job: &Job, voice: Voice<'_>) -> Outcome {
        let Some(version) = self.store.version(job.id.kind) else {
            return Outcome::Later(Duration::ZERO);
        };
        let resource = kinds::resource(job.id.kind, version);
        let key = &job.id.key;
        let api: Api<DynamicObject> = if key.namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &key.namespace, &resource)
        };
        let mut status = job.seen.status.clone();
        let mut resource_version = job.seen.resource_version.clone();
        for _ in 0..TRIES {
            let current = content(status.as_deref());
            let sent = voice.merge(&current, &job.wanted);
            let Some(patch) = patch(&current, &sent, &resource_version) else {
                return Outcome::Nothing;
            };
            let answer = match self.send(&api, &key.name, &patch).await {
                Ok(object) => {
                    self.writes.fetch_add(1, Ordering::Relaxed);
                    let read = read(job.id.kind, object, false);
                    let kept = read.status.clone();
                    self.store.observe(&job.id, read);
                    return Outcome::Written { sent, kept };
                }
                Err(error) => self.fail(job, error.as_ref()),
            };
            match answer {
                Failure::Conflict => {}
                Failure::Outcome(outcome) => return outcome,
            }
            match timeout(PATIENCE, api.get_opt(&key.name)).await {
                Ok(Ok(Some(object))) => {
                    let read = read(job.id.kind, object, false);
                    status = read.status;
                    resource_version = read.resource_version;
                }
                Ok(Ok(None) | Err(_)) | Err(_) => return Outcome::Later(Duration::ZERO),
            }
        }
        Outcome::Later(Duration::ZERO)
    }

    async fn send(
        &self,
        api: &Api<DynamicObject>,
        name: &str,
        patch: &Value,
    ) -> Result<DynamicObject, Option<Error>> {
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        let request = api.patch_status(name, &params, &patch);
        match timeout(PATIENCE, request).await {
            Ok(answer) => answer.map_err(Some),
            Err(_) => Err(None),
        }
    }

    fn fail(&self, job: &Job, error: Option<&Error>) -> Failure {
        let Some(Error::Api(status)) = error else {
            // No answer, or none that can be read.
            self.errors.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(kind = %job.id.kind, object = %job.id.key, ?error, "the status cannot be written now");
            return Failure::Outcome(Outcome::Later(Duration::ZERO));
        };
        match status.code {
            409 => {
                self.conflicts.fetch_add(1, Ordering::Relaxed);
                Failure::Conflict
            }
            // Gone, and then the watch says so and there is nothing to try any more; or its kind is just being installed anew.
            404 => Failure::Outcome(Outcome::Later(Duration::ZERO)),
            400 | 422 => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    kind = %job.id.kind, object = %job.id.key, error = status.message,
                    "the API server refuses the status; install the CRDs of this version"
                );
                Failure::Outcome(Outcome::Refused)
            }
            _ => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                let pause = status
                    .details
                    .as_ref()
                    .map_or(0, |details| details.retry_after_seconds);
                tracing::warn!(
                    kind = %job.id.kind, object = %job.id.key, code = status.code, error = status.message,
                    "the status cannot be written; it is tried again"
                );
                Failure::Outcome(Outcome::Later(Duration::from_secs(u64::from(
                    pause.min(60),
                ))))
            }
        }
    }
}

enum Failure {
    Conflict,
    Outcome(Outcome),
}

enum Round {
    /// Everything is written.
    Done,
    /// There may be more.
    More,
    /// Something is to be tried again, not before this has passed.
    Failed(Duration),
}

/// The time as the API server writes it: whole seconds.
pub(super) fn now() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}
