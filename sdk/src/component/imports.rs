//! The host's functions as the runtime knows them.

use super::bindings::tidegate::filter::http::{Exchange, HeaderMap as HttpMap, Plugin};
use super::bindings::tidegate::filter::log::{Level, write};
use super::bindings::tidegate::filter::metrics::{Kind, Metric};
use super::bindings::tidegate::filter::types::{Direction as HttpDirection, Error, Field};
use super::bindings::tidegate::filter::{clock, shared_data as data};
use super::state::{STATE, State};
use crate::hostcalls::{Buffer, Direction, Map, Pairs, Status};

const WHOLE: u32 = u32::MAX;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::NOT_FOUND,
            Error::BadArgument => Self::BAD_ARGUMENT,
            Error::Mismatch => Self::CAS_MISMATCH,
            Error::Refused => Self::INTERNAL_FAILURE,
        }
    }
}

impl From<Direction> for HttpDirection {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Request => Self::Request,
            Direction::Response => Self::Response,
        }
    }
}

/// Asks the current exchange for something.
fn ask<T>(question: impl FnOnce(&Exchange) -> Result<T, Error>) -> Result<T, Status> {
    let answer = State::with_exchange(question).ok_or(Status::BAD_ARGUMENT)?;
    Ok(answer?)
}

/// Asks the current plugin for something.
fn ask_plugin<T>(question: impl FnOnce(&Plugin) -> Result<T, Error>) -> Result<T, Status> {
    let answer = State::with_plugin(question).ok_or(Status::BAD_ARGUMENT)?;
    Ok(answer?)
}

/// The exchange's map of that number, if it is one of an exchange.
fn http_map(map: Map) -> Option<HttpMap> {
    match map {
        Map::Request => Some(HttpMap::RequestHeaders),
        Map::Response => Some(HttpMap::ResponseHeaders),
        Map::CallHeaders => None,
    }
}

fn fields(pairs: &Pairs) -> Vec<Field> {
    pairs
        .iter()
        .map(|(name, value)| Field {
            name: String::from_utf8_lossy(name).into_owned(),
            value: value.clone(),
        })
        .collect()
}

fn pairs(fields: Vec<Field>) -> Pairs {
    fields
        .into_iter()
        .map(|field| (field.name.into_bytes(), field.value))
        .collect()
}

fn segments(path: &str) -> Vec<String> {
    path.split('\0').map(String::from).collect()
}

pub(crate) fn log(level: u32, message: &str) {
    let level = match level {
        0 => Level::Trace,
        1 => Level::Debug,
        2 => Level::Info,
        3 => Level::Warn,
        4 => Level::Error,
        _ => Level::Critical,
    };
    write(level, message);
}

pub(crate) fn now() -> u64 {
    clock::now()
}

pub(crate) fn header(map: Map, name: &str) -> Option<Vec<u8>> {
    match http_map(map) {
        Some(map) => State::with_exchange(|exchange| exchange.header(map, name)).flatten(),
        None => STATE.with(|state| {
            let answer = state.answer.borrow();
            let field = answer
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name))?;
            Some(field.value.clone())
        }),
    }
}

pub(crate) fn headers(map: Map) -> Pairs {
    match http_map(map) {
        Some(map) => State::with_exchange(|exchange| pairs(exchange.headers(map))),
        None => STATE.with(|state| Some(pairs(state.answer.borrow().headers.clone()))),
    }
    .unwrap_or_default()
}

pub(crate) fn set_header(map: Map, name: &str, value: &[u8]) -> Result<(), Status> {
    let map = http_map(map).ok_or(Status::BAD_ARGUMENT)?;
    ask(|exchange| exchange.set_header(map, name, value))
}

pub(crate) fn add_header(map: Map, name: &str, value: &[u8]) -> Result<(), Status> {
    let map = http_map(map).ok_or(Status::BAD_ARGUMENT)?;
    ask(|exchange| exchange.add_header(map, name, value))
}

pub(crate) fn remove_header(map: Map, name: &str) -> Result<(), Status> {
    let map = http_map(map).ok_or(Status::BAD_ARGUMENT)?;
    ask(|exchange| exchange.remove_header(map, name))
}

pub(crate) fn buffer(buffer: Buffer) -> Vec<u8> {
    let body = |direction| State::with_exchange(|exchange| exchange.read_body(direction, 0, WHOLE));
    match buffer {
        Buffer::Request => body(HttpDirection::Request).unwrap_or_default(),
        Buffer::Response => body(HttpDirection::Response).unwrap_or_default(),
        Buffer::Call => STATE.with(|state| state.answer.borrow().body.clone()),
        Buffer::GrpcMessage => STATE.with(|state| state.message.borrow().clone()),
        Buffer::Configuration => State::with_plugin(Plugin::configuration).unwrap_or_default(),
    }
}

