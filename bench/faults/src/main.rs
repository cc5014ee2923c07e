//! What the failures of a filter cost whom: a million requests past a filter that fails at every hundredth, beside a neighbour.
//!
//! ```text
//!   clients of the offender  ──►           ──► filter that traps, overflows its stack, loops
//!                                 tidegate                                                    ──► backend
//!   clients of the neighbour ──►           ──► the same module, in another namespace
//! ```
//!
//! Three parts: nobody fails; one in a hundred of the offender's requests fails; all of them loop. It ends with 1 where a count is
//! not exact, where the neighbour was touched, or where the process ended. Times are printed and judged by who reads them.

mod ledger;
mod load;
mod tenants;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use tidegate_bench_harness::figures::{self, heading, milliseconds, row};
use tidegate_bench_harness::{Client, Gateway, backend, free_port};

use crate::ledger::Ledger;
use crate::load::{Load, Outcome, Until};
use crate::tenants::{NEIGHBOUR, OFFENDER};

/// Measures what a failing filter costs its own requests, and whether a neighbour notices.
#[derive(Parser)]
#[command(max_term_width = 110)]
struct Arguments {
    /// The binary.
    #[arg(long, value_name = "BINARY", default_value = "target/release/tidegate")]
    tidegate: PathBuf,
    /// Requests of the offender in the second part.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    requests: u64,
    /// Seconds of the first and the third part.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u64,
    /// The filters' `vm.isolation`.
    #[arg(long, value_name = "Shared|Dedicated|Request", default_value = "Shared", value_parser = ["Shared", "Dedicated", "Request"])]
    isolation: String,
    /// Connections of the offender; the neighbour has a quarter of them.
    #[arg(long, value_name = "N", default_value_t = 16)]
    connections: usize,
    /// Data-plane threads of the gateway.
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: usize,
}

/// A running gateway with both tenants.
struct Scene {
    gateway: Gateway,
    port: u16,
    admin: u16,
    answered: std::sync::Arc<AtomicU64>,
    connections: usize,
    _folder: tempfile::TempDir,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    println!("load average {}", figures::load_average());
    let mut scene = Scene::start(&arguments)?;
    let seconds = Duration::from_secs(arguments.seconds);

    let (clean_offender, clean) = scene.part(0, &["trap"], &Until::Over(seconds));
    let before = scene.ledger()?;
    let memory = scene.gateway.memory("VmRSS")?;
    // Traps in one request of a hundred, a loop in one of ten thousand: each loop takes its call timeout of a core.
    let kinds: Vec<&str> = ["trap", "stack"]
        .into_iter()
        .cycle()
        .take(99)
        .chain(["loop"])
        .collect();
    let upstream = scene.answered.load(Ordering::Relaxed);
    let (offender, neighbour) = scene.part(1, &kinds, &Until::Sent(arguments.requests));
    let upstream = scene.answered.load(Ordering::Relaxed) - upstream;
    let after = scene.settled(&offender, &before)?;
    let grown = scene.gateway.memory("VmRSS")?;
    let (looping, beside_loops) = scene.part(100, &["loop"], &Until::Over(seconds));

