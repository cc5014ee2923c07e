//! A client on one connection, which asks one thing after the other and times each answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::fleet::EDITION;

/// Longer than anything that is measured here.
const PATIENCE: Duration = Duration::from_secs(30);

/// One keep-alive connection to the gateway.
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
}

/// What the gateway said.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Which edit of its route the request has met.
    pub(crate) edition: Option<usize>,
    /// From before the first byte out to after the last byte in.
    pub(crate) took: Duration,
}

impl Client {
    pub(crate) fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            reader: BufReader::new(stream),
        })
    }

    /// GET.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not one of HTTP/1.1 with a length.
    pub(crate) fn get(&mut self, host: &str, path: &str) -> anyhow::Result<Answer> {
        let start = Instant::now();
        let request = format!("GET {path}/item HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.reader.get_mut().write_all(request.as_bytes())?;
        let status = self
            .line()?
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .context("no status line")?;
        let (mut edition, mut length) = (None, None);
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                EDITION => edition = Some(value.trim().parse()?),
                "content-length" => length = Some(value.trim().parse()?),
                _ => {}
            }
        }
        let length: usize = length.context("an answer without Content-Length")?;
        self.reader.read_exact(&mut vec![0; length])?;
        Ok(Answer {
            status,
            edition,
            took: start.elapsed(),
        })
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
