//! Logs, time, ticks and contexts.

use std::time::Duration;

use super::Guest;
use crate::contexts::Life;
use crate::effect::{Effect, RootId};
use crate::guest::{bytes, deliver_from, split, write_u32, write_u64};
use crate::guest_log;
use crate::host::Host;
use crate::status::{Outcome, Status};

/// `proxy_log`
pub(super) fn log(caller: &mut Guest<'_>, level: u32, ptr: u32, size: u32) -> Outcome {
    if level > guest_log::MAX_LEVEL {
        return Err(Status::BadArgument.into());
    }
    let (memory, host) = split(caller)?;
    host.log(level, bytes(memory, ptr, size)?);
    Ok(())
}

/// `proxy_get_log_level`: the lowest level that is recorded.
pub(super) fn get_log_level(caller: &mut Guest<'_>, out: u32) -> Outcome {
    let (memory, _) = split(caller)?;
    Ok(write_u32(memory, out, guest_log::level())?)
}

/// `proxy_get_current_time_nanoseconds`: wall-clock time.
pub(super) fn current_time(caller: &mut Guest<'_>, out: u32) -> Outcome {
    let (memory, host) = split(caller)?;
    let now = host.shared.now();
    Ok(write_u64(memory, out, now)?)
}

/// `proxy_set_tick_period_milliseconds` of the current root; 0 stops.
pub(super) fn set_tick_period(caller: &mut Guest<'_>, period: u32) -> Outcome {
    Ok(tick_every(caller.data_mut(), period)?)
}

/// The tick of the current root, in milliseconds.
pub(crate) fn tick_every(host: &mut Host, period: u32) -> Result<(), Status> {
    let root = RootId(host.root_id().ok_or(Status::BadArgument)?);
    let period = (period > 0).then(|| Duration::from_millis(u64::from(period)));
    // Only the last period counts, so a loop over this call costs one effect.
    if let Some(Effect::SetTickPeriod {
        root: last,
        period: old,
    }) = host.effects.last_mut()
        && *last == root
    {
        *old = period;
        return Ok(());
    }
    host.push(Effect::SetTickPeriod { root, period })
}

/// `proxy_set_effective_context`; 0 goes back to the context that was called.
pub(super) fn set_effective_context(caller: &mut Guest<'_>, id: u32) -> Outcome {
    let host = caller.data_mut();
    if id == 0 {
        host.current = host.entered;
    } else if host.contexts.contains(id) {
        host.current = id;
    } else {
        return Err(Status::BadArgument.into());
    }
    Ok(())
}

/// `proxy_done`: the root that said no in `proxy_on_done` may go now.
pub(super) fn done(caller: &mut Guest<'_>) -> Outcome {
    let host = caller.data_mut();
    let id = host.root_id().ok_or(Status::NotFound)?;
    let root = host.contexts.roots.get_mut(&id).ok_or(Status::NotFound)?;
    if root.life != Life::Leaving {
        return Err(Status::NotFound.into());
    }
    root.life = Life::Done;
    host.finished.push(id);
    Ok(())
}

/// `proxy_get_configuration` of 0.1.0: the plugin's inside `proxy_on_configure`, else the VM's.
pub(super) fn get_configuration(caller: &mut Guest<'_>, ptr_out: u32, size_out: u32) -> Outcome {
    deliver_from(caller, ptr_out, size_out, |_, host, out| {
        match host.root().filter(|_| host.configuring) {
            Some(root) => out.extend_from_slice(&root.plugin.config),
            None => out.extend_from_slice(&host.vm.vm_config),
        }
        Ok(())
    })
}

/// A function that is there to be linked, and says that it does nothing.
pub(super) fn unimplemented(caller: &mut Guest<'_>, name: &str) -> Outcome {
    let message = format!("{name} is not implemented by this host");
    caller.data_mut().log(3, message.as_bytes());
    Err(Status::Unimplemented.into())
}
