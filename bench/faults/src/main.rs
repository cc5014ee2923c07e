//! What the failures of a filter cost whom: a million requests past a filter that fails at every hundredth, beside a neighbour.
//!
//! ```text
//!   clients of the offender  ──►           ──► filter that traps, overflows its stack, loops
//!                                 tidegate                                                    ──► backend
//!   clients of the neighbour ──►           ──► the same module, in another namespace
//! ```
//!
//! Three gateways take turns, so that what else the machine does hits all alike: one where one in a hundred of the offender's
//! requests fails, one where nobody fails, one where all of the offender's requests loop. It ends with 1 where a count is not
//! exact, where the neighbour was touched, where memory grew to the end, or where a process ended. Times are printed and judged
//! by who reads them.

mod ledger;
mod load;
mod scene;
mod tenants;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Parser;
use tidegate_bench_harness::figures::{self, heading, milliseconds, row};

use crate::ledger::Ledger;
use crate::load::{Outcome, Until};
use crate::scene::{Scene, Stage};

/// Memory may be so much larger at the end than in the middle: five of a hundred, and what an allocator keeps for itself.
const FLAT: (f64, f64) = (1.05, 2.0);

/// Measures what a failing filter costs its own requests, and whether a neighbour notices.
#[derive(Parser)]
#[command(max_term_width = 110)]
struct Arguments {
    /// The binary.
    #[arg(long, value_name = "BINARY", default_value = "target/release/tidegate")]
    tidegate: PathBuf,
    /// Requests of the offender where one in a hundred fails.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    requests: u64,
    /// Windows into which they are cut, with as long a one where nobody fails between them.
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: u64,
    /// Seconds of looping, over all rounds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u64,
    /// The filters' `vm.isolation`.
    #[arg(long, value_name = "Shared|Dedicated|Request", default_value = "Shared", value_parser = ["Shared", "Dedicated", "Request"])]
    isolation: String,
    /// Connections of the offender; the neighbour has a quarter of them.
    #[arg(long, value_name = "N", default_value_t = 16)]
    connections: usize,
    /// Data-plane threads of each gateway.
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: usize,
}

/// The three gateways, and the memory of the failing one.
struct Play {
    failing: Scene,
    clean: Scene,
    looping: Scene,
    /// After the first window, half of them, all of them. MiB.
    memory: [f64; 3],
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    println!("load average {}", figures::load_average());
    let mut play = Play::run(&arguments)?;
    let counted = play.failing.counted()?;
    play.print(&arguments, &counted)?;
    println!("\nload average {}", figures::load_average());
    let wrong = play.judge(&arguments, &counted)?;
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    println!("every count is exact");
    Ok(())
}

impl Play {
    fn run(arguments: &Arguments) -> anyhow::Result<Self> {
        let stage = Stage {
            tidegate: &arguments.tidegate,
            isolation: &arguments.isolation,
            workers: arguments.workers,
            connections: arguments.connections,
        };
        // Of the failures one in a hundred is a loop: each takes its call timeout of a core.
        let traps = ["trap", "stack"].into_iter().cycle().take(99);
        let kinds: Vec<&str> = traps.chain(["loop"]).collect();
        let mut failing = Scene::start(&stage, 1, kinds)?;
        let mut clean = Scene::start(&stage, 0, vec!["trap"])?;
        let mut looping = Scene::start(&stage, 100, vec!["loop"])?;
        let rounds = arguments.rounds.clamp(2, arguments.requests.max(2));
        let loops = Duration::from_secs(arguments.seconds).div_f64(rounds as f64);
        let mut memory = [0.0; 3];
        for round in 0..rounds {
            let share =
                arguments.requests * (round + 1) / rounds - arguments.requests * round / rounds;
            let took = failing.window(&Until::Sent(share));
            match round + 1 {
                1 => memory[0] = failing.memory()?,
                half if half == rounds.div_ceil(2) => memory[1] = failing.memory()?,
                _ => {}
            }
            clean.window(&Until::Over(took.max(loops)));
            looping.window(&Until::Over(loops));
        }
        memory[2] = failing.memory()?;
        // With two rounds the first one is the middle, too.
        if memory[1] == 0.0 {
            memory[1] = memory[0];
        }
        Ok(Self {
            failing,
            clean,
            looping,
            memory,
        })
    }

