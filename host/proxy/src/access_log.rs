//! The access log: one JSON object a line, written into a buffer of the worker and flushed by a thread of its own, so that a
//! slow disk or a blocked pipe never stops a request.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use tidegate_model::RuleOrigin;

/// Buffers that may wait for the writer; what comes beyond is dropped and counted.
const BUFFERS: usize = 256;
/// A worker hands its buffer over at this size.
const BUFFER_BYTES: usize = 32 << 10;

/// Where lines go.
#[derive(Clone)]
pub struct AccessLog {
    sender: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
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
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(out, &receiver))?;
        let log = Self {
            sender: sender.clone(),
            dropped: Arc::default(),
        };
        Ok((log, AccessLogWriter { sender, thread }))
    }

    /// Buffers that were dropped because the writer did not keep up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl AccessLogWriter {
    /// Writes what is still waiting. Call it when the workers have ended; waits at most as long as the output blocks.
    pub fn close(self) {
        if self.sender.send(Message::Close).is_ok() {
            drop(self.thread.join());
        }
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
        if let Err(TrySendError::Full(_)) = log
            .sender
            .try_send(Message::Lines(std::mem::take(&mut self.bytes)))
        {
            log.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn display<S: Serializer>(origin: &Option<&RuleOrigin>, serializer: S) -> Result<S::Ok, S::Error> {
    match origin {
        Some(origin) => serializer.collect_str(origin),
        None => serializer.serialize_none(),
    }
}

fn write(mut out: impl Write, receiver: &Receiver<Message>) {
    while let Ok(Message::Lines(lines)) = receiver.recv() {
        // A log that cannot be written (disk full, closed pipe) must not end the gateway.
        let _ = out.write_all(&lines).and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
