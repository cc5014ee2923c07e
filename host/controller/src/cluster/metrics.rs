//! What is counted about the cluster.

use std::fmt::Write as _;
use std::sync::Arc;

use tokio::sync::watch;

use super::store::Store;
use super::writer::Writer;

/// Counters and gauges of a [`Cluster`](super::Cluster).
pub struct Metrics {
    pub(super) store: Arc<Store>,
    pub(super) writer: Arc<Writer>,
    pub(super) leading: watch::Receiver<bool>,
}

impl Metrics {
    /// Writes them in Prometheus' text format.
    pub fn write(&self, out: &mut String) {
        let counts = self.writer.counts();
        let rows: [(&str, &str, &str, u64); 6] = [
            (
                "cluster_synced",
                "gauge",
                "Whether everything in the cluster has been listed once.",
                u64::from(self.store.is_synced()),
            ),
            (
                "cluster_leader",
                "gauge",
                "Whether this process writes statuses.",
                u64::from(*self.leading.borrow()),
            ),
            (
                "watch_errors_total",
                "counter",
                "Watches that broke; they are made anew.",
                self.store.watch_errors(),
            ),
            (
                "status_writes_total",
                "counter",
                "Statuses written.",
                counts.writes,
            ),
            (
                "status_conflicts_total",
                "counter",
                "Statuses that somebody else changed first; they are merged anew.",
                counts.conflicts,
            ),
            (
                "status_errors_total",
                "counter",
                "Statuses that could not be written; they are tried again.",
                counts.errors,
            ),
        ];
        for (name, kind, help, value) in rows {
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "# HELP tidegate_{name} {help}\n# TYPE tidegate_{name} {kind}\ntidegate_{name} {value}"
            );
        }
    }
}
