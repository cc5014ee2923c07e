//! The functions that a component imports, over the same host data as those of proxy-wasm.
//!
//! Handles are numbers of contexts: one that leads nowhere any more (an exchange that is over) finds nothing.

use wasmtime::component::{HasSelf, Linker, Resource};

use crate::action::Direction;
use crate::config::Capabilities;
use crate::guest_log;
use crate::headers::MapType;
use crate::host::{Callout, Host};
use crate::hostcalls::{buffers, calls, grpc, metrics as series, properties, streams, system};
use crate::pairs::Pair;
use crate::shared::MetricKind;
use crate::status::Status;

mod bindings {
    //! The interfaces of `wit/` as traits.
    #![allow(
        missing_docs,
        unreachable_pub,
        reason = "generated from wit/, where the documentation is"
    )]

    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "host",
        imports: { default: trappable },
        with: {
            "tidegate:filter/http.exchange": super::Exchange,
            "tidegate:filter/http.plugin": super::Plugin,
            "tidegate:filter/http.answer": super::Answer,
            "tidegate:filter/metrics.metric": super::Series,
        },
    });
}

use bindings::tidegate::filter::{clock, http, log, metrics, shared_data, types};
use types::{Error, Field};

pub(super) use types::Action;

/// A stream context. Its handle's number is the context's.
#[allow(unreachable_pub, reason = "bindgen re-exports it")]
pub struct Exchange;
/// A root context, likewise.
#[allow(unreachable_pub, reason = "bindgen re-exports it")]
pub struct Plugin;
/// What the callback in progress brought. Its handle's number is the root's.
#[allow(unreachable_pub, reason = "bindgen re-exports it")]
pub struct Answer;
/// A metric. Its handle's number is the metric's.
#[allow(unreachable_pub, reason = "bindgen re-exports it")]
pub struct Series;

type Call<T> = wasmtime::Result<T>;
type Answered<T = ()> = wasmtime::Result<Result<T, Error>>;

pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    bindings::Host_::add_to_linker::<_, HasSelf<_>>(linker, |host| host)
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        match status {
            Status::NotFound | Status::Empty => Self::NotFound,
            Status::CasMismatch => Self::Mismatch,
            Status::InternalFailure | Status::Unimplemented => Self::Refused,
            Status::BadArgument
            | Status::SerializationFailure
            | Status::ParseFailure
            | Status::InvalidMemoryAccess => Self::BadArgument,
        }
    }
}

impl From<http::HeaderMap> for MapType {
    fn from(map: http::HeaderMap) -> Self {
        match map {
            http::HeaderMap::RequestHeaders => Self::RequestHeaders,
            http::HeaderMap::RequestTrailers => Self::RequestTrailers,
            http::HeaderMap::ResponseHeaders => Self::ResponseHeaders,
            http::HeaderMap::ResponseTrailers => Self::ResponseTrailers,
        }
    }
}

impl From<types::Direction> for Direction {
    fn from(direction: types::Direction) -> Self {
        match direction {
            types::Direction::Request => Self::Request,
            types::Direction::Response => Self::Response,
        }
    }
}

fn body(direction: types::Direction) -> buffers::Buffer {
    match direction {
        types::Direction::Request => buffers::Buffer::RequestBody,
        types::Direction::Response => buffers::Buffer::ResponseBody,
    }
}

fn pairs(fields: &[Field]) -> Vec<Pair<'_>> {
    fields
        .iter()
        .map(|field| (field.name.as_bytes(), field.value.as_slice()))
        .collect()
}

