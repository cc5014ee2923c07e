//! Shared data.

use super::Guest;
use crate::guest::{bytes, deliver, split, write_u32};
use crate::status::{Outcome, Status};

/// `proxy_get_shared_data`
pub(super) fn get(
    caller: &mut Guest<'_>,
    key: u32,
    key_size: u32,
    ptr_out: u32,
    size_out: u32,
    cas_out: u32,
) -> Outcome {
    let (memory, host) = split(caller)?;
    let (value, cas) = host
        .scope
        .get_data(bytes(memory, key, key_size)?)
        .ok_or(Status::NotFound)?;
    deliver(caller, &value, ptr_out, size_out)?;
    let (memory, _) = split(caller)?;
    Ok(write_u32(memory, cas_out, cas)?)
}

/// `proxy_set_shared_data`; a `cas` of 0 always matches.
pub(super) fn set(
    caller: &mut Guest<'_>,
    key: u32,
    key_size: u32,
    value: u32,
    value_size: u32,
    cas: u32,
) -> Outcome {
    let (memory, host) = split(caller)?;
    let (key, value) = (
        bytes(memory, key, key_size)?,
        bytes(memory, value, value_size)?,
    );
    Ok(host.scope.set_data(key, value, cas)?)
}
