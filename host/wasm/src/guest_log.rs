//! What guests log: records with target `guest`, capped in length and rate.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidegate_model::Secrets;
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

    /// A guest's line, without what is secret to one of its VM's plugins. `level` is at most [`MAX_LEVEL`].
    pub(crate) fn write<'s>(
        &mut self,
        filter: &str,
        level: u32,
        message: &[u8],
        secrets: impl Iterator<Item = &'s Secrets> + Clone,
    ) {
        if level >= 4 {
            self.last_error = shorten(&shown(message, secrets.clone()), MAX_LAST);
        }
        if !enabled(level) || !locked(&self.budget).admit(filter) {
            return;
        }
        let mut text = shown(message, secrets);
        let cut = message.len().saturating_sub(MAX_MESSAGE);
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

/// The first [`MAX_MESSAGE`] bytes, without secrets.
fn shown<'m, 's>(
    message: &'m [u8],
    secrets: impl Iterator<Item = &'s Secrets> + Clone,
) -> Cow<'m, str> {
    let longest = secrets.clone().map(Secrets::longest).max().unwrap_or(0);
    let most = MAX_MESSAGE + longest;
    let text = String::from_utf8_lossy(&message[..message.len().min(most)]);
    if longest == 0 {
        return text;
    }
    let mut text = text.into_owned();
    for secrets in secrets {
        text = secrets.redact(&text).into_owned();
    }
    if message.len() > most {
        // The end may be the first part of a secret.
        truncate(&mut text, longest);
    }
    let over = text.len().saturating_sub(MAX_MESSAGE);
    truncate(&mut text, over);
    text.into()
}

/// Cuts at least so many bytes off, between characters.
fn truncate(text: &mut String, bytes: usize) {
    let mut end = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
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
    fn secrets_are_neither_shown_nor_shown_in_part() {
        let (one, two) = (Secrets::new(["hunter2"]), Secrets::new(["s3cret-token"]));
        let shown =
            |message: &str| shown(message.as_bytes(), [&one, &two].into_iter()).into_owned();
        assert_eq!(
            shown("a hunter2 and s3cret-token"),
            "a <redacted> and <redacted>"
        );
        for before in MAX_MESSAGE - 20..MAX_MESSAGE + 20 {
            let long = shown(&("x".repeat(before) + "s3cret-token" + &"y".repeat(50)));
            assert!(
                long.len() <= MAX_MESSAGE && !long.contains("s3c"),
                "{before}"
            );
        }
        let mut log = GuestLog::default();
        log.write(
            "shop/hello",
            4,
            b"no such user: hunter2",
            [&one].into_iter(),
        );
        assert_eq!(log.last_error(), "no such user: <redacted>");
    }

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
