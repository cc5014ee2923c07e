//! What guests log: records with target `guest`, capped in length and rate.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::Level;

use crate::failure::shorten;
use crate::shared::locked;

/// Longest message, in bytes.
const MAX_MESSAGE: usize = 4096;
/// Lines per VM, or per snapshot with all of its instances, and second.
const MAX_LINES: u32 = 500;
/// What is kept of the last error line, for messages about a failure.
const MAX_LAST: usize = 512;

/// Highest level of the ABI: `critical`.
pub(crate) const MAX_LEVEL: u32 = 5;

/// The log of one VM.
#[derive(Default)]
pub(crate) struct GuestLog {
    budget: Arc<Mutex<Budget>>,
    last_error: String,
}

/// Lines of the current second.
#[derive(Default)]
struct Budget {
    window: Option<Instant>,
    lines: u32,
    suppressed: u32,
}

macro_rules! record {
    ($level:ident, $filter:expr, $name:expr, $message:expr) => {
        tracing::event!(target: "guest", Level::$level, filter = $filter, guest_level = $name, "{}", $message)
    };
}

impl GuestLog {
    /// One that shares this one's budget.
    pub(crate) fn sibling(&self) -> Self {
        Self {
            budget: Arc::clone(&self.budget),
            last_error: String::new(),
        }
    }

    /// The last line of level error or critical since [`forget_error`](Self::forget_error).
    pub(crate) fn last_error(&self) -> &str {
        &self.last_error
    }

    pub(crate) fn forget_error(&mut self) {
        self.last_error.clear();
    }

    /// A guest's line. `level` is at most [`MAX_LEVEL`].
    pub(crate) fn write(&mut self, filter: &str, level: u32, message: &[u8]) {
        if level >= 4 {
            let text = String::from_utf8_lossy(&message[..message.len().min(MAX_MESSAGE)]);
            self.last_error = shorten(&text, MAX_LAST);
        }
        if !enabled(level) || !locked(&self.budget).admit(filter) {
            return;
        }
        let cut = message.len().saturating_sub(MAX_MESSAGE);
        let mut text = String::from_utf8_lossy(&message[..message.len() - cut]);
        if cut > 0 {
            text.to_mut().push_str(&format!("… ({cut} bytes more)"));
        }
        emit(filter, level, &text);
    }

    /// What the host has to say of a filter: a line of its own log, within the guest's budget.
    pub(crate) fn remark(&self, filter: &str, message: &str) {
        if locked(&self.budget).admit(filter) {
            tracing::warn!(filter, "{message}");
        }
    }
}

impl Budget {
    /// Whether one more line fits into this second.
    fn admit(&mut self, filter: &str) -> bool {
        let now = Instant::now();
        if self
            .window
            .is_none_or(|start| now.duration_since(start) >= Duration::from_secs(1))
        {
            if self.suppressed > 0 {
                emit(
                    filter,
                    3,
                    &format!(
                        "{} lines were dropped: more than {MAX_LINES} in a second",
                        self.suppressed
                    ),
                );
            }
            self.window = Some(now);
            self.lines = 0;
            self.suppressed = 0;
        }
        if self.lines >= MAX_LINES {
            self.suppressed = self.suppressed.saturating_add(1);
            return false;
        }
        self.lines += 1;
        true
    }
}

/// The lowest level of the ABI that is recorded, as `proxy_get_log_level` tells it.
pub(crate) fn level() -> u32 {
    (0..MAX_LEVEL)
        .find(|level| enabled(*level))
        .unwrap_or(MAX_LEVEL)
}

fn enabled(level: u32) -> bool {
    match level {
        0 => tracing::enabled!(target: "guest", Level::TRACE),
        1 => tracing::enabled!(target: "guest", Level::DEBUG),
        2 => tracing::enabled!(target: "guest", Level::INFO),
        3 => tracing::enabled!(target: "guest", Level::WARN),
        _ => tracing::enabled!(target: "guest", Level::ERROR),
    }
}

fn emit(filter: &str, level: u32, text: &str) {
    match level {
        0 => record!(TRACE, filter, "trace", text),
        1 => record!(DEBUG, filter, "debug", text),
        2 => record!(INFO, filter, "info", text),
        3 => record!(WARN, filter, "warn", text),
        4 => record!(ERROR, filter, "error", text),
        _ => record!(ERROR, filter, "critical", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_of_a_snapshot_share_one_budget() {
        let log = GuestLog::default();
        let mut admitted = 0;
        for _ in 0..MAX_LINES + 10 {
            // Each request has an instance of its own.
            let instance = log.sibling();
            let admits = locked(&instance.budget).admit("shop/hello");
            admitted += u32::from(admits);
        }
        let window = locked(&log.budget).window.expect("it began with the first");
        if window.elapsed() < Duration::from_secs(1) {
            assert_eq!(admitted, MAX_LINES);
        }
        assert!(GuestLog::default().last_error().is_empty());
    }
}
