//! Which replica writes statuses: the one that holds the Lease.
//!
//! The holder renews every [`RENEW`]; one that could not for [`DEADLINE`] no longer believes that it leads, and the others
//! take over when the Lease has stood still for [`DURATION`] by their own clocks. Two that both believe it for a moment do
//! no harm: every write names the version that it was made for. A process that ends gives the Lease back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::settings::Settings;

/// How long a Lease that stands still is somebody's.
const DURATION: Duration = Duration::from_secs(15);
/// How long a holder that cannot renew believes that it leads.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked at or renewed.
const RENEW: Duration = Duration::from_secs(5);
/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// The Lease of this installation, and whether this process holds it.
pub(super) struct Lease {
    api: Api<Object>,
    name: String,
    identity: String,
    leading: watch::Sender<bool>,
    standing: Mutex<Standing>,
}

#[derive(Default)]
struct Standing {
    /// As it was last written by us.
    held: Option<Object>,
    renewed: Option<Instant>,
    /// Whose it was when it was last seen to change, and when that was.
    observed: Option<(LeaseSpec, Instant)>,
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("{0}")]
    Client(#[from] Error),
    #[error("no answer within {PATIENCE:?}")]
    Slow,
}

impl Lease {
    pub(super) fn new(client: Client, settings: &Settings) -> Self {
        Self {
            api: Api::namespaced(client, &settings.lease_namespace),
            name: name(&settings.controller_name),
            identity: settings.identity.clone(),
            leading: watch::Sender::new(false),
            standing: Mutex::default(),
        }
    }

    /// Whether this process leads.
    pub(super) fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Takes part until it is aborted.
    pub(super) async fn run(self: Arc<Self>) {
        let mut complained = false;
        loop {
            let pause = match self.round().await {
                Ok(()) => {
                    complained = false;
                    RENEW
                }
                Err(error) => {
                    if !complained {
                        tracing::warn!(lease = self.name, %error, "the Lease cannot be had; statuses wait for it");
                    }
                    complained = true;
                    RETRY
                }
            };
            let renewed = self.lock().renewed;
            if renewed.is_none_or(|renewed| renewed.elapsed() >= DEADLINE) {
                self.lead(false);
            }
            sleep(pause).await;
        }
    }

    /// Gives the Lease back, if it is ours.
    pub(super) async fn release(&self) {
        let Some(mut object) = self.lock().held.take().filter(|_| *self.leading.borrow()) else {
            return;
        };
        self.lead(false);
        let spec = object.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        let params = PostParams::default();
        let given_back = self.api.replace(&self.name, &params, &object);
        if !matches!(timeout(PATIENCE / 2, given_back).await, Ok(Ok(_))) {
            tracing::debug!("the Lease could not be given back; it expires by itself");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lead(&self, leading: bool) {
        let news = self
            .leading
            .send_if_modified(|known| std::mem::replace(known, leading) != leading);
        if news {
            tracing::info!(identity = self.identity, leading, "leadership");
        }
    }

    async fn round(&self) -> Result<(), LeaseError> {
        timeout(PATIENCE, self.attempt())
            .await
            .map_err(|_| LeaseError::Slow)?
    }

    /// Renews, takes, or looks on.
    async fn attempt(&self) -> Result<(), LeaseError> {
        let held = self.lock().held.take();
        let found = match held {
            Some(object) => Some(object),
            None => self.api.get_opt(&self.name).await?,
        };
        let params = PostParams::default();
        let written = match found {
            None => {
                let object = Object {
                    metadata: ObjectMeta {
                        name: Some(self.name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(self.taken(&LeaseSpec::default())),
                };
                self.api.create(&params, &object).await
            }
            Some(mut object) => {
                let spec = object.spec.take().unwrap_or_default();
                if !self.may_take(&spec) {
                    self.lead(false);
                    return Ok(());
                }
                object.spec = Some(self.taken(&spec));
                self.api.replace(&self.name, &params, &object).await
            }
        };
        match written {
            Ok(object) => {
                let mut standing = self.lock();
                standing.held = Some(object);
                standing.renewed = Some(Instant::now());
                standing.observed = None;
                drop(standing);
                self.lead(true);
                Ok(())
            }
            // Somebody was faster; the next round sees who.
            Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                self.lead(false);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the Lease is ours, nobody's, or stands still for too long.
    fn may_take(&self, spec: &LeaseSpec) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let seconds = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        let duration = seconds.map_or(DURATION, Duration::from_secs);
        let mut standing = self.lock();
        match &standing.observed {
            Some((known, since)) if known == spec => since.elapsed() >= duration,
            _ => {
                standing.observed = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }

    fn taken(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let ours = before.holder_identity.as_deref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            renew_time: Some(now.clone()),
            acquire_time: if ours {
                before.acquire_time.clone()
            } else {
                Some(now)
            },
            lease_transitions: Some(if ours { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }
    }
}

/// The name of the Lease: that of the controller, so that two installations that share a namespace and not the classes
/// have one each.
fn name(controller_name: &str) -> String {
    let allowed = |c: char| {
        if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' {
            c
        } else {
            '-'
        }
    };
    let name: String = controller_name
        .to_ascii_lowercase()
        .chars()
        .map(allowed)
        .collect();
    name.trim_matches(['-', '.']).to_owned()
}
