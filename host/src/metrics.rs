//! What `/metrics` says of filters, and what filters say themselves.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tidegate_model::FilterId;
use tidegate_proxy::PluginStats;
use tidegate_wasm::{MetricSample, MetricValue, Shared};

/// Counters of each filter.
pub(crate) fn filters(out: &mut String, stats: &HashMap<FilterId, Arc<PluginStats>>) {
    let mut rows: Vec<_> = stats.iter().collect();
    rows.sort_by_key(|(id, _)| *id);
    type Read = fn(&PluginStats) -> i64;
    let counters: [(&str, &str, &str, Read); 7] = [
        (
            "streams_total",
            "counter",
            "Requests a filter has seen.",
            |s| s.streams.load(Relaxed).cast_signed(),
        ),
        ("calls_total", "counter", "Callbacks of a filter.", |s| {
            s.calls.load(Relaxed).cast_signed()
        }),
        ("traps_total", "counter", "Traps of a filter.", |s| {
            s.traps.load(Relaxed).cast_signed()
        }),
        (
            "deadlines_total",
            "counter",
            "Callbacks that passed their callTimeout.",
            |s| s.deadlines.load(Relaxed).cast_signed(),
        ),
        (
            "collateral_total",
            "counter",
            "Requests that fell with the VM of another request.",
            |s| s.collateral.load(Relaxed).cast_signed(),
        ),
        ("contexts", "gauge", "Stream contexts alive.", |s| {
            s.contexts.load(Relaxed)
        }),
        ("vms", "gauge", "VMs that hold the filter.", |s| {
            s.vms.load(Relaxed)
        }),
    ];
    // Writing to a String cannot fail.
    for (name, kind, help, read) in counters {
        let _ = writeln!(
            out,
            "# HELP tidegate_filter_{name} {help}\n# TYPE tidegate_filter_{name} {kind}"
        );
        for (id, stats) in &rows {
            let (namespace, filter) = (&id.namespace, &id.name);
            let value = read(stats);
            let _ = writeln!(
                out,
                "tidegate_filter_{name}{{namespace=\"{namespace}\",filter=\"{filter}\"}} {value}"
            );
        }
    }
    shadows(out, &rows);
}

/// What filters in shadow mode would have done.
fn shadows(out: &mut String, rows: &[(&FilterId, &Arc<PluginStats>)]) {
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "# HELP tidegate_filter_shadow_total Requests by what a filter in shadow mode would have done.\n# TYPE tidegate_filter_shadow_total counter"
    );
    for (id, stats) in rows {
        let (namespace, filter) = (&id.namespace, &id.name);
        for (would, count) in tidegate_proxy::SHADOW_KINDS.iter().zip(&stats.shadow) {
            let count = count.load(Relaxed);
            if count > 0 {
                let _ = writeln!(
                    out,
                    "tidegate_filter_shadow_total{{namespace=\"{namespace}\",filter=\"{filter}\",would=\"{would}\"}} {count}"
                );
            }
        }
    }
}

/// Metrics that filters define themselves: `tidegate_guest_` and the guest's name with what Prometheus does not allow as `_`.
/// The label `metric` keeps the name as the guest gave it, so that two that look alike stay apart.
pub(crate) fn guests(out: &mut String, shared: &Shared) {
    let mut families: BTreeMap<(String, &'static str), Vec<MetricSample>> = BTreeMap::new();
    for sample in shared.metrics() {
        let kind = match &sample.value {
            MetricValue::Counter(_) => "counter",
            MetricValue::Gauge(_) => "gauge",
            MetricValue::Histogram(_) => "histogram",
        };
        families
            .entry((allowed(&sample.name, kind), kind))
            .or_default()
            .push(sample);
    }
    // Writing to a String cannot fail.
    for ((name, kind), samples) in families {
        let _ = writeln!(
            out,
            "# HELP {name} Defined by a filter.\n# TYPE {name} {kind}"
        );
        for sample in samples {
            let labels = format!(
                "namespace=\"{}\",scope=\"{}\",metric=\"{}\"",
                escaped(&sample.namespace),
                escaped(&sample.scope),
                escaped(&sample.name)
            );
            let _ = match &sample.value {
                MetricValue::Counter(value) => writeln!(out, "{name}{{{labels}}} {value}"),
                MetricValue::Gauge(value) => writeln!(out, "{name}{{{labels}}} {value}"),
                MetricValue::Histogram(histogram) => {
                    for (bound, count) in &histogram.buckets {
                        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
                    }
                    let _ = writeln!(
                        out,
                        "{name}_bucket{{{labels},le=\"+Inf\"}} {}",
                        histogram.count
                    );
                    let _ = writeln!(out, "{name}_sum{{{labels}}} {}", histogram.sum);
                    writeln!(out, "{name}_count{{{labels}}} {}", histogram.count)
                }
            };
        }
    }
}

/// A name that Prometheus takes; the kind keeps a counter and a gauge of one name apart.
fn allowed(name: &str, kind: &str) -> String {
    let name: String = name
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '_'
            }
        })
        .collect();
    match kind {
        "counter" if name.ends_with("_total") => format!("tidegate_guest_{name}"),
        "counter" => format!("tidegate_guest_{name}_total"),
        _ => format!("tidegate_guest_{name}"),
    }
}

/// A label value (Prometheus' text format).
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
