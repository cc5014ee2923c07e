//! Metrics that guests define: counters, gauges and histograms, one series per kind and name in a scope.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::locked;
use crate::status::Status;

/// Upper bounds of histogram buckets, Envoy's default ones; a last bucket takes the rest.
const BOUNDS: [u64; 18] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000,
    1_800_000, 3_600_000,
];

/// How many series were defined.
static DEFINED: AtomicU64 = AtomicU64::new(0);

/// `MetricType`, with the numbers of the ABI; the low two bits of a metric's id.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum MetricKind {
    Counter = 0,
    Gauge = 1,
    Histogram = 2,
}

/// One series.
pub(crate) struct Metric {
    /// The number that guests of this scope know it by.
    pub(crate) id: u32,
    /// When it was defined, among all of this process.
    order: u64,
    cell: Cell,
}

enum Cell {
    Counter(AtomicU64),
    Gauge(AtomicU64),
    Histogram(Box<Buckets>),
}

#[derive(Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

type Key = (MetricKind, Box<str>);

#[derive(Default)]
pub(super) struct Metrics {
    series: Mutex<BTreeMap<Key, Arc<Metric>>>,
}

/// A metric's value at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSample {
    /// Namespace of the filter.
    pub namespace: Arc<str>,
    /// `vm.id`, or the Filter's name where that is empty.
    pub scope: String,
    /// As the guest named it: anything, not only what Prometheus allows.
    pub name: String,
    /// Grows from one definition to the next, over all namespaces.
    pub order: u64,
    /// Kind and value.
    pub value: MetricValue,
}

/// The value of a [`MetricSample`].
#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// Only grows.
    Counter(u64),
    /// Goes up and down; a guest may take it below zero.
    Gauge(i64),
    /// A distribution.
    Histogram(Histogram),
}

/// A distribution of recorded values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Upper bound, inclusive, and the number of values at or below it.
    pub buckets: Vec<(u64, u64)>,
    /// Number of values.
    pub count: u64,
    /// Sum of the values.
    pub sum: u64,
}

// === impl Metrics ===

impl Metrics {
    /// The series of that kind and name; `admit` is asked before a new one is made.
    pub(super) fn define(
        &self,
        kind: MetricKind,
        name: &str,
        admit: impl FnOnce() -> Result<(), Status>,
    ) -> Result<Arc<Metric>, Status> {
        let mut series = locked(&self.series);
        let key = (kind, Box::from(name));
        if let Some(metric) = series.get(&key) {
            return Ok(Arc::clone(metric));
        }
        let index = u32::try_from(series.len() + 1).map_err(|_| Status::InternalFailure)?;
        admit()?;
        let cell = match kind {
            MetricKind::Counter => Cell::Counter(AtomicU64::new(0)),
            MetricKind::Gauge => Cell::Gauge(AtomicU64::new(0)),
            MetricKind::Histogram => Cell::Histogram(Box::default()),
        };
        let metric = Arc::new(Metric {
            id: (index << 2) | kind as u32,
            order: DEFINED.fetch_add(1, Ordering::Relaxed),
            cell,
        });
        series.insert(key, Arc::clone(&metric));
        Ok(metric)
    }

    pub(super) fn sample(
        &self,
        namespace: &Arc<str>,
        scope: &str,
        samples: &mut Vec<MetricSample>,
    ) {
        samples.extend(
            locked(&self.series)
                .iter()
                .map(|((_, name), metric)| MetricSample {
                    namespace: Arc::clone(namespace),
                    scope: scope.to_owned(),
                    name: name.to_string(),
                    order: metric.order,
                    value: metric.value(),
                }),
        );
    }
}

// === impl Metric ===

impl Metric {
    /// `increment_metric`
    pub(crate) fn increment(&self, offset: i64) -> Result<(), Status> {
        match &self.cell {
            Cell::Counter(cell) => {
                let offset = u64::try_from(offset)
                    .ok()
                    .filter(|offset| *offset > 0)
                    .ok_or(Status::BadArgument)?;
                cell.fetch_add(offset, Ordering::Relaxed);
            }
            Cell::Gauge(cell) => {
                cell.fetch_add(offset.cast_unsigned(), Ordering::Relaxed);
            }
            Cell::Histogram(_) => return Err(Status::BadArgument),
        }
        Ok(())
    }

    /// `record_metric`
    pub(crate) fn record(&self, value: u64) {
        match &self.cell {
            Cell::Counter(cell) => {
                cell.fetch_add(value, Ordering::Relaxed);
            }
            Cell::Gauge(cell) => cell.store(value, Ordering::Relaxed),
            Cell::Histogram(buckets) => {
                let index = BOUNDS.partition_point(|bound| *bound < value);
                buckets.counts[index].fetch_add(1, Ordering::Relaxed);
                buckets.sum.fetch_add(value, Ordering::Relaxed);
            }
        }
    }

    /// `get_metric`
    pub(crate) fn get(&self) -> Result<u64, Status> {
        match &self.cell {
            Cell::Counter(cell) | Cell::Gauge(cell) => Ok(cell.load(Ordering::Relaxed)),
            Cell::Histogram(_) => Err(Status::BadArgument),
        }
    }

    fn value(&self) -> MetricValue {
        match &self.cell {
            Cell::Counter(cell) => MetricValue::Counter(cell.load(Ordering::Relaxed)),
            Cell::Gauge(cell) => MetricValue::Gauge(cell.load(Ordering::Relaxed).cast_signed()),
            Cell::Histogram(buckets) => {
                let mut count = 0;
                let mut below = |cell: &AtomicU64| {
                    count += cell.load(Ordering::Relaxed);
                    count
                };
                let counts: Vec<u64> = buckets.counts.iter().map(&mut below).collect();
                MetricValue::Histogram(Histogram {
                    buckets: BOUNDS.iter().copied().zip(counts).collect(),
                    count,
                    sum: buckets.sum.load(Ordering::Relaxed),
                })
            }
        }
    }
}
