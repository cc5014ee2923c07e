//! What a status becomes: what we say put into what is there, without touching what others said.
//!
//! Lists that are shared (`parents` of routes, `ancestors` of policies, conditions of types that are not ours) keep the
//! entries of others in their places. `lastTransitionTime` changes when `status` of a condition does, and only then.

use serde_json::{Map, Value, json};

use crate::api::Kind;
use crate::status::{
    Address, AddressKind, AncestorStatus, Condition, ListenerStatus, ObjectStatus, ParentStatus,
};

/// The conditions that we write. One of these that we no longer say goes; those of other types stay.
const OWNED: &[&str] = &[
    "Accepted",
    "Conflicted",
    "InsecureFrontendValidationMode",
    "Loaded",
    "OverlappingTLSConfig",
    "PartiallyInvalid",
    "Programmed",
    "ResolvedRefs",
    "SupportedVersion",
];

/// The longest message of a condition (`metav1.Condition`).
const LONGEST: usize = 32_768;
/// The most entries of `ancestors` (GEP-713).
const MOST_ANCESTORS: usize = 16;
/// The most entries of `parents`.
const MOST_PARENTS: usize = 32;

/// Who says it, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice<'a> {
    pub(super) controller_name: &'a str,
    /// RFC 3339.
    pub(super) now: &'a str,
}

impl Voice<'_> {
    /// The status with what we say in it. Equal to `current` when there is nothing to write.
    pub(super) fn merge(
        self,
        current: &Map<String, Value>,
        wanted: &ObjectStatus,
    ) -> Map<String, Value> {
        let mut new = current.clone();
        match wanted.kind {
            Kind::GatewayClass => {
                self.conditions(&mut new, &wanted.conditions);
                let features: Vec<Value> = wanted
                    .supported_features
                    .iter()
                    .map(|name| json!({"name": name}))
                    .collect();
                put(&mut new, "supportedFeatures", features);
            }
            Kind::Gateway | Kind::ListenerSet => {
                self.conditions(&mut new, &wanted.conditions);
                self.listeners(&mut new, &wanted.listeners);
                if wanted.kind == Kind::Gateway {
                    let addresses = wanted.addresses.iter().map(|address| json!(address));
                    put(&mut new, "addresses", addresses.collect());
                    match wanted.attached_listener_sets {
                        Some(count) => new.insert("attachedListenerSets".to_owned(), count.into()),
                        None => new.shift_remove("attachedListenerSets"),
                    };
                }
            }
            Kind::HttpRoute
            | Kind::GrpcRoute
            | Kind::TlsRoute
            | Kind::TcpRoute
            | Kind::UdpRoute => {
                self.parents(&mut new, &wanted.parents);
            }
            Kind::BackendTlsPolicy | Kind::FilterPolicy => {
                self.conditions(&mut new, &wanted.conditions);
                self.ancestors(&mut new, &wanted.ancestors);
            }
            Kind::Ingress => {
                let points: Vec<Value> = wanted.addresses.iter().map(point).collect();
                let before = &current.get("loadBalancer").unwrap_or(&Value::Null)["ingress"];
                if !before.is_null() || !points.is_empty() {
                    new.insert("loadBalancer".to_owned(), json!({"ingress": points}));
                }
            }
            Kind::Filter => {
                self.conditions(&mut new, &wanted.conditions);
                let fields = [
                    ("digest", &wanted.digest),
                    ("abi", &wanted.abi),
                    ("image", &wanted.image),
                ];
                for (name, value) in fields {
                    match value {
                        Some(value) => new.insert(name.to_owned(), value.as_str().into()),
                        None => new.shift_remove(name),
                    };
                }
            }
            Kind::GatewayConfig => self.conditions(&mut new, &wanted.conditions),
            Kind::ReferenceGrant
            | Kind::IngressClass
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::Secret
            | Kind::ConfigMap
            | Kind::Namespace => {}
        }
        new
    }

    fn conditions(self, holder: &mut Map<String, Value>, wanted: &[Condition]) {
        let merged = self.merged_conditions(items(holder, "conditions"), wanted);
        put(holder, "conditions", merged);
    }

    fn merged_conditions(self, before: &[Value], wanted: &[Condition]) -> Vec<Value> {
        let mut merged: Vec<Value> = Vec::new();
        for old in before {
            let kind = old["type"].as_str().unwrap_or_default();
            match wanted.iter().find(|condition| condition.r#type == kind) {
                Some(condition) => merged.push(self.condition(condition, Some(old))),
                None if OWNED.contains(&kind) => {}
                None => merged.push(old.clone()),
            }
        }
        let has = |condition: &&Condition| before.iter().any(|old| old["type"] == condition.r#type);
        let new = wanted.iter().filter(|condition| !has(condition));
        merged.extend(new.map(|condition| self.condition(condition, None)));
        merged
    }

    fn condition(self, condition: &Condition, before: Option<&Value>) -> Value {
        let status = json!(condition.status);
        let since = before
            .filter(|before| before["status"] == status)
            .and_then(|before| before["lastTransitionTime"].as_str())
            .unwrap_or(self.now);
        json!({
            "type": condition.r#type,
            "status": status,
            "reason": condition.reason,
            "message": shortened(&condition.message),
            "observedGeneration": condition.observed_generation,
            "lastTransitionTime": since,
        })
    }

    fn listeners(self, holder: &mut Map<String, Value>, wanted: &[ListenerStatus]) {
        let before = items(holder, "listeners");
        let merged = wanted
            .iter()
            .map(|listener| {
                let old = before
                    .iter()
                    .find(|old| old["name"] == listener.name.as_str());
                let conditions = old.and_then(|old| old["conditions"].as_array());
                let conditions = conditions.map(Vec::as_slice).unwrap_or_default();
                json!({
                    "name": listener.name,
                    "attachedRoutes": listener.attached_routes,
                    "supportedKinds": listener.supported_kinds,
                    "conditions": self.merged_conditions(conditions, &listener.conditions),
                })
            })
            .collect();
        put(holder, "listeners", merged);
    }

    fn parents(self, holder: &mut Map<String, Value>, wanted: &[ParentStatus]) {
        let wanted = wanted
            .iter()
            .map(|parent| (json!(parent.parent_ref), parent.conditions.as_slice()));
        let merged = self.entries(
            items(holder, "parents"),
            "parentRef",
            wanted.collect(),
            MOST_PARENTS,
        );
        put(holder, "parents", merged);
    }

    fn ancestors(self, holder: &mut Map<String, Value>, wanted: &[AncestorStatus]) {
        let wanted = wanted
            .iter()
            .map(|ancestor| (json!(ancestor.ancestor_ref), ancestor.conditions.as_slice()));
        let merged = self.entries(
            items(holder, "ancestors"),
            "ancestorRef",
            wanted.collect(),
            MOST_ANCESTORS,
        );
        put(holder, "ancestors", merged);
    }

    /// Entries of a list that several controllers share: ours are replaced, those of others stay in their places.
    fn entries(
        self,
        before: &[Value],
        field: &str,
        wanted: Vec<(Value, &[Condition])>,
        most: usize,
    ) -> Vec<Value> {
        let mut left = wanted;
        let mut merged = Vec::new();
        for old in before {
            if old["controllerName"] != self.controller_name {
                merged.push(old.clone());
                continue;
            }
            if let Some(at) = left
                .iter()
                .position(|(reference, _)| old[field] == *reference)
            {
                let (reference, conditions) = left.remove(at);
                let known = old["conditions"]
                    .as_array()
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                merged.push(self.entry(
                    field,
                    &reference,
                    &self.merged_conditions(known, conditions),
                ));
            }
        }
        for (reference, conditions) in left {
            if merged.len() < most {
                merged.push(self.entry(
                    field,
                    &reference,
                    &self.merged_conditions(&[], conditions),
                ));
            }
        }
        merged
    }

    fn entry(self, field: &str, reference: &Value, conditions: &[Value]) -> Value {
        json!({field: reference, "controllerName": self.controller_name, "conditions": conditions})
    }
}

