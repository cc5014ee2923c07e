//! Shared queues.

use std::sync::Arc;

use super::{Guest, MAX_NAME};
use crate::effect::{Effect, RootId};
use crate::guest::{bytes, deliver, split, write_u32};
use crate::host::Host;
use crate::shared::Scope;
use crate::status::{Outcome, Status};

/// `proxy_register_shared_queue`: the current root consumes from now on.
pub(super) fn register(
    caller: &mut Guest<'_>,
    name: u32,
    name_size: u32,
    token_out: u32,
) -> Outcome {
    let (memory, host) = split(caller)?;
    let root = RootId(host.root_id().ok_or(Status::BadArgument)?);
    let name = bytes(memory, name, name_size)?;
    if name.len() > MAX_NAME {
        return Err(Status::BadArgument.into());
    }
    let consumer = (!host.passing).then_some((host.id, root));
    let token = host.shared.queues.register(&host.scope, name, consumer)?;
    if consumer.is_some() {
        host.queues.insert(token);
    }
    Ok(write_u32(memory, token_out, token)?)
}

/// `proxy_resolve_shared_queue`; an empty `vm_id` is the VM's own.
pub(super) fn resolve(
    caller: &mut Guest<'_>,
    vm_id: u32,
    vm_id_size: u32,
    name: u32,
    name_size: u32,
    token_out: u32,
) -> Outcome {
    let (memory, host) = split(caller)?;
    let (vm_id, name) = (
        bytes(memory, vm_id, vm_id_size)?,
        bytes(memory, name, name_size)?,
    );
    let vm_id = std::str::from_utf8(vm_id).map_err(|_| Status::NotFound)?;
    let other = if vm_id.is_empty() {
        None
    } else {
        Some(other_scope(host, vm_id)?)
    };
    let scope = other.as_ref().unwrap_or(&host.scope);
    let token = host.shared.resolve_queue(scope, name);
    let token = token.ok_or(Status::NotFound)?;
    Ok(write_u32(memory, token_out, token)?)
}

/// The scope of a `vm.id` in this namespace; never one of another.
fn other_scope(host: &Host, vm_id: &str) -> Result<Arc<Scope>, Status> {
    host.shared
        .scope_of(&host.vm.namespace, vm_id)
        .ok_or(Status::NotFound)
}

/// `proxy_enqueue_shared_queue`
pub(super) fn enqueue(caller: &mut Guest<'_>, token: u32, item: u32, item_size: u32) -> Outcome {
    let (memory, host) = split(caller)?;
    let consumer =
        host.shared
            .queues
            .enqueue(&host.scope, token, bytes(memory, item, item_size)?)?;
    if let Some((vm, root)) = consumer {
        host.push(Effect::QueueReady { token, vm, root })?;
    }
    Ok(())
}

/// `proxy_dequeue_shared_queue`
pub(super) fn dequeue(caller: &mut Guest<'_>, token: u32, ptr_out: u32, size_out: u32) -> Outcome {
    let host = caller.data();
    let item = host.shared.queues.dequeue(&host.scope, token)?;
    deliver(caller, &item, ptr_out, size_out)
}
