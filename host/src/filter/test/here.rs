//! This host: the data plane in this process, as `tidegate serve` puts it together, with a Gateway, a route and a Filter for each run.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_controller::translate::Options;
use tidegate_filter_cases::Request;
use tidegate_loopback::Port;
use tidegate_model::FilterId;
use tidegate_modules::{Loader, Settings};
use tidegate_proxy::{Peers, PluginStats, Proxy, ProxyConfig};
use tidegate_wasm::{MetricValue, Shared};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::client::Target;
use super::exchange::{Outcome, Stage, missing_logs, play};
use super::guests::Guests;
use super::identities::Identities;
use super::plan::{Plan, Run};
use super::subject::Subject;
use super::world::World;
use crate::control::Control;
use crate::source::{Origin, Source};

/// Runs whose filters are there at the same time: each takes a few sockets.
const AT_ONCE: usize = 40;
/// How long loading the filters of so many runs may take: an interpreter of ten megabytes takes minutes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// The Filter of a run, in the run's namespace.
const FILTER: &str = "filter";

/// The data plane and its control loop.
pub(crate) struct Here {
    control: Control,
    loader: Arc<Loader>,
    peers: Peers,
    folder: TempDir,
    /// Runs so far: each has a namespace of its own.
    runs: usize,
}

/// The place of one run.
struct Place {
    namespace: String,
    http: Port,
    https: Option<Port>,
    world: World,
}

/// The same while the run is played.
struct Playing {
    namespace: String,
    http: SocketAddr,
    https: Option<SocketAddr>,
    identities: Arc<Identities>,
    peers: Peers,
    shared: Arc<Shared>,
    stats: Arc<PluginStats>,
    clock: Option<Duration>,
}

impl Here {
    /// Starts it with nothing to serve.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("no folder for the manifests")?;
        let peers = Peers::some();
        let config = ProxyConfig {
            peers: peers.clone(),
            ..ProxyConfig::default()
        };
        let proxy = Arc::new(Proxy::start(config, None)?);
        let loader = Loader::with(Shared::new(), &Settings::default());
        let options = Options {
            bind: vec![Ipv4Addr::LOCALHOST.into()],
            ..Options::default()
        };
        let origin = Origin::Files(vec![folder.path().to_owned()]);
        let source = Source::open(origin, &options).await?;
        Ok(Self {
            control: Control::new(source, options, proxy, loader.clone()),
            loader,
            peers,
            folder,
            runs: 0,
        })
    }

    /// Runs everything of a plan that can be run here.
    pub(crate) async fn run(&mut self, plan: &Plan) -> anyhow::Result<Vec<Outcome>> {
        let (clocked, free): (Vec<Run<'_>>, Vec<Run<'_>>) = plan
            .here()
            .into_iter()
            .partition(|run| run.case.needs_clock());
        let mut outcomes = Vec::new();
        for runs in free.chunks(AT_ONCE) {
            outcomes.extend(self.batch(&plan.subject, runs).await?);
        }
        // There is one clock for all filters.
        for run in &clocked {
            self.loader.shared().rule_clock(run.clock());
            outcomes.extend(self.batch(&plan.subject, std::slice::from_ref(run)).await?);
            self.loader.shared().rule_clock(None);
        }
        outcomes.sort_by_key(|outcome| outcome.case_at);
        Ok(outcomes)
    }

    async fn batch(&mut self, subject: &Subject, runs: &[Run<'_>]) -> anyhow::Result<Vec<Outcome>> {
        let mut places = Vec::new();
        let mut objects = Vec::new();
        for run in runs {
            self.runs += 1;
            let place = Place {
                namespace: format!("case-{}", self.runs),
                http: Port::reserve(),
                https: run.is_https().then(Port::reserve),
                world: World::start(run).await?,
            };
            place.describe(subject, run, &mut objects);
            places.push(place);
        }
        self.serve(&objects).await?;
        let status = self.control.view().status();
        let mut playing = JoinSet::new();
        let mut outcomes = Vec::new();
        for (at, (run, place)) in runs.iter().zip(places).enumerate() {
            if let Some(found) = verdict(run, &place.namespace, &status) {
                outcomes.push((at, Outcome::new(run, found)));
                continue;
            }
            let mut stage = self.playing(subject, run, &place);
            // A task outlives what it is told to borrow, so it gets a case of its own.
            let case = run.case.clone();
            let (case_at, cut) = (run.case_at, run.cut);
            playing.spawn(async move {
                let run = Run {
                    case_at,
                    case: &case,
                    cut,
                    clusters: BTreeMap::new(),
                };
                let outcome = play(&run, &mut stage, &place.world, &BTreeMap::new()).await;
                (at, outcome)
            });
        }
        while let Some(played) = playing.join_next().await {
            outcomes.push(played?);
        }
        outcomes.sort_by_key(|(at, _)| *at);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }

    fn playing(&self, subject: &Subject, run: &Run<'_>, place: &Place) -> Playing {
        Playing {
            namespace: place.namespace.clone(),
            http: place.http.address(),
            https: place.https.as_ref().map(Port::address),
            identities: subject.identities.clone(),
            peers: self.peers.clone(),
            shared: self.loader.shared().clone(),
            stats: self.control.view().stats(&FilterId {
                namespace: place.namespace.as_str().into(),
                name: FILTER.into(),
            }),
            clock: run.clock(),
        }
    }

    /// Serves these objects, and waits until every filter has its verdict.
    async fn serve(&mut self, objects: &[Value]) -> anyhow::Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let path = self.folder.path().join("cases.json");
        std::fs::write(path, serde_json::to_vec(&list)?)?;
        let mut verdicts = self.loader.changes();
        let view = self.control.view();
        let served = async {
            loop {
                self.control.reload();
                self.control.apply().await;
                if self.control.has_bind_errors() {
                    bail!("a listener's port was taken in the meantime; try again");
                }
                if view.unready().is_none() {
                    // Once more: the last verdict may have come after the statuses were written.
                    self.control.apply().await;
                    return Ok(());
                }
                verdicts.changed().await?;
            }
        };
        tokio::time::timeout(PATIENCE, served)
            .await
            .with_context(|| {
                format!("the filters of the cases are not loaded after {PATIENCE:?}")
            })?
    }
}