impl Host {
    /// Does something as another context than the one that was called.
    fn as_context<T>(&mut self, id: u32, what: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.current, id);
        let result = what(self);
        self.current = before;
        result
    }

    /// As [`as_context`](Self::as_context), for what can be refused.
    fn ask<T>(
        &mut self,
        id: u32,
        what: impl FnOnce(&mut Self) -> Result<T, Status>,
    ) -> Answered<T> {
        Ok(self.as_context(id, what).map_err(Error::from))
    }

    /// As [`ask`](Self::ask), for a group of functions that the Filter may not grant.
    fn ask_with<T>(
        &mut self,
        id: u32,
        group: Capabilities,
        what: impl FnOnce(&mut Self) -> Result<T, Status>,
    ) -> Answered<T> {
        self.ask(id, |host| match host.grants(group) {
            true => what(host),
            false => Err(Status::InternalFailure),
        })
    }

    fn fields_of(&self, map: MapType) -> Vec<Field> {
        let Some(view) = self.view(map) else {
            return Vec::new();
        };
        view.iter()
            .map(|(name, value)| Field {
                name: String::from_utf8_lossy(name).into_owned(),
                value: value.to_vec(),
            })
            .collect()
    }

    fn field_of(&self, map: MapType, name: &str) -> Option<Vec<u8>> {
        let value = self.view(map)?.get(name.as_bytes())?;
        Some(value.to_vec())
    }

    fn property_of(&self, path: &[String]) -> Result<Vec<u8>, Status> {
        let mut out = Vec::new();
        properties::read(self, path.join("\0").as_bytes(), &mut out)?;
        Ok(out)
    }
}

impl types::Host for Host {}

impl log::Host for Host {
    fn write(&mut self, level: log::Level, message: String) -> Call<()> {
        Self::log(self, level as u32, message.as_bytes());
        Ok(())
    }

    fn threshold(&mut self) -> Call<log::Level> {
        Ok(match guest_log::level() {
            0 => log::Level::Trace,
            1 => log::Level::Debug,
            2 => log::Level::Info,
            3 => log::Level::Warn,
            4 => log::Level::Error,
            _ => log::Level::Critical,
        })
    }
}

impl clock::Host for Host {
    fn now(&mut self) -> Call<u64> {
        Ok(self.shared.now())
    }
}

impl shared_data::Host for Host {
    fn get(&mut self, key: String) -> Answered<(Vec<u8>, u32)> {
        self.ask_with(self.current, Capabilities::SHARED_DATA, |host| {
            let (value, version) = host
                .scope
                .get_data(key.as_bytes())
                .ok_or(Status::NotFound)?;
            Ok((value.to_vec(), version))
        })
    }

    fn set(&mut self, key: String, value: Vec<u8>, version: u32) -> Answered {
        self.ask_with(self.current, Capabilities::SHARED_DATA, |host| {
            host.scope.set_data(key.as_bytes(), &value, version)
        })
    }
}

impl metrics::Host for Host {}

impl metrics::HostMetric for Host {
    fn define(&mut self, kind: metrics::Kind, name: String) -> Answered<Resource<Series>> {
        let kind = match kind {
            metrics::Kind::Counter => MetricKind::Counter,
            metrics::Kind::Gauge => MetricKind::Gauge,
            metrics::Kind::Histogram => MetricKind::Histogram,
        };
        self.ask_with(self.current, Capabilities::METRICS, |host| {
            series::define_series(host, kind, name.as_bytes()).map(Resource::new_own)
        })
    }

    fn increment(&mut self, metric: Resource<Series>, by: i64) -> Answered {
        self.ask_with(self.current, Capabilities::METRICS, |host| {
            series::changeable(host, metric.rep())?.increment(by)
        })
    }

    fn observe(&mut self, metric: Resource<Series>, value: u64) -> Answered {
        self.ask_with(self.current, Capabilities::METRICS, |host| {
            series::find(host, metric.rep())?.record(value);
            Ok(())
        })
    }

    fn value(&mut self, metric: Resource<Series>) -> Answered<u64> {
        self.ask_with(self.current, Capabilities::METRICS, |host| {
            series::changeable(host, metric.rep())?.get()
        })
    }

    fn drop(&mut self, _metric: Resource<Series>) -> Call<()> {
        Ok(())
    }
}

impl http::Host for Host {}

impl http::HostPlugin for Host {
    fn id(&mut self, plugin: Resource<Plugin>) -> Call<u32> {
        Ok(plugin.rep())
    }

