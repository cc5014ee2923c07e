//! What a hostcall answers: a status of the ABI, or the trap that ends the guest's call.

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

/// The number the guest sees.
#[inline]
pub(crate) fn answer(outcome: Outcome) -> wasmtime::Result<u32> {
    match outcome {
        Ok(()) => Ok(0),
        Err(Stop::Status(status)) => Ok(status as u32),
        Err(Stop::Trap(error)) => Err(error),
    }
}
