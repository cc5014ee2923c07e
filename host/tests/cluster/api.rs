//! A real API server for tests: the cluster that the scripts beside this file start and end.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_testing::Process;
use tokio::time::{Instant, sleep};

/// How long a test waits for what must come. Some of it takes half a minute by design.
const PATIENCE: Duration = Duration::from_secs(90);

/// A cluster that is up. It ends when the last test lets go of it.
#[derive(Debug)]
pub(super) struct Cluster {
    name: String,
    pub(super) kubeconfig: String,
}

impl Cluster {
    /// One that tests share. Each keeps to its own names.
    pub(super) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = shared.upgrade() {
            return cluster;
        }
        let cluster = Arc::new(Self::start("shared", "experimental"));
        *shared = Arc::downgrade(&cluster);
        cluster
    }

    /// One of its own; `crds` is the channel, or `none`.
    pub(super) fn start(name: &str, crds: &str) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        // The one before may still be on its way down when the next is wanted.
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{name}-{}-{number}", std::process::id());
        let printed = script("up", &["--crds", crds], &name);
        let kubeconfig = printed
            .lines()
            .find_map(|line| line.strip_prefix("export KUBECONFIG="))
            .unwrap_or_else(|| panic!("up says where the kubeconfig is: {printed}"));
        Self {
            kubeconfig: kubeconfig.to_owned(),
            name,
        }
    }

    /// Runs a script beside this file.
    pub(super) fn script(&self, script_name: &str, arguments: &[&str]) -> String {
        script(script_name, arguments, &self.name)
    }

    /// Runs kubectl as administrator.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        run(self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binaries().join("kubectl"));
        command
            .args(["--kubeconfig", &self.kubeconfig])
            .args(arguments);
        command
    }

    /// Applies objects.
    pub(super) fn apply(&self, objects: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), list).unwrap();
        self.apply_file(file.path());
    }

    /// Applies a file of manifests.
    pub(super) fn apply_file(&self, path: &Path) {
        let path = path.display().to_string();
        let applied = self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &path]);
        applied.unwrap_or_else(|error| panic!("apply: {error}"));
    }

    /// An object, if it is there.
    pub(super) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let found = self
            .kubectl(&["get", kind, name, "-n", namespace, "-o", "json"])
            .ok()?;
        serde_json::from_str(&found).ok()
    }

    /// A kubeconfig of a service account.
    pub(super) fn account(&self, namespace: &str, name: &str) -> String {
        self.kubeconfig_of(
            namespace,
            name,
            &format!("token: {}", self.token(namespace, name)),
        )
    }

    /// The same with the token in a file, which is read again and again.
    pub(super) fn account_with_file(&self, namespace: &str, name: &str, file: &Path) -> String {
        std::fs::write(file, self.token(namespace, name)).unwrap();
        self.kubeconfig_of(namespace, name, &format!("tokenFile: {}", file.display()))
    }

    fn token(&self, namespace: &str, name: &str) -> String {
        let arguments = ["create", "token", name, "-n", namespace, "--duration", "1h"];
        self.kubectl(&arguments).unwrap().trim().to_owned()
    }

    fn kubeconfig_of(&self, namespace: &str, name: &str, user: &str) -> String {
        let text = std::fs::read_to_string(&self.kubeconfig).unwrap();
        let cluster = text
            .lines()
            .find(|line| line.starts_with("clusters:"))
            .unwrap();
        let path =
            Path::new(&self.kubeconfig).with_file_name(format!("{namespace}-{name}.kubeconfig"));
        let text = format!(
            "apiVersion: v1\nkind: Config\n{cluster}\nusers: [{{name: u, user: {{{user}}}}}]\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\ncurrent-context: c\n"
        );
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.script("down", &[]);
    }
}

/// A namespace and a class of one's own in a cluster, and a range of loopback addresses for its Gateways.
pub(super) struct Site {
    pub(super) cluster: Arc<Cluster>,
    pub(super) name: String,
    pub(super) pool: String,
    http_port: tidegate_testing::Port,
}

