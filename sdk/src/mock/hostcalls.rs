//! The mock host's end of `crate::hostcalls`.

use super::message::Message;
use super::state::{CallMade, Metric, with};
use crate::hostcalls::{Buffer, Direction, Map, Pairs, Status};
use crate::log::Level;

pub(crate) fn log(level: u32, message: &str) {
    let level = match level {
        0 => Level::Trace,
        1 => Level::Debug,
        2 => Level::Info,
        3 => Level::Warn,
        _ => Level::Error,
    };
    with(|state| state.logs.push((level, message.to_owned())));
}

pub(crate) fn now() -> u64 {
    with(|state| state.now)
}

pub(crate) fn header(map: Map, name: &str) -> Option<Vec<u8>> {
    headers(map)
        .into_iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
}

pub(crate) fn headers(map: Map) -> Pairs {
    with(|state| {
        let side = match map {
            Map::Request => 0,
            Map::Response => 1,
            Map::CallHeaders => return state.call.0.clone(),
        };
        match state.stream() {
            Some(stream) if stream.open[side] => stream.heads[side].clone().unwrap_or_default(),
            _ => Pairs::new(),
        }
    })
}

fn edit(map: Map, change: impl FnOnce(&mut Pairs)) -> Result<(), Status> {
    with(|state| {
        let side = match map {
            Map::Request => 0,
            Map::Response => 1,
            Map::CallHeaders => return Err(Status::BAD_ARGUMENT),
        };
        let stream = state.stream().filter(|stream| stream.open[side]);
        let head = stream.and_then(|stream| stream.heads[side].as_mut());
        change(head.ok_or(Status::BAD_ARGUMENT)?);
        Ok(())
    })
}

pub(crate) fn set_header(map: Map, name: &str, value: &[u8]) -> Result<(), Status> {
    let name = name.to_ascii_lowercase().into_bytes();
    edit(map, |pairs| {
        match pairs.iter_mut().find(|(key, _)| *key == name) {
            Some(pair) => pair.1 = value.to_vec(),
            None => pairs.push((name, value.to_vec())),
        }
    })
}

pub(crate) fn add_header(map: Map, name: &str, value: &[u8]) -> Result<(), Status> {
    let name = name.to_ascii_lowercase().into_bytes();
    edit(map, |pairs| pairs.push((name, value.to_vec())))
}

pub(crate) fn remove_header(map: Map, name: &str) -> Result<(), Status> {
    edit(map, |pairs| {
        pairs.retain(|(key, _)| !key.eq_ignore_ascii_case(name.as_bytes()));
    })
}

pub(crate) fn buffer(buffer: Buffer) -> Vec<u8> {
    with(|state| match buffer {
        Buffer::Configuration => state.configuration.clone(),
        Buffer::Call | Buffer::GrpcMessage => state.call.1.clone(),
        Buffer::Request => state
            .stream()
            .map(|stream| stream.bodies[0].clone())
            .unwrap_or_default(),
        Buffer::Response => state
            .stream()
            .map(|stream| stream.bodies[1].clone())
            .unwrap_or_default(),
    })
}

pub(crate) fn replace_buffer(buffer: Buffer, bytes: &[u8]) -> Result<(), Status> {
    let side = match buffer {
        Buffer::Request => 0,
        Buffer::Response => 1,
        _ => return Err(Status::BAD_ARGUMENT),
    };
    with(|state| {
        let stream = state.stream().ok_or(Status::BAD_ARGUMENT)?;
        stream.bodies[side] = bytes.to_vec();
        Ok(())
    })
}

pub(crate) fn property(path: &str) -> Result<Vec<u8>, Status> {
    with(|state| {
        let found = state
            .stream()
            .and_then(|stream| stream.properties.get(path));
        found.cloned().ok_or(Status::NOT_FOUND)
    })
}

pub(crate) fn set_property(path: &str, value: &[u8]) -> Result<(), Status> {
    with(|state| {
        let stream = state.stream().ok_or(Status::NOT_FOUND)?;
        stream.properties.insert(path.to_owned(), value.to_vec());
        Ok(())
    })
}

const REFUSED: Status = Status(10);

pub(crate) fn shared_data(key: &str) -> Result<(Vec<u8>, u32), Status> {
    with(|state| match state.shared_data_refused {
        true => Err(REFUSED),
        false => state.shared.get(key).cloned().ok_or(Status::NOT_FOUND),
    })
}

