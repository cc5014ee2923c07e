//! What guests log, in both hosts, while cases run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// A line that a guest has logged.
#[derive(Clone, Debug)]
pub struct Line {
    /// Name of the filter.
    pub plugin: String,
    /// Envoy's name of the level.
    pub level: String,
    /// What it said.
    pub text: String,
}

/// Lines as they come.
#[derive(Debug, Default)]
pub struct Journal {
    lines: Mutex<Vec<Line>>,
    grown: Notify,
}

/// How long nothing must be logged until guests count as having digested what they got.
const QUIET: Duration = Duration::from_millis(12);
/// How long to wait for guests to say anything at all; they need not.
const REACTION: Duration = Duration::from_millis(60);

impl Journal {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// One more line.
    pub fn push(&self, line: Line) {
        self.lock().push(line);
        self.grown.notify_waiters();
    }

    /// More text of the last line, which had a line break in it.
    pub fn go_on(&self, text: &str) {
        if let Some(last) = self.lock().last_mut() {
            last.text.push('\n');
            last.text.push_str(text);
        }
    }

    /// The lines of these filters.
    pub fn of(&self, plugins: &[String]) -> Vec<Line> {
        let lines = self.lock();
        let wanted = lines.iter().filter(|line| plugins.contains(&line.plugin));
        wanted.cloned().collect()
    }

    /// How many lines there are of them.
    pub fn count(&self, plugins: &[String]) -> usize {
        self.lock()
            .iter()
            .filter(|line| plugins.contains(&line.plugin))
            .count()
    }

    /// Waits until guests have said something since `before` and are quiet again, or for a moment if they say nothing.
    pub async fn digested(&self, plugins: &[String], before: usize) {
        self.until(REACTION, || self.count(plugins) > before).await;
        loop {
            let count = self.count(plugins);
            if !self.until(QUIET, || self.count(plugins) > count).await {
                return;
            }
        }
    }

    /// Waits until a condition on the journal holds; `false` if it does not within the limit.
    pub async fn until(&self, limit: Duration, condition: impl Fn() -> bool) -> bool {
        let end = Instant::now() + limit;
        loop {
            let grown = self.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            if condition() {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if timeout(left, grown).await.is_err() {
                return condition();
            }
        }
    }

    /// Whether one of them has said this.
    pub fn says(&self, plugins: &[String], what: &str) -> bool {
        let lines = self.lock();
        lines
            .iter()
            .any(|line| plugins.contains(&line.plugin) && line.text.contains(what))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
