//! The gateway in process: the real controller, loader and data plane, put together as `tidegate serve` puts them together,
//! except that a change is brought in when the test says so and not when a file watcher does.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tempfile::TempDir;
use tidegate_controller::manifests::Manifests;
use tidegate_controller::translate::{Options, translate};
use tidegate_model::{FailureCause, FilterId, FilterSpec};
use tidegate_modules::{Loaded, Loader, Settings as LoaderSettings, State};
use tidegate_proxy::{
    AccessLog, FilterState, Instances, Limits, Plugin, PluginStats, Proxy, ProxyConfig, Trust,
};
use tidegate_wasm::{MetricValue, Shared};

use crate::{Answer, Port, Wire, manifests, within};

/// A gateway under construction.
#[derive(Debug, Default)]
pub struct Builder {
    config: ProxyConfig,
    loading: LoaderSettings,
    files: Vec<(String, Vec<u8>)>,
}

/// A running gateway. Listener ports 80, 443 and 8080 are bound to free ports of 127.0.0.1.
pub struct Gateway {
    proxy: Arc<Proxy>,
    loader: Arc<Loader>,
    log: Lines,
    folder: TempDir,
    ports: BTreeMap<u16, Port>,
    control: Mutex<Control>,
}

/// The access log, kept in memory.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

struct Control {
    manifests: Manifests,
    options: Options,
    plugins: HashMap<FilterId, Arc<Plugin>>,
    stats: HashMap<FilterId, Arc<PluginStats>>,
    status: Value,
}

// === impl Builder ===

impl Builder {
    /// Whose forwarding headers count.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.config.trust = trust;
        self
    }

    /// Bounds towards clients.
    #[must_use]
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.config.limits);
        self
    }

    /// Data-plane threads; one unless given, so that pools and turns can be counted.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.config.workers = workers;
        self
    }

    /// Requests that may be in an instance of one filter with `isolation: Request` at the same time.
    #[must_use]
    pub fn instances(mut self, instances: usize) -> Self {
        self.loading.instances = instances;
        self
    }

    /// A file beside the manifests, a module for example.
    #[must_use]
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.to_owned(), content.into()));
        self
    }

    /// Serves these manifests.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn start(self, manifests: &str) -> Gateway {
        let folder = tempfile::tempdir().expect("a folder");
        let ports: BTreeMap<u16, Port> = [80, 443, 8080].map(|port| (port, Port::reserve())).into();
        let options = Options {
            bind: vec![Ipv4Addr::LOCALHOST.into()],
            port_map: ports
                .iter()
                .map(|(port, reserved)| (*port, reserved.number()))
                .collect(),
            http_port: ports[&80].number(),
            https_port: ports[&443].number(),
            ..Options::default()
        };
        let paths: [PathBuf; 1] = [folder.path().to_owned()];
        let control = Control {
            manifests: Manifests::new(&paths),
            options,
            plugins: HashMap::new(),
            stats: HashMap::new(),
            status: Value::Null,
        };
        let log = Lines::default();
        let (access_log, _) = AccessLog::start(log.clone()).expect("a thread");
        let proxy = Arc::new(Proxy::start(self.config, Some(&access_log)).expect("threads"));
        let loader = Loader::with(Shared::new(), &self.loading);
        let gateway = Gateway {
            proxy,
            loader,
            log,
            folder,
            ports,
            control: Mutex::new(control),
        };
        for (name, content) in self.files {
            std::fs::write(gateway.folder.path().join(name), content).expect("written");
        }
        gateway.write("test.yaml", manifests).await;
        gateway
    }
}

// === impl Gateway ===