pub(crate) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<(), Status> {
    with(|state| {
        if state.shared_data_refused {
            return Err(REFUSED);
        }
        let before = state.shared.get(key).map_or(0, |(_, cas)| *cas);
        if before != 0 && cas != 0 && cas != before {
            return Err(Status::CAS_MISMATCH);
        }
        state
            .shared
            .insert(key.to_owned(), (value.to_vec(), before + 1));
        Ok(())
    })
}

pub(crate) fn http_call(
    cluster: &str,
    headers: &Pairs,
    body: &[u8],
    timeout_ms: u32,
) -> Result<u32, Status> {
    let mut request = Message::from_pairs(headers);
    if !body.is_empty() {
        request = request.body(body);
    }
    let complete = [":method", ":authority", ":path"]
        .iter()
        .all(|name| request.get(name).is_some());
    if !complete {
        return Err(Status::BAD_ARGUMENT);
    }
    call(cluster, request, false, timeout_ms).ok_or(Status::BAD_ARGUMENT)
}

pub(crate) fn grpc_call(
    cluster: &str,
    service: &str,
    method: &str,
    metadata: &Pairs,
    message: &[u8],
    timeout_ms: u32,
) -> Result<u32, Status> {
    const PARSE_FAILURE: Status = Status(4);
    let request = Message::from_pairs(metadata)
        .header(":path", format!("/{service}/{method}"))
        .body(message);
    call(cluster, request, true, timeout_ms).ok_or(PARSE_FAILURE)
}

fn call(cluster: &str, request: Message, grpc: bool, timeout: u32) -> Option<u32> {
    with(|state| {
        let known = state.clusters.as_ref();
        if known.is_some_and(|known| !known.iter().any(|name| name == cluster)) {
            return None;
        }
        state.tokens += 1;
        state.calls.push(CallMade {
            token: state.tokens,
            cluster: cluster.to_owned(),
            request,
            grpc,
            timeout,
        });
        Some(state.tokens)
    })
}

pub(crate) fn cancel_grpc(token: u32) {
    with(|state| state.calls.retain(|call| call.token != token));
}

pub(crate) fn status_message() -> Vec<u8> {
    with(|state| state.status_message.clone())
}

pub(crate) fn send_reply(
    status: u16,
    _details: &str,
    headers: &Pairs,
    body: &[u8],
) -> Result<(), Status> {
    let fields: usize = headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if fields + body.len() > with(|state| state.max_reply) {
        return Err(REFUSED);
    }
    let mut reply = Message::from_pairs(headers).header(":status", status.to_string());
    if !body.is_empty() {
        if reply.get("content-type").is_none() {
            reply = reply.header("content-type", "text/plain");
        }
        reply = reply.body(body);
    }
    with(|state| {
        let stream = state.stream().ok_or(Status::BAD_ARGUMENT)?;
        // The first one wins.
        stream.reply.get_or_insert(reply);
        Ok(())
    })
}

pub(crate) fn resume(direction: Direction) -> Result<(), Status> {
    with(|state| {
        let stream = state.stream().ok_or(Status::BAD_ARGUMENT)?;
        stream.resumed[direction as usize] = true;
        Ok(())
    })
}

pub(crate) fn set_tick_period(milliseconds: u32) -> Result<(), Status> {
    with(|state| match state.timers_refused {
        true => Err(REFUSED),
        false => {
            state.tick = milliseconds;
            Ok(())
        }
    })
}

pub(crate) fn enter(context: u32) -> Result<(), Status> {
    with(|state| {
        if !state.streams.contains_key(&context) {
            return Err(Status::BAD_ARGUMENT);
        }
        state.current = context;
        Ok(())
    })
}

pub(crate) fn define_metric(kind: u32, name: &str) -> Result<u32, Status> {
    with(|state| {
        let found = state
            .metrics
            .iter()
            .position(|metric| metric.name == name && metric.kind == kind);
        let id = found.unwrap_or_else(|| {
            state.metrics.push(Metric {
                name: name.to_owned(),
                value: 0,
                kind,
            });
            state.metrics.len() - 1
        });
        u32::try_from(id).map_err(|_| REFUSED)
    })
}

fn metric(id: u32, change: impl FnOnce(&mut Metric)) -> Result<(), Status> {
    with(|state| {
        let metric = state
            .metrics
            .get_mut(id as usize)
            .ok_or(Status::NOT_FOUND)?;
        change(metric);
        Ok(())
    })
}

pub(crate) fn increment_metric(id: u32, by: i64) -> Result<(), Status> {
    metric(id, |metric| metric.value += by)
}

pub(crate) fn record_metric(id: u32, value: u64) -> Result<(), Status> {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    metric(id, |metric| metric.value = value)
}
