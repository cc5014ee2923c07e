//! Header maps.

use super::Guest;
use crate::guest::{bytes, deliver_from, deliver_with, split, write_u32};
use crate::headers::{MapType, View};
use crate::host::Host;
use crate::module::AbiVersion;
use crate::pairs;
use crate::status::{Outcome, Status};

/// `proxy_get_header_map_value`: the first value only, as in Envoy.
pub(super) fn get(
    caller: &mut Guest<'_>,
    map: u32,
    key: u32,
    key_size: u32,
    ptr_out: u32,
    size_out: u32,
) -> Outcome {
    let map = MapType::try_from(map)?;
    deliver_from(caller, ptr_out, size_out, |memory, host, out| {
        let key = bytes(memory, key, key_size)?;
        let Some(view) = host.view(map) else {
            return unavailable(host);
        };
        match view.get(key) {
            Some(value) => {
                out.extend_from_slice(value);
                Ok(())
            }
            None => absent(host.abi),
        }
    })
}

/// `proxy_add_header_map_value`
pub(super) fn add(
    caller: &mut Guest<'_>,
    map: u32,
    key: u32,
    key_size: u32,
    value: u32,
    value_size: u32,
) -> Outcome {
    let map = MapType::try_from(map)?;
    let (memory, host) = split(caller)?;
    let (key, value) = (
        bytes(memory, key, key_size)?,
        bytes(memory, value, value_size)?,
    );
    Ok(host
        .fields(map)
        .ok_or(Status::BadArgument)?
        .add(key, value)?)
}

/// `proxy_replace_header_map_value`
pub(super) fn replace(
    caller: &mut Guest<'_>,
    map: u32,
    key: u32,
    key_size: u32,
    value: u32,
    value_size: u32,
) -> Outcome {
    let map = MapType::try_from(map)?;
    let (memory, host) = split(caller)?;
    let (key, value) = (
        bytes(memory, key, key_size)?,
        bytes(memory, value, value_size)?,
    );
    Ok(host
        .fields(map)
        .ok_or(Status::BadArgument)?
        .replace(key, value)?)
}

/// `proxy_remove_header_map_value`
pub(super) fn remove(caller: &mut Guest<'_>, map: u32, key: u32, key_size: u32) -> Outcome {
    let map = MapType::try_from(map)?;
    let (memory, host) = split(caller)?;
    let key = bytes(memory, key, key_size)?;
    host.fields(map).ok_or(Status::BadArgument)?.remove(key);
    Ok(())
}

/// `proxy_get_header_map_pairs`, serialised straight into the guest's memory. A map that is not there is an empty one.
pub(super) fn get_pairs(caller: &mut Guest<'_>, map: u32, ptr_out: u32, size_out: u32) -> Outcome {
    let map = MapType::try_from(map)?;
    let len = caller
        .data()
        .view(map)
        .filter(|view| view.len() > 0)
        .map_or(0, View::encoded_len);
    deliver_with(caller, len, ptr_out, size_out, |host, target| {
        if let Some(view) = host.view(map) {
            view.encode(target);
        }
    })
}

/// `proxy_set_header_map_pairs`
pub(super) fn set_pairs(caller: &mut Guest<'_>, map: u32, ptr: u32, size: u32) -> Outcome {
    let map = MapType::try_from(map)?;
    let (memory, host) = split(caller)?;
    let blob = bytes(memory, ptr, size)?;
    let mut fields = host.fields(map).ok_or(Status::BadArgument)?;
    Ok(fields.set_all(&pairs::decode(blob))?)
}

/// `proxy_get_header_map_size`: bytes, not entries. Envoy answers for maps that can be changed only.
pub(super) fn size(caller: &mut Guest<'_>, map: u32, out: u32) -> Outcome {
    let map = MapType::try_from(map)?;
    let (memory, host) = split(caller)?;
    let changeable = !logging(host) && !map.is_of_a_call();
    let view = host.view(map).filter(|_| changeable);
    let size = view.ok_or(Status::BadArgument)?.byte_size();
    Ok(write_u32(
        memory,
        out,
        u32::try_from(size).unwrap_or(u32::MAX),
    )?)
}

/// A name that is not in the map: 0.1.0 could not tell it from an empty value.
fn absent(abi: AbiVersion) -> Result<(), Status> {
    if abi == AbiVersion::V0_1_0 {
        Ok(())
    } else {
        Err(Status::NotFound)
    }
}

/// A map that is not there: only the log phase takes that lightly.
fn unavailable(host: &Host) -> Result<(), Status> {
    if logging(host) {
        absent(host.abi)
    } else {
        Err(Status::BadArgument)
    }
}

fn logging(host: &Host) -> bool {
    host.stream().is_some_and(|stream| stream.logging)
}