    heading(
        &format!(
            "isolation {}: {} requests, {} of them asked to fail",
            arguments.isolation,
            offender.total(),
            offender.faults
        ),
        &[
            "requests",
            "served",
            "failed",
            "odd",
            "per second",
            "p50 ms",
            "p99 ms",
        ],
    );
    for (name, outcome) in [
        ("offender, nobody fails", &clean_offender),
        ("neighbour, nobody fails", &clean),
        ("offender, one in a hundred fails", &offender),
        ("neighbour beside it", &neighbour),
        ("offender, every request loops", &looping),
        ("neighbour beside it", &beside_loops),
    ] {
        line(name, outcome);
    }
    let counted = after.since(&before);
    println!(
        "  the host counted {} traps, {} deadlines, {} collateral; requests at the upstream: {upstream}",
        counted.traps, counted.deadlines, counted.collateral
    );
    println!(
        "  resident: {memory:.1} MiB before, {grown:.1} MiB after the failures, {:.1} MiB after the loops",
        scene.gateway.memory("VmRSS")?
    );
    println!(
        "  neighbour's p99 beside failures: {:.2} x clean; its throughput beside loops: {:.2} x clean",
        neighbour.times.quantile(0.99).as_secs_f64() / clean.times.quantile(0.99).as_secs_f64(),
        beside_loops.rate() / clean.rate(),
    );
    println!("\nload average {}", figures::load_average());
    let mut wrong = counted.judge(&offender, arguments.isolation == "Request");
    for (name, outcome) in [
        ("clean", &clean),
        ("failures", &neighbour),
        ("loops", &beside_loops),
    ] {
        if outcome.failed + outcome.odd > 0 {
            wrong.push(format!(
                "the neighbour was touched ({name}): {} failed, {} odd: {:?}",
                outcome.failed, outcome.odd, outcome.oddity
            ));
        }
    }
    // What was refused has not been sent; what fell with another request may have been.
    let served = offender.served + neighbour.served;
    if upstream < served || upstream > served + counted.collateral {
        wrong.push(format!(
            "the upstream saw {upstream} requests, {served} were served and {} were collateral",
            counted.collateral
        ));
    }
    if scene.gateway.has_ended()? {
        wrong.push("the process has ended".into());
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}

impl Scene {
    fn start(arguments: &Arguments) -> anyhow::Result<Self> {
        let (backend, answered) = backend::start()?;
        let folder = tempfile::tempdir()?;
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests)?;
        let (port, admin) = (free_port()?, free_port()?);
        tenants::write(&manifests, port, backend, &arguments.isolation)?;
        let ready = || {
            Client::connect(admin).is_ok_and(|mut client| {
                client
                    .get("admin", "/readyz", "", "")
                    .is_ok_and(|answer| answer.status == 200)
            })
        };
        let (workers, admin_address) =
            (arguments.workers.to_string(), format!("127.0.0.1:{admin}"));
        let gateway = Gateway::start(
            &arguments.tidegate,
            &manifests,
            &folder.path().join("log"),
            &["--workers", &workers, "--admin", &admin_address],
            ready,
        )?;
        Ok(Self {
            gateway,
            port,
            admin,
            answered,
            connections: arguments.connections,
            _folder: folder,
        })
    }

    /// Both tenants at once, the neighbour for as long as the offender.
    fn part(&self, faults: u32, kinds: &[&str], until: &Until<'_>) -> (Outcome, Outcome) {
        let load = |tenant, connections, faults| Load {
            port: self.port,
            tenant,
            connections,
            faults,
            kinds,
        };
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let neighbour = scope.spawn(|| {
                load(NEIGHBOUR, (self.connections / 4).max(1), 0).run(&Until::Told(&stop))
            });
            let offender = load(OFFENDER, self.connections, faults).run(until);
            stop.store(true, Ordering::Relaxed);
            match neighbour.join() {
                Ok(neighbour) => (offender, neighbour),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn ledger(&self) -> anyhow::Result<Ledger> {
        let mut client = Client::connect(self.admin)?;
        client.get("admin", "/filters", "", "")?;
        let filters = serde_json::from_slice(client.body()).context("/filters is not JSON")?;
        Ledger::of(&filters, OFFENDER)
    }

    /// The counts once the last exchange is booked, which may be a moment after its client was answered.
    fn settled(&self, offender: &Outcome, before: &Ledger) -> anyhow::Result<Ledger> {
        let mut ledger = self.ledger()?;
        for _ in 0..100 {
            if ledger.since(before).failures() >= offender.failed {
                break;
            }
            thread::sleep(Duration::from_millis(20));
            ledger = self.ledger()?;
        }
        Ok(ledger)
    }
}

fn line(name: &str, outcome: &Outcome) {
    let times = [0.5, 0.99].map(|part| milliseconds(outcome.times.quantile(part)));
    let counts = [outcome.total(), outcome.served, outcome.failed, outcome.odd]
        .map(|count| count.to_string());
    let rate = [format!("{:.0}", outcome.rate())];
    row(
        name,
        &counts
            .into_iter()
            .chain(rate)
            .chain(times)
            .collect::<Vec<_>>(),
    );
}