    fn configuration(&mut self, plugin: Resource<Plugin>) -> Call<Vec<u8>> {
        Ok(self.as_context(plugin.rep(), |host| {
            buffers::content(host, buffers::Buffer::PluginConfiguration)
                .map(<[u8]>::to_vec)
                .unwrap_or_default()
        }))
    }

    fn set_tick_period(&mut self, plugin: Resource<Plugin>, milliseconds: u32) -> Answered {
        self.ask_with(plugin.rep(), Capabilities::TIMERS, |host| {
            system::tick_every(host, milliseconds)
        })
    }

    fn property(&mut self, plugin: Resource<Plugin>, path: Vec<String>) -> Answered<Vec<u8>> {
        self.ask_with(plugin.rep(), Capabilities::PROPERTIES, |host| {
            host.property_of(&path)
        })
    }

    fn http_call(
        &mut self,
        plugin: Resource<Plugin>,
        cluster: String,
        headers: Vec<Field>,
        body: Vec<u8>,
        timeout: u32,
    ) -> Answered<u32> {
        let call = calls::HttpCall {
            cluster: cluster.as_bytes(),
            headers: &pairs(&headers),
            body: &body,
            trailers: &[],
            timeout,
        };
        self.ask(plugin.rep(), |host| call.begin(host))
    }

    fn grpc_call(
        &mut self,
        plugin: Resource<Plugin>,
        cluster: String,
        service: String,
        method: String,
        metadata: Vec<Field>,
        message: Vec<u8>,
        timeout: u32,
    ) -> Answered<u32> {
        let address = grpc::Address {
            target: cluster.as_bytes(),
            service: service.as_bytes(),
            method: method.as_bytes(),
            metadata: pairs(&metadata),
        };
        self.ask(plugin.rep(), |host| {
            grpc::unary(host, address, &message, timeout)
        })
    }

    fn grpc_cancel(&mut self, plugin: Resource<Plugin>, token: u32) -> Answered {
        self.ask(plugin.rep(), |host| grpc::give_up(host, token))
    }

    fn drop(&mut self, _plugin: Resource<Plugin>) -> Call<()> {
        Ok(())
    }
}

impl http::HostExchange for Host {
    fn id(&mut self, exchange: Resource<Exchange>) -> Call<u32> {
        Ok(exchange.rep())
    }

    fn plugin(&mut self, exchange: Resource<Exchange>) -> Call<Resource<Plugin>> {
        // That of an exchange which is over can do nothing.
        let root = self.contexts.root_id(exchange.rep()).unwrap_or_default();
        Ok(Resource::new_own(root))
    }

    fn hold(&mut self, exchange: Resource<Exchange>) -> Call<Resource<Exchange>> {
        Ok(Resource::new_own(exchange.rep()))
    }

    fn header(
        &mut self,
        exchange: Resource<Exchange>,
        of: http::HeaderMap,
        name: String,
    ) -> Call<Option<Vec<u8>>> {
        Ok(self.as_context(exchange.rep(), |host| host.field_of(of.into(), &name)))
    }

    fn headers(&mut self, exchange: Resource<Exchange>, of: http::HeaderMap) -> Call<Vec<Field>> {
        Ok(self.as_context(exchange.rep(), |host| host.fields_of(of.into())))
    }

    fn set_header(
        &mut self,
        exchange: Resource<Exchange>,
        of: http::HeaderMap,
        name: String,
        value: Vec<u8>,
    ) -> Answered {
        self.ask(exchange.rep(), |host| {
            let mut fields = host.fields(of.into()).ok_or(Status::NotFound)?;
            fields.replace(name.as_bytes(), &value)
        })
    }

    fn add_header(
        &mut self,
        exchange: Resource<Exchange>,
        of: http::HeaderMap,
        name: String,
        value: Vec<u8>,
    ) -> Answered {
        self.ask(exchange.rep(), |host| {
            let mut fields = host.fields(of.into()).ok_or(Status::NotFound)?;
            fields.add(name.as_bytes(), &value)
        })
    }

