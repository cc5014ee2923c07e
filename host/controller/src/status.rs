//! What is said about objects: conditions, per parent, per listener; the shape of the admin path `/status`.
//!
//! Translation fills [`Statuses`]; the admin page prints it, and the leader of a cluster merges it into the
//! objects. Times are no part of it: a condition changes when what it says changes.

use std::collections::BTreeMap;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::api::reference::{ParentReference, RouteGroupKind};
use crate::api::{Body, Key, Kind, Meta, Object, Source};

/// The statuses of all objects, ordered by kind, namespace and name, and what could not be read at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statuses {
    /// By kind and name.
    pub objects: BTreeMap<(Kind, Key), ObjectStatus>,
    /// Files and objects that could not be read.
    pub errors: Vec<SourceError>,
}

/// What an object's `status` would hold.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectStatus {
    /// The kind, which also gives `apiVersion`.
    pub kind: Kind,
    /// Namespace and name.
    pub key: Key,
    /// Where it was read.
    pub source: Source,
    /// `metadata.generation`, for `observedGeneration`.
    pub generation: i64,
    /// About the object as a whole.
    pub conditions: Vec<Condition>,
    /// Of routes: about each parent of ours.
    pub parents: Vec<ParentStatus>,
    /// Of policies: about each ancestor of ours.
    pub ancestors: Vec<AncestorStatus>,
    /// Of Gateways and ListenerSets.
    pub listeners: Vec<ListenerStatus>,
    /// Of Gateways: where they are reached.
    pub addresses: Vec<Address>,
    /// Of Gateways: how many ListenerSets are attached.
    pub attached_listener_sets: Option<u32>,
    /// Of GatewayClasses.
    pub supported_features: Vec<&'static str>,
    /// Of Filters: `sha256:…` of the module.
    pub digest: Option<String>,
    /// Of Filters: the ABI of the module.
    pub abi: Option<String>,
    /// Of Filters from an image: `registry/name:tag@sha256:…`, what its tag meant when it was resolved.
    pub image: Option<String>,
    /// What deserves attention and has no condition.
    pub warnings: Vec<String>,
    /// Why the object is none of our business.
    pub ignored: Option<String>,
}

/// A condition as the API server has it, without its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Accepted` and so on.
    pub r#type: &'static str,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word for programs.
    pub reason: &'static str,
    /// For whoever is paged: object, field, what is wrong, remedy.
    pub message: String,
    /// The generation this was said about.
    pub observed_generation: i64,
}

/// `status` of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It cannot be said yet.
    Unknown,
}

/// `status.parents[]` of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// As in the route's spec.
    pub parent_ref: ParentReference,
    /// About this parent.
    pub conditions: Vec<Condition>,
}

/// `status.ancestors[]` of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AncestorStatus {
    /// The Gateway through which the policy matters.
    pub ancestor_ref: ParentReference,
    /// About this ancestor.
    pub conditions: Vec<Condition>,
}

/// `status.listeners[]` of a Gateway or ListenerSet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// The listener's name.
    pub name: String,
    /// Accepted routes.
    pub attached_routes: u32,
    /// Kinds of routes that may attach.
    pub supported_kinds: Vec<RouteGroupKind>,
    /// About this listener.
    pub conditions: Vec<Condition>,
}

/// `status.addresses[]` of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Address {
    /// What kind of address.
    #[serde(rename = "type")]
    pub kind: AddressKind,
    /// The address.
    pub value: String,
}

/// `type` of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum AddressKind {
    /// Numeric.
    #[serde(rename = "IPAddress")]
    IpAddress,
    /// A DNS name.
    Hostname,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SourceError {
    /// `file:line`, or what the cluster calls it.
    pub source: String,
    /// What is wrong and what to do.
    pub message: String,
}

// === impl Statuses ===

impl Statuses {
    /// The status of an object, made if absent.
    pub fn of<S: Body>(&mut self, object: &Object<S>) -> &mut ObjectStatus {
        self.entry(S::KIND, &object.meta, &object.source)
    }

    /// As [`Statuses::of`], for an object whose type is not at hand.
    pub fn entry(&mut self, kind: Kind, meta: &Meta, source: &Source) -> &mut ObjectStatus {
        let key = Key::new(&meta.namespace, &meta.name);
        self.objects
            .entry((kind, key.clone()))
            .or_insert_with(|| ObjectStatus {
                kind,
                key,
                source: source.clone(),
                generation: meta.generation,
                conditions: Vec::new(),
                parents: Vec::new(),
                ancestors: Vec::new(),
                listeners: Vec::new(),
                addresses: Vec::new(),
                attached_listener_sets: None,
                supported_features: Vec::new(),
                digest: None,
                abi: None,
                image: None,
                warnings: Vec::new(),
                ignored: None,
            })
    }

    /// The status of an object, if anything was said about it.
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&ObjectStatus> {
        self.objects.get(&(kind, Key::new(namespace, name)))
    }
}

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Values<'a>(&'a BTreeMap<(Kind, Key), ObjectStatus>);
        impl Serialize for Values<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.values())
            }
        }
        let mut out = serializer.serialize_struct("Statuses", 2)?;
        out.serialize_field("objects", &Values(&self.objects))?;
        out.serialize_field("errors", &self.errors)?;
        out.end()
    }
}

// === impl ObjectStatus ===

impl ObjectStatus {
    /// Says `condition` of the object as a whole; one of the same type is replaced.
    pub fn set(&mut self, condition: Condition) {
        set(&mut self.conditions, condition);
    }

    /// The condition of that type about the object as a whole.
    pub fn condition(&self, r#type: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.r#type == r#type)
    }

