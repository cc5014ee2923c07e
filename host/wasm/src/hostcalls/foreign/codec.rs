//! `compress` and `uncompress`: raw zlib (RFC 1950), in pieces, so that the deadline is looked at on the way.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status as Flate};

use super::super::Guest;
use super::{charge, limit};
use crate::guest::{bytes, split};
use crate::status::{Outcome, Status};

/// Input or output between two looks at the clock.
const PIECE: usize = 32 << 10;

/// The arguments, compressed.
pub(super) fn compress(caller: &mut Guest<'_>, (ptr, size): (u32, u32)) -> Outcome<Vec<u8>> {
    let (memory, host) = split(caller)?;
    let mut input = bytes(memory, ptr, size)?;
    let limit = limit(host);
    let mut codec = Compress::new(Compression::default(), true);
    let mut output = Vec::new();
    loop {
        charge(host)?;
        let piece = &input[..input.len().min(PIECE)];
        let flush = if piece.len() == input.len() {
            FlushCompress::Finish
        } else {
            FlushCompress::None
        };
        let before = codec.total_in();
        output.reserve(PIECE);
        let state = codec
            .compress_vec(piece, &mut output, flush)
            .map_err(|_| Status::SerializationFailure)?;
        input = &input[taken(before, codec.total_in(), input.len())..];
        if output.len() > limit {
            return Err(Status::InternalFailure.into());
        }
        if state == Flate::StreamEnd {
            return Ok(output);
        }
    }
}

/// The arguments, uncompressed. What follows the stream is ignored; one that is cut short or malformed is a serialization failure.
pub(super) fn uncompress(caller: &mut Guest<'_>, (ptr, size): (u32, u32)) -> Outcome<Vec<u8>> {
    let (memory, host) = split(caller)?;
    let mut input = bytes(memory, ptr, size)?;
    let limit = limit(host);
    let mut codec = Decompress::new(true);
    let mut output = Vec::new();
    loop {
        charge(host)?;
        let piece = &input[..input.len().min(PIECE)];
        let (before, had) = (codec.total_in(), output.len());
        output.reserve(PIECE);
        let state = codec
            .decompress_vec(piece, &mut output, FlushDecompress::None)
            .map_err(|_| Status::SerializationFailure)?;
        let used = taken(before, codec.total_in(), input.len());
        input = &input[used..];
        // A few bytes may stand for a great many.
        if output.len() > limit {
            return Err(Status::InternalFailure.into());
        }
        if state == Flate::StreamEnd {
            return Ok(output);
        }
        if used == 0 && output.len() == had {
            return Err(Status::SerializationFailure.into());
        }
    }
}

fn taken(before: u64, after: u64, most: usize) -> usize {
    usize::try_from(after - before).unwrap_or(most).min(most)
}
