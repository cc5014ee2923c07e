//! Foreign functions: Envoy's, by name, with its statuses. Those that this host lacks are not found.
//!
//! Some take long. They are charged to the call's CPU time as they go, and their results are capped by the largest body that
//! the plugin may make.

mod codec;
mod signatures;

use super::{Guest, MAX_NAME, properties, streams};
use crate::guest::{bytes, deliver, split, write_u32};
use crate::host::Host;
use crate::property;
use crate::protobuf;
use crate::status::{Outcome, Status, Stop};

/// Properties that one plugin may declare.
const MAX_DECLARED: usize = 1_000;

/// `proxy_call_foreign_function`. An out pointer of 0 is none; the others are written also where the function fails.
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
    bytes(memory, arguments, arguments_size)?;
    let function = find(bytes(memory, name, name_size)?).ok_or(Status::NotFound)?;
    let result = function(caller, (arguments, arguments_size));
    let (value, outcome) = match result {
        Ok(value) => (value, Ok(())),
        Err(Stop::Status(status)) => (Vec::new(), Err(Stop::Status(status))),
        Err(trap) => return Err(trap),
    };
    give(caller, &value, ptr_out, size_out)?;
    outcome
}

/// Takes pointer and length of its arguments; most have an empty result.
type Function = fn(&mut Guest<'_>, (u32, u32)) -> Outcome<Vec<u8>>;

fn find(name: &[u8]) -> Option<Function> {
    Some(match name {
        b"clear_route_cache" => |caller, _| streams::clear_route_cache(caller).map(|()| Vec::new()),
        b"declare_property" => |caller, arguments| declare_property(caller, arguments),
        b"set_envoy_filter_state" => |caller, arguments| set_envoy_filter_state(caller, arguments),
        b"compress" => codec::compress,
        b"uncompress" => codec::uncompress,
        b"verify_signature" => signatures::verify,
        b"sign" => signatures::sign,
        b"expr_create" => expr_create,
        b"expr_evaluate" => expr_evaluate,
        b"expr_delete" => expr_delete,
        _ => return None,
    })
}

fn give(caller: &mut Guest<'_>, value: &[u8], ptr_out: u32, size_out: u32) -> Outcome {
    if ptr_out != 0 && size_out != 0 {
        return deliver(caller, value, ptr_out, size_out);
    }
    let (memory, _) = split(caller)?;
    if ptr_out != 0 {
        write_u32(memory, ptr_out, 0)?;
    }
    if size_out != 0 {
        write_u32(
            memory,
            size_out,
            u32::try_from(value.len()).map_err(|_| Status::InternalFailure)?,
        )?;
    }
    Ok(())
}

/// Charges the call for what it did in the host.
fn charge(host: &mut Host) -> Outcome {
    host.deadline.charge().map_err(Stop::Trap)
}

/// The largest result that the current plugin may have.
fn limit(host: &Host) -> usize {
    host.root().map_or(0, |root| root.plugin.buffered_body)
}

/// `DeclarePropertyArguments`: of its fields only `name` and `readonly` matter here, values being bytes.
fn declare_property(caller: &mut Guest<'_>, (ptr, size): (u32, u32)) -> Outcome<Vec<u8>> {
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
    Ok(Vec::new())
}

/// `SetEnvoyFilterStateArguments`: filter state under its plain path.
fn set_envoy_filter_state(caller: &mut Guest<'_>, (ptr, size): (u32, u32)) -> Outcome<Vec<u8>> {
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
    properties::write_state(&mut io.state, path.to_vec(), value)?;
    Ok(Vec::new())
}

/// The source of an expression; the result is a token for it.
fn expr_create(caller: &mut Guest<'_>, (ptr, size): (u32, u32)) -> Outcome<Vec<u8>> {
    let (memory, host) = split(caller)?;
    charge(host)?;
    let source = std::str::from_utf8(bytes(memory, ptr, size)?).map_err(|_| Status::BadArgument)?;
    let root = host
        .root_id()
        .and_then(|id| host.contexts.roots.get_mut(&id))
        .ok_or(Status::BadArgument)?;
    let created = root.expressions.create(source);
    charge(host)?;
    match created {
        Ok(token) => Ok(token.to_le_bytes().to_vec()),
        Err(message) => {
            host.log(2, format!("expr_create: {message}").as_bytes());
            Err(Status::BadArgument.into())
        }
    }
}

/// A token; the result is the expression's value, serialised as a property's.
fn expr_evaluate(caller: &mut Guest<'_>, arguments: (u32, u32)) -> Outcome<Vec<u8>> {
    let token = token(caller, arguments)?;
    let host = caller.data_mut();
    charge(host)?;
    let expression = host
        .root()
        .and_then(|root| root.expressions.get(token))
        .ok_or(Status::NotFound)?;
    let value = expression.evaluate(|path| property::value(host, path));
    charge(host)?;
    match value {
        Ok(value) => Ok(value),
        Err(status) => Err(status.into()),
    }
}

/// A token; one that is not there is fine.
fn expr_delete(caller: &mut Guest<'_>, arguments: (u32, u32)) -> Outcome<Vec<u8>> {
    let token = token(caller, arguments)?;
    let host = caller.data_mut();
    if let Some(root) = host
        .root_id()
        .and_then(|id| host.contexts.roots.get_mut(&id))
    {
        root.expressions.delete(token);
    }
    Ok(Vec::new())
}

fn token(caller: &mut Guest<'_>, (ptr, size): (u32, u32)) -> Outcome<u32> {
    let (memory, _) = split(caller)?;
    let four = <[u8; 4]>::try_from(bytes(memory, ptr, size)?).map_err(|_| Status::BadArgument)?;
    Ok(u32::from_le_bytes(four))
}
