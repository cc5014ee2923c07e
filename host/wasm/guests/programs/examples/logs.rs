//! A line at each level, and the level that is recorded.
#![cfg(target_arch = "wasm32")]

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};
use tidegate_wasm_guest_programs::Requests;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| Box::new(Requests(|| Box::new(Filter))));
}}

struct Filter;

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        log::trace!("at trace");
        log::debug!("at debug");
        log::info!("at info");
        log::warn!("at warn");
        log::error!("at error");
        let critical = hostcalls::log(LogLevel::Critical, "at critical");
        let level = hostcalls::get_log_level();
        self.set_http_request_header("x-level", Some(&format!("{critical:?} {level:?}")));
        Action::Continue
    }
}
