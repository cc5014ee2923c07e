//! An upstream that reads requests as strictly as RFC 9112 permits, and holds what it cannot read in one way only against
//! whoever sent it: the oracle of tests about request smuggling.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Records requests, and answers each with 200 and `ok`.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    records: Arc<Mutex<Records>>,
    accepting: AbortHandle,
}

/// What a [`Recorder`] has come to know.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// Request lines, `Host` and length of the body of requests that were complete and canonical.
    pub requests: Vec<(String, String, usize)>,
    /// What was not canonical: the reason, and the bytes.
    pub violations: Vec<String>,
    /// Bytes that were the beginning of a canonical request when the connection ended.
    pub unfinished: Vec<String>,
}

enum Parsed {
    Request {
        line: String,
        host: String,
        body: usize,
        length: usize,
    },
    More,
    Wrong(&'static str),
}

impl Recorder {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let records = Arc::new(Mutex::new(Records::default()));
        let shared = records.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self {
            address,
            records,
            accepting: accepting.abort_handle(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was recorded since the last time.
    pub fn take(&self) -> Records {
        std::mem::take(&mut *lock(&self.records))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, records: Arc<Mutex<Records>>) {
    let mut read = Vec::new();
    loop {
        match parse(&read) {
            Parsed::Request {
                line,
                host,
                body,
                length,
            } => {
                read.drain(..length);
                lock(&records).requests.push((line, host, body));
                if stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Parsed::Wrong(why) => {
                lock(&records)
                    .violations
                    .push(format!("{why}: {:?}", String::from_utf8_lossy(&read)));
                return;
            }
            Parsed::More => {
                if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                    if !read.is_empty() {
                        lock(&records)
                            .unfinished
                            .push(String::from_utf8_lossy(&read).into_owned());
                    }
                    return;
                }
            }
        }
    }
}

fn lock(records: &Mutex<Records>) -> MutexGuard<'_, Records> {
    records.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the request at the beginning of `bytes`.
fn parse(bytes: &[u8]) -> Parsed {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        // What is there must still be able to become a head.
        let whole = bytes
            .windows(2)
            .any(|window| window[1] == b'\n' && window[0] != b'\r');
        return if whole {
            Parsed::Wrong("a bare LF")
        } else {
            Parsed::More
        };
    };
    let Ok(head) = std::str::from_utf8(&bytes[..end]) else {
        return Parsed::Wrong("a head that is not text");
    };
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    if let Err(why) = request_line(line) {
        return Parsed::Wrong(why);
    }
    let (mut hosts, mut lengths, mut codings) = (Vec::new(), Vec::new(), Vec::new());
    for field in lines {
        let Some((name, value)) = field.split_once(':') else {
            return Parsed::Wrong("a field without a colon");
        };
        if !is_token(name) {
            return Parsed::Wrong("a field name that is none");
        }
        if value
            .bytes()
            .any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f)
        {
            return Parsed::Wrong("a control character in a field");
        }
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts.push(value),
            "content-length" => lengths.push(value),
            "transfer-encoding" => codings.push(value),
            _ => {}
        }
    }
    let [host] = hosts[..] else {
        return Parsed::Wrong("not exactly one Host");
    };
    if host.is_empty()
        || host
            .bytes()
            .any(|byte| !(byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte)))
    {
        return Parsed::Wrong("a Host that is none");
    }
    let rest = &bytes[end + 4..];
    let body = match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Some((0, 0))),
        ([length], [])
            if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            let length: usize = length.parse().unwrap_or(usize::MAX);
            Ok((rest.len() >= length).then_some((length, length)))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => chunks(rest),
        _ => Err("framing with two readings"),
    };
    match body {
        Err(why) => Parsed::Wrong(why),
        Ok(None) => Parsed::More,
        Ok(Some((body, length))) => Parsed::Request {
            line: line.to_owned(),
            host: host.to_owned(),
            body,
            length: end + 4 + length,
        },
    }
}

fn request_line(line: &str) -> Result<(), &'static str> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = parts[..] else {
        return Err("a request line that is none");
    };
    if !is_token(method) || version != "HTTP/1.1" {
        return Err("a request line with an odd method or version");
    }
    if !target.starts_with('/')
        || target
            .bytes()
            .any(|byte| !(0x21..=0x7e).contains(&byte) || byte == b'#')
    {
        return Err("an odd target");
    }
    Ok(())
}

fn is_token(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token)
}

/// Bytes of content and of its framing, once all of it is there.
fn chunks(mut rest: &[u8]) -> Result<Option<(usize, usize)>, &'static str> {
    let whole = rest.len();
    let mut content = 0;
    loop {
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&rest[..end]).unwrap_or_default();
        if size.is_empty() || size.len() > 8 || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("the size of a chunk");
        }
        let size = usize::from_str_radix(size, 16).unwrap_or(usize::MAX);
        rest = &rest[end + 2..];
        if size == 0 {
            break;
        }
        if rest.len() < size + 2 {
            return Ok(None);
        }
        if &rest[size..size + 2] != b"\r\n" {
            return Err("the end of a chunk");
        }
        content += size;
        rest = &rest[size + 2..];
    }
    // Trailers, and the empty line.
    loop {
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else {
            return Ok(None);
        };
        let line = &rest[..end];
        rest = &rest[end + 2..];
        if line.is_empty() {
            return Ok(Some((content, whole - rest.len())));
        }
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if !std::str::from_utf8(name).is_ok_and(is_token) {
            return Err("a trailer that is none");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &str) -> Result<Option<(usize, usize)>, &'static str> {
        match parse(bytes.as_bytes()) {
            Parsed::Request { body, length, .. } => Ok(Some((body, length))),
            Parsed::More => Ok(None),
            Parsed::Wrong(why) => Err(why),
        }
    }

    #[test]
    fn the_oracle_knows_good_from_bad() {
        let whole =
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
        assert_eq!(read(whole), Ok(Some((1, whole.len()))));
        assert_eq!(read(&whole[..whole.len() - 1]), Ok(None));
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n X: y\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\nx\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