/// A JSON merge patch (RFC 7396) that makes `new` of `current`; `None` if they are equal.
pub(super) fn patch(
    current: &Map<String, Value>,
    new: &Map<String, Value>,
    resource_version: &str,
) -> Option<Value> {
    let mut status = Map::new();
    for (name, value) in new {
        if current.get(name) != Some(value) {
            status.insert(name.clone(), value.clone());
        }
    }
    for name in current.keys().filter(|name| !new.contains_key(*name)) {
        status.insert(name.clone(), Value::Null);
    }
    (!status.is_empty())
        .then(|| json!({"metadata": {"resourceVersion": resource_version}, "status": status}))
}

fn items<'a>(holder: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    let items = holder.get(name).and_then(Value::as_array);
    items.map(Vec::as_slice).unwrap_or_default()
}

/// An empty list is not written where there is none.
fn put(holder: &mut Map<String, Value>, name: &str, items: Vec<Value>) {
    if !items.is_empty() || holder.contains_key(name) {
        holder.insert(name.to_owned(), Value::Array(items));
    }
}

fn point(address: &Address) -> Value {
    match address.kind {
        AddressKind::IpAddress => json!({"ip": address.value}),
        AddressKind::Hostname => json!({"hostname": address.value}),
    }
}

fn shortened(message: &str) -> &str {
    if message.len() <= LONGEST {
        return message;
    }
    &message[..message.floor_char_boundary(LONGEST)]
}
