//! A real Envoy as a process, and what it says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::message::Reader;

/// How long a page of its administration may take.
const PAGE: Duration = Duration::from_secs(60);
/// How often a process that starts is asked whether it is ready.
const LOOK: Duration = Duration::from_millis(10);
/// Begins a line of its log, and stands between the parts of one: no guest writes it.
const MARK: char = '\u{1}';

/// A running Envoy with one worker. It is killed when it is dropped.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    admin: SocketAddr,
    folder: TempDir,
}

/// Why there is no Envoy.
#[derive(Debug, thiserror::Error)]
pub enum EnvoyError {
    /// The program did not start.
    #[error("{program} does not start: {error}")]
    Start {
        /// Its path.
        program: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// Its configuration could not be written.
    #[error("its configuration cannot be written: {0}")]
    Write(#[from] std::io::Error),
    /// It ended before it served.
    #[error("it ended before it served ({0})")]
    Ended(String),
    /// It did not serve in time.
    #[error("it does not serve after {0:?}")]
    Slow(Duration),
}

/// A record of its log. Further lines of a record come by themselves, without thread and level.
#[derive(Clone, Copy, Debug)]
pub enum Line<'a> {
    /// A record, or its first line.
    First {
        /// Whether the main thread wrote it; it has VMs of its own, which see no requests.
        main: bool,
        /// `debug`, `warning` and so on.
        level: &'a str,
        /// What it says.
        message: &'a str,
    },
    /// More of the record before.
    More(&'a str),
}

/// What a guest logged: `wasm log <name> [<root id> ][<vm id>]: <text>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestLine<'a> {
    /// Name, root id and VM id as far as they were told. Root contexts leave the name out.
    pub who: &'a str,
    /// What it said.
    pub text: &'a str,
}

// === impl Envoy ===

impl Envoy {
    /// Starts one with this bootstrap configuration, which goes into a folder of its own together with `files` (names and
    /// contents; the word `$folder` in the configuration stands for the folder). `hear` gets what it says. Nothing says that
    /// it serves yet: see [`await_ready`](Self::await_ready).
    ///
    /// # Errors
    /// When a file cannot be written, or the program not be started.
    pub fn start(
        program: &Path,
        bootstrap: &Value,
        files: &[(&str, String)],
        hear: impl FnMut(Line<'_>) + Send + 'static,
    ) -> Result<Self, EnvoyError> {
        let folder = tempfile::tempdir()?;
        let place = folder.path().display().to_string();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content.replace("$folder", &place))?;
        }
        let config = folder.path().join("envoy.json");
        std::fs::write(&config, bootstrap.to_string().replace("$folder", &place))?;
        let child = spawn(program, &config, &folder.path().join("admin"), hear)?;
        Ok(Self {
            child,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            folder,
        })
    }

    /// Waits until it serves. Envoy compiles a module for every VM id before it does.
    ///
    /// # Errors
    /// When it ends, or does not serve in time.
    pub async fn await_ready(&mut self, patience: Duration) -> Result<(), EnvoyError> {
        let said = self.folder.path().join("admin");
        let address = || std::fs::read_to_string(&said).ok()?.trim().parse().ok();
        let end = Instant::now() + patience;
        loop {
            if let Some(ended) = self.ended() {
                return Err(EnvoyError::Ended(ended));
            }
            if let Some(address) = address() {
                self.admin = address;
                if self.admin("/ready").await.contains("LIVE") {
                    return Ok(());
                }
            }
            if Instant::now() >= end {
                return Err(EnvoyError::Slow(patience));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Its listeners by name, with the ports that they got.
    pub async fn listeners(&self) -> BTreeMap<String, SocketAddr> {
        let page = self.admin("/listeners?format=json").await;
        let page: Value = serde_json::from_str(&page).unwrap_or_default();
        let all = page["listener_statuses"].as_array().into_iter().flatten();
        all.filter_map(|listener| {
            let port = listener["local_address"]["socket_address"]["port_value"].as_u64()?;
            let port = u16::try_from(port).ok()?;
            let name = listener["name"].as_str()?.to_owned();
            Some((name, SocketAddr::from(([127, 0, 0, 1], port))))
        })
        .collect()
    }

    /// A page of its administration; empty if it does not answer.
    pub async fn admin(&self, page: &str) -> String {
        let read = async {
            let mut stream = TcpStream::connect(self.admin).await.ok()?;
            let request =
                format!("GET {page} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut reader = Reader::new(stream).within(PAGE);
            let mut answer = reader.head().await?;
            reader.response_body(&mut answer, "GET").await;
            Some(String::from_utf8_lossy(&answer.body).into_owned())
        };
        read.await.unwrap_or_default()
    }

    /// How it ended, if it did, or that nobody knows.
    pub fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(status) => status.map(|status| status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // One that has ended needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(
    program: &Path,
    config: &Path,
    admin: &Path,
    mut hear: impl FnMut(Line<'_>) + Send + 'static,
) -> Result<Child, EnvoyError> {
    let mut command = Command::new(program);
    command
        .arg("--config-path")
        .arg(config)
        .arg("--admin-address-path")
        .arg(admin)
        .args(["--concurrency", "1", "--use-dynamic-base-id"])
        .args(["--log-level", "error"])
        .args(["--component-log-level", "wasm:debug"])
        .args(["--log-format", &format!("{MARK}%t{MARK}%l{MARK}%n{MARK}%v")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| EnvoyError::Start {
        program: program.display().to_string(),
        error,
    })?;
    let stderr = child.stderr.take().expect("it is piped");
    let main = child.id().to_string();
    thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            hear(Line::read(&line, &main));
        }
    });
    Ok(child)
}

// === impl Line ===

impl<'a> Line<'a> {
    fn read(line: &'a str, main: &str) -> Self {
        let parts = line
            .strip_prefix(MARK)
            .map(|rest| rest.splitn(4, MARK).collect::<Vec<_>>());
        match parts.as_deref() {
            Some([thread, level, _, message]) => Self::First {
                main: *thread == main,
                level,
                message,
            },
            _ => Self::More(line),
        }
    }
}

impl<'a> GuestLine<'a> {
    /// Out of a record's message, if that is what it is.
    pub fn read(message: &'a str) -> Option<Self> {
        let rest = message.strip_prefix("wasm log ")?;
        let (who, text) = rest
            .split_once(": ")
            .or_else(|| Some((rest.strip_suffix(':')?, "")))?;
        Some(Self { who, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log() {
        let line = Line::read("\u{1}7\u{1}warning\u{1}wasm\u{1}wasm log f r v: a: b", "7");
        let Line::First {
            main: true,
            level: "warning",
            message,
        } = line
        else {
            panic!("{line:?}")
        };
        let guest = GuestLine {
            who: "f r v",
            text: "a: b",
        };
        assert_eq!(GuestLine::read(message), Some(guest));
        assert!(matches!(Line::read("more", "7"), Line::More("more")));
        assert_eq!(
            GuestLine::read("wasm log f:").map(|line| line.text),
            Some("")
        );
        assert_eq!(GuestLine::read("something else"), None);
    }
}
