//! What `/metrics` says of filters, and what filters say themselves.

use std::collections::{BTreeMap, HashMap, HashSet};
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
    write_guests(out, shared.metrics());
}

fn write_guests(out: &mut String, samples: Vec<MetricSample>) {
    // Writing to a String cannot fail.
    for (name, (kind, samples)) in families(samples) {
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

/// Series by the name of their family, which has one type: Prometheus refuses a page that says otherwise, with everybody's metrics on
/// it. What was defined first keeps its name; where that is taken, the type is put behind it.
fn families(samples: Vec<MetricSample>) -> BTreeMap<String, (&'static str, Vec<MetricSample>)> {
    let mut alike: BTreeMap<(String, &'static str), Vec<MetricSample>> = BTreeMap::new();
    for sample in samples {
        let kind = match &sample.value {
            MetricValue::Counter(_) => "counter",
            MetricValue::Gauge(_) => "gauge",
            MetricValue::Histogram(_) => "histogram",
        };
        let name = allowed(&sample.name, kind);
        alike.entry((name, kind)).or_default().push(sample);
    }
    let mut alike: Vec<_> = alike.into_iter().collect();
    alike.sort_by_key(|(_, samples)| samples.iter().map(|sample| sample.order).min());
    let mut taken = HashSet::new();
    let mut families = BTreeMap::new();
    for ((mut name, kind), samples) in alike {
        while lines(&name, kind).any(|line| taken.contains(&line)) {
            name.push('_');
            name.push_str(kind);
        }
        taken.extend(lines(&name, kind));
        families.insert(name, (kind, samples));
    }
    families
}

/// What lines of a family may begin with.
fn lines(name: &str, kind: &str) -> impl Iterator<Item = String> {
    let behind: &[&str] = match kind {
        "histogram" => &["", "_bucket", "_sum", "_count"],
        _ => &[""],
    };
    behind.iter().map(move |behind| format!("{name}{behind}"))
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

#[cfg(test)]
mod tests {
    use tidegate_wasm::Histogram;

    use super::*;

    fn sample(order: u64, namespace: &str, name: &str, value: MetricValue) -> MetricSample {
        MetricSample {
            namespace: namespace.into(),
            scope: "f".to_owned(),
            name: name.to_owned(),
            order,
            value,
        }
    }

    fn types(samples: Vec<MetricSample>) -> Vec<String> {
        let mut out = String::new();
        write_guests(&mut out, samples);
        out.lines()
            .filter_map(|line| line.strip_prefix("# TYPE tidegate_guest_"))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_family_has_the_type_of_its_first_definition() {
        let histogram = || MetricValue::Histogram(Histogram::default());
        let gauge = || MetricValue::Gauge(1);
        let (a, b) = ("a", "b");
        assert_eq!(
            types(vec![
                sample(2, a, "jobs", gauge()),
                sample(1, b, "jobs", histogram()),
                sample(3, b, "jobs", gauge()),
            ]),
            ["jobs histogram", "jobs_gauge gauge"]
        );
        assert_eq!(
            types(vec![
                sample(1, a, "jobs", gauge()),
                sample(2, b, "jobs", histogram()),
                sample(3, b, "jobs", MetricValue::Counter(1)),
            ]),
            [
                "jobs gauge",
                "jobs_histogram histogram",
                "jobs_total counter"
            ]
        );
        assert_eq!(
            types(vec![
                sample(1, a, "jobs_total", gauge()),
                sample(2, b, "jobs", MetricValue::Counter(1)),
            ]),
            ["jobs_total gauge", "jobs_total_counter counter"]
        );
    }

    #[test]
    fn lines_of_a_histogram_are_no_other_familys() {
        let histogram = || MetricValue::Histogram(Histogram::default());
        assert_eq!(
            types(vec![
                sample(1, "a", "jobs_sum", MetricValue::Gauge(1)),
                sample(2, "b", "jobs", histogram()),
            ]),
            ["jobs_histogram histogram", "jobs_sum gauge"]
        );
    }
}
