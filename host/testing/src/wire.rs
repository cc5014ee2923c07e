//! Bytes: a connection that tests write and read by hand, on either side of the gateway.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{Answer, within};

/// One end of a connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    read: BytesMut,
}

/// A head as it was on the wire.
#[derive(Clone, Debug)]
pub struct Head {
    /// Request line or status line.
    pub line: String,
    /// Fields in their order, names as they were written.
    pub fields: Vec<(String, String)>,
    /// All of it.
    pub text: String,
}

/// Accepts connections as bytes.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

// === impl Head ===

impl Head {
    /// The value of a field that stands there once; empty if it does not.
    ///
    /// # Panics
    /// When it is repeated.
    pub fn field<'a>(&'a self, name: &'a str) -> &'a str {
        let mut values = self.all(name);
        let value = values.next().unwrap_or_default();
        assert!(values.next().is_none(), "{name} is repeated: {}", self.text);
        value
    }

    /// Whether a field is there.
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The status of a response's head.
    ///
    /// # Panics
    /// When it is none.
    pub fn status(&self) -> u16 {
        let status = self
            .line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no status line: {}", self.text))
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let line = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| match line.split_once(':') {
            Some((name, value)) => (name.to_owned(), value.trim().to_owned()),
            None => panic!("not a field: {line:?} in {text:?}"),
        };
        Self {
            line,
            fields: lines.map(field).collect(),
            text: text.clone(),
        }
    }

