//! Between a policy and the host: the root context that configures it, and what a stream asks of the host.
//!
//! Everything here uses byte strings: a header is no UTF-8 until it is checked, and the SDK's text functions trap on one that is not.

use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MapType};

use crate::{ConfigError, Reply, address};

/// What a filter crate implements: one value for each configuration, one stream for each request.
pub trait Filter: Sized + 'static {
    /// Handles one request and its response.
    type Stream: HttpContext + 'static;

    /// Reads the plugin's configuration, empty when there is none.
    ///
    /// # Errors
    ///
    /// A configuration that the filter refuses.
    fn configure(configuration: &[u8]) -> Result<Self, ConfigError>;

    /// A stream under this configuration.
    fn stream(&self) -> Self::Stream;
}

/// Registers `F` with the SDK. Called by [`filter!`](crate::filter).
pub fn start<F: Filter>() {
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root::<F> { filter: None }));
}

/// Makes a crate a proxy-wasm module of one filter, with its JSON Schema in the custom section `tidegate.config.schema`.
///
/// The attribute that names the section counts as unsafe code; it stands here so that no filter needs any.
#[macro_export]
macro_rules! filter {
    ($filter:ty, $schema:literal) => {
        ::proxy_wasm::main! {{
            $crate::glue::start::<$filter>();
        }}

        #[unsafe(link_section = "tidegate.config.schema")]
        static CONFIG_SCHEMA: [u8; include_bytes!($schema).len()] = *include_bytes!($schema);
    };
}

struct Root<F> {
    filter: Option<F>,
}

impl<F: Filter> Context for Root<F> {}

impl<F: Filter> RootContext for Root<F> {
    fn on_configure(&mut self, _size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        match F::configure(&configuration) {
            Ok(filter) => {
                self.filter = Some(filter);
                true
            }
            Err(error) => {
                log::error!("configuration refused: {error}");
                false
            }
        }
    }

    // Without a configuration there is no stream: the SDK traps, and the host's failure policy answers.
    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        let filter = self.filter.as_ref()?;
        Some(Box::new(filter.stream()))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// The first value of a request header. Only in the request's header phase.
#[must_use]
pub fn request_header(name: &str) -> Option<Vec<u8>> {
    hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, name).unwrap_or_default()
}

/// All values of a request header, in order. Only in the request's header phase.
#[must_use]
pub fn request_header_values(name: &str) -> Vec<Vec<u8>> {
    header_values(MapType::HttpRequestHeaders, name)
}

/// All values of a response header, in order. Only in the response's header phase.
#[must_use]
pub fn response_header_values(name: &str) -> Vec<Vec<u8>> {
    header_values(MapType::HttpResponseHeaders, name)
}

/// Sets a request header to one value, or removes it.
pub fn set_request_header(name: &str, value: Option<&str>) {
    set_header(MapType::HttpRequestHeaders, name, value);
}

/// Sets a response header to one value, or removes it.
pub fn set_response_header(name: &str, value: Option<&str>) {
    set_header(MapType::HttpResponseHeaders, name, value);
}

/// Adds a value to a response header, beside those that are there.
pub fn add_response_header(name: &str, value: &str) {
    if let Err(status) = hostcalls::add_map_value(MapType::HttpResponseHeaders, name, value) {
        log::error!("the host refused to add the header {name}: {status:?}");
    }
}

/// Answers the request here; the action stops the filter chain.
#[must_use]
pub fn send(reply: &Reply) -> Action {
    let headers = reply
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let body = (!reply.body.is_empty()).then_some(reply.body.as_bytes());
    if let Err(status) = hostcalls::send_http_response(reply.status.into(), headers, body) {
        log::error!("the host refused a local reply: {status:?}");
    }
    Action::Pause
}

/// Nanoseconds since the Unix epoch by the host's clock, which may go backwards.
#[must_use]
pub fn now_nanoseconds() -> u64 {
    hostcalls::get_current_time()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .and_then(|elapsed| u64::try_from(elapsed.as_nanos()).ok())
        .unwrap_or_default()
}

/// The client's address, see [`address::client`].
#[must_use]
pub fn client_address(trusted_hops: u32) -> Option<IpAddr> {
    let peer = hostcalls::get_property(vec!["source", "address"])
        .ok()
        .flatten()
        .and_then(|text| address::parse(&text));
    let forwarded_for = match trusted_hops {
        0 => Vec::new(),
        _ => request_header_values("x-forwarded-for"),
    };
    address::client(peer, &forwarded_for, trusted_hops)
}

fn header_values(map: MapType, name: &str) -> Vec<Vec<u8>> {
    // One cheap call settles the usual case, a header that is not there.
    if !matches!(hostcalls::get_map_value_bytes(map, name), Ok(Some(_))) {
        return Vec::new();
    }
    hostcalls::get_map_bytes(map)
        .unwrap_or_default()
        .into_iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

fn set_header(map: MapType, name: &str, value: Option<&str>) {
    // Hosts may replace the first of several values only: the others go first. Pseudo-headers have one, and must not be missing.
    let removed = match value {
        Some(_) if !name.starts_with(':') => hostcalls::set_map_value(map, name, None),
        _ => Ok(()),
    };
    if let Err(status) = removed.and_then(|()| hostcalls::set_map_value(map, name, value)) {
        log::error!("the host refused to change the header {name}: {status:?}");
    }
}
