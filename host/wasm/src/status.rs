//! What a hostcall answers: a status of the ABI, or the trap that ends the guest's call.

use http::StatusCode;

/// `WasmResult`, with the numbers of the ABI.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(crate) enum Status {
    NotFound = 1,
    BadArgument = 2,
    SerializationFailure = 3,
    ParseFailure = 4,
    InvalidMemoryAccess = 6,
    Empty = 7,
    CasMismatch = 8,
    InternalFailure = 10,
    Unimplemented = 12,
}

/// Why a hostcall ends early.
pub(crate) enum Stop {
    /// The guest gets this status.
    Status(Status),
    /// The guest's whole call ends: its allocator trapped.
    Trap(wasmtime::Error),
}

/// Result of a hostcall; `Ok` becomes status 0.
pub(crate) type Outcome<T = ()> = Result<T, Stop>;

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// The status that a gRPC client reads out of an HTTP status ("HTTP to gRPC Status Code Mapping" of gRPC).
pub fn grpc_status_of(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// The number the guest sees.
#[inline]
pub(crate) fn answer(outcome: Outcome) -> wasmtime::Result<u32> {
    match outcome {
        Ok(()) => Ok(0),
        Err(Stop::Status(status)) => Ok(status as u32),
        Err(Stop::Trap(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_http_status_is_one_of_grpc() {
        let of = |status: u16| grpc_status_of(StatusCode::from_u16(status).unwrap());
        let seen = [400, 401, 403, 404, 429, 502, 503, 504, 500, 302, 204, 200].map(of);
        assert_eq!(seen, [13, 16, 7, 12, 14, 14, 14, 14, 2, 2, 2, 2]);
    }
}
