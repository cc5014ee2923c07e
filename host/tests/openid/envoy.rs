//! A real Envoy with bundled filters: one listener for each, on ports of its own choice.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_testing::{Wire, eventually};

/// A running Envoy. It is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Envoy {
    process: Child,
    /// Where the listeners are, in the order of the filters.
    pub(super) listeners: Vec<SocketAddr>,
    _folder: TempDir,
}

/// Brought by `host/differential/set-up`.
const PROGRAM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../target/differential/venv/bin/envoy"
);

impl Envoy {
    /// Starts one with these filters (names and configurations), an upstream, and the cluster `idp`.
    pub(super) async fn start(
        filters: &[(&str, &Value)],
        up: SocketAddr,
        idp: SocketAddr,
        workers: usize,
    ) -> Self {
        assert!(
            Path::new(PROGRAM).exists(),
            "Envoy is missing: host/differential/set-up brings it"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let mut listeners = Vec::new();
        for (name, config) in filters {
            let module = tidegate_filters::get(name)
                .expect("a bundled filter")
                .module;
            let file = folder.path().join(format!("{name}.wasm"));
            std::fs::write(&file, module).expect("written");
            listeners.push(listener(name, &file, config));
        }
        let bootstrap = json!({
            "admin": {"address": socket(([127, 0, 0, 1], 0).into())},
            "static_resources": {
                "listeners": listeners,
                "clusters": [cluster("up", up), cluster("idp", idp)],
            },
        });
        let config = folder.path().join("envoy.json");
        std::fs::write(&config, bootstrap.to_string()).expect("written");
        let said = folder.path().join("admin");
        let process = Command::new(PROGRAM)
            .arg("-c")
            .arg(&config)
            .args(["--concurrency", &workers.to_string()])
            .args(["--use-dynamic-base-id", "-l", "error"])
            .arg("--admin-address-path")
            .arg(&said)
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut envoy = Self {
            process,
            listeners: Vec::new(),
            _folder: folder,
        };
        envoy.await_ready(&said, filters).await;
        envoy
    }

    async fn await_ready(&mut self, said: &Path, filters: &[(&str, &Value)]) {
        let address = || -> Option<SocketAddr> {
            let text = std::fs::read_to_string(said).ok()?;
            text.trim().parse().ok()
        };
        let mut admin;
        eventually!(
            {
                let ended = self.process.try_wait().expect("it is a child");
                assert_eq!(ended, None, "Envoy ended; what it said stands above");
                admin = address();
                match admin {
                    Some(admin) => get(admin, "/ready").await.contains("LIVE"),
                    None => false,
                }
            },
            "Envoy is ready"
        );
        let admin = admin.expect("it is ready");
        let list = get(admin, "/listeners?format=json").await;
        let list: Value = serde_json::from_str(&list).expect("a list");
        for (name, _) in filters {
            let statuses = list["listener_statuses"].as_array().expect("a list");
            let status = statuses.iter().find(|status| status["name"] == **name);
            let port =
                &status.expect("each listener")["local_address"]["socket_address"]["port_value"];
            let port = port.as_u64().and_then(|port| port.try_into().ok());
            self.listeners
                .push(([127, 0, 0, 1], port.expect("a port")).into());
        }
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn get(address: SocketAddr, target: &str) -> String {
    let mut wire = Wire::connect(address).await;
    wire.send(format!("GET {target} HTTP/1.1\r\nhost: admin\r\n\r\n"))
        .await;
    wire.answer().await.text().to_owned()
}

fn socket(address: SocketAddr) -> Value {
    let (ip, port) = (address.ip().to_string(), address.port());
    json!({"socket_address": {"address": ip, "port_value": port}})
}

fn cluster(name: &str, address: SocketAddr) -> Value {
    let endpoint = json!({"endpoint": {"address": socket(address)}});
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    })
}

fn listener(name: &str, module: &Path, config: &Value) -> Value {
    const TYPES: &str = "type.googleapis.com";
    let plugin = json!({
        "name": name,
        "vm_config": {
            "vm_id": name,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module}},
        },
        "configuration": {
            "@type": format!("{TYPES}/google.protobuf.StringValue"),
            "value": config.to_string(),
        },
    });
    let http = format!("{TYPES}/envoy.extensions.filters.http");
    let manager = json!({
        "@type": format!("{TYPES}/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "up"}}],
        }]},
        "http_filters": [
            {"name": name, "typed_config": {"@type": format!("{http}.wasm.v3.Wasm"), "config": plugin}},
            {"name": "router", "typed_config": {"@type": format!("{http}.router.v3.Router")}},
        ],
    });
    json!({
        "name": name,
        "address": socket(([127, 0, 0, 1], 0).into()),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    })
}
