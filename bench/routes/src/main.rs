//! What many routes cost: one look-up, one translation, one edit until it serves, and memory.
//!
//! ```text
//!   fleet (manifests) ─┬─ lookup: in process, from 100 to 100,000 routes
//!                      ├─ steps:  in process, what one edit costs step by step
//!                      ├─ cluster: in process, one translation of Ingresses and HTTPRoutes
//!                      └─ edits:  a real `tidegate serve`, an edited file until the answer changes
//! ```
//!
//! Figures are wall time on whatever machine this is; README.md says how to read them.

mod cluster;
mod edits;
mod fleet;
mod lookup;
mod steps;

use std::path::PathBuf;

use clap::Parser;
use tidegate_bench_harness::figures;

use crate::fleet::Fleet;

// The allocator of the binary, so that translating and dropping cost here what they cost there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what many routes cost.
#[derive(Parser)]
#[command(max_term_width = 110)]
struct Arguments {
    /// The binary whose edits and memory are measured.
    #[arg(long, value_name = "BINARY", default_value = "target/release/tidegate")]
    tidegate: PathBuf,
    /// Hostnames; each is a file of its own.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    hosts: usize,
    /// HTTPRoutes under each hostname.
    #[arg(long, value_name = "N", default_value_t = 10)]
    routes: usize,
    /// Edits to measure end to end.
    #[arg(long, value_name = "N", default_value_t = 100)]
    edits: usize,
    /// Ingresses, and as many HTTPRoutes, of the part `cluster`.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    each: usize,
    /// Translations of the part `cluster`.
    #[arg(long, value_name = "N", default_value_t = 20)]
    passes: usize,
    /// Only this part; repeatable.
    #[arg(long, value_name = "lookup|steps|cluster|edits", value_parser = ["lookup", "steps", "cluster", "edits"])]
    only: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let wanted =
        |part: &str| arguments.only.is_empty() || arguments.only.iter().any(|one| one == part);
    let fleet = Fleet {
        hosts: arguments.hosts,
        routes: arguments.routes,
    };
    println!("load average {}", figures::load_average());
    if wanted("lookup") {
        lookup::measure()?;
    }
    if wanted("steps") {
        steps::measure(&fleet)?;
    }
    if wanted("cluster") {
        cluster::measure(arguments.each, arguments.passes)?;
    }
    if wanted("edits") {
        edits::measure(&fleet, &arguments.tidegate, arguments.edits)?;
    }
    println!("\nload average {}", figures::load_average());
    Ok(())
}
