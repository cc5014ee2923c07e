//! Metrics.

use super::{Guest, MAX_NAME};
use crate::guest::{bytes, split, write_u32, write_u64};
use crate::host::Host;
use crate::shared::{Metric, MetricKind};
use crate::status::{Outcome, Status};

/// `proxy_define_metric`: the same kind and name is the same series, in all VMs of the scope.
pub(super) fn define(
    caller: &mut Guest<'_>,
    kind: u32,
    name: u32,
    name_size: u32,
    id_out: u32,
) -> Outcome {
    let kind = match kind {
        0 => MetricKind::Counter,
        1 => MetricKind::Gauge,
        2 => MetricKind::Histogram,
        _ => return Err(Status::BadArgument.into()),
    };
    let (memory, host) = split(caller)?;
    // Tries the pointer before anything is defined.
    write_u32(memory, id_out, 0)?;
    let name = bytes(memory, name, name_size)?;
    let id = define_series(host, kind, name)?;
    Ok(write_u32(memory, id_out, id)?)
}

/// A series of this VM's scope; its id.
pub(crate) fn define_series(host: &mut Host, kind: MetricKind, name: &[u8]) -> Result<u32, Status> {
    if name.len() > MAX_NAME {
        return Err(Status::BadArgument);
    }
    let name = String::from_utf8_lossy(name);
    let metric = host.scope.define_metric(kind, &name)?;
    let id = metric.id;
    host.metrics.insert(id, metric);
    Ok(id)
}

/// `proxy_increment_metric`
pub(super) fn increment(caller: &mut Guest<'_>, id: u32, offset: i64) -> Outcome {
    Ok(changeable(caller.data(), id)?.increment(offset)?)
}

/// `proxy_record_metric`
pub(super) fn record(caller: &mut Guest<'_>, id: u32, value: u64) -> Outcome {
    find(caller.data(), id)?.record(value);
    Ok(())
}

/// `proxy_get_metric`
pub(super) fn get(caller: &mut Guest<'_>, id: u32, out: u32) -> Outcome {
    let (memory, host) = split(caller)?;
    let value = changeable(host, id)?.get()?;
    Ok(write_u64(memory, out, value)?)
}

/// A counter or gauge. A histogram's id is refused before it is looked up, as in Envoy.
pub(crate) fn changeable(host: &Host, id: u32) -> Result<&Metric, Status> {
    if id & 3 > 1 {
        return Err(Status::BadArgument);
    }
    find(host, id)
}

pub(crate) fn find(host: &Host, id: u32) -> Result<&Metric, Status> {
    host.metrics
        .get(&id)
        .map(AsRef::as_ref)
        .ok_or(Status::NotFound)
}
