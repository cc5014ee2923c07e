//! What the API server has of Services and EndpointSlices of ours, and of the fleet's.

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use serde_json::Value;

use super::objects;
use crate::api::{Key, Kind};
use crate::cluster::addresses;
use crate::status::Address;

/// What the API server has.
#[derive(Default)]
pub(super) struct Seen {
    /// With our label.
    services: BTreeMap<Key, Value>,
    /// With our label.
    slices: BTreeMap<Key, Value>,
    /// EndpointSlices of the fleet's Service.
    fleet: BTreeMap<Key, Value>,
    /// By Service: its Gateway, and where that is reached. Always what `services` says.
    reached: BTreeMap<Key, (Key, Vec<Address>)>,
    /// What was sent last and did not make the object what it should be: sending it again would not either.
    pub(super) futile: BTreeMap<(Kind, Key), Value>,
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Services,
    Slices,
    Fleet,
}

/// What news mean for where Gateways are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Reached {
    AsBefore,
    Elsewhere,
}

impl What {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Services => Kind::Service,
            Self::Slices | Self::Fleet => Kind::EndpointSlice,
        }
    }
}

impl Seen {
    /// All of them.
    pub(super) fn all(&self, what: What) -> &BTreeMap<Key, Value> {
        match what {
            What::Services => &self.services,
            What::Slices => &self.slices,
            What::Fleet => &self.fleet,
        }
    }

    fn all_mut(&mut self, what: What) -> &mut BTreeMap<Key, Value> {
        match what {
            What::Services => &mut self.services,
            What::Slices => &mut self.slices,
            What::Fleet => &mut self.fleet,
        }
    }

    /// Where each Gateway that has a Service is reached.
    pub(super) fn addresses(&self) -> BTreeMap<Key, Vec<Address>> {
        self.reached.values().cloned().collect()
    }

    /// An object as it is now.
    pub(super) fn put(&mut self, what: What, key: Key, value: Value) -> Reached {
        let reached = match what {
            What::Services => self.reach(&key, reached(&value)),
            What::Slices | What::Fleet => Reached::AsBefore,
        };
        self.all_mut(what).insert(key, value);
        reached
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, what: What, key: &Key) -> Reached {
        self.all_mut(what).remove(key);
        match what {
            What::Services => self.reach(key, None),
            What::Slices | What::Fleet => Reached::AsBefore,
        }
    }

    /// A listing is complete: what it did not show of its namespace, or of all, is gone.
    pub(super) fn replace(
        &mut self,
        what: What,
        namespace: Option<&str>,
        listed: BTreeMap<Key, Value>,
    ) -> Reached {
        let here = |key: &&Key| namespace.is_none_or(|own| key.namespace == own);
        let known = self.all(what).keys().filter(here);
        let gone: Vec<Key> = known
            .filter(|key| !listed.contains_key(*key))
            .cloned()
            .collect();
        let gone = gone.iter().map(|key| self.remove(what, key));
        let mut all: Vec<Reached> = gone.collect();
        all.extend(
            listed
                .into_iter()
                .map(|(key, value)| self.put(what, key, value)),
        );
        if all.contains(&Reached::Elsewhere) {
            Reached::Elsewhere
        } else {
            Reached::AsBefore
        }
    }

    fn reach(&mut self, service: &Key, now: Option<(Key, Vec<Address>)>) -> Reached {
        let same = self.reached.get(service) == now.as_ref();
        match now {
            Some(now) => self.reached.insert(service.clone(), now),
            None => self.reached.remove(service),
        };
        if same {
            Reached::AsBefore
        } else {
            Reached::Elsewhere
        }
    }
}

/// The Gateway of a Service, and where that is reached.
fn reached(service: &Value) -> Option<(Key, Vec<Address>)> {
    let typed = serde_json::from_value(service.clone()).ok()?;
    Some((objects::gateway_of(service)?, addresses::of_service(&typed)))
}

pub(super) fn keyed(object: &DynamicObject) -> (Key, Value) {
    let key = Key::new(
        object.metadata.namespace.clone().unwrap_or_default(),
        object.metadata.name.clone().unwrap_or_default(),
    );
    // What an API server sent can be written as it was read.
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if value["kind"].is_null() {
        // Items of lists do not say what they are.
        let service = !value["spec"].is_null();
        value["kind"] = if service { "Service" } else { "EndpointSlice" }.into();
    }
    (key, value)
}

pub(super) fn key_of(object: &Value) -> Key {
    let text = |field: &str| {
        let value = object["metadata"][field].as_str();
        value.unwrap_or_default().to_owned()
    };
    Key::new(text("namespace"), text("name"))
}
