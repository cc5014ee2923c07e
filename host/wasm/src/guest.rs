//! The guest's memory: every pointer and length it gives is checked here, and everything it gets is written here.

use wasmtime::{Caller, Extern};

use crate::host::{Gate, Host};
use crate::status::{Outcome, Status, Stop};

/// Largest capacity that the scratch buffer keeps.
const KEPT_SCRATCH: usize = 64 << 10;

/// The guest's memory and the host's data, borrowed side by side.
pub(crate) fn split<'a>(caller: &'a mut Caller<'_, Host>) -> Outcome<(&'a mut [u8], &'a mut Host)> {
    let memory = match caller.data().memory {
        Some(memory) => memory,
        // A start section runs before the instance is known.
        None => caller
            .get_export("memory")
            .and_then(Extern::into_memory)
            .ok_or(Status::InvalidMemoryAccess)?,
    };
    Ok(memory.data_and_store_mut(caller))
}

/// `len` bytes at `ptr`.
#[inline]
pub(crate) fn bytes(memory: &[u8], ptr: u32, len: u32) -> Result<&[u8], Status> {
    let start = ptr as usize;
    let end = start
        .checked_add(len as usize)
        .ok_or(Status::InvalidMemoryAccess)?;
    memory.get(start..end).ok_or(Status::InvalidMemoryAccess)
}

/// `len` bytes at `ptr`, to write to.
#[inline]
pub(crate) fn bytes_mut(memory: &mut [u8], ptr: u32, len: u32) -> Result<&mut [u8], Status> {
    let start = ptr as usize;
    let end = start
        .checked_add(len as usize)
        .ok_or(Status::InvalidMemoryAccess)?;
    memory
        .get_mut(start..end)
        .ok_or(Status::InvalidMemoryAccess)
}

/// Reads a little-endian number.
pub(crate) fn read_u32(memory: &[u8], ptr: u32) -> Result<u32, Status> {
    let four = bytes(memory, ptr, 4)?;
    four.try_into()
        .map(u32::from_le_bytes)
        .map_err(|_| Status::InvalidMemoryAccess)
}

/// Writes a little-endian number.
#[inline]
pub(crate) fn write_u32(memory: &mut [u8], ptr: u32, value: u32) -> Result<(), Status> {
    bytes_mut(memory, ptr, 4)?.copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// Writes a little-endian number.
#[inline]
pub(crate) fn write_u64(memory: &mut [u8], ptr: u32, value: u64) -> Result<(), Status> {
    bytes_mut(memory, ptr, 8)?.copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// Gives the guest `value` in memory of its own allocator, and where it is and how long at the two out pointers. Nothing is
/// allocated for an empty value: SDKs take the null pointer for "none".
pub(crate) fn deliver(
    caller: &mut Caller<'_, Host>,
    value: &[u8],
    ptr_out: u32,
    size_out: u32,
) -> Outcome {
    deliver_with(caller, value.len(), ptr_out, size_out, |_, target| {
        target.copy_from_slice(value)
    })
}

/// As [`deliver`], with `fill` writing the `len` bytes out of the host's own data.
pub(crate) fn deliver_with(
    caller: &mut Caller<'_, Host>,
    len: usize,
    ptr_out: u32,
    size_out: u32,
    fill: impl FnOnce(&Host, &mut [u8]),
) -> Outcome {
    let size = u32::try_from(len).map_err(|_| Status::InternalFailure)?;
    let ptr = if size == 0 {
        0
    } else {
        allocate(caller, size)?
    };
    let (memory, host) = split(caller)?;
    if size > 0 {
        fill(host, bytes_mut(memory, ptr, size)?);
    }
    write_u32(memory, ptr_out, ptr)?;
    write_u32(memory, size_out, size)?;
    Ok(())
}

/// Delivers what `produce` puts into the scratch buffer.
pub(crate) fn deliver_from(
    caller: &mut Caller<'_, Host>,
    ptr_out: u32,
    size_out: u32,
    produce: impl FnOnce(&[u8], &Host, &mut Vec<u8>) -> Result<(), Status>,
) -> Outcome {
    let (memory, host) = split(caller)?;
    let mut scratch = std::mem::take(&mut host.scratch);
    scratch.clear();
    let outcome = match produce(memory, host, &mut scratch) {
        Ok(()) => deliver(caller, &scratch, ptr_out, size_out),
        Err(status) => Err(status.into()),
    };
    // One large value must not stay for the VM's whole life.
    if scratch.capacity() <= KEPT_SCRATCH {
        caller.data_mut().scratch = scratch;
    }
    outcome
}

/// Calls the guest's allocator. What it answers is only a number: the caller checks it against the memory.
fn allocate(caller: &mut Caller<'_, Host>, size: u32) -> Outcome<u32> {
    let host = caller.data_mut();
    let allocator = host.allocator.take().ok_or(Status::InvalidMemoryAccess)?;
    let gate = std::mem::replace(&mut host.gate, Gate::Allocating);
    let result = allocator.call(&mut *caller, size);
    let host = caller.data_mut();
    host.allocator = Some(allocator);
    host.gate = gate;
    match result {
        Ok(0) => Err(Status::InvalidMemoryAccess.into()),
        Ok(ptr) => Ok(ptr),
        Err(error) => Err(Stop::Trap(error)),
    }
}