    /// Adds a warning once.
    pub fn warn(&mut self, message: impl Into<String>) {
        let message = message.into();
        if !self.warnings.contains(&message) {
            self.warnings.push(message);
        }
    }
}

impl Serialize for ObjectStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("ObjectStatus", 16)?;
        out.serialize_field("apiVersion", self.kind.api_version())?;
        out.serialize_field("kind", self.kind.name())?;
        if !self.key.namespace.is_empty() {
            out.serialize_field("namespace", &self.key.namespace)?;
        }
        out.serialize_field("name", &self.key.name)?;
        out.serialize_field("source", &self.source.to_string())?;
        if let Some(why) = &self.ignored {
            out.serialize_field("ignored", why)?;
        }
        list(&mut out, "conditions", &self.conditions)?;
        list(&mut out, "parents", &self.parents)?;
        list(&mut out, "ancestors", &self.ancestors)?;
        list(&mut out, "listeners", &self.listeners)?;
        list(&mut out, "addresses", &self.addresses)?;
        if let Some(count) = self.attached_listener_sets {
            out.serialize_field("attachedListenerSets", &count)?;
        }
        list(&mut out, "supportedFeatures", &self.supported_features)?;
        if let Some(digest) = &self.digest {
            out.serialize_field("digest", digest)?;
        }
        if let Some(abi) = &self.abi {
            out.serialize_field("abi", abi)?;
        }
        if let Some(image) = &self.image {
            out.serialize_field("image", image)?;
        }
        list(&mut out, "warnings", &self.warnings)?;
        out.end()
    }
}

fn list<S: SerializeStruct, T: Serialize>(
    out: &mut S,
    name: &'static str,
    values: &[T],
) -> Result<(), S::Error> {
    if values.is_empty() {
        return out.skip_field(name);
    }
    out.serialize_field(name, values)
}

// === impl Condition ===

impl Condition {
    /// A condition that holds.
    pub fn yes(
        r#type: &'static str,
        reason: &'static str,
        message: impl Into<String>,
        generation: i64,
    ) -> Self {
        Self::new(r#type, ConditionStatus::True, reason, message, generation)
    }

    /// A condition that does not hold.
    pub fn no(
        r#type: &'static str,
        reason: &'static str,
        message: impl Into<String>,
        generation: i64,
    ) -> Self {
        Self::new(r#type, ConditionStatus::False, reason, message, generation)
    }

    /// Any condition.
    pub fn new(
        r#type: &'static str,
        status: ConditionStatus,
        reason: &'static str,
        message: impl Into<String>,
        generation: i64,
    ) -> Self {
        Self {
            r#type,
            status,
            reason,
            message: message.into(),
            observed_generation: generation,
        }
    }

    /// Whether it holds.
    pub fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }
}

/// Puts `condition` into the list; one of the same type is replaced.
pub fn set(conditions: &mut Vec<Condition>, condition: Condition) {
    match conditions.iter_mut().find(|c| c.r#type == condition.r#type) {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_shape_of_the_admin_page() {
        let mut statuses = Statuses::default();
        let meta = Meta {
            namespace: "shop".to_owned(),
            name: "cart".to_owned(),
            generation: 3,
            ..Meta::default()
        };
        let source = Source::file(std::path::Path::new("a.yaml"), 7);
        let status = statuses.entry(Kind::HttpRoute, &meta, &source);
        status.set(Condition::no("Accepted", "Pending", "not yet", 2));
        status.set(Condition::yes("Accepted", "Accepted", "", 3));
        status.listeners.push(ListenerStatus {
            name: "http".to_owned(),
            attached_routes: 2,
            supported_kinds: vec![RouteGroupKind {
                group: "g".to_owned(),
                kind: "K".to_owned(),
            }],
            conditions: Vec::new(),
        });
        status.parents.push(ParentStatus {
            parent_ref: ParentReference {
                group: "gateway.networking.k8s.io".to_owned(),
                kind: "Gateway".to_owned(),
                namespace: None,
                name: "gw".to_owned(),
                section_name: Some("http".to_owned()),
                port: None,
            },
            conditions: Vec::new(),
        });
        status.warn("twice");
        status.warn("twice");
        let other = Meta {
            name: "theirs".to_owned(),
            ..Meta::default()
        };
        statuses
            .entry(Kind::GatewayClass, &other, &Source::Cluster)
            .ignored = Some("why".to_owned());
        statuses.errors.push(SourceError {
            source: "b.yaml:1".to_owned(),
            message: "unreadable".to_owned(),
        });
        assert_eq!(
            serde_json::to_value(&statuses).unwrap(),
            json!({
                "objects": [
                    {
                        "apiVersion": "gateway.networking.k8s.io/v1",
                        "kind": "GatewayClass",
                        "name": "theirs",
                        "source": "cluster",
                        "ignored": "why"
                    },
                    {
                        "apiVersion": "gateway.networking.k8s.io/v1",
                        "kind": "HTTPRoute",
                        "namespace": "shop",
                        "name": "cart",
                        "source": "a.yaml:7",
                        "conditions": [{
                            "type": "Accepted",
                            "status": "True",
                            "reason": "Accepted",
                            "message": "",
                            "observedGeneration": 3
                        }],
                        "parents": [{
                            "parentRef": {
                                "group": "gateway.networking.k8s.io",
                                "kind": "Gateway",
                                "name": "gw",
                                "sectionName": "http"
                            },
                            "conditions": []
                        }],
                        "listeners": [{
                            "name": "http",
                            "attachedRoutes": 2,
                            "supportedKinds": [{"group": "g", "kind": "K"}],
                            "conditions": []
                        }],
                        "warnings": ["twice"]
                    }
                ],
                "errors": [{"source": "b.yaml:1", "message": "unreadable"}]
            })
        );
    }
}
