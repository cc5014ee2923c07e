//! An API server in memory, small and honest enough for what is tested: versions, lists, watches, merge patches with
//! preconditions; and able to fail in the ways that real ones do.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

/// How long a test waits; the clock of these tests is paused, so that it costs nothing.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    /// By path.
    objects: BTreeMap<String, Value>,
    watches: Vec<(Path, Labels, mpsc::UnboundedSender<Bytes>)>,
    /// Answers that the next requests of a method and path prefix get instead.
    failures: Vec<(Method, String, Value)>,
    /// Paths that are never answered.
    stalled: Vec<String>,
    log: Vec<String>,
    /// Discovery: `(group, version, plural)`.
    served: Vec<(String, String, String)>,
    /// Fields of statuses that the schema does not know.
    pruned: Vec<String>,
    /// What new objects of a collection get besides what their makers say.
    given: Vec<(String, Value)>,
}

/// Labels that a request asks for, all of them equalities.
#[derive(Clone, Debug, Default)]
struct Labels(Vec<(String, String)>);

impl Labels {
    fn parse(query: &str) -> Self {
        let selector = query
            .split('&')
            .find_map(|part| part.strip_prefix("labelSelector="))
            .unwrap_or_default()
            .replace("%3D", "=")
            .replace("%2F", "/")
            .replace("%2C", ",");
        let pairs = selector.split(',').filter_map(|pair| pair.split_once('='));
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    fn hold(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.0
            .iter()
            .all(|(name, value)| labels[name.as_str()] == value.as_str())
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Path {
    prefix: String,
    namespace: Option<String>,
    plural: String,
    name: Option<String>,
    sub: Option<String>,
}

impl Path {
    fn parse(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (prefix, rest) = parts.split_at(if parts[0] == "api" {
            2
        } else {
            3.min(parts.len())
        });
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
                (Some((*namespace).to_owned()), rest)
            }
            rest => (None, rest),
        };
        let at = |index: usize| rest.get(index).map(|part| (*part).to_owned());
        Self {
            prefix: prefix.join("/"),
            namespace,
            plural: at(0).unwrap_or_default(),
            name: at(1),
            sub: at(2),
        }
    }

    /// Whether an object is one of the collection at `self`.
    fn holds(&self, object: &Self) -> bool {
        self.prefix == object.prefix
            && self.plural == object.plural
            && (self.namespace.is_none() || self.namespace == object.namespace)
    }
}

impl Fake {
    /// A client that talks to it.
    pub(super) fn client(&self) -> Client {
        let fake = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move { Ok::<_, Infallible>(fake.answer(request).await) }
        });
        Client::new(service, "default")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Says that a kind is there.
    pub(super) fn serve(&self, group: &str, version: &str, plural: &str) {
        let row = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.lock().served.push(row);
    }

    /// Says that it is there no longer.
    pub(super) fn withdraw(&self, plural: &str) {
        self.lock().served.retain(|(_, _, known)| known != plural);
    }

    /// Drops a field of every status that is written.
    pub(super) fn prune(&self, field: &str) {
        self.lock().pruned.push(field.to_owned());
    }

    /// Gives it to every new object of the collection, as controllers of a cluster do.
    pub(super) fn give(&self, plural: &str, fields: Value) {
        self.lock().given.push((plural.to_owned(), fields));
    }

    /// Puts an object at a path, and tells watches.
    pub(super) fn put(&self, path: &str, object: Value) {
        self.lock().put(path, object);
    }

    /// Takes it away, and tells watches.
    pub(super) fn delete(&self, path: &str) {
        self.lock().delete(path);
    }

