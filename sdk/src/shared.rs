//! Data shared by all VMs of the same id in one host: its workers.

use std::fmt;

use crate::hostcalls::{self, Status};

/// The compare-and-swap number of a key that was not there: hosts ignore it when they create the key, and refuse it when another
/// worker has created the key meanwhile.
pub const ABSENT: u32 = u32::MAX;

/// How often [`update`] tries again when other workers are faster.
const TRIES: usize = 16;

/// Why a value could not be read or stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedDataError {
    /// Another worker has stored a value since this one was read.
    CasMismatch,
    /// The host refuses: the store is full, or not granted to this filter. Holds the ABI's status.
    Refused(u32),
}

/// The value of `key` and its compare-and-swap number; `None` when there is none.
///
/// # Errors
///
/// [`SharedDataError::Refused`].
pub fn get(key: &str) -> Result<Option<(Vec<u8>, u32)>, SharedDataError> {
    match hostcalls::shared_data(key) {
        Ok(found) => Ok(Some(found)),
        Err(Status::NOT_FOUND) => Ok(None),
        Err(status) => Err(SharedDataError::Refused(status.0)),
    }
}

/// Stores `value` under `key` if its compare-and-swap number is still `cas` ([`ABSENT`] for a new key).
///
/// # Errors
///
/// Both.
pub fn set(key: &str, value: &[u8], cas: u32) -> Result<(), SharedDataError> {
    hostcalls::set_shared_data(key, value, cas).map_err(|status| match status {
        Status::CAS_MISMATCH => SharedDataError::CasMismatch,
        status => SharedDataError::Refused(status.0),
    })
}

/// Changes the value of `key`: `change` gets what is there and returns what is to be there, and is asked again when another worker
/// was faster.
///
/// # Errors
///
/// Both; [`SharedDataError::CasMismatch`] after sixteen tries.
pub fn update(
    key: &str,
    mut change: impl FnMut(Option<&[u8]>) -> Vec<u8>,
) -> Result<(), SharedDataError> {
    for _ in 0..TRIES {
        let found = get(key)?;
        let (value, cas) = match &found {
            Some((value, cas)) => (change(Some(value)), *cas),
            None => (change(None), ABSENT),
        };
        match set(key, &value, cas) {
            Err(SharedDataError::CasMismatch) => {}
            done => return done,
        }
    }
    Err(SharedDataError::CasMismatch)
}

impl fmt::Display for SharedDataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CasMismatch => f.write_str("other workers have changed the value each time"),
            Self::Refused(status) => write!(
                f,
                "the host refused shared data: {}",
                Status(*status).name()
            ),
        }
    }
}

impl std::error::Error for SharedDataError {}
