//! Counters of the data plane. Each worker has its own, so that counting is a plain addition; reading adds them up.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::layer4::Protocol;

/// Upper bounds of the request time buckets, in milliseconds (OpenTelemetry's `http.server.request.duration`).
const BUCKETS: [u64; 14] = [
    5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000,
];

/// The counters of one worker.
#[derive(Default)]
pub(crate) struct WorkerMetrics {
    responses: [AtomicU64; 6],
    duration: [AtomicU64; BUCKETS.len() + 1],
    /// Microseconds.
    duration_sum: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) active: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) connect_failures: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) streams: [StreamCounters; 3],
    /// By response details: only what the host itself answered.
    own_replies: Mutex<BTreeMap<&'static str, u64>>,
}

/// What is counted of streams of one protocol.
#[derive(Default)]
pub(crate) struct StreamCounters {
    pub(crate) total: AtomicU64,
    pub(crate) active: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    /// By reason: those that came to no backend, and datagrams that were dropped.
    failures: Mutex<BTreeMap<&'static str, u64>>,
}

impl StreamCounters {
    pub(crate) fn begin(&self) {
        add(&self.total, 1);
        add(&self.active, 1);
    }

    pub(crate) fn end(&self, received: u64, sent: u64) {
        add(&self.active, u64::MAX);
        add(&self.received, received);
        add(&self.sent, sent);
    }

    pub(crate) fn fail(&self, reason: &'static str) {
        *self
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(reason)
            .or_default() += 1;
    }
}

fn add(counter: &AtomicU64, value: u64) {
    // One thread writes, so a load and a store do.
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(value),
        Ordering::Relaxed,
    );
}

impl WorkerMetrics {
    pub(crate) fn count(&self, counter: &AtomicU64) {
        add(counter, 1);
    }

    pub(crate) fn begin(&self) {
        add(&self.active, 1);
    }

    pub(crate) fn end(&self, status: u16, elapsed: Duration, received: u64, sent: u64) {
        let microseconds = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        add(&self.active, u64::MAX);
        add(&self.responses[usize::from(status / 100).min(5)], 1);
        let bucket = BUCKETS
            .iter()
            .position(|bound| microseconds <= *bound * 1000)
            .unwrap_or(BUCKETS.len());
        add(&self.duration[bucket], 1);
        add(&self.duration_sum, microseconds);
        add(&self.received, received);
        add(&self.sent, sent);
    }

    pub(crate) fn own_reply(&self, details: &'static str) {
        *self
            .own_replies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(details)
            .or_default() += 1;
    }
}