pub(crate) fn replace_buffer(buffer: Buffer, bytes: &[u8]) -> Result<(), Status> {
    let direction = match buffer {
        Buffer::Request => HttpDirection::Request,
        Buffer::Response => HttpDirection::Response,
        Buffer::Call | Buffer::GrpcMessage | Buffer::Configuration => {
            return Err(Status::BAD_ARGUMENT);
        }
    };
    ask(|exchange| exchange.write_body(direction, 0, WHOLE, bytes))
}

pub(crate) fn property(path: &str) -> Result<Vec<u8>, Status> {
    let path = segments(path);
    match State::with_exchange(|exchange| exchange.property(&path)) {
        Some(value) => Ok(value?),
        None => ask_plugin(|plugin| plugin.property(&path)),
    }
}

pub(crate) fn set_property(path: &str, value: &[u8]) -> Result<(), Status> {
    ask(|exchange| exchange.set_property(&segments(path), value))
}

pub(crate) fn shared_data(key: &str) -> Result<(Vec<u8>, u32), Status> {
    Ok(data::get(key)?)
}

pub(crate) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<(), Status> {
    Ok(data::set(key, value, cas)?)
}

pub(crate) fn http_call(
    cluster: &str,
    headers: &Pairs,
    body: &[u8],
    timeout_ms: u32,
) -> Result<u32, Status> {
    ask_plugin(|plugin| plugin.http_call(cluster, &fields(headers), body, timeout_ms))
}

pub(crate) fn grpc_call(
    cluster: &str,
    service: &str,
    method: &str,
    metadata: &Pairs,
    message: &[u8],
    timeout_ms: u32,
) -> Result<u32, Status> {
    let metadata = fields(metadata);
    ask_plugin(|plugin| plugin.grpc_call(cluster, service, method, &metadata, message, timeout_ms))
}

pub(crate) fn cancel_grpc(token: u32) {
    // A call that is over already needs no cancelling.
    let _ = ask_plugin(|plugin| plugin.grpc_cancel(token));
}

/// The message that came with the last status of a gRPC call.
pub(crate) fn status_message() -> Vec<u8> {
    buffer(Buffer::GrpcMessage)
}

pub(crate) fn send_reply(
    status: u16,
    details: &str,
    headers: &Pairs,
    body: &[u8],
) -> Result<(), Status> {
    ask(|exchange| exchange.reply(status, details, &fields(headers), body, None))
}

pub(crate) fn resume(direction: Direction) -> Result<(), Status> {
    ask(|exchange| exchange.resume(direction.into()))
}

pub(crate) fn set_tick_period(milliseconds: u32) -> Result<(), Status> {
    ask_plugin(|plugin| plugin.set_tick_period(milliseconds))
}

pub(crate) fn enter(context: u32) -> Result<(), Status> {
    STATE.with(|state| {
        let known = state.exchanges.borrow().contains_key(&context)
            || state.plugins.borrow().contains_key(&context);
        if !known {
            return Err(Status::BAD_ARGUMENT);
        }
        state.current.set(context);
        Ok(())
    })
}

pub(crate) fn define_metric(kind: u32, name: &str) -> Result<u32, Status> {
    let kind = match kind {
        0 => Kind::Counter,
        1 => Kind::Gauge,
        _ => Kind::Histogram,
    };
    let metric = Metric::define(kind, name)?;
    STATE.with(|state| {
        let mut metrics = state.metrics.borrow_mut();
        metrics.push(metric);
        u32::try_from(metrics.len() - 1).map_err(|_| Status::INTERNAL_FAILURE)
    })
}

fn with_metric(id: u32, change: impl FnOnce(&Metric) -> Result<(), Error>) -> Result<(), Status> {
    STATE.with(|state| {
        let metrics = state.metrics.borrow();
        let metric = metrics.get(id as usize).ok_or(Status::NOT_FOUND)?;
        Ok(change(metric)?)
    })
}

pub(crate) fn increment_metric(id: u32, by: i64) -> Result<(), Status> {
    with_metric(id, |metric| metric.increment(by))
}

pub(crate) fn record_metric(id: u32, value: u64) -> Result<(), Status> {
    with_metric(id, |metric| metric.observe(value))
}
