//! The built binary as a process, and what the kernel says about it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::client::Client;
use crate::fleet::Fleet;

/// How long the first state may take to serve.
const PATIENCE: Duration = Duration::from_secs(120);

/// A `tidegate serve` with one worker. It is killed when it is dropped.
pub(crate) struct Gateway {
    child: Child,
    /// Where it serves.
    pub(crate) port: u16,
    /// From its start until the first route answered.
    pub(crate) started_in: Duration,
}

impl Gateway {
    /// Writes the fleet into `folder`, starts the binary on it, and waits until its last host answers.
    ///
    /// # Errors
    /// When it cannot be started or does not serve in time.
    pub(crate) fn start(
        binary: &Path,
        fleet: &Fleet,
        folder: &Path,
        backend: u16,
    ) -> anyhow::Result<Self> {
        let manifests = folder.join("manifests");
        fs::create_dir(&manifests)?;
        // Free until now; the gateway says so if somebody else was quicker.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        fleet.write(&manifests, port, backend)?;
        let log = folder.join("log");
        let start = Instant::now();
        let child = Command::new(binary)
            .arg("serve")
            .arg("--manifests")
            .arg(&manifests)
            .args([
                "--bind",
                "127.0.0.1",
                "--workers",
                "1",
                "--access-log",
                "off",
                "--admin",
                "off",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| {
                format!(
                    "{}: cargo build --release --package tidegate makes it",
                    binary.display()
                )
            })?;
        let mut gateway = Self {
            child,
            port,
            started_in: Duration::ZERO,
        };
        let (host, path) = (Fleet::host(fleet.hosts - 1), Fleet::path(fleet.routes - 1));
        let answers = || {
            Client::connect(port)
                .ok()?
                .get(&host, &path)
                .ok()
                .filter(|answer| answer.status == 200)
        };
        while answers().is_none() {
            if gateway.child.try_wait()?.is_some() || start.elapsed() > PATIENCE {
                bail!(
                    "{} does not serve; it said: {}",
                    binary.display(),
                    fs::read_to_string(&log)?
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        gateway.started_in = start.elapsed();
        Ok(gateway)
    }

    /// A field of `/proc/PID/status` in MiB: `VmRSS` (resident now), `VmHWM` (at its greatest).
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn memory(&self, field: &str) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib: f64 = line
            .and_then(|line| line.split_whitespace().next())
            .context("no such field")?
            .parse()?;
        Ok(kib / 1024.0)
    }

    /// CPU time of all its threads.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let mut total = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let schedstat = fs::read_to_string(thread?.path().join("schedstat"))?;
            total += schedstat
                .split(' ')
                .next()
                .context("empty")?
                .parse::<u64>()?;
        }
        Ok(Duration::from_nanos(total))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // One that has ended needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