/// Writes the sum over `workers` in Prometheus' text format.
pub(crate) fn write(out: &mut String, workers: &[std::sync::Arc<WorkerMetrics>]) {
    let sum = |get: &dyn Fn(&WorkerMetrics) -> &AtomicU64| {
        workers.iter().fold(0_u64, |total, worker| {
            total.wrapping_add(get(worker).load(Ordering::Relaxed))
        })
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "# HELP tidegate_requests_total Requests by class of the response; 0xx: the client left first."
    );
    let _ = writeln!(out, "# TYPE tidegate_requests_total counter");
    for class in 0..6 {
        let _ = writeln!(
            out,
            "tidegate_requests_total{{code_class=\"{class}xx\"}} {}",
            sum(&|w| &w.responses[class])
        );
    }
    let _ = writeln!(
        out,
        "# HELP tidegate_request_duration_seconds Time from a request's head to the end of its response."
    );
    let _ = writeln!(out, "# TYPE tidegate_request_duration_seconds histogram");
    let mut below = 0;
    for (at, bound) in BUCKETS.iter().enumerate() {
        below += sum(&|w| &w.duration[at]);
        let seconds = *bound as f64 / 1000.0;
        let _ = writeln!(
            out,
            "tidegate_request_duration_seconds_bucket{{le=\"{seconds}\"}} {below}"
        );
    }
    below += sum(&|w| &w.duration[BUCKETS.len()]);
    let _ = writeln!(
        out,
        "tidegate_request_duration_seconds_bucket{{le=\"+Inf\"}} {below}"
    );
    let _ = writeln!(
        out,
        "tidegate_request_duration_seconds_sum {}",
        sum(&|w| &w.duration_sum) as f64 / 1_000_000.0
    );
    let _ = writeln!(out, "tidegate_request_duration_seconds_count {below}");
    let singles: [(&str, &str, &str, u64); 6] = [
        (
            "connections_total",
            "counter",
            "Client connections accepted.",
            sum(&|w| &w.connections),
        ),
        (
            "requests_active",
            "gauge",
            "Requests in flight.",
            sum(&|w| &w.active),
        ),
        (
            "upstream_retries_total",
            "counter",
            "Further tries.",
            sum(&|w| &w.retries),
        ),
        (
            "upstream_connect_failures_total",
            "counter",
            "Connections that failed.",
            sum(&|w| &w.connect_failures),
        ),
        (
            "received_bytes_total",
            "counter",
            "Bytes of request bodies.",
            sum(&|w| &w.received),
        ),
        (
            "sent_bytes_total",
            "counter",
            "Bytes of response bodies.",
            sum(&|w| &w.sent),
        ),
    ];
    for (name, kind, help, value) in singles {
        let _ = writeln!(
            out,
            "# HELP tidegate_{name} {help}\n# TYPE tidegate_{name} {kind}\ntidegate_{name} {value}"
        );
    }
    write_streams(out, workers);
    let mut replies: BTreeMap<&'static str, u64> = BTreeMap::new();
    for worker in workers {
        for (details, count) in worker
            .own_replies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            *replies.entry(details).or_default() += count;
        }
    }
    let _ = writeln!(
        out,
        "# HELP tidegate_own_replies_total Answers of the host itself, by response details."
    );
    let _ = writeln!(out, "# TYPE tidegate_own_replies_total counter");
    for (details, count) in replies {
        let _ = writeln!(
            out,
            "tidegate_own_replies_total{{details=\"{details}\"}} {count}"
        );
    }
}

/// The series of streams, by protocol.
fn write_streams(out: &mut String, workers: &[std::sync::Arc<WorkerMetrics>]) {
    type Counter = fn(&StreamCounters) -> &AtomicU64;
    let names = Protocol::ALL.map(Protocol::label);
    let series: [(&str, &str, &str, Counter); 4] = [
        (
            "streams_total",
            "counter",
            "Connections passed on, and sessions of UDP.",
            |c| &c.total,
        ),
        ("streams_active", "gauge", "Those that are open.", |c| {
            &c.active
        }),
        (
            "stream_received_bytes_total",
            "counter",
            "Bytes from clients on ended streams.",
            |c| &c.received,
        ),
        (
            "stream_sent_bytes_total",
            "counter",
            "Bytes to clients on ended streams.",
            |c| &c.sent,
        ),
    ];
    for (name, kind, help, get) in series {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "# HELP tidegate_{name} {help}\n# TYPE tidegate_{name} {kind}"
        );
        for (at, protocol) in names.iter().enumerate() {
            let value = workers.iter().fold(0_u64, |total, worker| {
                total.wrapping_add(get(&worker.streams[at]).load(Ordering::Relaxed))
            });
            let _ = writeln!(out, "tidegate_{name}{{protocol=\"{protocol}\"}} {value}");
        }
    }
    let _ = writeln!(
        out,
        "# HELP tidegate_stream_failures_total Streams that came to no backend, and datagrams dropped, by reason.\n# TYPE tidegate_stream_failures_total counter"
    );
    for (at, protocol) in names.iter().enumerate() {
        let mut failures: BTreeMap<&'static str, u64> = BTreeMap::new();
        for worker in workers {
            let of_worker = worker.streams[at]
                .failures
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for (reason, count) in of_worker.iter() {
                *failures.entry(reason).or_default() += count;
            }
        }
        for (reason, count) in failures {
            let _ = writeln!(
                out,
                "tidegate_stream_failures_total{{protocol=\"{protocol}\",reason=\"{reason}\"}} {count}"
            );
        }
    }
}
