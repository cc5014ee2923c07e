//! Which statuses have to be written.
//!
//! An object is settled when what it says equals what we say; it is looked at again when either changes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::kinds;
use super::merge::Voice;
use super::store::{Seen, Store};
use crate::api::{Kind, Source};
use crate::resources::ObjectId;
use crate::status::{ObjectStatus, Statuses};
use crate::translate::Translation;

/// How many are looked at under one lock.
const AT_ONCE: usize = 256;

/// A status to write.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: ObjectId,
    pub(super) wanted: ObjectStatus,
    pub(super) seen: Seen,
}

/// What is settled.
#[derive(Default)]
pub(super) struct Plan {
    current: Option<Arc<Translation>>,
    settled: HashMap<ObjectId, u64>,
    /// What was sent last, and what the API server made of it: a field that its schema does not know is dropped there, and
    /// sending it again would change nothing.
    kept: HashMap<ObjectId, (u64, u64)>,
}

impl Plan {
    /// Nothing is settled any more: somebody else may have written meanwhile.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// What we say from now on.
    pub(super) fn set(&mut self, translation: &Arc<Translation>) {
        if let Some(before) = &self.current {
            if Arc::ptr_eq(before, translation) {
                return;
            }
            let (old, new) = (&before.statuses.objects, &translation.statuses.objects);
            self.settled.retain(|id, _| {
                let key = (id.kind, id.key.clone());
                old.get(&key) == new.get(&key)
            });
        }
        self.current = Some(translation.clone());
    }

    /// Up to `limit` statuses that differ. The rest is found when these are settled.
    pub(super) fn jobs(&mut self, store: &Store, voice: Voice<'_>, limit: usize) -> Vec<Job> {
        let Some(translation) = self.current.clone() else {
            return Vec::new();
        };
        let wanted = wanted(&translation.statuses, store);
        let mut jobs = Vec::new();
        let mut rest = wanted.into_iter();
        while jobs.len() < limit {
            let settled = &self.settled;
            let unsettled = |id: &ObjectId, serial| settled.get(id) != Some(&serial);
            let found = store.seen(&mut rest, unsettled, AT_ONCE);
            if found.is_empty() {
                break;
            }
            for (id, wanted, seen) in found {
                if self.differs(&id, &wanted, &seen, voice) {
                    let wanted = wanted.into_owned();
                    jobs.push(Job { id, wanted, seen });
                } else {
                    self.settled.insert(id, seen.serial);
                }
            }
        }
        jobs.truncate(limit);
        jobs
    }

    /// The API server took it, and made `kept` of what was `sent`.
    pub(super) fn written(&mut self, id: &ObjectId, sent: &Map<String, Value>, kept: Option<&str>) {
        let kept = content(kept);
        if kept == *sent {
            self.kept.remove(id);
        } else {
            self.kept.insert(id.clone(), (timeless(sent), hash(&kept)));
        }
    }

    /// There is nothing to be done about it until something changes.
    pub(super) fn give_up(&mut self, id: &ObjectId, serial: u64) {
        self.settled.insert(id.clone(), serial);
    }

    fn differs(&self, id: &ObjectId, wanted: &ObjectStatus, seen: &Seen, voice: Voice<'_>) -> bool {
        let current = content(seen.status.as_deref());
        let merged = voice.merge(&current, wanted);
        if merged == current {
            return false;
        }
        self.kept.get(id) != Some(&(timeless(&merged), hash(&current)))
    }
}

/// A status as an object.
pub(super) fn content(status: Option<&str>) -> Map<String, Value> {
    match status.map(serde_json::from_str) {
        Some(Ok(Value::Object(fields))) => fields,
        _ => Map::new(),
    }
}

/// What we say of objects that the API server has a status for, and nothing of those where we said something once.
fn wanted<'a>(statuses: &'a Statuses, store: &Store) -> Vec<(ObjectId, Cow<'a, ObjectStatus>)> {
    let mut wanted: Vec<(ObjectId, Cow<'a, ObjectStatus>)> = statuses
        .objects
        .values()
        .filter(|status| kinds::has_status(status.kind) && status.ignored.is_none())
        .map(|status| {
            let id = ObjectId {
                kind: status.kind,
                key: status.key.clone(),
            };
            (id, Cow::Borrowed(status))
        })
        .collect();
    for id in store.bearing_ours() {
        let status = statuses.objects.get(&(id.kind, id.key.clone()));
        if status.is_none_or(|status| status.ignored.is_some()) && has_shared_list(id.kind) {
            let nothing = nothing(&id);
            wanted.push((id, Cow::Owned(nothing)));
        }
    }
    wanted
}

fn has_shared_list(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::HttpRoute
            | Kind::GrpcRoute
            | Kind::TlsRoute
            | Kind::TcpRoute
            | Kind::UdpRoute
            | Kind::BackendTlsPolicy
            | Kind::FilterPolicy
    )
}

fn nothing(id: &ObjectId) -> ObjectStatus {
    let mut statuses = Statuses::default();
    let meta = crate::api::Meta {
        namespace: id.key.namespace.clone(),
        name: id.key.name.clone(),
        ..crate::api::Meta::default()
    };
    statuses.entry(id.kind, &meta, &Source::Cluster).clone()
}

fn hash(fields: &Map<String, Value>) -> u64 {
    let mut hasher = DefaultHasher::new();
    Value::Object(fields.clone()).to_string().hash(&mut hasher);
    hasher.finish()
}

/// As [`hash`], without times.
fn timeless(fields: &Map<String, Value>) -> u64 {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.shift_remove("lastTransitionTime");
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut fields = fields.clone();
    fields.values_mut().for_each(strip);
    hash(&fields)
}
