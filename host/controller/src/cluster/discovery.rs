//! Which kinds the API server has, in which versions; starts and ends the watches accordingly.
//!
//! One request says it all (aggregated discovery), and an unchanged answer costs next to nothing (ETag). CRDs that appear
//! later are found within [`INTERVAL`]. One that is gone counts as gone only after [`GRACE`]: an API server that starts up
//! may leave CRDs out of its answers for a while, and nobody's routes shall vanish with them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::Api;
use kube::client::Body;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use super::settings::Settings;
use super::store::{Scope, Store};
use super::watch::{self, Subject};
use super::{Task, kinds, spawn};
use crate::api::{GATEWAY_GROUP, Kind};

/// How often the API server is asked.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long a kind must be missing before its objects are dropped.
const GRACE: Duration = Duration::from_secs(60);
/// How many rounds apart the version of the Gateway API is read again.
const VERSION_ROUNDS: u32 = 6;
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                      application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
/// The CRD whose annotation names the version of all of them.
const VERSION_CRD: &str = "gateways.gateway.networking.k8s.io";
const VERSION_ANNOTATION: &str = "gateway.networking.k8s.io/bundle-version";

/// The kinds that may be absent and are not, each with the newest version that both sides know.
pub(super) type Served = BTreeMap<Kind, &'static str>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum DiscoveryError {
    #[error("{0}")]
    Client(#[from] kube::Error),
    #[error("the answer breaks off: {0}")]
    Body(String),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("the answer is no discovery list ({0}); Kubernetes 1.27 or newer is needed")]
    Shape(String),
    #[error("the CRDs of the Gateway API exist and are not served yet")]
    Early,
}

#[derive(Deserialize)]
struct Groups {
    kind: String,
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    metadata: GroupName,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct GroupName {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    resource: String,
}

/// Keeps one watch for each kind there is, until it is aborted.
pub(super) async fn run(client: Client, store: Arc<Store>, settings: Settings) {
    let mut watches = Watches::new(client.clone(), store.clone(), settings);
    watches.arrange(&Served::new());
    let mut backoff = Backoff::of_watches();
    let mut known = Known::default();
    let mut complained = false;
    loop {
        match known.ask(&client).await {
            Ok(()) => {
                if complained {
                    tracing::info!("the API server answers again");
                }
                complained = false;
                backoff.reset();
                watches.arrange(&known.served);
                store.discovered(known.gateway_api.clone());
                sleep(INTERVAL).await;
            }
            Err(error) => {
                if !complained {
                    tracing::warn!(%error, "the API server does not say which kinds it has; what is known stays");
                }
                complained = true;
                sleep(backoff.pause()).await;
            }
        }
    }
}

/// What was learnt so far.
#[derive(Default)]
struct Known {
    etag: Option<header::HeaderValue>,
    served: Served,
    gateway_api: Option<String>,
    rounds: u32,
}

impl Known {
    async fn ask(&mut self, client: &Client) -> Result<(), DiscoveryError> {
        let news = self.groups(client).await?;
        self.rounds = self.rounds.wrapping_add(1);
        if news || self.rounds.is_multiple_of(VERSION_ROUNDS) {
            self.version(client).await?;
        }
        Ok(())
    }

