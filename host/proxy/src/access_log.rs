//! The access log: one JSON object a line, written into a buffer of the worker and flushed by a thread of its own, so that a
//! slow disk or a blocked pipe never stops a request. What cannot be written is lost and counted.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde::{Serialize, Serializer};
use tidegate_model::RuleOrigin;

/// Buffers that may wait for the writer; what comes beyond is lost and counted.
const BUFFERS: usize = 256;
/// A worker hands its buffer over at this size.
const BUFFER_BYTES: usize = 32 << 10;
/// How often the end of the writer is looked for.
const LOOK: Duration = Duration::from_millis(2);

/// Where lines go.
#[derive(Clone)]
pub struct AccessLog {
    sender: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

enum Message {
    Lines(Vec<u8>),
    Close,
}

/// Waits for the last lines.
pub struct AccessLogWriter {
    sender: SyncSender<Message>,
    thread: JoinHandle<()>,
}

/// The buffer of one worker.
pub(crate) struct LogBuffer {
    log: Option<AccessLog>,
    bytes: Vec<u8>,
    second: (u64, String),
}

/// A line that waits for something.
pub(crate) struct Unfinished(Vec<u8>);

/// One exchange. The keys are those of Envoy Gateway's JSON log where it has them.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) start_time: &'a str,
    pub(crate) method: &'a str,
    pub(crate) authority: &'a str,
    pub(crate) path: &'a str,
    pub(crate) protocol: &'a str,
    pub(crate) response_code: u16,
    pub(crate) response_code_details: &'a str,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) duration: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream_host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream_cluster: Option<&'a str>,
    pub(crate) upstream_attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display")]
    pub(crate) route: Option<&'a RuleOrigin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<&'a str>,
    pub(crate) listener: &'a str,
    pub(crate) downstream_remote_address: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requested_server_name: Option<&'a str>,
    pub(crate) request_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) user_agent: &'a str,
}

/// One stream. Keys as above, and those of Envoy's log of TCP.
#[derive(Serialize)]
pub(crate) struct StreamLine<'a> {
    pub(crate) start_time: &'a str,
    pub(crate) protocol: &'a str,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) duration: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream_host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream_cluster: Option<&'a str>,
    pub(crate) upstream_attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display")]
    pub(crate) route: Option<&'a RuleOrigin>,
    pub(crate) listener: &'a str,
    pub(crate) downstream_remote_address: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requested_server_name: Option<&'a str>,
    pub(crate) connection_termination_details: &'a str,
}

