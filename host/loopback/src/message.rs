//! HTTP/1 messages, byte for byte: what was sent and how far it came.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

/// A request or response as it was read.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Request or status line.
    pub line: String,
    /// Fields, names as they were written.
    pub fields: Vec<(String, String)>,
    /// Content without its framing.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Vec<(String, String)>,
    /// Whether its end came, in the way its framing says.
    pub complete: bool,
}

/// Reads messages from one side of a connection.
#[derive(Debug)]
pub struct Reader<S> {
    stream: S,
    read: Vec<u8>,
    deadline: Option<Instant>,
}

impl Message {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The status of a response; 0 for anything else.
    pub fn status(&self) -> u16 {
        self.line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0)
    }

    fn parse(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let line = lines.next().unwrap_or_default().to_owned();
        Self {
            line,
            fields: lines.map(field).collect(),
            ..Self::default()
        }
    }

    fn is_chunked(&self) -> bool {
        self.field("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }
}

impl<S: AsyncRead + Unpin> Reader<S> {
    /// Reads from a stream.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            read: Vec::new(),
            deadline: None,
        }
    }

    /// Reads so long at the most; what is not there by then does not come.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.deadline = Some(Instant::now() + limit);
        self
    }

    /// The stream.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// A head; `None`: the connection ended before.
    pub async fn head(&mut self) -> Option<Message> {
        let head = self.upto(b"\r\n\r\n").await?;
        Some(Message::parse(&head))
    }

    /// What follows the head of a request, told to `note` as it comes.
    pub async fn request_body(&mut self, message: &mut Message, note: impl FnMut(&Message)) {
        if message.is_chunked() {
            self.chunks(message, note).await;
        } else {
            let length = message
                .field("content-length")
                .and_then(|length| length.parse().ok());
            self.exactly(length.unwrap_or(0), message, note).await;
        }
    }

    /// What follows the head of a response to this method (RFC 9112 section 6.3).
    pub async fn response_body(&mut self, message: &mut Message, method: &str) {
        let length = message
            .field("content-length")
            .and_then(|length| length.parse().ok());
        if method == "HEAD" || matches!(message.status(), 101 | 204 | 304) {
            message.complete = true;
        } else if message.is_chunked() {
            self.chunks(message, |_| ()).await;
        } else if let Some(length) = length {
            self.exactly(length, message, |_| ()).await;
        } else {
            while self.more().await == Some(true) {}
            message.complete = self
                .deadline
                .is_none_or(|deadline| Instant::now() < deadline);
            message.body = std::mem::take(&mut self.read);
        }
    }

    /// Bytes that nobody has asked for: what was read beyond the message.
    pub fn left(&self) -> &[u8] {
        &self.read
    }

    async fn exactly(
        &mut self,
        length: usize,
        message: &mut Message,
        mut note: impl FnMut(&Message),
    ) {
        loop {
            let take = self.read.len().min(length - message.body.len());
            message.body.extend(self.read.drain(..take));
            message.complete = message.body.len() == length;
            note(message);
            if message.complete || self.more().await != Some(true) {
                return;
            }
        }
    }

    async fn chunks(&mut self, message: &mut Message, mut note: impl FnMut(&Message)) {
        loop {
            let Some(line) = self.upto(b"\r\n").await else {
                return;
            };
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            let Ok(size) = usize::from_str_radix(&line, 16) else {
                message.line.push_str(" (and a chunk without a size)");
                return;
            };
            if size == 0 {
                break;
            }
            while self.read.len() < size + 2 {
                if self.more().await != Some(true) {
                    message.body.append(&mut self.read);
                    note(message);
                    return;
                }
            }
            message.body.extend(self.read.drain(..size));
            self.read.drain(..2);
            note(message);
        }
        while let Some(line) = self.upto(b"\r\n").await {
            if line == b"\r\n" {
                message.complete = true;
                break;
            }
            message
                .trailers
                .push(field(&String::from_utf8_lossy(&line)));
        }
        note(message);
    }

    async fn upto(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self
                .read
                .windows(mark.len())
                .position(|window| window == mark)
            {
                return Some(self.read.drain(..at + mark.len()).collect());
            }
            if self.more().await != Some(true) {
                return None;
            }
        }
    }

    /// Reads on: `Some(false)` at the end, `None` when it broke or the time is over.
    async fn more(&mut self) -> Option<bool> {
        let reading = self.stream.read_buf(&mut self.read);
        let read = match self.deadline {
            Some(deadline) => timeout_at(deadline, reading).await.ok()?,
            None => reading.await,
        };
        read.ok().map(|read| read > 0)
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line
        .trim_end()
        .split_once(':')
        .unwrap_or((line, "(no colon)"));
    (name.to_owned(), value.trim().to_owned())
}
