//! A real Envoy as a process: one listener for each case, on a port of its own choice.

mod config;

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::case::Case;
use crate::exchange::Host;
use crate::journal::{Journal, Line};
use crate::message::Reader;
use crate::modules;
use crate::upstream::Upstream;

/// How long Envoy may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running Envoy. It is killed when it is dropped.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    journal: Arc<Journal>,
    listeners: HashMap<String, SocketAddr>,
    upstreams: HashMap<String, Upstream>,
    callouts: HashMap<String, Upstream>,
    admin: SocketAddr,
    _folder: TempDir,
}

impl Envoy {
    /// Starts one with a listener, an upstream and a callout cluster for each case, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(cases: &[Case]) -> Self {
        let started = Self::try_start(cases).await;
        started.unwrap_or_else(|ended| panic!("Envoy ended ({ended}); what it said stands above"))
    }

    /// The same.
    ///
    /// # Errors
    /// How it ended, if it did not start.
    ///
    /// # Panics
    /// When it neither starts nor ends.
    pub async fn try_start(cases: &[Case]) -> Result<Self, String> {
        let journal = Journal::new();
        let mut upstreams = HashMap::new();
        let mut callouts = HashMap::new();
        for case in cases {
            let plugins: Vec<String> = (0..case.plugins.len())
                .map(|at| case.plugin_name(at))
                .collect();
            let upstream =
                Upstream::start(case.upstream.clone(), journal.clone(), plugins.clone()).await;
            upstreams.insert(case.case.clone(), upstream);
            if !case.callout.is_empty() {
                let callout = Upstream::start(case.callout.clone(), journal.clone(), plugins).await;
                callouts.insert(case.case.clone(), callout);
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let text = config::bootstrap(cases, &upstreams, &callouts).to_string();
        let config = folder.path().join("envoy.json");
        std::fs::write(&config, text).expect("written");
        let said = folder.path().join("admin");
        let names = cases
            .iter()
            .flat_map(|case| (0..case.plugins.len()).map(|at| case.plugin_name(at)));
        let child = start(&config, &said, &journal, names.collect());
        let mut envoy = Self {
            child,
            journal,
            listeners: HashMap::new(),
            upstreams,
            callouts,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            _folder: folder,
        };
        envoy.await_ready(&said).await?;
        Ok(envoy)
    }

    async fn await_ready(&mut self, said: &Path) -> Result<(), String> {
        let address = || std::fs::read_to_string(said).ok()?.trim().parse().ok();
        // Envoy compiles a module for every VM id before it serves: longer than tests usually wait.
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(ended) = self.ended() {
                return Err(ended);
            }
            if let Some(address) = address() {
                self.admin = address;
                if self.admin("/ready").await.contains("LIVE") {
                    break;
                }
            }
            assert!(
                Instant::now() < end,
                "Envoy is not ready after {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let listeners: Value = serde_json::from_str(&self.admin("/listeners?format=json").await)
            .expect("a list of listeners");
        for listener in listeners["listener_statuses"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let socket = &listener["local_address"]["socket_address"];
            let port = socket["port_value"]
                .as_u64()
                .and_then(|port| u16::try_from(port).ok())
                .expect("a port");
            let name = listener["name"].as_str().expect("a name").to_owned();
            self.listeners
                .insert(name, SocketAddr::from(([127, 0, 0, 1], port)));
        }
        Ok(())
    }

    /// A page of its administration; empty if it does not answer.
    pub async fn admin(&self, page: &str) -> String {
        let read = async {
            let mut stream = TcpStream::connect(self.admin).await.ok()?;
            let request =
                format!("GET {page} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut reader = Reader::new(stream).within(PATIENCE);
            let mut answer = reader.head().await?;
            reader.response_body(&mut answer, "GET").await;
            Some(String::from_utf8_lossy(&answer.body).into_owned())
        };
        read.await.unwrap_or_default()
    }

    /// How it ended, if it did.
    ///
    /// # Panics
    /// When the system does not know.
    pub fn ended(&mut self) -> Option<String> {
        self.child
            .try_wait()
            .expect("our own child")
            .map(|status| status.to_string())
    }
}

impl Host for Envoy {
    fn address(&self, case: &Case) -> SocketAddr {
        *self
            .listeners
            .get(&case.case)
            .unwrap_or_else(|| panic!("Envoy has no listener for {}", case.case))
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn upstream(&self, case: &Case) -> &Upstream {
        &self.upstreams[&case.case]
    }

    fn callout(&self, case: &Case) -> Option<&Upstream> {
        self.callouts.get(&case.case)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // One that has ended needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(config: &Path, admin: &Path, journal: &Arc<Journal>, names: HashSet<String>) -> Child {
    let mut command = Command::new(modules::envoy());
    command
        .arg("--config-path")
        .arg(config)
        .arg("--admin-address-path")
        .arg(admin)
        .args([
            "--concurrency",
            "1",
            "--use-dynamic-base-id",
            "--log-level",
            "error",
        ])
        .args([
            "--component-log-level",
            "wasm:debug",
            "--log-format",
            "\u{1}%t\u{1}%l\u{1}%n\u{1}%v",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("Envoy does not start: {error}"));
    let stderr = child.stderr.take().expect("it is piped");
    let (journal, main) = (journal.clone(), child.id().to_string());
    thread::spawn(move || {
        let mut skipping = true;
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            let Some(rest) = line.strip_prefix('\u{1}') else {
                if !skipping {
                    journal.go_on(&line);
                }
                continue;
            };
            let parts: Vec<&str> = rest.splitn(4, '\u{1}').collect();
            let [thread, level, _, message] = parts[..] else {
                continue;
            };
            let guest = guest_line(&names, level, message);
            // The main thread has a VM of its own, which sees no requests.
            skipping = guest.is_none() || thread == main;
            match guest {
                Some(line) if !skipping => journal.push(line),
                Some(_) => {}
                None if level == "error" || level == "critical" => eprintln!("envoy: {message}"),
                None => {}
            }
        }
    });
    child
}

/// What a guest said, out of `wasm log <name> [<root id> ][<vm id>]: <text>`. Root contexts leave out the name; then it is in one of
/// the ids.
fn guest_line(names: &HashSet<String>, level: &str, message: &str) -> Option<Line> {
    let rest = message.strip_prefix("wasm log ")?;
    let (who, text) = rest
        .split_once(": ")
        .or_else(|| Some((rest.strip_suffix(':')?, "")))?;
    let known = who
        .split(' ')
        .find(|part| names.contains(*part))
        .map(str::to_owned);
    let begins = || names.iter().find(|name| who.starts_with(*name)).cloned();
    let plugin = known.or_else(begins)?;
    Some(Line {
        plugin,
        level: level.to_owned(),
        text: text.to_owned(),
    })
}
