//! The same cases in a real Envoy: a listener for each run, and one set of servers, since clusters are the whole process's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_filter_cases::Request;
use tidegate_loopback::{Envoy, GuestLine, Line};
use tokio_rustls::TlsConnector;

use super::client::Target;
use super::exchange::{Outcome, Stage, missing_logs, play};
use super::guests::Guests;
use super::identities::Identities;
use super::plan::{Plan, Run};
use super::subject::{Module, Subject};
use super::world::{World, is_there};

const TYPES: &str = "type.googleapis.com/envoy.extensions";
/// How long Envoy may take to start: it compiles the module for every VM id.
const PATIENCE: Duration = Duration::from_secs(180);
/// The file with the listeners, in Envoy's folder. From there, and not from the bootstrap, one that is refused hurts no other.
const LISTENERS: &str = "listeners.json";
/// The header by which this Envoy is told of TLS.
const PROTO: &str = "x-forwarded-proto";

/// Runs everything of a plan that can be run there.
pub(crate) async fn run(plan: &Plan, program: &Path) -> anyhow::Result<Vec<Outcome>> {
    // A cluster speaks either HTTP/1 or gRPC: runs that differ in that cannot be in one process.
    let mut groups: BTreeMap<BTreeMap<String, bool>, Vec<Run<'_>>> = BTreeMap::new();
    for run in plan.in_envoy() {
        groups.entry(run.clusters.clone()).or_default().push(run);
    }
    let mut outcomes = Vec::new();
    for runs in groups.values() {
        let ran = run_group(&plan.subject, runs, program).await;
        outcomes.extend(ran.with_context(|| format!("--envoy {}", program.display()))?);
    }
    outcomes.sort_by_key(|outcome| outcome.case_at);
    Ok(outcomes)
}

async fn run_group(
    subject: &Subject,
    runs: &[Run<'_>],
    program: &Path,
) -> anyhow::Result<Vec<Outcome>> {
    let world = World::start(&runs[0]).await?;
    let (_folder, module) = module_file(&subject.module)?;
    let guests = Guests::default();
    let errors: Arc<Mutex<Vec<String>>> = Arc::default();
    let listeners: Vec<Value> = runs
        .iter()
        .map(|run| listener(subject, run, &module))
        .collect();
    let listeners = json!({"resources": listeners}).to_string();
    let mut envoy = Envoy::start(
        program,
        &bootstrap(&world),
        &[(LISTENERS, listeners)],
        hear(guests.clone(), errors.clone()),
    )?;
    envoy.await_ready(PATIENCE).await.map_err(|error| {
        let said = errors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .join("\n");
        anyhow!("{error}: {said}")
    })?;
    let addresses = envoy.listeners().await;
    let mut outcomes = Vec::new();
    for run in runs {
        let name = name(run);
        let address = addresses.get(&name).copied();
        if let Some(found) = verdict(run, address.is_some(), &guests.of(&name)) {
            outcomes.push(Outcome::new(run, found));
            continue;
        }
        let Some(address) = address else { continue };
        let mut stage = Playing {
            envoy: &envoy,
            guests: &guests,
            name,
            address,
            identities: run.asks_for_certificates().then_some(&*subject.identities),
        };
        let names: Vec<&str> = run.case.metrics.keys().map(String::as_str).collect();
        let before = stage.metrics(&names).await;
        outcomes.push(play(run, &mut stage, &world, &before).await);
        if let Some(ended) = envoy.ended() {
            let said = errors
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .join("\n");
            return Err(anyhow!(
                "it ended ({ended}) at the case {:?}: {said}",
                run.case.name
            ));
        }
    }
    Ok(outcomes)
}

/// What came of a run whose configuration was to be refused, or was refused; nothing where it is to be played.
fn verdict(run: &Run<'_>, taken: bool, logs: &[String]) -> Option<Vec<String>> {
    match &run.case.refused {
        None if taken => None,
        None => Some(vec![format!(
            "the listener is refused; the filter said {logs:?}"
        )]),
        Some(part) if taken => Some(vec![format!(
            "the configuration is taken, expected a refusal with {part:?}"
        )]),
        Some(part) => Some(missing_logs(std::slice::from_ref(part), logs)),
    }
}

/// Sorts what Envoy says: lines of guests by run, and its own errors.
fn hear(guests: Guests, errors: Arc<Mutex<Vec<String>>>) -> impl FnMut(Line<'_>) + Send + 'static {
    move |line| match line {
        Line::First { level, message, .. } => match GuestLine::read(message) {
            Some(guest) => {
                let run = guest.who.split(' ').find(|part| part.starts_with(RUN));
                guests.push(run.unwrap_or_default(), guest.text.to_owned());
            }
            None if matches!(level, "error" | "critical") => note(&errors, message),
            None => {}
        },
        Line::More(line) => note(&errors, line),
    }
}

fn note(errors: &Mutex<Vec<String>>, line: &str) {
    errors
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(line.to_owned());
}

/// The module as a file. The folder goes with what is returned.
fn module_file(module: &Module) -> anyhow::Result<(TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let path = match module {
        Module::File(path) => path.clone(),
        Module::Builtin(filter) => {
            let path = folder.path().join(format!("{}.wasm", filter.name));
            std::fs::write(&path, filter.module)?;
            path
        }
    };
    Ok((folder, path))
}

const RUN: &str = "run-";

fn name(run: &Run<'_>) -> String {
    format!("{RUN}{}", run.case_at)
}

fn bootstrap(world: &World) -> Value {
    let mut clusters = vec![cluster("upstream-of-the-case", world.upstream, false)];
    for (name, address, speaks_grpc) in &world.clusters {
        clusters.push(cluster(name, *address, *speaks_grpc));
    }
    json!({
        "node": {"id": "cases", "cluster": "cases"},
        "admin": {"address": socket(0)},
        "dynamic_resources": {"lds_config": {"path_config_source": {"path": format!("$folder/{LISTENERS}")}}},
        "static_resources": {"clusters": clusters},
    })
}

fn socket(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn cluster(name: &str, address: SocketAddr, http2: bool) -> Value {
    let spoken = if http2 {
        json!({"http2_protocol_options": {}})
    } else {
        json!({"http_protocol_options": {}})
    };
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(address.port())}}]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"), "explicit_http_config": spoken}},
    })
}