impl AccessLog {
    /// A log that is written to `out`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<(Self, AccessLogWriter)> {
        let (sender, receiver) = sync_channel(BUFFERS);
        let lost = Arc::<AtomicU64>::default();
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn({
                let lost = lost.clone();
                move || write(out, &receiver, &lost)
            })?;
        let log = Self {
            sender: sender.clone(),
            lost,
        };
        Ok((log, AccessLogWriter { sender, thread }))
    }

    /// Lines that were lost: the writer did not keep up, or could not write them.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl AccessLogWriter {
    /// Writes what is still waiting. Call it when the workers have ended.
    ///
    /// `false` when that is not done within `limit`: the output blocks, and nobody should wait for it.
    pub fn close(self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut unsent = Some(Message::Close);
        loop {
            // Behind the lines that wait, when there is room.
            if let Some(close) = unsent.take()
                && let Err(TrySendError::Full(close)) = self.sender.try_send(close)
            {
                unsent = Some(close);
            }
            if self.thread.is_finished() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for LogBuffer {
    /// The exchanges that a worker leaves at its end are written after its last round.
    fn drop(&mut self) {
        self.flush();
    }
}

impl LogBuffer {
    pub(crate) fn new(log: Option<AccessLog>) -> Self {
        Self {
            log,
            bytes: Vec::new(),
            second: (u64::MAX, String::new()),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.log.is_some()
    }

    /// `2026-01-02T03:04:05.678Z`; the second is formatted once.
    pub(crate) fn timestamp(&mut self, time: SystemTime) -> String {
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        if self.second.0 != since.as_secs() {
            let second = i64::try_from(since.as_secs()).unwrap_or_default();
            let text = jiff::Timestamp::from_second(second)
                .unwrap_or_default()
                .to_string();
            self.second = (since.as_secs(), text.trim_end_matches('Z').to_owned());
        }
        let mut text = String::with_capacity(24);
        // Writing to a String cannot fail.
        let _ = write!(text, "{}.{:03}Z", self.second.1, since.subsec_millis());
        text
    }

    pub(crate) fn write(&mut self, line: &impl Serialize) {
        // Serialising plain text and numbers into memory cannot fail.
        if serde_json::to_writer(&mut self.bytes, line).is_ok() {
            self.bytes.push(b'\n');
        }
        if self.bytes.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    /// A line that is not complete yet.
    pub(crate) fn later(&self, line: &Line<'_>) -> Unfinished {
        // Serialising plain text and numbers into memory cannot fail.
        Unfinished(serde_json::to_vec(line).unwrap_or_default())
    }

    /// Writes such a line with one more field.
    pub(crate) fn finish(&mut self, line: Unfinished, name: &str, value: &impl Serialize) {
        let Unfinished(mut bytes) = line;
        if bytes.pop() != Some(b'}') {
            return;
        }
        bytes.extend_from_slice(b",\"");
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b"\":");
        if serde_json::to_writer(&mut bytes, value).is_ok() {
            bytes.extend_from_slice(b"}\n");
            self.bytes.append(&mut bytes);
        }
        if self.bytes.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    pub(crate) fn flush(&mut self) {
        let Some(log) = &self.log else { return };
        if self.bytes.is_empty() {
            return;
        }
        let lines = Message::Lines(std::mem::take(&mut self.bytes));
        if let Err(TrySendError::Full(Message::Lines(lines))) = log.sender.try_send(lines) {
            log.lost.fetch_add(count(&lines), Ordering::Relaxed);
        }
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

fn display<S: Serializer>(origin: &Option<&RuleOrigin>, serializer: S) -> Result<S::Ok, S::Error> {
    match origin {
        Some(origin) => serializer.collect_str(origin),
        None => serializer.serialize_none(),
    }
}

/// A log that cannot be written (disk full, closed pipe) must not end the gateway; it is said once, and once that it is over.
fn write(mut out: impl Write, receiver: &Receiver<Message>, lost: &AtomicU64) {
    let mut fails = false;
    while let Ok(Message::Lines(lines)) = receiver.recv() {
        match out.write_all(&lines).and_then(|()| out.flush()) {
            Ok(()) => {
                if std::mem::take(&mut fails) {
                    let lost = lost.load(Ordering::Relaxed);
                    tracing::info!(lost, "the access log is written again");
                }
            }
            Err(error) => {
                lost.fetch_add(count(&lines), Ordering::Relaxed);
                if !std::mem::replace(&mut fails, true) {
                    tracing::error!(%error, "the access log cannot be written; its lines are lost until it can");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Far beyond what a slow machine needs; nobody waits for it when all is well.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Keeps what is written, and fails before that so many times.
    struct Disk {
        failures: usize,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written
                .lock()
                .expect("no panic")
                .extend_from_slice(bytes);
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

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_later_ones_are_written() {
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let disk = Disk {
            failures: 2,
            written: written.clone(),
        };
        let (log, writer) = AccessLog::start(disk).expect("a thread");
        let mut buffer = LogBuffer::new(Some(log.clone()));
        for lines in [&["1", "2"][..], &["3"], &["4"]] {
            for line in lines {
                buffer.write(line);
            }
            buffer.flush();
        }
        assert!(writer.close(PATIENCE));
        assert_eq!(*written.lock().expect("no panic"), b"\"4\"\n");
        assert_eq!(log.lost(), 3);
    }

    #[test]
    fn an_output_that_blocks_is_given_up() {
        let (blocks, blocked): (Sender<()>, _) = channel();
        let (log, writer) = AccessLog::start(Blocked(blocked)).expect("a thread");
        let mut buffer = LogBuffer::new(Some(log.clone()));
        let line = "x".repeat(BUFFER_BYTES);
        // One may be in the writer's hands.
        for _ in 0..BUFFERS + 3 {
            buffer.write(&line);
        }
        assert!((2..=3).contains(&log.lost()), "{}", log.lost());
        assert!(!writer.close(Duration::from_millis(50)));
        drop(blocks);
    }

    #[test]
    fn timestamps_are_rfc_3339_with_milliseconds() {
        let mut buffer = LogBuffer::new(None);
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_323_045_678);
        assert_eq!(buffer.timestamp(time), "2026-01-02T03:04:05.678Z");
        assert_eq!(
            buffer.timestamp(SystemTime::UNIX_EPOCH),
            "1970-01-01T00:00:00.000Z"
        );
    }
}
