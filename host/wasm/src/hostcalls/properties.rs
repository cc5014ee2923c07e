//! `proxy_get_property` and `proxy_set_property`.

use bytes::Bytes;

use super::{Guest, MAX_NAME};
use crate::guest::{bytes, deliver_from, split};
use crate::host::Host;
use crate::property;
use crate::status::{Outcome, Status};

/// Bytes of filter state that one request may carry.
const MAX_STATE: usize = 256 << 10;

/// `proxy_get_property`
pub(super) fn get(
    caller: &mut Guest<'_>,
    path: u32,
    path_size: u32,
    ptr_out: u32,
    size_out: u32,
) -> Outcome {
    deliver_from(caller, ptr_out, size_out, |memory, host, out| {
        read(host, bytes(memory, path, path_size)?, out)
    })
}

/// The value of a path, whose segments are parted by zero bytes.
pub(crate) fn read(host: &Host, path: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    if path.len() > MAX_NAME {
        return Err(Status::NotFound);
    }
    property::get(host, path, out)
}

/// `proxy_set_property`: filter state under `wasm.` and the path, for all filters of the request.
pub(super) fn set(
    caller: &mut Guest<'_>,
    path: u32,
    path_size: u32,
    value: u32,
    value_size: u32,
) -> Outcome {
    let (memory, host) = split(caller)?;
    let (path, value) = (
        bytes(memory, path, path_size)?,
        bytes(memory, value, value_size)?,
    );
    Ok(write(host, path, value)?)
}

/// Filter state of the current context's request.
pub(crate) fn write(host: &mut Host, path: &[u8], value: &[u8]) -> Result<(), Status> {
    if path.len() > MAX_NAME {
        return Err(Status::BadArgument);
    }
    let read_only = host
        .root()
        .and_then(|root| root.declared.get(path).copied())
        .unwrap_or(false);
    let key = property::state_key(path);
    let io = host
        .stream_mut()
        .and_then(|stream| stream.io.as_deref_mut())
        .ok_or(Status::NotFound)?;
    if read_only && io.state.contains_key(&key) {
        return Err(Status::BadArgument);
    }
    write_state(&mut io.state, key, value)
}

/// Sets filter state, within its bounds.
pub(super) fn write_state(
    state: &mut crate::FilterState,
    key: Vec<u8>,
    value: &[u8],
) -> Result<(), Status> {
    let used: usize = state
        .iter()
        .filter(|(other, _)| **other != key)
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if used + key.len() + value.len() > MAX_STATE {
        return Err(Status::InternalFailure);
    }
    state.insert(key, Bytes::copy_from_slice(value));
    Ok(())
}
