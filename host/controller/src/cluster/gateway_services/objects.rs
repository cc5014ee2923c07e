//! What the Service of a Gateway and its EndpointSlices should be, and what has to change of those that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::api::core::SERVICE_NAME_LABEL;
use crate::api::gateway::Gateway;
use crate::api::{GATEWAY_GROUP, Key};
use crate::cluster::settings::ServiceType;
use crate::translate::Exposed;

/// The label of everything that this controller made; its value names the controller.
pub(super) const OWN_LABEL: &str = "tidegate.dev/controller";
/// Standard: the Gateway that something was made for (GEP-1762).
const GATEWAY_LABEL: &str = "gateway.networking.k8s.io/gateway-name";
/// Who writes an EndpointSlice.
const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// Which labels and annotations came from the Gateway, so that they can go with it.
const TAKEN: &str = "tidegate.dev/infrastructure";
/// The longest value of a label, and the longest name of a Service.
const LONGEST: usize = 63;
/// The most endpoints of an EndpointSlice.
const MOST_ENDPOINTS: usize = 1000;

/// What stands behind the Services.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fleet {
    /// Endpoints by `addressType`, as the fleet's own EndpointSlices have them.
    pub(super) endpoints: BTreeMap<String, Vec<Value>>,
}

/// A Service and its EndpointSlices by name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Made {
    pub(super) service: Value,
    pub(super) slices: BTreeMap<String, Value>,
}

impl Fleet {
    /// All endpoints of some EndpointSlices.
    pub(super) fn of<'v>(slices: impl Iterator<Item = &'v Value>) -> Self {
        let mut fleet = Self::default();
        for slice in slices {
            let family = slice["addressType"].as_str().unwrap_or_default();
            let endpoints = slice["endpoints"].as_array().into_iter().flatten();
            let all = fleet.endpoints.entry(family.to_owned()).or_default();
            all.extend(endpoints.cloned());
        }
        for all in fleet.endpoints.values_mut() {
            all.sort_by_key(|endpoint| endpoint["addresses"].to_string());
            all.dedup();
            all.truncate(MOST_ENDPOINTS);
        }
        fleet
    }

    /// A Gateway with an address of its own is reached there.
    pub(super) fn at(address: IpAddr) -> Self {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let endpoint = json!({"addresses": [address.to_string()], "conditions": {"ready": true}});
        Self {
            endpoints: BTreeMap::from([(family.to_owned(), vec![endpoint])]),
        }
    }
}

/// A controller's name as the value of a label.
pub(super) fn mark(controller_name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' || c == '-' {
            c
        } else {
            '-'
        }
    };
    let value: String = controller_name.chars().map(plain).collect();
    shortened(value.trim_matches(['-', '.']), controller_name)
}

/// The name of a Gateway's Service: that of the Gateway and of its class (GEP-1762), as far as a Service may have it.
pub(super) fn name(gateway: &Gateway) -> String {
    let whole = format!("{}-{}", gateway.meta.name, gateway.spec.gateway_class_name);
    let mut name = whole.replace('.', "-");
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.insert_str(0, "gw-");
    }
    if name == whole {
        shortened(&name, &whole)
    } else {
        // Two Gateways shall not come to the same name.
        let room = LONGEST - 9;
        let kept = &name[..name.len().min(room)];
        format!("{}-{:08x}", kept.trim_end_matches('-'), hash(&whole))
    }
}

/// What is made for a Gateway.
pub(super) fn made(
    gateway: &Gateway,
    ports: &BTreeSet<Exposed>,
    fleet: &Fleet,
    kind: ServiceType,
    mark: &str,
    local: bool,
) -> Made {
    let name = name(gateway);
    let (labels, annotations) = metadata(gateway, mark);
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": gateway.meta.namespace, "labels": labels, "annotations": annotations,
            "ownerReferences": [owner(gateway)]},
        "spec": {"type": kind.as_str(), "ports": ports.iter().map(|port| json!({
            "name": port_name(port), "port": port.port, "targetPort": port.bound, "protocol": protocol(port),
        })).collect::<Vec<_>>()},
    });
    if kind != ServiceType::ClusterIp {
        service["spec"]["externalTrafficPolicy"] = if local { "Local" } else { "Cluster" }.into();
    }
    let slices = fleet.endpoints.iter().map(|(family, endpoints)| {
        let slice_name = format!("{name}-{}", family.to_ascii_lowercase());
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": slice_name, "namespace": gateway.meta.namespace, "labels": {
                OWN_LABEL: mark, SERVICE_NAME_LABEL: name, MANAGED_BY_LABEL: mark},
                "ownerReferences": [owner(gateway)]},
            "addressType": family, "endpoints": endpoints,
            "ports": ports.iter().map(|port| json!({
                "name": port_name(port), "port": port.bound, "protocol": protocol(port),
            })).collect::<Vec<_>>(),
        });
        (slice_name, slice)
    });
    let slices = slices.collect();
    Made { service, slices }
}

/// Labels and annotations of a Service; what we say goes before what the Gateway says.
fn metadata(gateway: &Gateway, mark: &str) -> (Map<String, Value>, Map<String, Value>) {
    let infrastructure = &gateway.spec.infrastructure;
    let theirs = |all: &BTreeMap<String, String>| -> Map<String, Value> {
        let all = all.iter();
        all.map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect()
    };
    let taken = json!({
        "labels": infrastructure.labels.keys().collect::<Vec<_>>(),
        "annotations": infrastructure.annotations.keys().collect::<Vec<_>>(),
    });
    let mut labels = theirs(&infrastructure.labels);
    let gateway_name = shortened(&gateway.meta.name, &gateway.meta.name);
    labels.insert(GATEWAY_LABEL.to_owned(), gateway_name.into());
    labels.insert(OWN_LABEL.to_owned(), mark.into());
    let mut annotations = theirs(&infrastructure.annotations);
    annotations.insert(TAKEN.to_owned(), taken.to_string().into());
    (labels, annotations)
}

