//! A client on one connection, which asks one thing after the other and times each answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;

/// Longer than anything that is measured here.
const PATIENCE: Duration = Duration::from_secs(30);

/// One keep-alive connection to the gateway.
pub struct Client {
    reader: BufReader<TcpStream>,
    body: Vec<u8>,
}

/// What the gateway said.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The response's field that was asked for.
    pub field: Option<String>,
    /// From before the first byte out to after the last byte in.
    pub took: Duration,
}

impl Client {
    /// Connects to a port of the loopback.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            reader: BufReader::new(stream),
            body: Vec::new(),
        })
    }

    /// GET with further fields (each with its line end); `field`, in lower case, is looked for in the answer.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not one of HTTP/1.1 with a length.
    pub fn get(
        &mut self,
        host: &str,
        target: &str,
        fields: &str,
        field: &str,
    ) -> anyhow::Result<Answer> {
        let start = Instant::now();
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        self.reader.get_mut().write_all(request.as_bytes())?;
        let status = self
            .line()?
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .context("no status line")?;
        let (mut found, mut length) = (None, None);
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse()?);
            } else if name.eq_ignore_ascii_case(field) {
                found = Some(value.trim().to_owned());
            }
        }
        let length: usize = length.context("an answer without Content-Length")?;
        self.body.resize(length, 0);
        self.reader.read_exact(&mut self.body)?;
        Ok(Answer {
            status,
            field: found,
            took: start.elapsed(),
        })
    }

    /// The body of the last answer.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            anyhow::bail!("the gateway closed the connection");
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}