impl Gateway {
    /// Serves these manifests with the defaults.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn start(manifests: &str) -> Self {
        Self::builder().start(manifests).await
    }

    /// Sends everything to one endpoint.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn to(endpoint: SocketAddr) -> Self {
        Self::start(&manifests::everything_to(endpoint)).await
    }

    /// Sends everything to one endpoint, past a Filter `f` whose module is this [`guest`](crate::guest()); `spec` is more of its spec.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn past(endpoint: SocketAddr, wat: &str, spec: &str) -> Self {
        let manifest = manifests::past(endpoint, &["f"], spec);
        let builder = Self::builder().file("f.wasm", crate::guest(wat));
        builder.start(&manifest).await
    }

    /// A gateway with other settings than the defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Writes a manifest beside the others, or in place of the one of that name, and serves the outcome before it returns.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub async fn write(&self, name: &str, manifest: &str) {
        std::fs::write(self.folder.path().join(name), manifest).expect("written");
        self.apply().await;
    }

    /// The manifests it was started with, as they are now.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn manifest(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("test.yaml")).expect("it was written")
    }

    /// Reads the manifests, waits for their filters' verdicts, and publishes.
    ///
    /// # Panics
    /// When an address cannot be bound, or a filter gets no verdict.
    pub async fn apply(&self) {
        let filters = {
            let mut control = self.control();
            control.manifests.reload();
            control.translation(&self.loader).snapshot.filters
        };
        let mut changes = self.loader.changes();
        self.loader.want(&filters);
        while self.loader.is_loading(&filters) {
            within("a verdict on every filter", changes.changed())
                .await
                .expect("the loader lives");
        }
        let mut control = self.control();
        let mut translation = control.translation(&self.loader);
        let snapshot = Arc::new(std::mem::take(&mut translation.snapshot));
        let states = control.states(&self.loader, &snapshot.filters);
        let errors = self.proxy.publish(snapshot, states);
        assert!(errors.is_empty(), "{errors:?}");
        control.status = serde_json::to_value(&translation.statuses).expect("plain data");
    }

    /// Where a listener's port is bound.
    ///
    /// # Panics
    /// When it is none of those that are kept free.
    pub fn address(&self, port: u16) -> SocketAddr {
        self.ports[&port].address()
    }

    /// Where port 80 is bound.
    pub fn http(&self) -> SocketAddr {
        self.address(80)
    }

    /// Where port 443 is bound.
    pub fn https(&self) -> SocketAddr {
        self.address(443)
    }

    /// A connection to port 80.
    pub async fn connect(&self) -> Wire {
        Wire::connect(self.http()).await
    }

    /// GET on a connection of its own.
    pub async fn get(&self, host: &str, path: &str) -> Answer {
        self.send(format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    /// Bytes on a connection of their own, and the answer to them.
    pub async fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        let request = request.as_ref();
        let mut wire = self.connect().await;
        wire.send(request).await;
        let is_head = request.starts_with(b"HEAD ");
        wire.answer_to(if is_head { "HEAD" } else { "GET" }).await
    }

    /// The lines of the access log so far. The workers hand them over once a second.
    ///
    /// # Panics
    /// When one is not JSON.
    pub fn log(&self) -> Vec<Value> {
        let bytes = self
            .log
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let text = String::from_utf8(bytes).expect("text");
        let line =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        text.lines().map(line).collect()
    }

    /// The counters of a filter in namespace `default`.
    ///
    /// # Panics
    /// When there is none of that name that can run.
    pub fn filter(&self, name: &str) -> Arc<PluginStats> {
        let id = FilterId {
            namespace: "default".into(),
            name: name.into(),
        };
        self.control()
            .stats
            .get(&id)
            .cloned()
            .unwrap_or_else(|| panic!("no filter {name}"))
    }

    /// Stream contexts alive of a filter.
    pub fn contexts(&self, name: &str) -> i64 {
        self.filter(name).contexts.load(Ordering::Relaxed)
    }

    /// What the data plane counts, as Prometheus reads it; the value of the series of this name and labels.
    ///
    /// # Panics
    /// When there is none.
    pub fn metric(&self, series: &str) -> f64 {
        let mut text = String::new();
        self.proxy.write_metrics(&mut text);
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in {text}"))
    }

    /// A counter that a filter has defined, over all workers.
    pub fn guest_counter(&self, name: &str) -> u64 {
        let samples = self.loader.shared().metrics();
        let value = samples
            .iter()
            .filter(|sample| sample.name == name)
            .map(|sample| match &sample.value {
                MetricValue::Counter(value) => *value,
                _ => 0,
            });
        value.sum()
    }

    /// Shared data, queues and metrics of the filters.
    pub fn shared(&self) -> &Shared {
        self.loader.shared()
    }

    /// What is said about the objects.
    pub fn status(&self) -> Value {
        self.control().status.clone()
    }

    /// The data plane itself.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    fn control(&self) -> std::sync::MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl Control ===

impl Control {
    fn translation(&mut self, loader: &Loader) -> tidegate_controller::translate::Translation {
        let resources = self.manifests.reload().resources;
        translate(&resources, &loader.verdicts(), &self.options)
    }

    fn states(&mut self, loader: &Loader, filters: &[Arc<FilterSpec>]) -> Vec<FilterState> {
        let states = loader.states(filters);
        let state = |(spec, state): (&Arc<FilterSpec>, State)| match state {
            State::Ready(loaded) => FilterState::Ready(self.plugin(&loaded, loader)),
            State::Failed { cause, message } => FilterState::Unavailable { cause, message },
            State::Loading => FilterState::Unavailable {
                cause: FailureCause::Load,
                message: spec.id.to_string().into(),
            },
        };
        filters.iter().zip(states).map(state).collect()
    }

    /// An unchanged plugin stays the same for the data plane.
    fn plugin(&mut self, loaded: &Arc<Loaded>, loader: &Loader) -> Arc<Plugin> {
        let id = &loaded.spec.id;
        if let Some(known) = self.plugins.get(id)
            && Arc::ptr_eq(&known.root, &loaded.root)
        {
            return known.clone();
        }
        let stats = self.stats.entry(id.clone()).or_default().clone();
        let plugin = Arc::new(Plugin {
            spec: loaded.spec.clone(),
            module: loaded.module.clone(),
            digest: loaded.digest.clone(),
            vm: loaded.vm.clone(),
            root: loaded.root.clone(),
            shared: loader.shared().clone(),
            start_cpu: loaded.trial.cpu,
            resident: loaded.trial.resident,
            snapshot: loaded.trial.snapshot.clone(),
            instances: Instances::new(loaded.trial.instances),
            breaker: stats.new_version(),
            stats,
        });
        self.plugins.insert(id.clone(), plugin.clone());
        plugin
    }
}