    fn remove_header(
        &mut self,
        exchange: Resource<Exchange>,
        of: http::HeaderMap,
        name: String,
    ) -> Answered {
        self.ask(exchange.rep(), |host| {
            let mut fields = host.fields(of.into()).ok_or(Status::NotFound)?;
            fields.remove(name.as_bytes());
            Ok(())
        })
    }

    fn body_size(
        &mut self,
        exchange: Resource<Exchange>,
        direction: types::Direction,
    ) -> Call<u32> {
        Ok(self.as_context(exchange.rep(), |host| {
            let length = buffers::content(host, body(direction)).map_or(0, <[u8]>::len);
            u32::try_from(length).unwrap_or(u32::MAX)
        }))
    }

    fn read_body(
        &mut self,
        exchange: Resource<Exchange>,
        direction: types::Direction,
        start: u32,
        size: u32,
    ) -> Call<Vec<u8>> {
        Ok(self.as_context(exchange.rep(), |host| {
            buffers::part(host, body(direction), start, size)
                .map(<[u8]>::to_vec)
                .unwrap_or_default()
        }))
    }

    fn write_body(
        &mut self,
        exchange: Resource<Exchange>,
        direction: types::Direction,
        start: u32,
        size: u32,
        data: Vec<u8>,
    ) -> Answered {
        self.ask(exchange.rep(), |host| {
            buffers::replace(host, body(direction), (start, size), &data)
        })
    }

    fn property(&mut self, exchange: Resource<Exchange>, path: Vec<String>) -> Answered<Vec<u8>> {
        self.ask_with(exchange.rep(), Capabilities::PROPERTIES, |host| {
            host.property_of(&path)
        })
    }

    fn set_property(
        &mut self,
        exchange: Resource<Exchange>,
        path: Vec<String>,
        value: Vec<u8>,
    ) -> Answered {
        self.ask_with(exchange.rep(), Capabilities::PROPERTIES, |host| {
            properties::write(host, path.join("\0").as_bytes(), &value)
        })
    }

    fn reply(
        &mut self,
        exchange: Resource<Exchange>,
        status: u16,
        details: String,
        headers: Vec<Field>,
        body: Vec<u8>,
        grpc_status: Option<u32>,
    ) -> Answered {
        self.ask(exchange.rep(), |host| {
            streams::reply(
                host,
                u32::from(status),
                details.as_bytes(),
                &body,
                &pairs(&headers),
                grpc_status.unwrap_or(u32::MAX),
            )
        })
    }

    fn resume(&mut self, exchange: Resource<Exchange>, direction: types::Direction) -> Answered {
        self.ask(exchange.rep(), |host| {
            streams::resume(host, direction.into())
        })
    }

    fn reset(&mut self, exchange: Resource<Exchange>, direction: types::Direction) -> Answered {
        self.ask(exchange.rep(), |host| {
            streams::close(host, direction.into())
        })
    }

    fn drop(&mut self, _exchange: Resource<Exchange>) -> Call<()> {
        Ok(())
    }
}

impl http::HostAnswer for Host {
    fn header(&mut self, answer: Resource<Answer>, name: String) -> Call<Option<Vec<u8>>> {
        Ok(self.as_context(answer.rep(), |host| {
            host.field_of(MapType::HttpCallHeaders, &name)
        }))
    }

    fn headers(&mut self, answer: Resource<Answer>) -> Call<Vec<Field>> {
        Ok(self.as_context(answer.rep(), |host| {
            host.fields_of(MapType::HttpCallHeaders)
        }))
    }

    fn trailers(&mut self, answer: Resource<Answer>) -> Call<Vec<Field>> {
        Ok(self.as_context(answer.rep(), |host| {
            host.fields_of(MapType::HttpCallTrailers)
        }))
    }

    fn body(&mut self, answer: Resource<Answer>) -> Call<Vec<u8>> {
        Ok(self.as_context(answer.rep(), |host| match host.callout() {
            Some(Callout::Http(response)) => response.body.to_vec(),
            _ => Vec::new(),
        }))
    }

    fn drop(&mut self, _answer: Resource<Answer>) -> Call<()> {
        Ok(())
    }
}
