//! Times, their order statistics, and how they are printed.

use std::time::{Duration, Instant};

/// Durations of equal things.
#[derive(Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One more.
    pub fn push(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds all of another.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The smallest sample that at least this part of all samples does not exceed; 0 is the least, 1 the greatest.
    pub fn quantile(&self, part: f64) -> Duration {
        let mut ordered = self.0.clone();
        ordered.sort_unstable();
        // Samples are counted in thousands at the most, so nothing is lost on the way.
        let rank = (part * ordered.len() as f64).ceil() as usize;
        ordered
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }
}

/// What the work gives, and how long it took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = work();
    (value, start.elapsed())
}

/// Milliseconds, with as many digits as mean something.
pub fn milliseconds(duration: Duration) -> String {
    let value = duration.as_secs_f64() * 1e3;
    match value {
        100.0.. => format!("{value:.0}"),
        1.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The head of a table whose first column is a name.
pub fn heading(title: &str, columns: &[&str]) {
    println!("\n{title}");
    row(
        "",
        &columns.iter().map(ToString::to_string).collect::<Vec<_>>(),
    );
}

/// One line of it.
pub fn row(name: &str, values: &[String]) {
    print!("  {name:<34}");
    for value in values {
        print!("{value:>12}");
    }
    println!();
}

/// A line of minimum, median, 99th percentile and maximum.
pub fn spread(name: &str, samples: &Samples) {
    let values = [0.0, 0.5, 0.99, 1.0].map(|part| milliseconds(samples.quantile(part)));
    row(&format!("{name} ({})", samples.len()), &values);
}

/// The columns of [`spread`].
pub const SPREAD: [&str; 4] = ["min", "median", "p99", "max"];

/// The machine's load over one, five and fifteen minutes.
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let mut samples = Samples::default();
        for value in [5, 1, 4, 2, 3] {
            samples.push(Duration::from_millis(value));
        }
        assert_eq!(samples.quantile(0.0).as_millis(), 1);
        assert_eq!(samples.quantile(0.5).as_millis(), 3);
        assert_eq!(samples.quantile(0.99).as_millis(), 5);
        assert_eq!(samples.quantile(1.0).as_millis(), 5);
        assert_eq!(Samples::default().quantile(0.5), Duration::ZERO);
    }
}
