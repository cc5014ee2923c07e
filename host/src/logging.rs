//! Logs of the host itself: human on a terminal, JSON lines otherwise, always on standard error. `RUST_LOG` chooses.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::args::Command;
use crate::filter::test::Guests;

/// Starts logging. What guests log is a record with target `guest`; for tests of filters these records are kept, too, and nothing
/// else is said unless it is asked for: what cases provoke is no news.
pub(crate) fn start(command: &Command) {
    let tests = matches!(command, Command::Filter(_));
    let usual = if tests { "off" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let kept = tests.then(|| Guests::of_process().clone().with_filter(LevelFilter::TRACE));
    let written = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let written = if std::io::stderr().is_terminal() {
        written.boxed()
    } else {
        written.json().flatten_event(true).boxed()
    };
    let subscriber = tracing_subscriber::registry()
        .with(written.with_filter(filter))
        .with(kept);
    if let Err(error) = subscriber.try_init() {
        eprintln!("tidegate: logging: {error}");
    }
}