impl Site {
    pub(super) fn new(cluster: Arc<Cluster>, name: &str, number: u8) -> Self {
        let site = Self {
            cluster,
            name: name.to_owned(),
            pool: format!("127.{}.{}.0/24", 64 + std::process::id() % 128, number),
            http_port: tidegate_testing::Port::reserve(),
        };
        site.cluster
            .apply(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})]);
        site
    }

    /// The classes of this site.
    pub(super) fn classes(&self) -> Vec<Value> {
        let controller = self.controller();
        vec![
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": self.name},
                "spec": {"controllerName": controller}}),
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": self.name},
                "spec": {"controller": controller}}),
        ]
    }

    pub(super) fn controller(&self) -> String {
        format!("tidegate.dev/{}", self.name)
    }

    /// Starts `tidegate serve --kubernetes` for this site alone, without waiting until it is ready.
    pub(super) fn start(&self, more: &[&str]) -> Process {
        self.start_as(
            &self.cluster.kubeconfig,
            &["--controller-name", &self.controller()],
            more,
        )
    }

    /// The same with another kubeconfig and controller.
    pub(super) fn start_as(&self, kubeconfig: &str, class: &[&str], more: &[&str]) -> Process {
        let mut arguments = vec!["--address-pool", &self.pool];
        arguments.extend(class);
        arguments.extend(more);
        self.run(kubeconfig, &arguments)
    }

    /// The same for Gateways that get no address from a pool.
    pub(super) fn start_without_pool(&self, kubeconfig: &str, more: &[&str]) -> Process {
        // Port 8080 of all addresses may be anybody's.
        let own = format!("127.{}.200.1", 64 + std::process::id() % 128);
        let arguments = [&["--bind", &own], more].concat();
        self.run(kubeconfig, &arguments)
    }

    fn run(&self, kubeconfig: &str, more: &[&str]) -> Process {
        let http_port = self.http_port.number().to_string();
        let mut arguments = vec!["--kubernetes", "--health", "off", "--http-port", &http_port];
        arguments.extend(more);
        let environment = [("KUBECONFIG", kubeconfig), ("POD_NAMESPACE", &self.name)];
        Process::start_with(env!("CARGO_BIN_EXE_tidegate"), &arguments, &environment)
    }

    /// The Ingress traffic's address.
    pub(super) fn ingress(&self) -> SocketAddr {
        self.http_port.address()
    }

    /// Where a Gateway is reached, once its status says so and calls it programmed.
    pub(super) async fn programmed(&self, gateway: &str) -> IpAddr {
        let mut found = None;
        until(&format!("Gateway {gateway} is programmed"), || {
            let object = self.get("gateway", gateway).unwrap_or_default();
            let address = object["status"]["addresses"][0]["value"]
                .as_str()
                .and_then(|text| text.parse().ok());
            found = address.filter(|_| holds(&object["status"]["conditions"], "Programmed"));
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    pub(super) fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.cluster.get(kind, &self.name, name)
    }

    pub(super) fn gateway(&self, name: &str, listeners: &Value) -> Value {
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": name, "namespace": self.name},
            "spec": {"gatewayClassName": self.name, "listeners": listeners}})
    }

    pub(super) fn route(&self, name: &str, gateway: &str, rules: &Value) -> Value {
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name, "namespace": self.name},
            "spec": {"parentRefs": [{"name": gateway}], "rules": rules}})
    }

    /// A Service with the endpoint `at`.
    pub(super) fn service(&self, name: &str, at: SocketAddr) -> Vec<Value> {
        vec![
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": self.name},
                "spec": {"ports": [{"port": 80}]}}),
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": name, "namespace": self.name, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4", "ports": [{"port": at.port()}], "endpoints": [{"addresses": [at.ip()]}]}),
        ]
    }
}

/// A backend at an address that endpoints may have: neither API servers nor gateways take loopback.
pub(super) async fn backend(name: &str) -> (SocketAddr, Process) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Chooses a source address; nothing is sent.
    socket
        .connect("192.0.2.1:9")
        .expect("a route to somewhere, and so an address that is not loopback");
    let own = socket.local_addr().unwrap().ip();
    let at = TcpListener::bind((own, 0)).unwrap().local_addr().unwrap();
    let process = Process::echo(env!("CARGO_BIN_EXE_tidegate"), at, name).await;
    (at, process)
}

/// Whether a condition is true.
pub(super) fn holds(conditions: &Value, kind: &str) -> bool {
    let mut conditions = conditions.as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// Waits until something holds that nothing announces.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "{what}: did not happen within {PATIENCE:?}"
        );
        // Most of these start a kubectl, and tests run beside each other.
        sleep(Duration::from_millis(200)).await;
    }
}

/// The same for what is awaited.
pub(super) async fn until_async(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(
            Instant::now() < deadline,
            "{what}: did not happen within {PATIENCE:?}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// The repository.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster")
}

/// Where etcd, kubectl and their like are.
pub(super) fn binaries() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("cluster/bin")
}

fn script(name: &str, arguments: &[&str], cluster: &str) -> String {
    let mut command = Command::new(scripts().join(name));
    command.args(arguments).env("NAME", cluster);
    run(command).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn run(mut command: Command) -> Result<String, String> {
    // Not through pipes: what a script leaves running would keep them open.
    let (out, err) = (
        tempfile::NamedTempFile::new().unwrap(),
        tempfile::NamedTempFile::new().unwrap(),
    );
    let status = command
        .stdin(Stdio::null())
        .stdout(out.reopen().unwrap())
        .stderr(err.reopen().unwrap())
        .status()
        .map_err(|error| error.to_string())?;
    let read =
        |file: &tempfile::NamedTempFile| std::fs::read_to_string(file.path()).unwrap_or_default();
    if status.success() {
        Ok(read(&out))
    } else {
        Err(read(&err))
    }
}