    /// Takes it away, and tells nobody: as if the watch had missed it.
    pub(super) fn delete_unseen(&self, path: &str) {
        self.lock().objects.remove(path);
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    /// All objects under a path.
    pub(super) fn objects(&self, prefix: &str) -> Vec<Value> {
        let state = self.lock();
        let found = state
            .objects
            .iter()
            .filter(|(path, _)| path.starts_with(prefix));
        found.map(|(_, object)| object.clone()).collect()
    }

    /// The next request of that method under that path gets this code.
    pub(super) fn fail(&self, method: Method, prefix: &str, code: u16) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "reason": "Test", "message": "made to fail", "details": {"retryAfterSeconds": 3}});
        self.lock()
            .failures
            .push((method, prefix.to_owned(), status));
    }

    /// Requests of that path get no answer.
    pub(super) fn stall(&self, path: &str) {
        self.lock().stalled.push(path.to_owned());
    }

    /// Sends these bytes to the watches of a collection, and ends them.
    pub(super) fn end_watches(&self, plural: &str, bytes: &str) {
        self.lock().watches.retain(|(path, _, sender)| {
            if path.plural != plural {
                return true;
            }
            // One that is gone needs no end.
            let _ = sender.unbounded_send(Bytes::from(bytes.to_owned()));
            false
        });
    }

    /// How many watches of a collection are open.
    pub(super) fn watching(&self, plural: &str) -> usize {
        let mut state = self.lock();
        state.watches.retain(|(_, _, sender)| !sender.is_closed());
        state
            .watches
            .iter()
            .filter(|(path, _, _)| path.plural == plural)
            .count()
    }

    /// Requests so far whose line contains `part`.
    pub(super) fn asked(&self, part: &str) -> usize {
        self.lock()
            .log
            .iter()
            .filter(|line| line.contains(part))
            .count()
    }

    async fn answer(&self, request: Request<Body>) -> Response<BoxBody<Bytes, Infallible>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let stalled = {
            let mut state = self.lock();
            state.log.push(format!("{} {path}?{query}", parts.method));
            state.stalled.contains(&path)
        };
        if stalled {
            std::future::pending::<()>().await;
        }
        let mut state = self.lock();
        let failure = state.failures.iter().position(|(method, prefix, _)| {
            *method == parts.method && path.starts_with(prefix.as_str())
        });
        if let Some(at) = failure {
            let (_, _, status) = state.failures.remove(at);
            return respond(&status);
        }
        if query.contains("watch=true") {
            return state.watch(&path, &query);
        }
        respond(&state.handle(&parts.method, &path, &query, &body))
    }
}

impl State {
    fn put(&mut self, path: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let known = self
            .objects
            .insert(path.to_owned(), object.clone())
            .is_some();
        self.tell(path, if known { "MODIFIED" } else { "ADDED" }, &object);
    }

    fn delete(&mut self, path: &str) {
        self.version += 1;
        if let Some(mut object) = self.objects.remove(path) {
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.tell(path, "DELETED", &object);
        }
    }

    fn tell(&mut self, path: &str, what: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": what, "object": object}));
        let at = Path::parse(path);
        self.watches.retain(|(watched, labels, sender)| {
            let told = watched.holds(&at) && labels.hold(object);
            !told || sender.unbounded_send(Bytes::from(line.clone())).is_ok()
        });
    }