/// What came of a run whose configuration was to be refused, or was refused; nothing where it is to be played.
fn verdict(run: &Run<'_>, namespace: &str, status: &Value) -> Option<Vec<String>> {
    let refusals = refusals(namespace, status);
    match &run.case.refused {
        None if refusals.is_empty() => None,
        None => Some(vec![format!(
            "the filter cannot run: {}",
            refusals.join("; ")
        )]),
        Some(part) if refusals.is_empty() => Some(vec![format!(
            "the configuration is taken, expected a refusal with {part:?}"
        )]),
        // The schema of a bundled filter has been quicker, in words of its own.
        Some(_) if refusals.iter().any(|line| line.starts_with("spec.config")) => Some(Vec::new()),
        Some(part) => {
            let mut said = Guests::of_process().of(&format!("{namespace}/{FILTER}"));
            said.extend(refusals);
            Some(missing_logs(std::slice::from_ref(part), &said))
        }
    }
}

/// What is wrong with the Filter of a run, or with anything around it.
fn refusals(namespace: &str, status: &Value) -> Vec<String> {
    let objects = status["objects"].as_array().into_iter().flatten();
    let own =
        objects.filter(|object| object["namespace"] == namespace && object["kind"] == "Filter");
    let conditions = own.flat_map(|object| object["conditions"].as_array().into_iter().flatten());
    conditions
        .filter(|condition| condition["status"] == "False")
        .map(|condition| condition["message"].as_str().unwrap_or_default().to_owned())
        .collect()
}

// === impl Place ===

