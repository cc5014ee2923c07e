//! Logs of the host itself: human on a terminal, JSON lines otherwise, always on standard error. `RUST_LOG` chooses.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging. What guests log is a record with target `guest`.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let set = if std::io::stderr().is_terminal() {
        subscriber.try_init()
    } else {
        subscriber.json().flatten_event(true).try_init()
    };
    if let Err(error) = set {
        eprintln!("tidegate: logging: {error}");
    }
}