    fn watch(&mut self, path: &str, query: &str) -> Response<BoxBody<Bytes, Infallible>> {
        let (sender, receiver) = mpsc::unbounded();
        let watched = Path::parse(path);
        let labels = Labels::parse(query);
        let since: u64 = query
            .split('&')
            .find_map(|part| part.strip_prefix("resourceVersion="))
            .and_then(|version| version.parse().ok())
            .unwrap_or(0);
        // What was missed comes first; deletions are not remembered, as in a compacted history.
        for (path, object) in &self.objects {
            let version: u64 = object["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            let told = watched.holds(&Path::parse(path)) && labels.hold(object);
            if told && version > since {
                let line = format!("{}\n", json!({"type": "MODIFIED", "object": object}));
                sender.unbounded_send(Bytes::from(line)).unwrap();
            }
        }
        self.watches.push((watched, labels, sender));
        let frames = receiver.map(|bytes| Ok::<_, Infallible>(http_body::Frame::data(bytes)));
        Response::new(BodyExt::boxed(StreamBody::new(frames)))
    }

    fn handle(&mut self, method: &Method, path: &str, query: &str, body: &Value) -> Value {
        if path == "/apis" {
            return self.groups();
        }
        let parsed = Path::parse(path);
        let object_path = path.strip_suffix("/status").unwrap_or(path).to_owned();
        match (method.as_str(), &parsed.name) {
            ("GET", None) => {
                let labels = Labels::parse(query);
                let items = self.objects.iter().filter(|(path, object)| {
                    parsed.holds(&Path::parse(path)) && labels.hold(object)
                });
                let items: Vec<&Value> = items.map(|(_, object)| object).collect();
                json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": self.version.to_string()}, "items": items})
            }
            ("GET", Some(_)) => self
                .objects
                .get(path)
                .cloned()
                .unwrap_or_else(|| status(404)),
            ("POST", _) => {
                let name = body["metadata"]["name"].as_str().unwrap();
                let path = format!("{path}/{name}");
                if self.objects.contains_key(&path) {
                    return json!({"kind": "Status", "status": "Failure", "code": 409, "reason": "AlreadyExists", "message": "exists"});
                }
                let given = self
                    .given
                    .iter()
                    .filter(|(plural, _)| *plural == parsed.plural);
                let new = given.fold(body.clone(), |new, (_, fields)| merged(new, fields));
                self.put(&path, new);
                self.objects[&path].clone()
            }
            ("PUT" | "PATCH", Some(_)) => {
                let Some(known) = self.objects.get(&object_path).cloned() else {
                    return status(404);
                };
                let wanted = &body["metadata"]["resourceVersion"];
                if !wanted.is_null() && *wanted != known["metadata"]["resourceVersion"] {
                    return json!({"kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict", "message": "changed"});
                }
                let mut new = if method == Method::PUT {
                    body.clone()
                } else {
                    merged(known, body)
                };
                for field in &self.pruned {
                    if let Some(status) = new["status"].as_object_mut() {
                        status.shift_remove(field);
                    }
                }
                self.put(&object_path, new);
                self.objects[&object_path].clone()
            }
            ("DELETE", Some(_)) => {
                let Some(known) = self.objects.get(path) else {
                    return status(404);
                };
                let wanted = &body["preconditions"]["resourceVersion"];
                if !wanted.is_null() && *wanted != known["metadata"]["resourceVersion"] {
                    return json!({"kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict", "message": "changed"});
                }
                self.delete(path);
                json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})
            }
            _ => status(405),
        }
    }

    fn groups(&self) -> Value {
        let mut groups: BTreeMap<&str, BTreeMap<&str, Vec<Value>>> = BTreeMap::new();
        for (group, version, plural) in &self.served {
            let versions = groups.entry(group).or_default();
            versions
                .entry(version)
                .or_default()
                .push(json!({"resource": plural}));
        }
        let items: Vec<Value> = groups
            .into_iter()
            .map(|(group, versions)| {
                let versions = versions.into_iter();
                let versions: Vec<Value> = versions
                    .map(|(version, resources)| json!({"version": version, "resources": resources}))
                    .collect();
                json!({"metadata": {"name": group}, "versions": versions})
            })
            .collect();
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items})
    }
}

/// RFC 7396.
fn merged(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut fields = match target {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            fields.shift_remove(name);
        } else {
            let before = fields.get(name).cloned().unwrap_or(Value::Null);
            fields.insert(name.clone(), merged(before, value));
        }
    }
    Value::Object(fields)
}

fn status(code: u16) -> Value {
    let reason = if code == 404 { "NotFound" } else { "Test" };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no"})
}

fn respond(body: &Value) -> Response<BoxBody<Bytes, Infallible>> {
    let code = match (body["kind"].as_str(), body["code"].as_u64()) {
        (Some("Status"), Some(code)) => StatusCode::from_u16(u16::try_from(code).unwrap()).unwrap(),
        _ => StatusCode::OK,
    };
    let body = Full::new(Bytes::from(body.to_string())).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response
}

/// Waits until something holds; the paused clock jumps ahead whenever everybody waits.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what}: did not happen"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Lets everything that can happen within a time happen.
pub(super) async fn pass(time: Duration) {
    let end = tokio::time::Instant::now() + time;
    stream::unfold((), |()| async {
        if tokio::time::Instant::now() >= end {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        Some(((), ()))
    })
    .collect::<Vec<()>>()
    .await;
}