    /// Asks for the groups; whether the answer is new.
    async fn groups(&mut self, client: &Client) -> Result<bool, DiscoveryError> {
        let mut request = Request::get("/apis").header(header::ACCEPT, ACCEPT);
        if let Some(etag) = &self.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let request = request.body(Body::empty()).expect("the parts are valid");
        let response = client.send(request).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(false);
        }
        if !response.status().is_success() {
            return Err(DiscoveryError::Status(response.status()));
        }
        let etag = response.headers().get(header::ETAG).cloned();
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| DiscoveryError::Body(error.to_string()))?;
        let groups: Groups = serde_json::from_slice(&body.to_bytes())
            .map_err(|error| DiscoveryError::Shape(error.to_string()))?;
        if groups.kind != "APIGroupDiscoveryList" {
            return Err(DiscoveryError::Shape(groups.kind));
        }
        self.served = served(&groups);
        self.etag = etag;
        Ok(true)
    }

    /// Reads the version of the Gateway API. Where we may not, it stays unknown.
    async fn version(&mut self, client: &Client) -> Result<(), DiscoveryError> {
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        match crds.get_metadata_opt(VERSION_CRD).await {
            Ok(Some(crd)) => {
                if !self.served.keys().any(|kind| kind.group() == GATEWAY_GROUP) {
                    self.etag = None;
                    return Err(DiscoveryError::Early);
                }
                let annotations = crd.metadata.annotations.unwrap_or_default();
                self.gateway_api = annotations.get(VERSION_ANNOTATION).cloned();
            }
            Ok(None) | Err(kube::Error::Api(_)) => self.gateway_api = None,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn served(groups: &Groups) -> Served {
    kinds::watched()
        .filter(|kind| kinds::may_be_absent(*kind))
        .filter_map(|kind| {
            let group = groups
                .items
                .iter()
                .find(|group| group.metadata.name == kind.group())?;
            let serves = |wanted: &str| {
                let version = group
                    .versions
                    .iter()
                    .find(|version| version.version == wanted);
                version.is_some_and(|version| {
                    let plural = kinds::plural(kind);
                    version
                        .resources
                        .iter()
                        .any(|resource| resource.resource == plural)
                })
            };
            let version = kind.versions().iter().find(|version| serves(version))?;
            Some((kind, *version))
        })
        .collect()
}

/// The watches that run.
struct Watches {
    client: Client,
    store: Arc<Store>,
    settings: Settings,
    running: BTreeMap<Scope, Running>,
}

struct Running {
    version: &'static str,
    missing_since: Option<Instant>,
    _task: Task,
}

impl Watches {
    fn new(client: Client, store: Arc<Store>, settings: Settings) -> Self {
        Self {
            client,
            store,
            settings,
            running: BTreeMap::new(),
        }
    }

    /// Makes the watches those of the kinds there are.
    fn arrange(&mut self, served: &Served) {
        let mut wanted = BTreeMap::new();
        for kind in kinds::watched() {
            let version = if kinds::may_be_absent(kind) {
                served.get(&kind).copied()
            } else {
                Some(kind.versions()[0])
            };
            if let Some(version) = version {
                wanted.extend(self.scopes(kind).into_iter().map(|scope| (scope, version)));
            }
        }
        self.end_missing(&wanted);
        for (scope, version) in wanted {
            match self.running.get_mut(&scope) {
                Some(running) if running.version == version => running.missing_since = None,
                _ => self.start(scope, version),
            }
        }
    }

    /// What is watched for a kind; Namespaces are read by name where only some are.
    fn scopes(&self, kind: Kind) -> Vec<Scope> {
        let namespaces = &self.settings.namespaces;
        match (namespaces.is_empty(), kinds::is_cluster_scoped(kind)) {
            (false, true) if kind == Kind::Namespace => Vec::new(),
            (true, _) | (_, true) => vec![(kind, None)],
            (false, false) => namespaces
                .iter()
                .map(|namespace| (kind, Some(namespace.clone())))
                .collect(),
        }
    }

    fn end_missing(&mut self, wanted: &BTreeMap<Scope, &'static str>) {
        let now = Instant::now();
        let mut gone = Vec::new();
        for (scope, running) in &mut self.running {
            if wanted.contains_key(scope) {
                continue;
            }
            let since = *running.missing_since.get_or_insert(now);
            if now.duration_since(since) >= GRACE {
                gone.push(scope.clone());
            }
        }
        for scope in gone {
            tracing::info!(kind = %scope.0, "the API server has this kind no longer; its objects are dropped");
            self.running.remove(&scope);
            self.store.drop_scope(&scope);
        }
    }

    fn start(&mut self, scope: Scope, version: &'static str) {
        let classes = matches!(scope.0, Kind::GatewayClass | Kind::IngressClass);
        let subject = Subject {
            resource: kinds::resource(scope.0, version),
            labels: self.settings.class_selector.clone().filter(|_| classes),
            optional: !self.settings.namespaces.is_empty() && classes,
            scope: scope.clone(),
        };
        tracing::debug!(kind = %scope.0, version, namespace = scope.1, "watching");
        self.store.add_scope(&scope, version);
        let task = spawn(watch::run(self.client.clone(), self.store.clone(), subject));
        let running = Running {
            version,
            missing_since: None,
            _task: task,
        };
        self.running.insert(scope, running);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_version_that_both_know() {
        let list = json!({"kind": "APIGroupDiscoveryList", "items": [
            {"metadata": {"name": "gateway.networking.k8s.io"}, "versions": [
                {"version": "v1beta1", "resources": [{"resource": "gateways"}, {"resource": "referencegrants"}]},
                {"version": "v1", "resources": [{"resource": "gateways"}, {"resource": "httproutes"}]},
                {"version": "v1alpha3", "resources": [{"resource": "tlsroutes"}]}]},
            {"metadata": {"name": "example.com"}, "versions": [{"version": "v1", "resources": [{"resource": "filters"}]}]}
        ]});
        let served = served(&serde_json::from_value(list).unwrap());
        let expected = Served::from([
            (Kind::Gateway, "v1"),
            (Kind::HttpRoute, "v1"),
            (Kind::TlsRoute, "v1alpha3"),
            (Kind::ReferenceGrant, "v1beta1"),
        ]);
        assert_eq!(served, expected);
    }
}