    fn print(&self, arguments: &Arguments, counted: &Ledger) -> anyhow::Result<()> {
        let Self {
            failing,
            clean,
            looping,
            memory,
        } = self;
        heading(
            &format!(
                "isolation {}: {} requests, {} of them asked to fail",
                arguments.isolation,
                failing.offender.total(),
                failing.offender.faults
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
            ("offender, nobody fails", &clean.offender),
            ("neighbour, nobody fails", &clean.neighbour),
            ("offender, one in a hundred fails", &failing.offender),
            ("neighbour beside it", &failing.neighbour),
            ("offender, every request loops", &looping.offender),
            ("neighbour beside it", &looping.neighbour),
        ] {
            line(name, outcome);
        }
        println!(
            "  failures {} = {} traps + {} deadlines + {} collateral ({}); requests at the upstream: {}",
            failing.offender.failed,
            counted.traps,
            counted.deadlines,
            counted.collateral,
            if counted.failures() == failing.offender.failed {
                "exactly"
            } else {
                "NOT"
            },
            failing.upstream()
        );
        println!(
            "  neighbour: {} failures beside failures, {} beside loops",
            failing.neighbour.failed + failing.neighbour.odd,
            looping.neighbour.failed + looping.neighbour.odd
        );
        let p99 = |scene: &Scene| scene.neighbour.times.quantile(0.99).as_secs_f64();
        println!(
            "  neighbour's p99 beside failures: {:.2} x clean over all, {:.2} x in the median of {} rounds",
            p99(failing) / p99(clean),
            median_ratio(&failing.p99, &clean.p99),
            clean.p99.len()
        );
        println!(
            "  neighbour's throughput beside loops: {:.2} x clean",
            looping.neighbour.rate() / clean.neighbour.rate()
        );
        let [start, middle, end] = memory;
        println!(
            "  resident: {start:.1} MiB at the start, {middle:.1} in the middle, {end:.1} at the end; {:.1} after the loops",
            looping.memory()?
        );
        Ok(())
    }

    fn judge(&mut self, arguments: &Arguments, counted: &Ledger) -> anyhow::Result<Vec<String>> {
        let (offender, alone) = (&self.failing.offender, arguments.isolation == "Request");
        let mut wrong = counted.judge(offender, alone);
        if offender.total() != arguments.requests {
            wrong.push(format!(
                "{} of {} requests were answered",
                offender.total(),
                arguments.requests
            ));
        }
        // What was refused has not been sent; what fell with another request may have been.
        let served = offender.served + self.failing.neighbour.served;
        let upstream = self.failing.upstream();
        if upstream < served || upstream > served + counted.collateral {
            wrong.push(format!(
                "the upstream saw {upstream} requests, {served} were served and {} were collateral",
                counted.collateral
            ));
        }
        let [_, middle, end] = self.memory;
        if end > middle * FLAT.0 + FLAT.1 {
            wrong.push(format!(
                "memory grew from {middle:.1} to {end:.1} MiB in the second half"
            ));
        }
        if self.clean.offender.failed + self.clean.offender.odd > 0 {
            wrong.push(format!(
                "failures where nobody fails: {:?}",
                self.clean.offender.oddity
            ));
        }
        let loops = self.looping.counted()?;
        wrong.extend(loops.judge(&self.looping.offender, alone));
        for (name, scene) in [
            ("failures", &mut self.failing),
            ("clean", &mut self.clean),
            ("loops", &mut self.looping),
        ] {
            wrong.extend(scene.judge(name)?);
        }
        Ok(wrong)
    }
}

/// The median over pairs of windows of how much larger the first is.
fn median_ratio(ones: &[Duration], others: &[Duration]) -> f64 {
    let pairs = ones.iter().zip(others);
    let mut ratios: Vec<f64> = pairs
        .map(|(one, other)| one.as_secs_f64() / other.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_rounds() {
        let ms = |values: [u64; 3]| values.map(Duration::from_millis);
        let ratio = median_ratio(&ms([1, 20, 300]), &ms([1, 10, 100]));
        assert!((ratio - 2.0).abs() < 1e-9, "{ratio}");
        assert!(median_ratio(&[], &[]).is_nan());
    }
}
