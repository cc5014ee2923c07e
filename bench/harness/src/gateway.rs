//! The built binary as a process, and what the kernel says about it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long the first state may take to serve.
const PATIENCE: Duration = Duration::from_secs(120);

/// A `tidegate serve` on a folder of manifests. It is killed when it is dropped.
pub struct Gateway {
    child: Child,
    /// From its start until it was ready.
    pub started_in: Duration,
}

/// A port of the loopback that is free now; the gateway says so if somebody else is quicker.
///
/// # Errors
/// When there is none.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

impl Gateway {
    /// Starts the binary on `manifests`, bound to the loopback and without access log, and waits until `ready` says so.
    /// What it says goes to the file `log`.
    ///
    /// # Errors
    /// When it cannot be started or is not ready in time.
    pub fn start(
        binary: &Path,
        manifests: &Path,
        log: &Path,
        arguments: &[&str],
        ready: impl Fn() -> bool,
    ) -> anyhow::Result<Self> {
        let start = Instant::now();
        let child = Command::new(binary)
            .arg("serve")
            .arg("--manifests")
            .arg(manifests)
            .args(["--bind", "127.0.0.1", "--access-log", "off"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log)?)
            .spawn()
            .with_context(|| {
                format!(
                    "{}: cargo build --release --package tidegate makes it",
                    binary.display()
                )
            })?;
        let mut gateway = Self {
            child,
            started_in: Duration::ZERO,
        };
        while !ready() {
            if gateway.has_ended()? || start.elapsed() > PATIENCE {
                bail!(
                    "{} does not serve; it said: {}",
                    binary.display(),
                    fs::read_to_string(log)?
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        gateway.started_in = start.elapsed();
        Ok(gateway)
    }

    /// Whether the process is gone.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn has_ended(&mut self) -> std::io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// A field of `/proc/PID/status` in MiB: `VmRSS` (resident now), `VmHWM` (at its greatest).
    ///
    /// # Errors
    /// When the process is gone.
    pub fn memory(&self, field: &str) -> anyhow::Result<f64> {
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
    pub fn cpu(&self) -> anyhow::Result<Duration> {
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