fn listener(subject: &Subject, run: &Run<'_>, module: &Path) -> Value {
    let name = name(run);
    let mut config = json!({
        "name": name, "root_id": "",
        "allow_on_headers_stop_iteration": run.case.headers_wait_for_body,
        "vm_config": {"runtime": "envoy.wasm.runtime.v8", "vm_id": name, "code": {"local": {"filename": module}}},
    });
    if run.case.config.is_some() {
        config["configuration"] = json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": run.case.config_text()});
    }
    let routes = json!([
        {"match": {"prefix": "/"}, "route": {"cluster": "upstream-of-the-case", "timeout": "0s"}},
        {"match": {"connect_matcher": {}}, "route": {"cluster": "upstream-of-the-case", "timeout": "0s"}},
    ]);
    let connections = json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "server_header_transformation": "PASS_THROUGH",
        // The peer is who the PROXY line says, and what a case says of forwarding headers stays as it is.
        "use_remote_address": true,
        "preserve_external_request_id": true,
        "skip_xff_append": true,
        "xff_num_trusted_hops": u32::from(!run.is_forwarded()),
        "route_config": {"name": "routes", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {"name": "filter", "typed_config": {"@type": format!("{TYPES}.filters.http.wasm.v3.Wasm"), "config": config}},
            {"name": "router", "typed_config": {"@type": format!("{TYPES}.filters.http.router.v3.Router"), "suppress_envoy_headers": true}},
        ],
    });
    let mut chain = json!({"filters": [{"name": "http", "typed_config": connections}]});
    if run.asks_for_certificates() {
        chain["transport_socket"] = tls(&subject.identities);
    }
    json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name, "address": socket(0),
        "listener_filters": [{"name": "peer", "typed_config": {"@type": format!("{TYPES}.filters.listener.proxy_protocol.v3.ProxyProtocol")}}],
        "filter_chains": [chain],
    })
}

/// TLS that asks for certificates of clients, and does without. One that is shown has to be valid.
fn tls(identities: &Identities) -> Value {
    let text = |text: &str| json!({"inline_string": text});
    json!({"name": "tls", "typed_config": {
        "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
        "require_client_certificate": false,
        "common_tls_context": {
            "tls_certificates": [{"certificate_chain": text(&identities.server_chain), "private_key": text(&identities.server_key)}],
            "validation_context": {"trusted_ca": text(&identities.authority)},
        },
    }})
}

/// A run in this Envoy.
struct Playing<'a> {
    envoy: &'a Envoy,
    guests: &'a Guests,
    name: String,
    address: SocketAddr,
    /// Where its listener speaks TLS; elsewhere the scheme is told by a header alone.
    identities: Option<&'a Identities>,
}

impl Target for Playing<'_> {
    fn address(&self, _: &Request) -> SocketAddr {
        self.address
    }

    fn introduce(&self, _: SocketAddr, peer: SocketAddr) -> Vec<u8> {
        let (family, local) = match peer {
            SocketAddr::V4(_) => ("TCP4", "127.0.0.1"),
            SocketAddr::V6(_) => ("TCP6", "::1"),
        };
        let (ip, port) = (peer.ip(), peer.port());
        format!("PROXY {family} {ip} {local} {port} 80\r\n").into_bytes()
    }

    fn tls(&self, request: &Request) -> Option<&TlsConnector> {
        self.identities
            .map(|identities| identities.connector(request))
    }

    fn headers(&self, request: &Request) -> Vec<(String, String)> {
        let given: Vec<(String, String)> = request
            .headers
            .keys()
            .map(|name| (name.clone(), String::new()))
            .collect();
        if is_there(&given, PROTO) {
            return Vec::new();
        }
        vec![(PROTO.to_owned(), request.scheme.clone())]
    }
}

impl Stage for Playing<'_> {
    fn advance(&mut self, _: Duration) {
        // Cases that rule the clock are not run here.
    }

    fn is_quiet(&self) -> bool {
        // It has one VM for all streams, and calls it in their order.
        true
    }

    fn logs(&self) -> Vec<String> {
        self.guests.of(&self.name)
    }

    async fn metrics(&self, names: &[&str]) -> BTreeMap<String, i64> {
        if names.is_empty() {
            return BTreeMap::new();
        }
        let page = self.envoy.admin("/stats?filter=^wasmcustom").await;
        let values = page.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("wasmcustom.")?.split_once(": ")?;
            let value = value.trim().parse().ok()?;
            names.contains(&name).then(|| (name.to_owned(), value))
        });
        values.collect()
    }
}
