//! Where each HTTP/1 request of a connection begins and ends, read from its bytes as they come (RFC 9112 sections 2.2, 6 and 7.1).
//!
//! The parser behind us drops a `Content-Length` that stands beside `Transfer-Encoding` before anybody sees it, so the bytes
//! themselves must tell. Requests are counted as they begin, whether their heads come in one read or in many, alone or pipelined,
//! and bodies are stepped over. The price is one search for the end of each line of a head.

use memchr::memchr;

/// What is kept of a line that came in pieces; names that matter and their values fit.
const MOST_LINE: usize = 128;

/// Digits of a number; more are zeros in front, or too many.
const MOST_DIGITS: usize = 64;

/// Reads requests' boundaries.
#[derive(Debug)]
pub(crate) struct Framing {
    state: State,
    /// Heads that have ended so far.
    heads: u64,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
}

/// The first request that cannot be taken as it stands, counted from 0; nothing is read behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// This one says its length in two ways.
    TwoLengths(u64),
    /// From this one on boundaries are not known.
    Lost(u64),
    /// The connection begins with a line that is of another protocol.
    NoHttp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the request line; empty lines may stand there.
    Start,
    /// Among the fields of a head.
    Fields {
        length: Option<Length>,
        chunked: bool,
    },
    /// So many bytes of a body, or of a chunk with its line end, are still to come.
    Skip {
        left: u64,
        chunked: bool,
    },
    ChunkSize,
    Trailers,
    /// Boundaries are not known.
    Lost,
}

impl Doubt {
    /// One word for it; 0 stands for none.
    pub(crate) fn to_word(self) -> u64 {
        match self {
            Self::TwoLengths(at) => (at + 1) << 1,
            Self::Lost(at) => (at + 1) << 1 | 1,
            Self::NoHttp => Self::Lost(0).to_word(),
        }
    }

    /// What [`Doubt::to_word`] made.
    pub(crate) fn from_word(word: u64) -> Option<Self> {
        let at = (word >> 1).checked_sub(1)?;
        Some(if word & 1 == 0 {
            Self::TwoLengths(at)
        } else {
            Self::Lost(at)
        })
    }
}

/// The value of `Content-Length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(u64),
    Malformed,
}

impl Framing {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Start,
            heads: 0,
            partial: Vec::new(),
        }
    }

    /// Whether a request has begun whose head has not ended.
    pub(crate) fn is_in_head(&self) -> bool {
        matches!(self.state, State::Fields { .. })
            || self.state == State::Start && !self.partial.is_empty()
    }

    /// Takes the next bytes of the connection, however they are cut.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Doubt> {
        while !bytes.is_empty() {
            if let State::Skip { left, chunked } = self.state {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = &bytes[here..];
                self.state = match left - here as u64 {
                    0 if chunked => State::ChunkSize,
                    0 => State::Start,
                    left => State::Skip { left, chunked },
                };
                continue;
            }
            let Some(end) = memchr(b'\n', bytes) else {
                self.keep(bytes);
                break;
            };
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.partial.is_empty() {
                self.line(line)?;
            } else {
                self.keep(line);
                let whole = std::mem::take(&mut self.partial);
                self.line(&whole)?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = MOST_LINE - self.partial.len();
        let (kept, dropped) = piece.split_at(piece.len().min(room));
        self.partial.extend_from_slice(kept);
        // Of a long line its last byte says how it ended.
        if let (Some(last), Some(kept)) = (dropped.last(), self.partial.last_mut()) {
            *kept = *last;
        }
    }

    /// A line without its `\n`.
    fn line(&mut self, line: &[u8]) -> Result<(), Doubt> {
        let is_empty = matches!(line, b"" | b"\r");
        self.state = match self.state {
            State::Start if is_empty => State::Start,
            State::Start if self.heads == 0 && is_of_another_protocol(line) => {
                self.state = State::Lost;
                return Err(Doubt::NoHttp);
            }
            State::Start => State::Fields {
                length: None,
                chunked: false,
            },
            State::Fields { length, chunked } if is_empty => return self.head(length, chunked),
            State::Fields { length, chunked } => field(line, length, chunked),
            State::ChunkSize => match chunk_size(line) {
                Some(0) => State::Trailers,
                Some(size) => State::Skip {
                    left: size + 2,
                    chunked: true,
                },
                None => return Err(self.lost()),
            },
            // The parser takes a bare LF for a part of the field.
            State::Trailers if line.last() != Some(&b'\r') => return Err(self.lost()),
            State::Trailers if is_empty => State::Start,
            State::Trailers => State::Trailers,
            State::Skip { .. } | State::Lost => return Err(self.lost()),
        };
        Ok(())
    }

    /// The end of a head.
    fn head(&mut self, length: Option<Length>, chunked: bool) -> Result<(), Doubt> {
        let number = self.heads;
        self.heads += 1;
        self.state = match (length, chunked) {
            (Some(_), true) => {
                self.state = State::Lost;
                return Err(Doubt::TwoLengths(number));
            }
            (None, true) => State::ChunkSize,
            (None | Some(Length::Bytes(0)), false) => State::Start,
            (Some(Length::Bytes(left)), false) => State::Skip {
                left,
                chunked: false,
            },
            (Some(Length::Malformed), false) => return Err(self.lost()),
        };
        Ok(())
    }

    fn lost(&mut self) -> Doubt {
        self.state = State::Lost;
        Doubt::Lost(self.heads)
    }
}

/// Three words of which the last names no version of HTTP, as in a malformed preface of HTTP/2 (RFC 9113 section 3.4). An answer in
/// HTTP/1 would be nothing that such a client could read.
fn is_of_another_protocol(line: &[u8]) -> bool {
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
    let version = words.nth(2);
    version.is_some_and(|version| !version.is_empty() && !version.starts_with(b"HTTP/"))
        && words.next().is_none()
}

/// A line of a head.
fn field(line: &[u8], length: Option<Length>, chunked: bool) -> State {
    // One look at the first letter spares nearly every field the rest.
    match line[0] | 0x20 {
        b'c' => State::Fields {
            length: value(line, b"content-length:").map(decimal).or(length),
            chunked,
        },
        b't' => State::Fields {
            length,
            chunked: chunked || value(line, b"transfer-encoding:").is_some(),
        },
        _ => State::Fields { length, chunked },
    }
}

/// The value of a line of this field.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn decimal(digits: &[u8]) -> Length {
    let all = digits.len() < MOST_DIGITS && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| all);
    let number = digits.and_then(|digits| digits.parse().ok());
    number.map_or(Length::Malformed, Length::Bytes)
}

/// The size at the beginning of a chunk's line; what follows it is an extension.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let digits = std::str::from_utf8(&line[..digits.count()]).ok()?;
    let size = u64::from_str_radix(digits, 16).ok()?;
    // Of a longer line some may be missing.
    (digits.len() < MOST_DIGITS && size < u64::MAX - 2).then_some(size)
}

#[cfg(test)]
mod tests;