impl Place {
    /// The objects of the run.
    fn describe(&self, subject: &Subject, run: &Run<'_>, objects: &mut Vec<Value>) {
        let namespace = &self.namespace;
        let identities = &subject.identities;
        let meta = |name: &str| json!({"name": name, "namespace": namespace});
        let mut listeners =
            vec![json!({"name": "http", "port": self.http.number(), "protocol": "HTTP"})];
        if let Some(port) = &self.https {
            listeners.push(
                json!({"name": "https", "port": port.number(), "protocol": "HTTPS",
                "tls": {"certificateRefs": [{"name": "tls"}]}}),
            );
            objects.push(json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": meta("tls"),
                "stringData": {"tls.crt": identities.server_chain, "tls.key": identities.server_key}}));
        }
        let class = if run.is_trusted() {
            let class = format!("trusting-{namespace}");
            objects.push(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": class},
                "spec": {"controllerName": "tidegate.dev/controller",
                    "parametersRef": {"group": "tidegate.dev", "kind": "GatewayConfig", "name": "trusting", "namespace": namespace}}}));
            objects.push(
                json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "GatewayConfig", "metadata": meta("trusting"),
                "spec": {"trustedHops": 1}}),
            );
            class
        } else {
            "tidegate".to_owned()
        };
        let mut gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": meta("gateway"),
            "spec": {"gatewayClassName": class, "listeners": listeners}});
        if run.asks_for_certificates() {
            // Everybody gets as far as the filter, which hears of valid certificates alone.
            gateway["spec"]["tls"] = json!({"frontend": {"default": {"validation": {"mode": "AllowInsecureFallback",
                "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "clients"}]}}}});
            objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("clients"), "data": {"ca.crt": identities.authority}}));
        }
        objects.push(gateway);
        objects.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": meta("upstream"), "spec": {"ports": [{"port": 80}]}}));
        objects.push(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "upstream", "namespace": namespace, "labels": {"kubernetes.io/service-name": "upstream"}},
            "addressType": "IPv4", "ports": [{"port": self.world.upstream.port()}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}]}));
        objects.push(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": meta("route"),
            "spec": {"parentRefs": [{"name": "gateway"}], "rules": [{
                "filters": [{"type": "ExtensionRef", "extensionRef": {"group": "tidegate.dev", "kind": "Filter", "name": FILTER}}],
                "backendRefs": [{"name": "upstream", "port": 80}]}]}}));
        let cluster = |(name, address, _): &(String, SocketAddr, bool)| json!({"name": name, "url": format!("http://{address}/")});
        let mut spec = json!({
            "module": subject.module.source(),
            "clusters": self.world.clusters.iter().map(cluster).collect::<Vec<_>>(),
            "headersWaitForBody": run.case.headers_wait_for_body,
        });
        if let Some(config) = &run.case.config {
            spec["config"] = config.clone();
        }
        if let Some(limit) = &subject.call_timeout {
            spec["limits"] = json!({"callTimeout": limit});
        }
        objects.push(json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "Filter", "metadata": meta(FILTER), "spec": spec}));
    }
}

// === impl Playing ===

impl Target for Playing {
    fn address(&self, request: &Request) -> SocketAddr {
        match self.https {
            Some(https) if request.scheme == "https" => https,
            _ => self.http,
        }
    }

    fn introduce(&self, client: SocketAddr, peer: SocketAddr) -> Vec<u8> {
        self.peers.count_as(client, peer);
        Vec::new()
    }

    fn tls(&self, request: &Request) -> Option<&TlsConnector> {
        (request.scheme == "https").then(|| self.identities.connector(request))
    }

    fn headers(&self, _: &Request) -> Vec<(String, String)> {
        Vec::new()
    }
}

impl Stage for Playing {
    fn advance(&mut self, time: Duration) {
        if let Some(clock) = &mut self.clock {
            *clock += time;
            self.shared.rule_clock(Some(*clock));
        }
    }

    fn is_quiet(&self) -> bool {
        self.stats.contexts.load(Ordering::Relaxed) == 0
    }

    fn logs(&self) -> Vec<String> {
        Guests::of_process().of(&format!("{}/{FILTER}", self.namespace))
    }

    async fn metrics(&self, names: &[&str]) -> BTreeMap<String, i64> {
        let samples = self.shared.metrics();
        let own = samples.iter().filter(|sample| {
            *sample.namespace == *self.namespace && names.contains(&&*sample.name)
        });
        own.filter_map(|sample| {
            let value = match sample.value {
                MetricValue::Counter(value) => i64::try_from(value).unwrap_or(i64::MAX),
                MetricValue::Gauge(value) => value,
                MetricValue::Histogram(_) => return None,
            };
            Some((sample.name.clone(), value))
        })
        .collect()
    }
}
