//! `tidegate`: a Kubernetes ingress and Gateway API host whose per-route policy is portable WebAssembly.
//!
//! The process: read the arguments, set up logging and cryptography, run one command.

mod admin;
mod args;
mod check;
mod control;
mod echo;
mod explain;
mod filter;
mod kubernetes;
mod logging;
mod metrics;
mod oneline;
mod serve;
mod source;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};

// Two allocations in three are small and short-lived here, which mimalloc makes cheaper than the system's allocator does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Nothing is wrong; warnings are allowed.
const FINE: u8 = 0;
/// Something was refused or did not match.
const REFUSED: u8 = 1;
/// Wrong usage, or input that cannot be read. Clap ends with the same status.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = match logging::start(&arguments.command) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("tidegate: logging: {error}");
            return ExitCode::from(UNUSABLE);
        }
    };
    // One provider for everything; with a second one compiled in by accident rustls would refuse to choose.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a cryptography provider was installed before");
    }
    let outcome = match arguments.command {
        Command::Serve(serve) => serve::run(*serve),
        Command::Check(check) => check::run(&check),
        Command::Explain(explain) => explain::run(&explain),
        Command::Proxy(proxy) => oneline::run(&proxy),
        Command::Echo(echo) => echo::run(&echo),
        Command::Filter(filter) => filter::run(&filter),
        Command::Crds => {
            print!("{}", tidegate_controller::schema::crds_yaml());
            Ok(FINE)
        }
        Command::Completions { shell } => {
            args::print_completions(shell);
            Ok(FINE)
        }
    };
    // What was logged stands before the last word.
    drop(log);
    outcome.map_or_else(
        |error| {
            eprintln!("tidegate: {error:#}");
            ExitCode::from(UNUSABLE)
        },
        ExitCode::from,
    )
}
