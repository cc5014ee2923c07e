//! Events about objects that are not served as they are written: what `kubectl describe` shows at its end.
//!
//! One for each thing that is wrong, when it first is; again after the leader changed. No more than [`BURST`] at once and
//! one a second after that, so that a thousand broken objects do not flood the cluster; the rest follow later.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::{Instant, timeout};

use super::settings::Settings;
use super::store::Store;
use crate::resources::ObjectId;
use crate::status::{Condition, ConditionStatus, ObjectStatus};
use crate::translate::Translation;

/// How many may be told at once.
const BURST: u32 = 50;
/// How many of them in one round, so that statuses need not wait for long.
const ROUND: u32 = 16;
/// The longest note (events.k8s.io).
const LONGEST: usize = 1024;

/// What was told.
pub(super) struct Events {
    client: Client,
    controller_name: String,
    identity: String,
    told: HashMap<ObjectId, HashSet<u64>>,
    allowance: u32,
    refilled: Instant,
}

struct Wrong {
    reason: String,
    note: String,
}

impl Events {
    pub(super) fn new(client: Client, settings: &Settings) -> Self {
        Self {
            client,
            controller_name: settings.controller_name.clone(),
            identity: settings.identity.clone(),
            told: HashMap::new(),
            allowance: BURST,
            refilled: Instant::now(),
        }
    }

    /// Somebody else tells from now on.
    pub(super) fn forget(&mut self) {
        self.told.clear();
    }

    /// Tells what is newly wrong. When there is more to tell, when to go on.
    pub(super) async fn tell(
        &mut self,
        translation: &Translation,
        store: &Store,
    ) -> Option<Instant> {
        let mut news = Vec::new();
        let mut wrong: HashSet<ObjectId> = HashSet::new();
        for status in translation.statuses.objects.values() {
            let id = ObjectId {
                kind: status.kind,
                key: status.key.clone(),
            };
            self.sort(id, of_status(status), &mut news, &mut wrong);
        }
        for rejected in &store.resources().rejected {
            let Some(id) = rejected.id() else { continue };
            let errors: Vec<String> = rejected.errors.iter().map(ToString::to_string).collect();
            let found = Wrong {
                reason: "Invalid".to_owned(),
                note: format!("cannot be read: {}", errors.join("; ")),
            };
            self.sort(id, vec![found], &mut news, &mut wrong);
        }
        // What is mended is told again when it breaks again.
        self.told.retain(|id, _| wrong.contains(id));
        self.refill();
        let mut round = ROUND;
        for (id, hash, wrong) in news {
            if self.allowance == 0 || round == 0 {
                return Some(Instant::now() + Duration::from_secs(1));
            }
            self.allowance -= 1;
            round -= 1;
            self.send(store, &id, wrong).await;
            self.told.entry(id).or_default().insert(hash);
        }
        None
    }

    fn sort(
        &mut self,
        id: ObjectId,
        found: Vec<Wrong>,
        news: &mut Vec<(ObjectId, u64, Wrong)>,
        wrong: &mut HashSet<ObjectId>,
    ) {
        if found.is_empty() {
            return;
        }
        let mut hashes = HashSet::new();
        for found in found {
            let mut hasher = DefaultHasher::new();
            (&found.reason, &found.note).hash(&mut hasher);
            let hash = hasher.finish();
            let known = self.told.get(&id).is_some_and(|told| told.contains(&hash));
            if hashes.insert(hash) && !known {
                news.push((id.clone(), hash, found));
            }
        }
        if let Some(told) = self.told.get_mut(&id) {
            told.retain(|hash| hashes.contains(hash));
        }
        wrong.insert(id);
    }

    fn refill(&mut self) {
        let seconds = self.refilled.elapsed().as_secs();
        if seconds > 0 {
            let more = u32::try_from(seconds).unwrap_or(BURST);
            self.allowance = self.allowance.saturating_add(more).min(BURST);
            self.refilled = Instant::now();
        }
    }

    async fn send(&self, store: &Store, id: &ObjectId, wrong: Wrong) {
        // Events about objects without a namespace go where everybody looks for them.
        let namespace = if id.key.namespace.is_empty() {
            "default"
        } else {
            &id.key.namespace
        };
        let now = Timestamp::now();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!(
                    "{}.{:x}",
                    shortened(&id.key.name, 200),
                    now.as_nanosecond()
                )),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            regarding: Some(ObjectReference {
                api_version: Some(id.kind.api_version().to_owned()),
                kind: Some(id.kind.name().to_owned()),
                namespace: Some(id.key.namespace.clone()).filter(|namespace| !namespace.is_empty()),
                name: Some(id.key.name.clone()),
                uid: store.uid(id),
                ..ObjectReference::default()
            }),
            type_: Some("Warning".to_owned()),
            reason: Some(wrong.reason),
            note: Some(shortened(&wrong.note, LONGEST).to_owned()),
            action: Some("Translate".to_owned()),
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(self.controller_name.clone()),
            reporting_instance: Some(shortened(&self.identity, 128).to_owned()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        // An event is a courtesy: the status says the same, and nothing waits for it.
        let params = PostParams::default();
        let create = api.create(&params, &event);
        match timeout(Duration::from_secs(5), create).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(kind = %id.kind, object = %id.key, %error, "an Event was not taken")
            }
            Err(_) => {
                tracing::debug!(kind = %id.kind, object = %id.key, "an Event was not taken in time")
            }
        }
    }
}

/// What is wrong with an object, each thing once.
fn of_status(status: &ObjectStatus) -> Vec<Wrong> {
    if status.ignored.is_some() {
        return Vec::new();
    }
    let mut found = of_conditions(&status.conditions, "");
    for parent in &status.parents {
        let place = format!("parent {}: ", parent.parent_ref.name);
        found.extend(of_conditions(&parent.conditions, &place));
    }
    for ancestor in &status.ancestors {
        let place = format!("through {}: ", ancestor.ancestor_ref.name);
        found.extend(of_conditions(&ancestor.conditions, &place));
    }
    for listener in &status.listeners {
        let place = format!("listener {}: ", listener.name);
        found.extend(of_conditions(&listener.conditions, &place));
    }
    found
}

fn of_conditions(conditions: &[Condition], place: &str) -> Vec<Wrong> {
    let refused = conditions.iter().any(|condition| {
        condition.r#type == "Accepted" && condition.status == ConditionStatus::False
    });
    let bad = conditions
        .iter()
        .filter(|condition| match condition.r#type {
            "PartiallyInvalid" | "Conflicted" | "OverlappingTLSConfig" => condition.is_true(),
            // Follows from the other.
            "Programmed" if refused => false,
            _ => condition.status == ConditionStatus::False,
        });
    bad.map(|condition| Wrong {
        reason: condition.reason.to_owned(),
        note: format!("{place}{}: {}", condition.r#type, condition.message),
    })
    .collect()
}

fn shortened(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    &text[..text.floor_char_boundary(most)]
}
