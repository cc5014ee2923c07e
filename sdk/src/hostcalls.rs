//! What the host is asked for, the same list for all ends: proxy-wasm on wasm32-wasip1, the world of wit/ on wasm32-wasip2, the
//! mock host elsewhere.

#[cfg(all(target_arch = "wasm32", not(target_env = "p2")))]
pub(crate) use crate::abi::imports::*;
#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
pub(crate) use crate::component::imports::*;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::mock::hostcalls::*;

/// A status that is not Ok, by its number in the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u32);

impl Status {
    pub(crate) const NOT_FOUND: Self = Self(1);
    #[cfg(any(not(target_arch = "wasm32"), target_env = "p2"))]
    pub(crate) const BAD_ARGUMENT: Self = Self(2);
    pub(crate) const CAS_MISMATCH: Self = Self(8);
    #[cfg(all(target_arch = "wasm32", target_env = "p2"))]
    pub(crate) const INTERNAL_FAILURE: Self = Self(10);

    /// The ABI's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            1 => "NotFound",
            2 => "BadArgument",
            3 => "SerializationFailure",
            4 => "ParseFailure",
            5 => "BadExpression",
            6 => "InvalidMemoryAccess",
            7 => "Empty",
            8 => "CasMismatch",
            9 => "ResultMismatch",
            10 => "InternalFailure",
            11 => "BrokenConnection",
            12 => "Unimplemented",
            _ => "an unknown status",
        }
    }
}

/// Names and values in order.
pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A header map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Map {
    Request = 0,
    Response = 2,
    CallHeaders = 6,
}

/// A buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Buffer {
    Request = 0,
    Response = 1,
    Call = 4,
    GrpcMessage = 5,
    Configuration = 7,
}

/// One of the two streams of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Direction {
    Request = 0,
    Response = 1,
}

impl Direction {
    pub(crate) fn buffer(self) -> Buffer {
        match self {
            Self::Request => Buffer::Request,
            Self::Response => Buffer::Response,
        }
    }
}

/// What a callback tells the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Action {
    Continue = 0,
    Pause = 1,
}