/// The garbage collector takes it away with the Gateway, also when this process is not there.
fn owner(gateway: &Gateway) -> Value {
    json!({"apiVersion": format!("{GATEWAY_GROUP}/v1"), "kind": "Gateway", "name": gateway.meta.name,
        "uid": gateway.meta.uid, "controller": true})
}

/// The Gateway that an object was made for.
pub(super) fn gateway_of(object: &Value) -> Option<Key> {
    let metadata = &object["metadata"];
    let owner = &metadata["ownerReferences"][0];
    (owner["kind"] == "Gateway").then(|| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Key::new(text(&metadata["namespace"]), text(&owner["name"]))
    })
}

/// A JSON merge patch that makes `seen` what is `wanted`, without what others put there; `None` if it is that already.
pub(super) fn change(seen: &Value, wanted: &Value) -> Option<Value> {
    let mut patch = Map::new();
    let mut metadata = Map::new();
    for (field, taken) in [("labels", "labels"), ("annotations", "annotations")] {
        let entries = entries(seen, wanted, field, taken);
        if !entries.is_empty() {
            metadata.insert(field.to_owned(), entries.into());
        }
    }
    if seen["metadata"]["ownerReferences"] != wanted["metadata"]["ownerReferences"] {
        let owners = wanted["metadata"]["ownerReferences"].clone();
        metadata.insert("ownerReferences".to_owned(), owners);
    }
    if let Some(spec) = spec(&seen["spec"], &wanted["spec"]) {
        patch.insert("spec".to_owned(), spec);
    }
    for field in ["endpoints", "ports"] {
        if !wanted[field].is_null() && seen[field] != wanted[field] {
            patch.insert(field.to_owned(), wanted[field].clone());
        }
    }
    if !metadata.is_empty() {
        patch.insert("metadata".to_owned(), metadata.into());
    }
    (!patch.is_empty()).then(|| patch.into())
}

/// What has to change of labels or annotations: those that came from the Gateway once and do no longer go.
fn entries(seen: &Value, wanted: &Value, field: &str, taken: &str) -> Map<String, Value> {
    let (seen_all, wanted_all) = (&seen["metadata"][field], &wanted["metadata"][field]);
    let mut entries = Map::new();
    for (name, value) in wanted_all.as_object().into_iter().flatten() {
        if seen_all.get(name) != Some(value) {
            entries.insert(name.clone(), value.clone());
        }
    }
    let before = seen["metadata"]["annotations"][TAKEN].as_str();
    let before: Value = before
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    for name in before[taken].as_array().into_iter().flatten() {
        let Some(name) = name.as_str() else { continue };
        if wanted_all.get(name).is_none() && seen_all.get(name).is_some() {
            entries.insert(name.to_owned(), Value::Null);
        }
    }
    entries
}

fn spec(seen: &Value, wanted: &Value) -> Option<Value> {
    let wanted = wanted.as_object()?;
    let mut patch = Map::new();
    for (field, value) in wanted {
        if field == "ports" {
            let (same, ports) = ports(&seen["ports"], value, wanted["type"] != "ClusterIP");
            if !same {
                patch.insert(field.clone(), ports);
            }
        } else if seen.get(field) != Some(value) {
            patch.insert(field.clone(), value.clone());
        }
    }
    if !wanted.contains_key("externalTrafficPolicy") && seen.get("externalTrafficPolicy").is_some()
    {
        patch.insert("externalTrafficPolicy".to_owned(), Value::Null);
    }
    (!patch.is_empty()).then(|| patch.into())
}

/// Whether ports are as they should be, and the ports to write: those of nodes stay, since somebody may rely on them.
fn ports(seen: &Value, wanted: &Value, on_nodes: bool) -> (bool, Value) {
    let empty = Vec::new();
    let seen = seen.as_array().unwrap_or(&empty);
    let bare = |port: &Value| {
        let mut port = port.clone();
        if let Some(fields) = port.as_object_mut() {
            fields.shift_remove("nodePort");
        }
        port
    };
    let same = json!(seen.iter().map(bare).collect::<Vec<_>>()) == *wanted;
    let mut ports = wanted.clone();
    for port in ports.as_array_mut().into_iter().flatten() {
        let before = seen
            .iter()
            .find(|old| old["port"] == port["port"] && old["protocol"] == port["protocol"]);
        if let Some(number) = before.and_then(|old| old.get("nodePort"))
            && on_nodes
        {
            port["nodePort"] = number.clone();
        }
    }
    (same, ports)
}

fn port_name(port: &Exposed) -> String {
    format!("{}-{}", protocol(port).to_ascii_lowercase(), port.port)
}

fn protocol(port: &Exposed) -> &'static str {
    if port.udp { "UDP" } else { "TCP" }
}

/// At most [`LONGEST`]; what is cut is told apart by a hash of the `whole`.
fn shortened(text: &str, whole: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let kept = &text[..text.floor_char_boundary(LONGEST - 9)];
    format!("{}-{:08x}", kept.trim_end_matches(['-', '.']), hash(whole))
}

/// FNV-1a: the same in every version of this program.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
