//! The host's shared data with every status as a value: the SDK's wrappers panic when the store is full or not granted.

use std::ptr::null_mut;

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const CAS_MISMATCH: u32 = 8;

/// The compare-and-swap value for a key that was not there: hosts ignore it when they create the key, and refuse it when another
/// worker has created the key meanwhile.
pub const ABSENT: u32 = u32::MAX;

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
#[expect(
    unsafe_code,
    reason = "a hostcall, and the buffer that the host allocated here"
)]
pub fn get(key: &str) -> Result<Option<(Vec<u8>, u32)>, SharedDataError> {
    let (mut data, mut size, mut cas) = (null_mut(), 0, 0);
    // SAFETY: the pointers are valid for the call. The host obtained `data` from proxy_on_memory_allocate, which hands out boxed
    // slices of exactly `size` bytes, and passes its ownership to this function.
    unsafe {
        match proxy_get_shared_data(key.as_ptr(), key.len(), &mut data, &mut size, &mut cas) {
            OK if data.is_null() => Ok(Some((Vec::new(), cas))),
            OK => Ok(Some((Vec::from_raw_parts(data, size, size), cas))),
            NOT_FOUND => Ok(None),
            status => Err(SharedDataError::Refused(status)),
        }
    }
}

/// Stores `value` under `key` if its compare-and-swap number is still `cas` ([`ABSENT`] for a new key).
///
/// # Errors
///
/// Both.
#[expect(unsafe_code, reason = "a hostcall")]
pub fn set(key: &str, value: &[u8], cas: u32) -> Result<(), SharedDataError> {
    // SAFETY: the host reads the two slices during the call only.
    let status =
        unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) };
    match status {
        OK => Ok(()),
        CAS_MISMATCH => Err(SharedDataError::CasMismatch),
        status => Err(SharedDataError::Refused(status)),
    }
}

#[link(wasm_import_module = "env")]
#[expect(unsafe_code, reason = "hostcalls of the proxy-wasm ABI")]
unsafe extern "C" {
    fn proxy_get_shared_data(
        key_data: *const u8,
        key_size: usize,
        value_data: *mut *mut u8,
        value_size: *mut usize,
        cas: *mut u32,
    ) -> u32;

    fn proxy_set_shared_data(
        key_data: *const u8,
        key_size: usize,
        value_data: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
}
