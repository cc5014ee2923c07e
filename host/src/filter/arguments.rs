//! The command line of `tidegate filter`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::args::Output;

/// `tidegate filter`
#[derive(Args)]
pub(crate) struct Filter {
    #[command(subcommand)]
    pub(crate) command: FilterCommand,
}

#[derive(Subcommand)]
pub(crate) enum FilterCommand {
    /// Run the cases of a filter on the production engine, with its limits on, and in a real Envoy if asked to.
    Test(Test),
    /// Say what a module is and what it needs.
    Inspect(Inspect),
}

/// `tidegate filter test`
#[derive(Args)]
pub(crate) struct Test {
    /// What is tested: a folder with a module and its cases.yaml, a module with cases.yaml beside it, or a bundled filter by name
    /// [default: the current folder].
    #[arg(value_name = "PATH|BUILTIN", conflicts_with = "bundled")]
    pub(crate) filters: Vec<String>,
    /// Every bundled filter.
    #[arg(long)]
    pub(crate) bundled: bool,
    /// The cases, if they are elsewhere. For one filter.
    #[arg(long, value_name = "FILE")]
    pub(crate) cases: Option<PathBuf>,
    /// Run the same cases in this Envoy too, and show what differs side by side.
    #[arg(long, value_name = "PATH")]
    pub(crate) envoy: Option<PathBuf>,
    /// Run only cases whose name holds this text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Run nothing: count the cases, and where each can be run.
    #[arg(long, conflicts_with = "envoy")]
    pub(crate) list: bool,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Report::Text)]
    pub(crate) output: Report,
}

/// Forms of a test's report.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Report {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// A table of the counts.
    Markdown,
}

/// `tidegate filter inspect`
#[derive(Args)]
pub(crate) struct Inspect {
    /// A module, or a bundled filter by name.
    #[arg(value_name = "FILE|BUILTIN")]
    pub(crate) module: String,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}
