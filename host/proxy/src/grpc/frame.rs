//! Length-prefixed messages: a flag, four bytes of length, the message ("PROTOCOL-HTTP2" of gRPC).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::status::Status;
use crate::budget::Held;

/// Bytes before a message.
const PREFIX: usize = 5;

/// Takes messages out of the pieces in which a body comes.
pub(super) struct Decoder {
    buffer: BytesMut,
    held: Held,
    /// Bytes that one message may have.
    most: usize,
}

/// A message with its prefix.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    // Nobody makes a message of four gigabytes: a VM's memory ends before.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

impl Decoder {
    pub(super) fn new(held: Held, most: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            held,
            most,
        }
    }

    /// Keeps a piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), Status> {
        self.held.grow(piece.len()).map_err(|_| {
            Status::exhausted("the calls of this filter hold too many bytes together")
        })?;
        self.buffer.extend_from_slice(piece);
        Ok(())
    }

    /// The next message, once it is whole.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let [flag, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        if flag > 1 {
            return Err(Status::internal("a message began with an unknown flag"));
        }
        if flag == 1 && length > 0 {
            return Err(Status::internal(
                "a message is compressed, though no compression was offered",
            ));
        }
        if length > self.most {
            return Err(Status::exhausted(&format!(
                "a message of {length} bytes, {} are allowed: raise the filter's limits.bufferedBody",
                self.most
            )));
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        self.held.shrink(PREFIX + length);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether a message has begun and not ended.
    pub(super) fn is_within(&self) -> bool {
        !self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::budget::Budget;

    fn decoder(most: usize) -> Decoder {
        Decoder::new(Rc::new(Budget::default()).hold(), most)
    }

    #[test]
    fn messages_come_out_however_they_are_cut() {
        let wire = [framed(b"one"), framed(b""), framed(b"three")].concat();
        for size in 1..=wire.len() {
            let mut decoder = decoder(10);
            let mut found = Vec::new();
            for piece in wire.chunks(size) {
                decoder.push(piece).expect("room");
                while let Some(message) = decoder.next().expect("well-formed") {
                    found.push(message);
                }
            }
            assert_eq!(found, ["one", "", "three"], "pieces of {size}");
            assert!(!decoder.is_within());
            assert_eq!(decoder.held.bytes(), 0);
        }
    }

    #[test]
    fn what_is_refused() {
        for (wire, code) in [
            (&[1, 0, 0, 0, 1, b'x'][..], 13),
            (&[2, 0, 0, 0, 0], 13),
            (&[0, 0, 0, 0, 11], 8),
            (&[0, 255, 255, 255, 255], 8),
        ] {
            let mut decoder = decoder(10);
            decoder.push(wire).expect("room");
            assert_eq!(
                decoder.next().map_err(|status| status.code),
                Err(code),
                "{wire:?}"
            );
        }
        let mut decoder = decoder(usize::MAX);
        let piece = vec![0; 1 << 20];
        let full = (0..100).find_map(|_| decoder.push(&piece).err());
        assert_eq!(full.map(|status| status.code), Some(8), "bytes are bounded");
    }

    #[test]
    fn a_message_that_ends_early_is_noticed() {
        let mut decoder = decoder(10);
        decoder.push(&framed(b"four")[..7]).expect("room");
        assert_eq!(decoder.next(), Ok(None));
        assert!(decoder.is_within());
    }
}