    fn map(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in &self.fields {
            let name: HeaderName = name
                .parse()
                .unwrap_or_else(|_| panic!("not a name: {name:?}"));
            map.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        map
    }
}

// === impl Wire ===

impl Wire {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address)
            .await
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    /// Connects, if somebody listens there.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::new(
            within("connect", TcpStream::connect(address)).await?,
        ))
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self {
            stream,
            read: BytesMut::new(),
        }
    }

    /// Our own address.
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("connected")
    }

    /// Writes.
    ///
    /// # Panics
    /// When the other side has gone.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the other side is there");
    }

    /// Writes, if the other side is still there.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within("send", self.stream.write_all(bytes.as_ref())).await
    }

    /// Says that nothing follows, and still reads.
    pub async fn finish(&mut self) {
        // The other side may have gone already.
        let _ = self.stream.shutdown().await;
    }

    /// Ends the connection with RST.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("SO_LINGER");
    }

    /// Reads a head, up to its empty line.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn head(&mut self) -> Head {
        let head = self.until(b"\r\n\r\n").await;
        Head::parse(&head)
    }

    /// Reads a head, or finds the connection at its end.
    pub async fn head_or_end(&mut self) -> Option<Head> {
        while find(&self.read, b"\r\n\r\n").is_none() {
            if !self.more().await {
                assert!(self.read.is_empty(), "ended within a head: {:?}", self.read);
                return None;
            }
        }
        Some(self.head().await)
    }

    /// Reads as many bytes.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn exact(&mut self, count: usize) -> Bytes {
        while self.read.len() < count {
            assert!(
                self.more().await,
                "ended after {:?}, {count} bytes were expected",
                self.read
            );
        }
        self.read.split_to(count).freeze()
    }

    /// Reads up to and with `mark`.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn until(&mut self, mark: &[u8]) -> Bytes {
        loop {
            if let Some(at) = find(&self.read, mark) {
                return self.read.split_to(at + mark.len()).freeze();
            }
            let wanted = String::from_utf8_lossy(mark);
            assert!(
                self.more().await,
                "ended after {:?}, {wanted:?} was expected",
                self.read
            );
        }
    }

    /// Reads a chunk of a chunked body; empty: the last one, whose trailers and empty line are not read.
    ///
    /// # Panics
    /// When there is no chunk.
    pub async fn chunk(&mut self) -> Bytes {
        let line = self.until(b"\r\n").await;
        let size = std::str::from_utf8(&line)
            .ok()
            .and_then(|line| usize::from_str_radix(line.trim_end(), 16).ok());
        let size = size.unwrap_or_else(|| panic!("not the size of a chunk: {line:?}"));
        let data = self.exact(size).await;
        if size > 0 {
            assert_eq!(self.exact(2).await, "\r\n");
        }
        data
    }

    /// Reads to the end of the connection, and tells whether it was a clean one.
    pub async fn rest(&mut self) -> (Bytes, io::Result<()>) {
        let ended = loop {
            let read = within(
                "the end of the connection",
                self.stream.read_buf(&mut self.read),
            )
            .await;
            match read {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        (self.read.split().freeze(), ended)
    }

    /// Reads a response to anything but HEAD, 1xx before it left out.
    pub async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    /// Reads a response to this method, 1xx before it left out.
    pub async fn answer_to(&mut self, method: &str) -> Answer {
        loop {
            let head = self.head().await;
            let status = head.status();
            if status >= 200 || status == 101 {
                return self.answer_after(&head, method).await;
            }
        }
    }

    /// Reads the rest of a response whose head is known (RFC 9112 section 6.3).
    pub async fn answer_after(&mut self, head: &Head, method: &str) -> Answer {
        let headers = head.map();
        let status = StatusCode::from_u16(head.status()).expect("a status");
        let version = if head.line.starts_with("HTTP/1.0") {
            Version::HTTP_10
        } else {
            Version::HTTP_11
        };
        let mut answer = Answer {
            status,
            version,
            headers,
            body: Bytes::new(),
            trailers: HeaderMap::new(),
            complete: true,
        };
        if method == "HEAD" || matches!(status.as_u16(), 101 | 204 | 304) {
            return answer;
        }
        if head
            .field("transfer-encoding")
            .eq_ignore_ascii_case("chunked")
        {
            self.chunked(&mut answer).await;
        } else if head.has("content-length") {
            let length: usize = head.field("content-length").parse().expect("a length");
            while self.read.len() < length && self.more().await {}
            answer.complete = self.read.len() >= length;
            answer.body = self.read.split_to(length.min(self.read.len())).freeze();
        } else {
            let (body, ended) = self.rest().await;
            (answer.body, answer.complete) = (body, ended.is_ok());
        }
        answer
    }

    async fn chunked(&mut self, answer: &mut Answer) {
        let mut body = BytesMut::new();
        loop {
            let Some(size) = self.line().await else {
                answer.complete = false;
                break;
            };
            let size = usize::from_str_radix(&size, 16)
                .unwrap_or_else(|_| panic!("not the size of a chunk: {size:?}"));
            if size == 0 {
                break self.trailers(answer).await;
            }
            while self.read.len() < size + 2 && self.more().await {}
            if self.read.len() < size + 2 {
                body.extend_from_slice(&self.read.split_to(size.min(self.read.len())));
                answer.complete = false;
                break;
            }
            body.extend_from_slice(&self.read.split_to(size));
            assert_eq!(&self.read.split_to(2)[..], b"\r\n", "after a chunk");
        }
        answer.body = body.freeze();
    }

    async fn trailers(&mut self, answer: &mut Answer) {
        let mut text = String::from("trailers\r\n");
        while let Some(line) = self.line().await {
            if line.is_empty() {
                answer.trailers = Head::parse(text.as_bytes()).map();
                return;
            }
            text = format!("{text}{line}\r\n");
        }
        answer.complete = false;
    }

    /// A line without its end, if there is one before the connection ends.
    async fn line(&mut self) -> Option<String> {
        while find(&self.read, b"\r\n").is_none() {
            if !self.more().await {
                return None;
            }
        }
        let line = self.until(b"\r\n").await;
        Some(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
    }

    /// Reads some more. `false`: nothing will come.
    async fn more(&mut self) -> bool {
        let read = within("more bytes", self.stream.read_buf(&mut self.read)).await;
        matches!(read, Ok(1..))
    }
}

// === impl Listener ===

impl Listener {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        Self { listener, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection.
    ///
    /// # Panics
    /// When none comes.
    pub async fn accept(&self) -> Wire {
        let (stream, _) = within("a connection to the upstream", self.listener.accept())
            .await
            .expect("accepted");
        Wire::new(stream)
    }
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}
