//! Logs of the host itself: human on a terminal, JSON lines otherwise, always on standard error. `RUST_LOG` chooses.
//!
//! A thread of its own writes them: data threads log, too, and a standard error that nobody reads must not stop them. What
//! does not fit into the queue is lost and counted, and a line tells so where it would have been.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::args::Command;
use crate::filter::test::Guests;

/// Bytes of lines that may wait for the writer.
const QUEUE: usize = 1 << 20;
/// How long the end of the process waits for lines that are not written yet.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Lines that were lost since the process began.
static LOST: AtomicU64 = AtomicU64::new(0);

/// The log of the process. When it is dropped, what still waits is written, unless nobody reads it.
pub(crate) struct Log(Arc<Queue>);

/// Lines on their way to the writer.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// There is something to write.
    news: Condvar,
    /// Everything has been written.
    done: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// Lines lost behind `lines`.
    lost: u64,
    writing: bool,
}

/// Takes what a layer writes: each write is a line.
struct Lines(Arc<Queue>);

/// Starts logging. What guests log is a record with target `guest`; for tests of filters these records are kept, too, and nothing
/// else is said unless it is asked for: what cases provoke is no news.
///
/// # Errors
/// When no thread can be started.
pub(crate) fn start(command: &Command) -> io::Result<Log> {
    let human = io::stderr().is_terminal();
    let queue = Arc::new(Queue::default());
    std::thread::Builder::new().name("log".to_owned()).spawn({
        let queue = queue.clone();
        move || queue.write_to(io::stderr(), |lost| notice(lost, human))
    })?;
    let tests = matches!(command, Command::Filter(_));
    let usual = if tests { "off" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let kept = tests.then(|| Guests::of_process().clone().with_filter(LevelFilter::TRACE));
    let lines = queue.clone();
    let written = tracing_subscriber::fmt::layer().with_writer(move || Lines(lines.clone()));
    let written = if human {
        written.boxed()
    } else {
        written.json().flatten_event(true).boxed()
    };
    let subscriber = tracing_subscriber::registry()
        .with(written.with_filter(filter))
        .with(kept);
    if let Err(error) = subscriber.try_init() {
        eprintln!("tidegate: logging: {error}");
    }
    Ok(Log(queue))
}

/// Lines that were lost since the process began, because standard error was not read.
pub(crate) fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// The line that stands for lost ones. Not a record like others: it has its place, and no filter keeps it back.
fn notice(lost: u64, human: bool) -> String {
    let mut time = String::new();
    // Writing to a String cannot fail.
    let _ = SystemTime.format_time(&mut format::Writer::new(&mut time));
    let (target, message) = (
        module_path!(),
        "lines of this log are lost: standard error was not read",
    );
    if human {
        return format!("{time}  WARN {target}: {message} lost={lost}\n");
    }
    let record = json!({"timestamp": time, "level": "WARN", "message": message, "lost": lost, "target": target});
    format!("{record}\n")
}

// === impl Log ===

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES);
    }
}

// === impl Queue ===

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.state();
        let idle = state.is_empty();
        // Once one is lost, all are until the writer comes: so their count has one place.
        if state.lost > 0 || state.lines.len() + line.len() > QUEUE {
            state.lost += 1;
            LOST.fetch_add(1, Ordering::Relaxed);
        } else {
            state.lines.extend_from_slice(line);
        }
        if idle {
            self.news.notify_one();
        }
    }

    /// Writes what comes, for ever.
    fn write_to(&self, mut out: impl Write, notice: impl Fn(u64) -> String) {
        loop {
            let mut state = self.state();
            state.writing = false;
            if state.is_empty() {
                self.done.notify_all();
            }
            let mut state = self
                .news
                .wait_while(state, |state| state.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            state.writing = true;
            let (lines, lost) = (std::mem::take(&mut state.lines), state.lost);
            state.lost = 0;
            drop(state);
            // A log that cannot be written must not end the gateway, and there is nowhere to say it.
            let _ = out.write_all(&lines);
            if lost > 0 {
                let _ = out.write_all(notice(lost).as_bytes());
            }
        }
    }

    /// Waits until everything is written. `false`: it was not within `limit`.
    fn flush(&self, limit: Duration) -> bool {
        let (state, waited) = self
            .done
            .wait_timeout_while(self.state(), limit, |state| {
                state.writing || !state.is_empty()
            })
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        !waited.timed_out()
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.lost == 0
    }
}

// === impl Lines ===

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Far beyond what a slow machine needs; nobody waits for it when all is well.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Passes on what is written.
    struct Passed(Sender<String>);

    impl Write for Passed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Nobody may be there any more.
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Takes nothing before the other end is dropped.
    struct Blocked(Receiver<()>);

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error: the other end is gone.
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The writer ends with the tests.
    fn writes(queue: &Arc<Queue>, out: impl Write + Send + 'static) {
        let queue = queue.clone();
        std::thread::spawn(move || queue.write_to(out, |lost| format!("{lost} lost\n")));
    }

    #[test]
    fn lost_lines_are_told_where_they_would_have_been() {
        let queue = Arc::new(Queue::default());
        queue.push(b"first\n");
        queue.push(&vec![b'x'; QUEUE]);
        queue.push(b"second\n");
        let (out, written) = channel();
        writes(&queue, Passed(out));
        assert!(queue.flush(PATIENCE));
        queue.push(b"third\n");
        assert!(queue.flush(PATIENCE));
        // Larger than all that may wait: the writer hears of it all the same.
        queue.push(&vec![b'x'; QUEUE + 1]);
        assert!(queue.flush(PATIENCE));
        let written: String = written.try_iter().collect();
        assert_eq!(written, "first\n2 lost\nthird\n1 lost\n");
    }

    #[test]
    fn nobody_waits_for_an_output_that_blocks() {
        let queue = Arc::new(Queue::default());
        let (blocks, blocked) = channel();
        writes(&queue, Blocked(blocked));
        for _ in 0..QUEUE {
            queue.push(b"a line\n");
        }
        assert!(!queue.flush(Duration::from_millis(50)));
        drop(blocks);
        assert!(queue.flush(PATIENCE));
    }

    #[test]
    fn the_notice_is_a_line_like_others() {
        let record: serde_json::Value =
            serde_json::from_str(&notice(3, false)).expect("a line of JSON");
        assert_eq!(
            (&record["level"], &record["lost"]),
            (&json!("WARN"), &json!(3))
        );
        let line = notice(3, true);
        assert!(
            line.contains("Z  WARN ") && line.ends_with(" lost=3\n"),
            "{line}"
        );
    }
}
