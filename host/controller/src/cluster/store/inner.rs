//! The state behind the store's lock.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::{Scope, Seen};
use crate::api::{DecodeError, Key, Kind, Source};
use crate::cluster::kinds;
use crate::resources::{AnyObject, ObjectId, Rejected, Resources};
use crate::schema::FieldError;

/// What is known.
#[derive(Default)]
pub(super) struct Inner {
    pub(super) resources: Arc<Resources>,
    pub(super) scopes: BTreeMap<Scope, ScopeState>,
    /// In which version a kind is read and written.
    pub(super) versions: BTreeMap<Kind, &'static str>,
    pub(super) seen: BTreeMap<ObjectId, Seen>,
    /// Whether discovery has answered once.
    pub(super) discovered: bool,
    /// Whether everything was listed once; stays so.
    pub(super) synced: bool,
    pub(super) restored: bool,
    /// What else has to be known first (the published Service).
    pub(super) awaited: BTreeSet<&'static str>,
    /// Classes that we may not read.
    pub(super) hidden: BTreeSet<Kind>,
    pub(super) gateway_api_version: Option<String>,
    /// Words of objects that changed, until the Secrets and ConfigMaps among them are read again.
    pub(super) words: HashSet<String>,
    /// Whether the state file is behind.
    pub(super) dirty: bool,
    /// When discovery last had an answer.
    pub(super) heard: Option<Instant>,
    pub(super) serial: u64,
}

#[derive(Default)]
pub(super) struct ScopeState {
    pub(super) synced: bool,
    /// What a listing under way has shown so far.
    pub(super) listed: Option<BTreeSet<Key>>,
}

// === impl Inner ===

impl Inner {
    /// Whether the first synchronisation is complete by now and was not before.
    pub(super) fn check_synced(&mut self) -> bool {
        let complete = self.discovered
            && self.awaited.is_empty()
            && self.scopes.values().all(|scope| scope.synced);
        let news = complete && !self.synced;
        if news {
            self.synced = true;
            self.dirty = true;
            tracing::info!(
                objects = self.resources.len(),
                "the first synchronisation with the API server is complete"
            );
        }
        news
    }

    /// Ends a listing; whether that changed anything.
    pub(super) fn finish(&mut self, scope: &Scope) -> bool {
        let state = self.scopes.entry(scope.clone()).or_default();
        state.synced = true;
        let listed = state.listed.take().unwrap_or_default();
        let mut differs = false;
        for key in self.known(scope) {
            if !listed.contains(&key) {
                differs |= self.take(scope.0, &key);
            }
        }
        self.check_synced() || differs
    }

    /// What is known of a scope.
    pub(super) fn known(&self, (kind, namespace): &Scope) -> Vec<Key> {
        let first = ObjectId {
            kind: *kind,
            key: Key::default(),
        };
        let of_kind = self.seen.range(first..).map(|(id, _)| id);
        of_kind
            .take_while(|id| id.kind == *kind)
            .map(|id| &id.key)
            .filter(|key| {
                // A Namespace is a scope of its own where only some are read.
                let own = if kinds::is_cluster_scoped(*kind) {
                    &key.name
                } else {
                    &key.namespace
                };
                namespace.as_ref().is_none_or(|namespace| own == namespace)
            })
            .cloned()
            .collect()
    }

    /// Puts an object in; whether that changed anything.
    pub(super) fn admit(&mut self, id: &ObjectId, object: AnyObject) -> bool {
        let refused = self
            .resources
            .rejected
            .iter()
            .any(|r| r.id().as_ref() == Some(id));
        if !refused && self.resources.holds(&object) {
            return false;
        }
        let resources = Arc::make_mut(&mut self.resources);
        resources.rejected.retain(|r| r.id().as_ref() != Some(id));
        resources.apply(object);
        true
    }

    /// An object cannot be read: its last version stays. Whether that is news.
    pub(super) fn refuse(&mut self, id: &ObjectId, error: DecodeError) -> bool {
        let last_good_kept = self.resources.contains(id.kind, &id.key);
        let rejected = Rejected {
            api_version: id.kind.api_version().to_owned(),
            kind: id.kind.name().to_owned(),
            namespace: id.key.namespace.clone(),
            name: id.key.name.clone(),
            source: Source::Cluster,
            errors: vec![FieldError {
                path: error.path,
                message: error.message,
            }],
            last_good_kept,
        };
        if self.resources.rejected.contains(&rejected) {
            return false;
        }
        let resources = Arc::make_mut(&mut self.resources);
        resources.rejected.retain(|r| r.id().as_ref() != Some(id));
        resources.rejected.push(rejected);
        resources.rejected.sort_by_key(Rejected::id);
        true
    }

    /// Takes an object out; whether there was one.
    pub(super) fn take(&mut self, kind: Kind, key: &Key) -> bool {
        let id = ObjectId {
            kind,
            key: key.clone(),
        };
        self.dirty |= self.seen.remove(&id).is_some();
        let refused = self
            .resources
            .rejected
            .iter()
            .any(|r| r.id().as_ref() == Some(&id));
        if !refused && !self.resources.contains(kind, key) {
            return false;
        }
        let resources = Arc::make_mut(&mut self.resources);
        resources.rejected.retain(|r| r.id().as_ref() != Some(&id));
        resources.remove(kind, key);
        true
    }
}
