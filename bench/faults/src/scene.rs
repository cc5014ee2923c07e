//! A running gateway with both tenants, and what was measured on it, window by window.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tidegate_bench_harness::{Client, Gateway, backend, free_port};

use crate::ledger::Ledger;
use crate::load::{Load, Outcome, Until};
use crate::tenants::{self, NEIGHBOUR, OFFENDER};

/// How the scenes are set.
pub(crate) struct Stage<'a> {
    pub(crate) tidegate: &'a Path,
    pub(crate) isolation: &'a str,
    pub(crate) workers: usize,
    /// Of the offender; the neighbour has a quarter of them.
    pub(crate) connections: usize,
}

/// A gateway of its own, so that what it has been through tells on no other.
pub(crate) struct Scene {
    gateway: Gateway,
    port: u16,
    admin: u16,
    answered: Arc<AtomicU64>,
    connections: usize,
    /// Of a hundred requests of the offender so many ask the filter to fail.
    faults: u32,
    /// How, each as likely as the others.
    kinds: Vec<&'static str>,
    before: Ledger,
    windows: u64,
    pub(crate) offender: Outcome,
    pub(crate) neighbour: Outcome,
    /// The neighbour's 99th percentile of each window.
    pub(crate) p99: Vec<Duration>,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// # Errors
    /// When the gateway does not come up.
    pub(crate) fn start(
        stage: &Stage<'_>,
        faults: u32,
        kinds: Vec<&'static str>,
    ) -> anyhow::Result<Self> {
        let (backend, answered) = backend::start()?;
        let folder = tempfile::tempdir()?;
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests)?;
        let (port, admin) = (free_port()?, free_port()?);
        tenants::write(&manifests, port, backend, stage.isolation)?;
        let ready = || {
            Client::connect(admin).is_ok_and(|mut client| {
                client
                    .get("admin", "/readyz", "", "")
                    .is_ok_and(|answer| answer.status == 200)
            })
        };
        let (workers, admin_address) = (stage.workers.to_string(), format!("127.0.0.1:{admin}"));
        let gateway = Gateway::start(
            stage.tidegate,
            &manifests,
            &folder.path().join("log"),
            &["--workers", &workers, "--admin", &admin_address],
            ready,
        )?;
        let mut scene = Self {
            gateway,
            port,
            admin,
            answered,
            connections: stage.connections,
            faults,
            kinds,
            before: Ledger::default(),
            windows: 0,
            offender: Outcome::default(),
            neighbour: Outcome::default(),
            p99: Vec::new(),
            _folder: folder,
        };
        // Connections to the backend and the first VMs are no part of what is measured.
        let warm_up = Until::Over(Duration::from_millis(300));
        scene.load(NEIGHBOUR, 0).run(&warm_up);
        scene.load(OFFENDER, 0).run(&warm_up);
        scene.before = scene.ledger()?;
        scene.answered.store(0, Ordering::Relaxed);
        Ok(scene)
    }

    /// Both tenants at once, the neighbour for as long as the offender. How long that was.
    pub(crate) fn window(&mut self, until: &Until<'_>) -> Duration {
        let stop = AtomicBool::new(false);
        let (offender, neighbour) = thread::scope(|scope| {
            let neighbour = scope.spawn(|| self.load(NEIGHBOUR, 0).run(&Until::Told(&stop)));
            let offender = self.load(OFFENDER, self.faults).run(until);
            stop.store(true, Ordering::Relaxed);
            match neighbour.join() {
                Ok(neighbour) => (offender, neighbour),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        });
        let took = offender.took;
        self.windows += 1;
        self.p99.push(neighbour.times.quantile(0.99));
        self.offender.add(offender);
        self.neighbour.add(neighbour);
        took
    }

    /// What the host has counted since the start, once the last exchange is booked, which may be a moment after its client was
    /// answered.
    ///
    /// # Errors
    /// When the admin pages do not answer.
    pub(crate) fn counted(&self) -> anyhow::Result<Ledger> {
        let mut counted = self.ledger()?.since(&self.before);
        for _ in 0..100 {
            if counted.failures() >= self.offender.failed {
                break;
            }
            thread::sleep(Duration::from_millis(20));
            counted = self.ledger()?.since(&self.before);
        }
        Ok(counted)
    }

    /// Requests that the backend has seen in the windows.
    pub(crate) fn upstream(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Resident memory in MiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        self.gateway.memory("VmRSS")
    }

    /// What is not as it must be, apart from the counts of the offender.
    ///
    /// # Errors
    /// When nothing is known of the process.
    pub(crate) fn judge(&mut self, name: &str) -> anyhow::Result<Vec<String>> {
        let mut wrong = Vec::new();
        let Outcome {
            failed,
            odd,
            oddity,
            ..
        } = &self.neighbour;
        if failed + odd > 0 {
            wrong.push(format!(
                "the neighbour was touched ({name}): {failed} failed, {odd} odd: {oddity:?}"
            ));
        }
        if self.gateway.has_ended()? {
            wrong.push(format!("the process has ended ({name})"));
        }
        Ok(wrong)
    }

    fn load<'a>(&'a self, tenant: &'a str, faults: u32) -> Load<'a> {
        let connections = if tenant == OFFENDER {
            self.connections
        } else {
            (self.connections / 4).max(1)
        };
        Load {
            port: self.port,
            tenant,
            connections,
            faults,
            kinds: &self.kinds,
            seed: self.windows * 1000,
        }
    }

    fn ledger(&self) -> anyhow::Result<Ledger> {
        let mut client = Client::connect(self.admin)?;
        client.get("admin", "/filters", "", "")?;
        let filters = serde_json::from_slice(client.body()).context("/filters is not JSON")?;
        Ledger::of(&filters, OFFENDER)
    }
}
