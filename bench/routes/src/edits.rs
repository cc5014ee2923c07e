//! A real process: a file is edited, and requests are sent until one is answered by the new state.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use tidegate_bench_harness::figures::{self, SPREAD, Samples, heading, milliseconds, spread};
use tidegate_bench_harness::{Answer, Client, Gateway, backend, free_port};

use crate::fleet::{EDITION, Fleet};

/// Between two requests of the client that waits for the change: the resolution of the measurement.
const PAUSE: Duration = Duration::from_millis(1);
/// How long an edit may take to serve.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the process is watched while nothing happens.
const IDLE: Duration = Duration::from_secs(10);

/// Prints memory, the start, edits until they serve, and what requests noticed of them.
pub(crate) fn measure(fleet: &Fleet, binary: &Path, edits: usize) -> anyhow::Result<()> {
    let (backend, _) = backend::start()?;
    let small = Fleet {
        hosts: 1,
        routes: 1,
    };
    let folder = tempfile::tempdir()?;
    let (empty, _) = start(binary, &small, folder.path(), backend)?;
    let base = empty.memory("VmRSS")?;
    drop(empty);

    let folder = tempfile::tempdir()?;
    let (gateway, port) = start(binary, fleet, folder.path(), backend)?;
    let fresh = gateway.memory("VmRSS")?;
    let before = gateway.cpu()?;
    thread::sleep(IDLE);
    let idle = gateway.cpu()? - before;
    let run = Run {
        fleet,
        folder: folder.path(),
        port,
    };
    let cpu = gateway.cpu()?;
    let found = run.edits(edits)?;
    let cpu = (gateway.cpu()? - cpu) / u32::try_from(edits).context("too many edits")?;

    heading(
        &format!(
            "{binary:?} serve, {} routes, {} hosts and files, times in ms",
            fleet.len(),
            fleet.hosts
        ),
        &SPREAD,
    );
    spread("edit written until served", &found.served);
    spread("a request meanwhile", &found.during);
    spread("a request at rest", &found.rest);
    println!(
        "  CPU of the process for one edit, requests included: {} ms",
        milliseconds(cpu)
    );
    println!(
        "  start until the last host serves: {} ms",
        milliseconds(gateway.started_in)
    );
    println!(
        "  CPU while nothing happens: {} ms in {} s",
        milliseconds(idle),
        IDLE.as_secs()
    );
    let of_routes = (fresh - base) * 1024.0 / fleet.len() as f64;
    println!(
        "  memory: {base:.1} MiB resident with one route, {fresh:.1} MiB with {} ({of_routes:.1} KiB a route),",
        fleet.len()
    );
    println!(
        "          {:.1} MiB after the edits, {:.1} MiB at most",
        gateway.memory("VmRSS")?,
        gateway.memory("VmHWM")?
    );
    Ok(())
}

/// A gateway with one worker on the fleet's manifests, ready when its last host answers, and its port.
fn start(
    binary: &Path,
    fleet: &Fleet,
    folder: &Path,
    backend: u16,
) -> anyhow::Result<(Gateway, u16)> {
    let manifests = folder.join("manifests");
    fs::create_dir(&manifests)?;
    let port = free_port()?;
    fleet.write(&manifests, port, backend)?;
    let (host, path) = (Fleet::host(fleet.hosts - 1), Fleet::path(fleet.routes - 1));
    let ready = || {
        let answer = Client::connect(port)
            .map_err(anyhow::Error::from)
            .and_then(|mut client| get(&mut client, &host, &path));
        answer.is_ok_and(|answer| answer.status == 200)
    };
    let arguments = ["--workers", "1", "--admin", "off"];
    let gateway = Gateway::start(binary, &manifests, &folder.join("log"), &arguments, ready)?;
    Ok((gateway, port))
}

fn get(client: &mut Client, host: &str, path: &str) -> anyhow::Result<Answer> {
    client.get(host, &format!("{path}/item"), "", EDITION)
}

struct Run<'a> {
    fleet: &'a Fleet,
    folder: &'a Path,
    port: u16,
}

#[derive(Default)]
struct Found {
    served: Samples,
    during: Samples,
    rest: Samples,
}

impl Run<'_> {
    fn edits(&self, edits: usize) -> anyhow::Result<Found> {
        let mut found = Found::default();
        // The same edits in every run.
        let mut random = fastrand::Rng::with_seed(7);
        let mut client = Client::connect(self.port)?;
        for edition in 1..=edits {
            let (host, route) = (
                random.usize(..self.fleet.hosts),
                random.usize(..self.fleet.routes),
            );
            self.edit(&mut client, host, (route, edition), &mut found)?;
            // Out of step with the hold-off and with the last reload.
            let rest = Instant::now() + Duration::from_millis(random.u64(50..150));
            while Instant::now() < rest {
                found
                    .rest
                    .push(get(&mut client, &Fleet::host(host), &Fleet::path(route))?.took);
                thread::sleep(PAUSE);
            }
        }
        Ok(found)
    }

    fn edit(
        &self,
        client: &mut Client,
        host: usize,
        edition: (usize, usize),
        found: &mut Found,
    ) -> anyhow::Result<()> {
        let (name, path) = (Fleet::host(host), Fleet::path(edition.0));
        let ((), writing) = {
            let (written, took) = figures::timed(|| {
                self.fleet
                    .write_host(&self.folder.join("manifests"), host, Some(edition))
            });
            (written?, took)
        };
        // The rename is the last thing that writing does, so the clock starts there.
        let start = Instant::now();
        loop {
            let answer = get(client, &name, &path)?;
            if answer.status != 200 {
                bail!(
                    "{name}{path} was answered with {} while it was edited",
                    answer.status
                );
            }
            if answer.field == Some(edition.1.to_string()) {
                found.served.push(start.elapsed());
                return Ok(());
            }
            found.during.push(answer.took);
            if start.elapsed() > PATIENCE {
                bail!(
                    "edit {} of {name}{path} is not served after {PATIENCE:?}; writing it took {writing:?}",
                    edition.1
                );
            }
            thread::sleep(PAUSE);
        }
    }
}
