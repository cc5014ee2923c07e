//! Foreign functions: Envoy's, by name. Those that this host lacks are not found.

use super::{Guest, MAX_NAME, properties, streams};
use crate::guest::{bytes, split, write_u32};
use crate::protobuf;
use crate::status::{Outcome, Status};

/// Properties that one plugin may declare.
const MAX_DECLARED: usize = 1_000;

/// `proxy_call_foreign_function`. None of the functions here has a result, so the out pointers, where given, get zeros.
pub(super) fn call(
    caller: &mut Guest<'_>,
    name: u32,
    name_size: u32,
    arguments: u32,
    arguments_size: u32,
    ptr_out: u32,
    size_out: u32,
) -> Outcome {
    let (memory, _) = split(caller)?;
    let arguments = (arguments, arguments_size);
    bytes(memory, arguments.0, arguments.1)?;
    match bytes(memory, name, name_size)? {
        b"clear_route_cache" => streams::clear_route_cache(caller)?,
        b"declare_property" => declare_property(caller, arguments)?,
        b"set_envoy_filter_state" => set_envoy_filter_state(caller, arguments)?,
        _ => return Err(Status::NotFound.into()),
    }
    let (memory, _) = split(caller)?;
    for out in [ptr_out, size_out] {
        if out != 0 {
            write_u32(memory, out, 0)?;
        }
    }
    Ok(())
}

/// `DeclarePropertyArguments`: of its fields only `name` and `readonly` matter here, values being bytes.
fn declare_property(caller: &mut Guest<'_>, (ptr, size): (u32, u32)) -> Outcome {
    let (memory, host) = split(caller)?;
    let declared =
        protobuf::declared_property(bytes(memory, ptr, size)?).ok_or(Status::BadArgument)?;
    if declared.name.len() > MAX_NAME {
        return Err(Status::BadArgument.into());
    }
    let root = host
        .root_id()
        .and_then(|id| host.contexts.roots.get_mut(&id))
        .ok_or(Status::BadArgument)?;
    if root.declared.contains_key(declared.name) || root.declared.len() >= MAX_DECLARED {
        return Err(Status::BadArgument.into());
    }
    root.declared
        .insert(declared.name.to_vec(), declared.read_only);
    Ok(())
}

/// `SetEnvoyFilterStateArguments`: filter state under its plain path.
fn set_envoy_filter_state(caller: &mut Guest<'_>, (ptr, size): (u32, u32)) -> Outcome {
    let (memory, host) = split(caller)?;
    let (path, value) =
        protobuf::filter_state(bytes(memory, ptr, size)?).ok_or(Status::BadArgument)?;
    if path.len() > MAX_NAME {
        return Err(Status::BadArgument.into());
    }
    let io = host
        .stream_mut()
        .and_then(|stream| stream.io.as_deref_mut())
        .ok_or(Status::NotFound)?;
    Ok(properties::write_state(
        &mut io.state,
        path.to_vec(),
        value,
    )?)
}
